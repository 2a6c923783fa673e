"""What K3s is given, byte for byte; of each other case what is different, as in test_documents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from golden.test_documents import Plain, readable
from support.host import Host
from support.specs import SECRET, hosts, of, on_the_wire
from syrupy.assertion import SnapshotAssertion

from groundplane.spec import (
    ApiServer,
    Audit,
    Component,
    Containerd,
    Endpoint,
    Mirrors,
    Proxy,
    Spec,
)

CASES: dict[str, Spec] = {
    "usual": of("k3s"),
    "two-families": of(
        "k3s",
        hosts(second_node_address="fd00:1::"),
        pod_cidrs=["10.244.0.0/16", "fd00:244::/56"],
        service_cidrs=["10.96.0.0/16", "fd00:96::/112"],
    ),
    "ipv6": of(
        "k3s",
        hosts(node_address="fd00:1::"),
        pod_cidrs=["fd00:244::/56"],
        service_cidrs=["fd00:96::/112"],
        endpoint=Endpoint(address="fd00:1::10", router_id=51),
    ),
    "arguments": of(
        "k3s",
        api_server=ApiServer(
            extra_args={"max-requests-inflight": 800, "profiling": False},  # type: ignore[dict-item]
            cert_sans=["api.example.org", "192.0.2.200"],
            feature_gates={"B": False, "A": True},
        ),
        controller_manager=Component(extra_args={"v": 3}),  # type: ignore[dict-item]
        scheduler=Component(extra_args={"v": 4}),  # type: ignore[dict-item]
        kubelet={"maxPods": 200, "cgroupDriver": "cgroupfs", "protectKernelDefaults": True},
        kube_proxy={"conntrack": {"min": 0}, "mode": "iptables"},
    ),
    "audit-none": of("k3s", audit=Audit(level="none")),
    "runtime": of(
        "k3s",
        proxy=Proxy(http="http://192.0.2.5:3128", no_proxy=[".example.org"]),
        mirrors=Mirrors(
            downloads="http://192.0.2.5:8080", images={"docker.io": "http://192.0.2.5:5000"}
        ),
        containerd=Containerd(restrict_oom_score_adj=True),
    ),
}
# File name -> what prints it.
BOTH = {
    "config.json": "config_file",
    "kubelet.json": "kubelet_settings",
    "kube-proxy.json": "kube_proxy_settings",
    "containerd.toml": "containerd_settings",
    "k3s.service": "k3s_unit",
    "links": 'k3s_links "$(data .kubernetes)"',
    "hosts.toml": "runtime_mirrors >/dev/null; cat /etc/containerd/certs.d/*/hosts.toml "
    "2>/dev/null || true",
    "token": "token_line",
    "password": "node_password",
    "groundplane-network.service": "network_unit",
}
CONTROL_PLANE = BOTH | {
    "founding.json": "config_file found",
    "anonymous.json": "anonymous_configuration",
    "audit.json": "audit_policy",
    "encryption.json": "encryption_configuration 1",
}
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Plain)


def prepared(folder: Path) -> Host:
    host = Host(folder)
    host.prepared_for("k3s")
    host.write("/opt/groundplane/cni-plugins/1.9.1/ptp", "", 0o755)
    host.write("/var/lib/rancher/k3s/server/tls/groundplane.key", SECRET)
    host.write("/var/lib/rancher/k3s/server/tls/server-ca.crt", CA)
    host.write("/var/lib/groundplane/join/ca.crt", f"{CA}\n")
    host.write("/var/lib/groundplane/join/token", "abcdef.0123456789abcdef\n")
    return host


@cache
def documents(case: str, machine: str) -> dict[str, str]:
    """All documents of a host, by their names."""
    functions = CONTROL_PLANE if machine.startswith("cp") else BOTH
    script = "".join(f"echo '=== {name}'; {function}\n" for name, function in functions.items())
    with TemporaryDirectory() as folder:
        host = prepared(Path(folder) / "host")
        done = host.bash(script, on_the_wire(CASES[case], "node", machine), step="node")
        assert done.status == 0, done.err
    parts = re.split(r"^=== (.*)\n", done.out, flags=re.MULTILINE)[1:]
    made = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: readable(name, text) for name, text in made.items() if text}


MACHINES = [(case, "cp2") for case in CASES] + [
    (case, "w1") for case in ("usual", "two-families", "ipv6", "runtime", "arguments")
]


@pytest.mark.parametrize("case, machine", MACHINES)
def test_documents(case: str, machine: str, snapshot: SnapshotAssertion) -> None:
    usual = documents("usual", machine)
    for name, text in documents(case, machine).items():
        if case == "usual" or text != usual.get(name):
            assert text == snapshot(name=name)


def test_only_who_founds_may_found() -> None:
    """A server without data and without this joins, or waits for whom it could join."""
    steady, founding = (json.loads(documents("usual", "cp2")[f"{name}.json"]) for name in
                        ("config", "founding"))  # fmt: skip
    assert founding["cluster-init"] is True
    assert "cluster-init" not in steady
    assert steady["server"] == "https://192.0.2.10:8443"
    assert "server" not in founding
    assert {**founding, "server": steady["server"]} == {**steady, "cluster-init": True}


def test_no_secret_is_in_a_file_that_others_can_read() -> None:
    for machine in ("cp2", "w1"):
        own = {documents("usual", machine)[name].strip() for name in ("token", "password")}
        words = {word for text in own for word in (text, text.rpartition(":")[2])}
        for name, text in documents("usual", machine).items():
            assert name in ("token", "password") or not any(word in text for word in words)


def test_both_sides_know_the_same_ca() -> None:
    """Whatever line breaks came with it on the way: K3s compares the digest of the file."""
    servers, agents = (documents("usual", name)["token"] for name in ("cp2", "w1"))
    assert servers.split("::")[0] == agents.split("::")[0]
    assert agents.strip().endswith("::abcdef.0123456789abcdef")


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
    known = ("is not executable", "not found")
    assert [line for line in done.stderr.splitlines() if not any(k in line for k in known)] == []
