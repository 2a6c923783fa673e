"""What a node consists of: downloaded parts, the runtime, the endpoint's services. Its end."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from support.host import Done, Host
from support.specs import SECRET, SECRET_FILE, hosts, on_the_wire, spec

from groundplane.registry import addon_of
from groundplane.spec import Endpoint, Spec
from groundplane.spec.addons import Chosen
from lab.mirror.server import Running, running


def archive(*names: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(name), 0o755, 1234
            tar.addfile(info, io.BytesIO(name.encode()))
    return raw.getvalue()


FILES = {
    "kubelet": b"kubelet 1.36.4",
    "containerd.tgz": archive("bin/containerd", "bin/ctr"),
    "etcd.tgz": archive("etcd-v3.6.14/etcdctl", "etcd-v3.6.14/etcdutl"),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "files").mkdir()
    for name, content in FILES.items():
        (tmp_path / "files" / name).write_bytes(content)
    with running(tmp_path / "files", tmp_path) as server:
        yield server


def part(host: Host, server: Running, name: str, version: str, key: str, file: str) -> Done:
    digest = sha256(FILES[file]).hexdigest()
    script = f"part {name} {version} {key} {server.url}/{file} {digest}"
    return host.bash(script, step="prepare", network=False)


def test_a_binary(host: Host, server: Running) -> None:
    done = part(host, server, "kubernetes", "1.36.4", "kubelet", "kubelet")
    assert done.changes == ["kubelet fetched"]
    path = host.path("/opt/groundplane/kubernetes/1.36.4/kubelet")
    assert path.read_bytes() == FILES["kubelet"]
    assert path.stat().st_mode & 0o777 == 0o755
    assert part(host, server, "kubernetes", "1.36.4", "kubelet", "kubelet").out == ""


def test_a_binary_that_was_written_to(host: Host, server: Running) -> None:
    host.write("/opt/groundplane/kubernetes/1.36.4/kubelet", "another", 0o755)
    assert part(host, server, "kubernetes", "1.36.4", "kubelet", "kubelet").changes
    path = host.path("/opt/groundplane/kubernetes/1.36.4/kubelet")
    assert path.read_bytes() == FILES["kubelet"]


def test_a_part_of_one_binary_has_its_own_name(host: Host, server: Running) -> None:
    part(host, server, "runc", "1.4.3", "binary", "kubelet")
    assert host.there("/opt/groundplane/runc/1.4.3/runc")


@pytest.mark.parametrize(
    "name, version, file, inside",
    [
        ("containerd", "2.3.4", "containerd.tgz", "bin/ctr"),
        ("etcd", "3.6.14", "etcd.tgz", "etcdctl"),
    ],
)
def test_an_archive(
    host: Host, server: Running, name: str, version: str, file: str, inside: str
) -> None:
    done = part(host, server, name, version, "archive", file)
    assert done.changes == [f"{version}.archive fetched", f"{name} {version}"]
    path = host.path(f"/opt/groundplane/{name}/{version}/{inside}")
    assert path.stat().st_mode & 0o111
    assert path.stat().st_uid == path.parent.stat().st_uid
    assert part(host, server, name, version, "archive", file).out == ""


def test_an_archive_that_was_half_unpacked(host: Host, server: Running) -> None:
    host.write("/opt/groundplane/containerd/2.3.4.new/bin/containerd", "half")
    part(host, server, "containerd", "2.3.4", "archive", "containerd.tgz")
    folder = host.path("/opt/groundplane/containerd")
    assert sorted(p.name for p in folder.iterdir()) == ["2.3.4", "2.3.4.archive"]
    assert (folder / "2.3.4/bin/containerd").read_text() == "bin/containerd"


def test_what_is_got_ready_on_a_member_disturbs_nothing(host: Host) -> None:
    """On a host that is no member yet, the runtime starts too."""
    quiet = "install_packages() { :; }; host_apply() { :; }; begin() { echo begun; };"
    data = {"role": "worker", "packages": ["x"], "parts": {}}
    assert host.bash(f"{quiet} apply", data, step="prepare").out == "begun\n"
    host.write("/var/lib/groundplane/joined", "1.36.4\n")
    assert host.bash(f"{quiet} apply", data, step="prepare").out == ""


# ---- the runtime -----------------------------------------------------------------------------


@pytest.fixture
def started(host: Host) -> Host:
    host.fake("systemctl")
    host.fake("ctr", "exit 0")
    host.bash("runtime_apply", on_the_wire(spec(), "node", "w1"))
    return host


def restarts(host: Host) -> list[str]:
    return [
        call for call in host.calls if call.startswith(("systemctl restart", "systemctl reload"))
    ]


def test_the_runtime_again_restarts_nothing(started: Host) -> None:
    assert started.bash("runtime_apply", on_the_wire(spec(), "node", "w1")).out == ""
    assert restarts(started) == []


def test_another_runc_restarts_nothing(started: Host) -> None:
    """Each container is started by it anew."""
    data = on_the_wire(spec(), "node", "w1")
    data["runtime"]["runc"] = "9.9.9"
    done = started.bash("runtime_apply", data)
    assert done.changes == ["/usr/local/bin/runc -> /opt/groundplane/runc/9.9.9/runc"]
    assert restarts(started) == []


def test_a_network_that_brings_its_plugins_finds_none_of_ours(started: Host) -> None:
    made = spec()
    cluster = made.cluster.model_copy(update={"network": "calico"})
    calico = replace(made, cluster=cluster, addons=[Chosen("calico", addon_of("calico").args())])
    started.write("/opt/groundplane/cni-plugins/1.9.1/ptp", "", 0o755)
    links = "runtime_links | grep -c /opt/cni/bin || true"
    for each, found in ((made, "1"), (calico, "0")):
        assert started.bash(links, on_the_wire(each, "node", "w1")).out.strip() == found
    parts = [on_the_wire(each, "prepare", "w1")["parts"] for each in (made, calico)]
    assert parts[0].keys() - parts[1].keys() == {"cni-plugins"}


def test_another_containerd_restarts_it_once(started: Host) -> None:
    data = on_the_wire(spec(), "node", "w1")
    data["runtime"]["containerd"] = "9.9.9"
    data["runtime"]["pause"] = "registry.k8s.io/pause:9"
    started.bash("runtime_apply", data)
    assert restarts(started) == ["systemctl restart containerd"]


# ---- the endpoint ----------------------------------------------------------------------------


def endpoint(host: Host, made: Spec, name: str = "cp1") -> Done:
    network = "ip link add eno1 type veth; ip address add 192.0.2.11/24 dev eno1;"
    done = host.bash(f"{network} endpoint_apply", on_the_wire(made, "node", name))
    assert done.status == 0, done.err
    return done


def test_another_control_plane_reloads_and_restarts_nothing(host: Host) -> None:
    """Connections that stand are kept."""
    host.fake("systemctl")
    assert endpoint(host, spec(hosts(1))).changes[-1] == "groundplane-keepalived started"
    assert endpoint(host, spec(hosts(1))).out == ""
    endpoint(host, spec(hosts(3)))
    assert restarts(host) == [
        "systemctl reload groundplane-haproxy",
        "systemctl reload groundplane-keepalived",
    ]


@pytest.mark.parametrize(
    "made, name",
    [
        (spec(), "w1"),
        (spec(endpoint=Endpoint(address="192.0.2.10", mode="external")), "cp1"),
    ],
    ids=["worker", "external"],
)
def test_where_there_is_no_endpoint_of_ours(host: Host, made: Spec, name: str) -> None:
    host.fake("systemctl")
    assert endpoint(host, made, name).out == ""
    assert host.calls == []


# ---- nothing is left -------------------------------------------------------------------------

PREPARE = """
before() {
  mkdir -p /etc/cni/net.d /opt/cni/bin /etc/systemd/system /etc/haproxy
  touch /etc/cni/net.d/90-theirs.conflist /opt/cni/bin/theirs /etc/systemd/system/theirs.service \\
    /etc/haproxy/haproxy.cfg /usr/local/bin/theirs
}
"""
NETWORK = "ip link set lo up; ip link add eno1 type veth; ip address add 192.0.2.11/24 dev eno1;"


def tree(host: Host) -> set[str]:
    """All files that were written on the host and are there."""
    return {
        str(path.relative_to(host.root))
        for name in ("etc", "opt", "usr_local", "var")
        for path in (host.root / name).rglob("*")
        if path.is_symlink() or (path.is_file() and not path.is_char_device())
    }


@pytest.fixture
def theirs(host: Host) -> set[str]:
    """Things that the host had before us."""
    host.bash(f"{PREPARE} before")
    return tree(host)


@pytest.fixture
def member(host: Host, theirs: set[str]) -> Host:
    """A control plane on that host."""
    for program in ("systemctl", "systemd-run"):
        host.fake(program)
    host.fake("ctr", "exit 0")
    host.fake("kubeadm", "exit 0")
    host.write("/opt/groundplane/cni-plugins/1.9.1/ptp", "", 0o755)
    host.write(SECRET_FILE, SECRET)
    data: dict[str, Any] = on_the_wire(spec(), "node", "cp1")
    done = host.bash(
        f"""{NETWORK}
        host_apply; endpoint_apply; runtime_apply; link_kubernetes 1.36.4; kubelet_unit_apply
        api_server_files; network_apply
        cluster_record abc | write_atomically "$STATE/cluster.json" 0600
        mkdir -p /var/lib/etcd/member /var/lib/kubelet/pods
        touch /var/lib/etcd/member/db /var/lib/kubelet/config.yaml
        ledger_commit bootstrap""",
        data,
        step="bootstrap",
    )
    assert done.status == 0, done.err
    return host


def reset(host: Host, stack: str) -> Done:
    return host.execute(str(host.scripts / "reset"), stack)


def test_a_reset_leaves_what_was_there_before(member: Host, theirs: set[str]) -> None:
    assert tree(member) > theirs
    done = reset(member, "metal")
    assert done.status == 0, done.err
    assert tree(member) == theirs


def test_a_reset_again_finds_nothing(member: Host) -> None:
    reset(member, "metal")
    done = reset(member, "metal")
    assert (done.status, done.changes) == (0, [])


def test_a_host_of_another_stack_is_not_reset(member: Host) -> None:
    before = tree(member)
    done = reset(member, "another")
    assert done.status == 1
    assert "belongs to the stack metal, not to another" in done.err
    assert tree(member) == before


def test_a_blank_host_is_reset(host: Host) -> None:
    host.fake("systemctl")
    assert reset(host, "metal").status == 0
    assert tree(host) == set()
