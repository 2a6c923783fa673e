"""The checks, each with its cases in cases/CHECK.yaml: what was seen, and what is to be found.

A case changes a sound cluster of cp1, cp2, cp3 and w1, none of them joined yet: `cluster` and
`hosts` what the user wrote, `joined` who is a node already ("all" or names), `seen` what a host
shows, `silent` who does not answer and why. `finds` are [severity, host, part of the cause].
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from groundplane.errors import GroundplaneError
from groundplane.preflight import (
    ALL_HOSTS,
    CHECK_OF_KIND,
    EACH_HOST,
    Finding,
    PreflightError,
    Severity,
    check,
    require,
    summary,
    table,
)
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import HostSeen
from groundplane.remote.guests import Guest, State
from groundplane.remote.observation import Observation
from groundplane.spec import Cluster, Host, immutable

CASES = Path(__file__).parent / "cases"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
NAMES = ("cp1", "cp2", "cp3", "w1")

CLUSTER = {
    "name": "metal",
    "kubernetes": {"version": "1.36.3"},
    "podCidrs": ["10.244.0.0/16"],
    "serviceCidrs": ["10.96.0.0/16"],
    "endpoint": {"address": "198.18.0.10", "routerId": 51},
    "network": "plain",
}


def sound(name: str, number: int) -> dict[str, Any]:
    """What a host shows that nothing is wrong with."""
    return {
        "name": name,
        "root": True,
        "os_id": "debian",
        "os_version": "12",
        "arch": "amd64",
        "kernel": "6.1.0-32-amd64",
        "systemd": 252,
        "hostname": name,
        "machine_id": f"machine-{name}",
        "product_uuid": f"product-{name}",
        "boot_id": f"boot-{name}",
        "virtualization": "kvm",
        "cgroup": 2,
        "controllers": ["cpuset", "cpu", "io", "memory", "pids"],
        "cpus": 4,
        "memory": 8 << 30,
        "clock": {"ahead": 0, "error": 0.01},
        "disks": [{"path": "/var/lib", "free": 60 << 30, "size": 100 << 30}],
        "interfaces": [
            {
                "name": "eth0",
                "mac": f"52:54:00:00:00:{number}",
                "mtu": 1500,
                "addresses": [f"198.18.0.{number}/24"],
            }
        ],
        "routes": [
            {"to": "default", "interface": "eth0"},
            {"to": "198.18.0.0/24", "interface": "eth0"},
        ],
        "features": {"overlay": "loaded", "br_netfilter": "available", "nf_conntrack": "builtin"},
        "packager": "apt",
        "nameservers": ["198.18.0.1"],
    }


def entry(step: str, stack: str = "ours") -> dict[str, Any]:
    return {"stack": stack, "cluster": "c1", "step": step, "revision": 1, "token": "t",
            "digest": "d", "at": None}  # fmt: skip


def as_node(control_plane: bool, cluster: Cluster) -> dict[str, Any]:
    """What a host shows besides once it is a node of the cluster."""
    record = {"stack": "ours", "cluster": "c1", "immutable": immutable(cluster)}
    shown: dict[str, Any] = {
        "ledger": {step: entry(step) for step in ("prepare", "node")},
        "cluster_data": ["/etc/kubernetes/kubelet.conf"],
        "runtimes": ["/run/containerd/containerd.sock"],
        "record": record,
        "listeners": [{"port": 10250, "process": "kubelet"}],
    }
    if control_plane:
        shown["etcd"] = {"healthy": True}
    return shown


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: merged(one.get(key), other[key]) if key in other else one[key]
                for key in {**one, **other}}  # fmt: skip
    return other


def build(case: Mapping[str, Any]) -> tuple[Cluster, list[Host], Observation]:
    cluster = Cluster.model_validate(merged(CLUSTER, case.get("cluster", {})))
    founded = Cluster.model_validate(merged(CLUSTER, case.get("founded", case.get("cluster", {}))))
    joined = NAMES if case.get("joined") == "all" else case.get("joined", ())
    hosts, seen = [], {}
    for name in case.get("only", NAMES):
        control = name.startswith("cp")
        number = 10 * (1 if control else 2) + int(name[-1])
        given = {
            "name": name,
            "address": f"198.18.0.{number}",
            "hostKey": KEY,
            "role": "control-plane" if control else "worker",
        }
        hosts.append(Host.model_validate(merged(given, case.get("hosts", {}).get(name, {}))))
        shown = sound(name, number)
        if name in joined:
            shown |= as_node(control, founded)
        shown = merged(shown, case.get("seen", {}).get(name, {}))
        kind = case.get("silent", {}).get(name)
        seen[name] = (
            HostUnreachable(name, Kind(kind), "the cause", "The remedy.")
            if kind
            else TypeAdapter(HostSeen).validate_python(dated(shown))
        )
    guests = {name: Guest("hv1", State.RUNNING, KEY, anew=True) for name in case.get("anew", ())}
    return cluster, hosts, Observation("ours", seen, guests=guests)


def dated(shown: dict[str, Any]) -> dict[str, Any]:
    """Cases give a certificate's end in days from now."""
    now = datetime.now(UTC)
    certificates = [
        {"path": path, "not_after": now + timedelta(days=days, hours=1)}
        for path, days in shown.get("certificates", {}).items()
    ]
    return {**shown, "certificates": certificates}


