"""Founding a cluster, which happens once, and joining one, which never founds another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.host import Done, Host
from support.specs import SECRET, SECRET_FILE, on_the_wire, spec

# kubeadm as far as these tests see it: `init` makes an identity and data.
KUBEADM = """
echo "kubeadm $1 $2" >>"$CALLS"
[ "$1 $2" = "init --config" ] || exit 0
[ ! -e /run/init-fails ] || { touch /etc/kubernetes/admin.conf; echo "it fails"; exit 1; }
mkdir -p /etc/kubernetes/pki/etcd /var/lib/etcd/member
touch /etc/kubernetes/admin.conf /etc/kubernetes/kubelet.conf
cd /etc/kubernetes/pki
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=x \\
  -keyout ca.key -out ca.crt 2>/dev/null
for name in sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key; do
  echo "$name" >"$name"
done
"""
# What is tested elsewhere, or needs a cluster.
QUIET = """
for name in host_apply endpoint_apply runtime_apply link_kubernetes kubelet_unit_apply rights \\
  network_apply wait_serving wait_until kubernetes_reset settle gate_enter remove_own_ghost \\
  kubeadm_join kube_proxy_follows stop_pods; do
  eval "$name() { echo $name >>\\"\\$CALLS\\"; cat >/dev/null; }"
