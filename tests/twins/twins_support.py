"""Two made-up clusters that are twins, and cases that change them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from groundplane.remote.portrait import Portrait
from groundplane.spec.documents import parse
from groundplane.twins import Arm, Comparison, Own, compare

NODE = {
    "system/release": "debian 12",
    "system/architecture": "x86_64",
    "kernel/release": "6.1.0-31-amd64",
    "kernel/command_line/mitigations": "auto",
    "mitigations/meltdown": "Mitigation: PTI",
    "cgroup/version": "2",
    "virtualization/machine": "none",
    "virtualization/container": "none",
    "clock/source": "tsc",
    "processor/model_name": "AMD EPYC 9354 32-Core Processor",
    "processor/count": "16",
    "processor/governor": "performance",
    "processor/steal": "none",
    "processor/flags/avx2": "yes",
    "processor/flags/monitor": "yes",
    "memory/size": "62.71 GiB",
    "disk_var_lib_etcd/model": "SAMSUNG MZQL2960HCJR",
    "disk_var_lib_etcd/size": "894.25 GiB",
    "disk_var_lib_etcd/rotational": "0",
    "nic/driver": "ice",
    "nic/speed": "25000",
    "nic/mtu": "9000",
    "sysctl/net.core.somaxconn": "4096",
    "sysctl/net.ipv4.conf.all.rp_filter": "0",
    "sysctl/vm.swappiness": "60",
    "sysctl/fs.file-max": "9223372036854775807",
    "kubelet/config/maxPods": "110",
    "kubelet/config/featureGates/NodeSwap": "true",
    "containerd/plugins/io.containerd.cri.v1.runtime/containerd/default_runtime_name": "runc",
    "program/runc": "a" * 64,
    "store/registry.k8s.io/kube-proxy:v1.36.4": "sha256:" + "1" * 64,
    "node/info/kubeletVersion": "v1.36.4",
    "node/capacity/cpu": "16",
    "node/labels/kubernetes.io/os": "linux",
}
CONTROL_PLANE = {
    "node/taints/node-role.kubernetes.io/control-plane:NoSchedule": "there",
    "kube-apiserver/image": "registry.k8s.io/kube-apiserver:v1.36.4",
    "gates/MutatingAdmissionPolicy": "0",
}
CLUSTER = {
    "version/kubernetes": "v1.36.4",
    "workload/kube-system/Deployment/coredns": "there",
    "workload/kube-system/Deployment/coredns/replicas": "2",
    "image/registry.k8s.io/coredns/coredns:v1.14.2": "sha256:" + "2" * 64,
    "kube-proxy/config/mode": "nftables",
}
VIRTUAL = {
    "virtualization/machine": "kvm",
    "clock/source": "kvm-clock",
    "processor/flags/hypervisor": "yes",
    "processor/flags/monitor": None,
    "processor/governor": None,
    "disk_var_lib_etcd/model": "QEMU HARDDISK",
    "nic/driver": "virtio_net",
    "nic/speed": None,
}
EMULATED = {
    **VIRTUAL,
    "virtualization/machine": "qemu",
    "processor/model_name": "QEMU TCG CPU version 2.5+",
    "processor/flags/avx2": None,
}
KINDS: dict[str, dict[str, str | None]] = {
    "metal": {},
    "virtual": dict(VIRTUAL),
    "emulated": dict(EMULATED),
    "container": {"virtualization/container": "systemd-nspawn"},
}
ROLES = {"cp1": "control-plane", "cp2": "control-plane", "cp3": "control-plane"} | {
    "w1": "worker",
    "w2": "worker",
}
PLACES = {"a": ("metal", "192.0.2", "10.244"), "b": ("vm", "198.51.100", "10.245")}


def changed(facts: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str]:
    """The facts with others over them; None takes one away."""
    both = {**facts, **changes}
    return {path: str(value) for path, value in both.items() if value is not None}


def arm(side: str, case: Mapping[str, Any]) -> Arm:
    """The side `a` or `b` of a case."""
    stack, network, pods = PLACES[side]
    changes = case.get(side) or {}
    kind = KINDS[case.get("on", {}).get(side, "metal")]
    nodes = {}
    addresses = {}
    for number, (name, role) in enumerate(ROLES.items(), 1):
        if name in case.get("without", {}).get(side, ()):
            continue
        addresses[f"{stack}-{name}"] = address = f"{network}.{10 + number}"
        facts = changed(NODE, kind) | (CONTROL_PLANE if role == "control-plane" else {})
        facts |= {
            "node/labels/kubernetes.io/hostname": f"{stack}-{name}",
            "kubelet/--node-ip": address,
            "kubelet/config/clusterDNS": f"{pods.replace('24', '9')}.0.10",
        }
        for who in ("all", role, name):
            facts = changed(facts, changes.get(who, {}))
        nodes[f"{stack}-{name}"] = (role, facts)
    own = Own(
        list(addresses),
        list(addresses.values()),
        stack,
        f"{network}.10",
        [f"{pods}.0.0/16"],
        [f"{pods.replace('24', '9')}.0.0/16"],
    )
    return Arm(stack, Portrait(nodes, changed(CLUSTER, changes.get("cluster", {}))), own)


def compared(case: Mapping[str, Any]) -> Comparison:
    return compare(arm("a", case), arm("b", case))


def cases(name: str) -> list[Any]:
    path = Path(__file__).parent / "cases" / f"{name}.yaml"
    found = parse(path.read_text(encoding="utf-8"), path.name).data
    return [pytest.param(case, id=case["name"]) for case in found]


def classes(found: Comparison) -> dict[str, str]:
    """Path -> class, without the one that the place brings with it."""
    return {e.path: str(e.cls) for e in found.differences if e.path != "kubelet/config/clusterDNS"}