def cases() -> list[Any]:
    return [
        pytest.param(path.stem, case, id=f"{path.stem}: {case['case']}")
        for path in sorted(CASES.glob("*.yaml"))
        for case in yaml.safe_load(path.read_text())
    ]


@pytest.mark.parametrize(("name", "case"), cases())
def test_case(name: str, case: Mapping[str, Any]) -> None:
    findings = [f for f in check(*build(case)) if f.check == name]
    wanted = case.get("finds", [])
    found = [[str(f.severity), f.host, f.cause] for f in findings]
    assert len(found) == len(wanted), found
    for (severity, host, cause), (severity_, host_, part) in zip(found, wanted, strict=True):
        assert (severity, host) == (severity_, host_)
        assert part in cause
    for finding in findings:
        assert finding.remedy
        assert not finding.cause.endswith(".")
    if part := case.get("remedy"):
        assert part in findings[0].remedy


def test_each_check_has_cases() -> None:
    checks = {*EACH_HOST, *ALL_HOSTS, *CHECK_OF_KIND.values()}
    assert checks == {path.stem for path in CASES.glob("*.yaml")}


@pytest.mark.parametrize("case", [{}, {"joined": ["cp1"]}, {"joined": "all"}], ids=json.dumps)
def test_where_nothing_is_wrong_nothing_is_found(case: Mapping[str, Any]) -> None:
    assert check(*build(case)) == []


BAD = {"seen": {"cp2": {"swap": 1 << 30, "locks": [{"path": "/lock", "process": "apt"}]}}}


def test_a_program_stops_with_the_whole_table() -> None:
    with pytest.raises(GroundplaneError) as raised:
        require(*build(BAD))
    text = str(raised.value)
    assert isinstance(raised.value, PreflightError)
    assert "1 error, 1 warning" in text
    assert all(part in text for part in ("cp2", "1.0 GiB of swap", "swapoff", "/lock"))


def test_a_program_goes_on_with_warnings() -> None:
    warned = {"seen": {"cp2": {"locks": [{"path": "/lock", "process": "apt"}]}}}
    assert [finding.severity for finding in require(*build(warned))] == [Severity.WARNING]


def test_the_table_has_errors_first() -> None:
    findings = check(*build({**BAD, "silent": {"w1": "auth-refused"}}))
    assert [f.severity for f in findings] == [Severity.ERROR, Severity.ERROR, Severity.WARNING]
    assert table(findings) == (
        "ERROR    cp2  swap     1.0 GiB of swap are on; the kubelet will not start\n"
        "                       swapoff -a, and take it out of /etc/fstab; or set "
        "kubelet.failSwapOn: false.\n"
        "ERROR    w1   ssh-key  the cause\n"
        "                       The remedy.\n"
        "WARNING  cp2  locks    apt holds /lock\n"
        "                       Steps wait for it, for some minutes. If it hangs, look at the "
        "process."
    )


def test_summary() -> None:
    finding = Finding("a", "c", Severity.NOTE, "x", "y")
    assert summary([]) == "nothing found"
    assert summary([finding, finding]) == "2 notes"
