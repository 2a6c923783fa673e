"""Every document that the scripts write, byte for byte, from a specification on.

The usual control plane and worker in full; of each other case what is different there. JSON is
laid out for reading, since its order and spaces say nothing. After a change on purpose:
`pytest tests/golden --snapshot-update`, and read the difference before you commit it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.host import Host
from support.specs import SECRET, SECRET_FILE, host, hosts, on_the_wire, spec
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from groundplane.spec import (
    Allow,
    ApiServer,
    Audit,
    Component,
    Containerd,
    Endpoint,
    Firewall,
    Hardening,
    Mirrors,
    PodSecurity,
    Proxy,
    Spec,
)

CASES: dict[str, Spec] = {
    "usual": spec(),
    "two-families": spec(
        hosts(second_node_address="fd00:1::"),
        pod_cidrs=["10.244.0.0/16", "fd00:244::/56"],
        service_cidrs=["10.96.0.0/16", "fd00:96::/112"],
    ),
    "external-endpoint": spec(endpoint=Endpoint(address="api.example.org", mode="external")),
    "ipv6": spec(
        hosts(node_address="fd00:1::"),
        pod_cidrs=["fd00:244::/56"],
        service_cidrs=["fd00:96::/112"],
        endpoint=Endpoint(address="fd00:1::10", router_id=51),
    ),
    "arguments": spec(
        api_server=ApiServer(
            extra_args={"max-requests-inflight": 800, "profiling": False},  # type: ignore[dict-item]
            cert_sans=["api.example.org", "192.0.2.200"],
            feature_gates={"B": False, "A": True},
        ),
        controller_manager=Component(extra_args={"v": 3}),  # type: ignore[dict-item]
        scheduler=Component(extra_args={"v": 4}),  # type: ignore[dict-item]
        kubelet={"maxPods": 200, "cgroupDriver": "cgroupfs"},
        kube_proxy={"conntrack": {"min": 0}, "mode": "iptables"},
        ignore_preflight=["NumCPU"],
    ),
    "audit-request": spec(audit=Audit(level="request", max_age_days=7)),
    "audit-none": spec(audit=Audit(level="none")),
    "audit-policy": spec(
        audit=Audit(
            policy={
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "rules": [{"level": "Metadata"}],
            }
        )
    ),
    "runtime": spec(
        proxy=Proxy(
            http="http://192.0.2.5:3128", https="http://192.0.2.5:3128", no_proxy=[".example.org"]
        ),
        mirrors=Mirrors(
            downloads="http://192.0.2.5:8080", images={"registry.k8s.io": "http://192.0.2.5:5000"}
        ),
        containerd=Containerd(restrict_oom_score_adj=True),
    ),
    "no-network": spec(network="none"),
    "alone": spec(
        [host("cp2", "192.0.2.12", "control-plane"), host("w1", "192.0.2.21", "worker")],
    ),
    "unhardened": spec(hardening=Hardening(level="none")),
    "cis": spec(
        hardening=Hardening(
            level="cis",
            exempt={"usb-storage": "the hosts start from a stick", "kubelet-pids": "few pods"},
            pod_security=PodSecurity(enforce="restricted", exempt_namespaces=["rook-ceph"]),
        )
    ),
}

# File name -> what prints it.
BOTH = {
    "sysctl.conf": "host_sysctls",
    "modprobe.conf": "hardening_modules",
    "journald.conf": "hardening_journald",
    "hardening-rows": "for kind in sysctl mount sshd apt line mode package unit; do "
    "hardening_rows $kind; done",
    "containerd.toml": "runtime_config",
    "containerd.service": "runtime_unit",
    "runtime-links": "runtime_links",
    "kubernetes-links": 'kubernetes_links "$(data .kubernetes)"',
    "hosts.toml": "runtime_mirrors >/dev/null; cat $CERTS/*/hosts.toml 2>/dev/null || true",
    "kubelet.service": "kubelet_unit",
    "groundplane-network.service": '[ "$(data .settings.network)" != plain ] || network_unit',
}
CONTROL_PLANE = BOTH | {
    "init.json": "init_configuration",
    "cluster.json": "cluster_configuration",
    "kubelet.json": "kubelet_configuration",
    "kube-proxy.json": "kube_proxy_configuration",
    "join.json": "join_documents /var/lib/groundplane/join/discovery.conf",
    "audit.json": "audit_policy",
    "admission.json": "admission_configuration",
    "authentication.json": "authentication_configuration",
    "encryption.json": "encryption_configuration 1",
    "haproxy.cfg": "! endpoint_managed || endpoint_haproxy",
    "keepalived.cfg": "! endpoint_managed || endpoint_keepalived",
}
WORKER = BOTH | {
    "join.json": "join_documents /var/lib/groundplane/join/discovery.conf "
    "<(echo abcdef.0123456789abcdef)",
}
# The endpoint's units, in place of starting them.
UNITS = """
endpoint_service() {
  cat >/dev/null
  echo "=== groundplane-$1.service"
  endpoint_unit "$1" "$3" "$2"
}
endpoint_apply
"""


class Plain(SingleFileSnapshotExtension):
    """One file a document, as it is."""

    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Plain)


def readable(name: str, text: str) -> str:
    if not name.endswith(".json"):
        return text
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"


@cache
def documents(case: str, machine: str) -> dict[str, str]:
    """All documents of a host, by their names."""
    functions = CONTROL_PLANE if machine.startswith("cp") else WORKER
    script = "".join(f"echo '=== {name}'; {function}\n" for name, function in functions.items())
    with TemporaryDirectory() as folder:
        host = Host(Path(folder) / "host")
        host.write(SECRET_FILE, SECRET)
        host.fake("systemd-detect-virt", "exit 1")
        host.write("/opt/groundplane/cni-plugins/1.9.1/ptp", "", 0o755)
        # The interface that holds the node's address.
        network = "ip link add eno1 type veth; ip address add 192.0.2.12/24 dev eno1; "
        done = host.bash(
            f"{network} CERTS=/etc/containerd/certs.d\n{script}{UNITS}",
            on_the_wire(CASES[case], "node", machine),
            step="node",
        )
        assert done.status == 0, done.err
    parts = re.split(r"^=== (.*)\n", done.out, flags=re.MULTILINE)[1:]
    made = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: readable(name, text) for name, text in made.items() if text}


# What differs on a worker, where a control plane's other documents do not.
MACHINES = [(case, "cp2") for case in CASES] + [
    (case, "w1") for case in ("usual", "two-families", "ipv6", "runtime", "arguments")
]


@pytest.mark.parametrize("case, machine", MACHINES)
def test_documents(case: str, machine: str, snapshot: SnapshotAssertion) -> None:
    usual = documents("usual", machine)
    for name, text in documents(case, machine).items():
        if case == "usual" or text != usual.get(name):
            assert text == snapshot(name=name)


def test_what_is_not_there_without() -> None:
    """An external endpoint needs no services of ours, a network of yours no unit."""
    usual = set(documents("usual", "cp2"))
    assert usual - set(documents("external-endpoint", "cp2")) == {
        "haproxy.cfg",
        "keepalived.cfg",
        "groundplane-haproxy.service",
        "groundplane-keepalived.service",
    }
    assert usual - set(documents("no-network", "cp2")) == {"groundplane-network.service"}


def test_the_documents_of_a_control_plane_travel_together(tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    done = host.bash("control_plane_documents", on_the_wire(spec(), "node", "cp2"))
    kinds = [json.loads(part)["kind"] for part in done.out.split("---\n")]
    assert kinds == [
        "InitConfiguration",
        "ClusterConfiguration",
        "KubeletConfiguration",
        "KubeProxyConfiguration",
    ]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
@pytest.mark.parametrize("machine", ["cp2", "w1"])
def test_systemd_understands_every_line(machine: str, tmp_path: Path) -> None:
    """It only warns of a key that it does not know, and goes on without."""
    units = {n: t for n, t in documents("usual", machine).items() if n.endswith(".service")}
    for name, text in units.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], cwd=tmp_path, capture_output=True, text=True
    )
    # The programs that the units start are not on this computer.
    known = ("is not executable", "not found")
    assert [line for line in done.stderr.splitlines() if not any(k in line for k in known)] == []


# ---- the firewall ----------------------------------------------------------------------------

FIREWALLS: dict[str, Spec] = {
    "usual": spec(firewall=Firewall()),
    "two-families": spec(
        hosts(second_node_address="fd00:1::"),
        pod_cidrs=["10.244.0.0/16", "fd00:244::/56"],
        service_cidrs=["10.96.0.0/16", "fd00:96::/112"],
        firewall=Firewall(
            ssh=["192.0.2.128/25", "192.0.2.0/25", "fd00:2::/64"],
            api=["192.0.2.0/24"],
            node_ports=["198.51.100.0/24", "fd00:3::/64"],
            allow=[
                Allow(port="9100", sources=["192.0.2.200/32", "fd00:2::9/128"]),
                Allow(port="60000-61000", protocol="udp"),
            ],
        ),
    ),
    "own-network": spec(
        network="none",
        endpoint=Endpoint(address="api.example.org", mode="external"),
        api_server=ApiServer(extra_args={"service-node-port-range": "20000-22767"}),
        firewall=Firewall(),
    ),
}


@pytest.mark.parametrize("machine", ["cp2", "w1"])
@pytest.mark.parametrize("case", FIREWALLS)
def test_firewall(case: str, machine: str, tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    """And the kernel understands every line of it."""
    host = Host(tmp_path / "host")
    data = on_the_wire(FIREWALLS[case], "firewall", machine)
    done = host.bash("firewall_table | tee /run/it; nft -c -f /run/it", data)
    assert (done.status, done.err) == (0, "")
    assert done.out == snapshot(name="firewall.nft")


def test_unit_of_the_firewall(tmp_path: Path, snapshot: SnapshotAssertion) -> None:
    assert Host(tmp_path / "host").bash("firewall_unit").out == snapshot


# ---- what steps are given --------------------------------------------------------------------

STEPS = [
    ("prepare", "cp2"),
    ("prepare", "w1"),
    ("node", "cp2"),
    ("node", "w1"),
    ("membership", ""),
    ("nodes", ""),
]


@pytest.mark.parametrize("step, machine", STEPS, ids=lambda word: word)
def test_data(step: str, machine: str, snapshot: SnapshotAssertion) -> None:
    data: dict[str, Any] = on_the_wire(CASES["usual"], step, machine)
    assert json.dumps(data, indent=2) + "\n" == snapshot