done
"""


@pytest.fixture
def blank(host: Host) -> Host:
    host.fake("kubeadm", KUBEADM)
    host.fake("systemctl")
    return host


def bootstrap(host: Host) -> Done:
    data = on_the_wire(spec(), "node", "cp1")
    return host.bash(f"{QUIET} apply </dev/null", data, step="bootstrap")


def inits(host: Host) -> int:
    return host.calls.count("kubeadm init --config")


def test_a_cluster_is_founded_once(blank: Host) -> None:
    """Where it stands already its identity is given again: to a state that was lost, too."""
    first = bootstrap(blank)
    assert first.status == 0, first.err
    given = json.loads(blank.read("/run/groundplane/result"))
    calls = blank.calls
    again = bootstrap(blank)
    assert again.status == 0, again.err
    assert again.changes == [f"cluster {given['cluster']} adopted: it stands already"]
    assert json.loads(blank.read("/run/groundplane/result")) == given
    assert blank.calls == calls
    assert inits(blank) == 1


def test_every_control_plane_can_give_the_identity(blank: Host, tmp_path: Path) -> None:
    """The founder may be gone when the state is lost."""
    bootstrap(blank)
    given = json.loads(blank.read("/run/groundplane/result"))
    other = Host(tmp_path / "cp2")
    data = {"role": "control-plane", "encryption": 1, "identity": given["identity"]}
    assert other.bash("apply", data, step="secrets").status == 0
    other.write(
        "/var/lib/groundplane/cluster.json", blank.read("/var/lib/groundplane/cluster.json")
    )
    done = other.bash("apply", on_the_wire(spec(), "node", "cp2"), step="bootstrap")
    assert done.status == 0, done.err
    assert json.loads(other.read("/run/groundplane/result")) == given


def test_what_it_gives(blank: Host) -> None:
    bootstrap(blank)
    given = json.loads(blank.read("/run/groundplane/result"))
    record = json.loads(blank.read("/var/lib/groundplane/cluster.json"))
    assert given["cluster"] == record["cluster"]
    assert record["stack"] == "metal"
    assert record["immutable"]["podCidrs"] == ["10.244.0.0/16"]
    assert given["identity"]["etcd/ca.key"] == "etcd/ca.key\n"
    assert given["identity"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
    assert len(given["identity"]) == 9
    assert len(bytes.fromhex(given["identity"]["groundplane.key"])) == 32
    assert blank.path("/run/groundplane/result").stat().st_mode & 0o777 == 0o600


def test_what_was_cut_off_is_cleared_and_begun_again(blank: Host) -> None:
    blank.write("/run/init-fails", "")
    done = bootstrap(blank)
    assert done.status == 1
    assert "kubeadm init failed: it fails" in done.err
    assert "the endpoint's address 192.0.2.10 is not on this host" in done.err
    assert not blank.there("/var/lib/groundplane/cluster.json")
    blank.path("/run/init-fails").unlink()
    assert bootstrap(blank).status == 0
    assert blank.calls.index("kubernetes_reset") > blank.calls.index("kubeadm init --config")
    assert inits(blank) == 2


def test_a_host_of_another_stack_is_refused(blank: Host) -> None:
    blank.write("/var/lib/groundplane/cluster.json", '{"stack": "theirs", "cluster": "abc"}')
    done = bootstrap(blank)
    assert done.status == 1
    assert "this host belongs to the stack theirs" in done.err
    assert blank.calls == []


def test_a_node_of_somebody_elses_cluster_is_refused(blank: Host) -> None:
    blank.write("/etc/kubernetes/kubelet.conf", "")
    blank.write("/var/lib/etcd/member/snap/db", "precious")
    done = bootstrap(blank)
    assert done.status == 1
    assert "a node of a cluster that is not ours" in done.err
    assert blank.calls == []


# ---- joining ---------------------------------------------------------------------------------


def enter(host: Host, name: str, before: str = "") -> Done:
    host.write(SECRET_FILE, SECRET)
    host.write("/var/lib/groundplane/join/ca.crt", "CA\n")
    host.write("/var/lib/groundplane/join/token", "abcdef.0123456789abcdef\n")
    data = on_the_wire(spec(), "node", name) | {"cluster": "0123456789abcdef"}
    return host.bash(f"{QUIET}{before} enter </dev/null", data, step="node")


@pytest.mark.parametrize("name", ["cp2", "w1"])
def test_a_host_joins(blank: Host, name: str) -> None:
    blank.write("/etc/kubernetes/admin.conf", "")
    done = enter(blank, name)
    assert done.status == 0, done.err
    assert "kubeadm_join" in blank.calls
    assert blank.there("/var/lib/groundplane/joined")
    record = json.loads(blank.read("/var/lib/groundplane/cluster.json"))
    assert record["cluster"] == "0123456789abcdef"
    assert inits(blank) == 0


@pytest.mark.parametrize("name", ["cp1", "cp2", "w1"])
def test_where_no_api_server_answers_nothing_is_founded(blank: Host, name: str) -> None:
    """A host that was imaged anew, and whose peers cannot be reached."""
    blank.write("/etc/kubernetes/admin.conf", "")
    blank.fake("curl", "exit 7")
    # Two minutes pass at once.
    wait = 'wait_until() { echo waiting >>"$CALLS"; die "waited in vain: $2"; };'
    done = enter(blank, name, wait)
    assert done.status == 1
    assert "an API server answers at https://192.0.2.10:8443 (a join never founds" in done.err
    assert "kubeadm_join" not in blank.calls
    assert inits(blank) == 0
    assert not blank.there("/var/lib/groundplane/joined")


def test_a_control_plane_joins_behind_the_gate(blank: Host) -> None:
    blank.write("/etc/kubernetes/admin.conf", "")
    enter(blank, "cp2")
    calls = blank.calls
    assert calls.index("gate_enter") < calls.index("remove_own_ghost") < calls.index("kubeadm_join")


def test_the_founder_is_a_member_already(blank: Host) -> None:
    bootstrap(blank)
    assert enter(blank, "cp1").status == 0
    assert "kubeadm_join" not in blank.calls
    assert blank.there("/var/lib/groundplane/joined")


def test_what_an_unfinished_join_left_is_cleared(blank: Host) -> None:
    """But not the identity, which the step for secrets put there."""
    for path in ("/etc/kubernetes/kubelet.conf", "/etc/kubernetes/manifests/etcd.yaml"):
        blank.write(path, "")
    blank.write("/etc/kubernetes/pki/ca.key", "KEY")
    blank.write("/var/lib/etcd/member/snap/db", "half")
    data = on_the_wire(spec(), "node", "cp2")
    done = blank.bash(f"{QUIET} forget_half_join </dev/null", data, step="node")
    assert done.status == 0, done.err
    assert blank.read("/etc/kubernetes/pki/ca.key") == "KEY"
    assert not blank.there("/var/lib/etcd/member")
    assert not blank.there("/etc/kubernetes/manifests")
