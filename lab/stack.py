"""The lab's twins: the product on machines and on guests, by the same commands as anywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from groundplane.begin import write_stack
from groundplane.errors import GroundplaneError
from groundplane.spec import Spec
from lab import environment, machines
from lab.config import CHECKOUT, METAL, VM, Lab, Twin
from lab.guests import accelerator, hypervisor
from lab.guests.image import ADDRESS as BAKERY
from lab.guests.image import NAME as IMAGE

MIRROR = f"http://{machines.GATEWAY}"


# What these machines are: containers on a shared kernel, perhaps with cgroup v1. A real host needs
# none of it.
CONTAINERS: dict[str, Any] = {
    "containerd": {"restrictOomScoreAdj": True},
    "kubelet": {
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        # The disk is this computer's, of any size: what is free counts, not which share of it.
        # kubelet's own limits evict all pods from 15 % on, and remove images that are to come.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
        },
        "imageGCHighThresholdPercent": 100,
    },
    "kubeProxy": {"conntrack": {"maxPerCore": 0, "min": 0}},
    "ignorePreflight": [
        "SystemVerification",
        "NumCPU",
        "Mem",
        "Swap",
        "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables",
    ],
}


# An emulated control plane does not get to renew its lease within Kubernetes' 10 s: its controllers
# would end and begin anew, and nobody sign a kubelet's request.
LEASES = {
    "leader-elect-lease-duration": "120s",
    "leader-elect-renew-deadline": "100s",
    "leader-elect-retry-period": "10s",
}
EMULATED: dict[str, Any] = {
    "controllerManager": {"extraArgs": LEASES},
    "scheduler": {"extraArgs": LEASES},
}


@dataclass(frozen=True)
class Vm:
    """A guest that is to be: its name tells its role. `memory` in MiB."""

    name: str
    address: str
    memory: int
    vcpus: int = 2
    disk: int = 12  # GiB


def site(lab: Lab, hosts: Sequence[Mapping[str, Any]], twin: Twin = METAL) -> dict[str, Any]:
    """What binds a stack to this lab; `hosts` as the site's file has them."""
    cluster: dict[str, Any] = {
        "name": twin.name,
        "kubernetes": {"version": lab.size.kubernetes},
        "podCidrs": [twin.pods],
        "serviceCidrs": [twin.services],
        "endpoint": {"address": twin.endpoint, "routerId": twin.router_id},
        "mirrors": {
            "downloads": f"{MIRROR}:8080",
            "images": {
                "registry.k8s.io": f"{MIRROR}:5000",
                "groundplane.test": f"{MIRROR}:5000",
            },
        },
        "protect": False,
        "preflight": {"minDiskGib": 2},
    }
    if twin is METAL:
        cluster |= CONTAINERS
    elif not accelerator.kvm():
        cluster |= EMULATED
    # The version that the lab has, which need not be the one that platform.yaml names.
    version = _lab_version(lab, "containerd")
    cluster["containerd"] = {**cluster.get("containerd", {}), "version": version}
    made = {
        # The addresses are the same in every lab of this checkout, each in a network of its own.
        "place": f"lab {lab.name}",
        "catalogue": str(lab.folder / "catalogue.yaml"),
        "hosts": list(hosts),
    }
    return {
        **made,
        **(_guests(lab, hosts) if any("guest" in host for host in hosts) else {}),
        "cluster": cluster,
    }


def _guests(lab: Lab, hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What guests have in common, and who runs them."""
    controls = [host for host in hosts if host["role"] == "control-plane"]
    machine = {
        "name": hypervisor.NAME,
        "address": hypervisor.ADDRESS,
        "key": str(lab.key),
        "hostKey": machines.host_key(lab, hypervisor.NAME),
        "bridge": hypervisor.BRIDGE,
        "emulation": not accelerator.kvm(),
        # This computer is the only one there is.
        "allowTogether": len(controls) > 1,
        "overcommit": {"cpu": 8.0},
    }
    common = {
        "image": IMAGE,
        "prefix": machines.PREFIX,
        "gateway": machines.GATEWAY,
        "dns": [machines.GATEWAY],
        # What this computer has in memory outlives every power cut of the lab.
        "disk": {"cache": "unsafe"},
    }
    return {"hypervisors": [machine], "guests": common}


def _lab_version(lab: Lab, part: str) -> str:
    catalogue = yaml.safe_load((lab.folder / "catalogue.yaml").read_text())
    return str(catalogue["parts"][part]["default"])


def host(lab: Lab, machine: machines.Machine) -> dict[str, Any]:
    """A machine of the lab as the site's file has it; its name tells its role."""
    return {
        "name": machine.name,
        "address": machine.address,
        "key": str(lab.key),
        "hostKey": machines.host_key(lab, machine.name),
        "role": "control-plane" if machine.name.startswith("cp") else "worker",
    }


def guest(lab: Lab, vm: Vm) -> dict[str, Any]:
    """A guest as the site's file has it; its name tells its role."""
    return {
        "name": vm.name,
        "address": vm.address,
        "key": str(lab.key),
        "role": "control-plane" if vm.name.startswith("vcp") else "worker",
        "guest": {
            "hypervisor": hypervisor.NAME,
            "vcpus": vm.vcpus,
            "memoryMib": vm.memory,
            "diskGib": vm.disk,
        },
    }


def vm(name: str, memory: int) -> Vm:
    """A guest by its name: vcp1 to vcp5, vw1 to vw5."""
    kind, number = name[:-1], int(name[-1])
    return Vm(name, f"198.18.0.{(60 if kind == 'vcp' else 70) + number}", memory)


def vms(lab: Lab, kvm: bool) -> list[Vm]:
    """The guests of the lab's size; fewer where they are emulated."""
    size = lab.size
    controls = size.guest_control_planes or (3 if kvm else 1)
    workers = size.guest_workers if size.guest_workers is not None else (2 if kvm else 1)
    return [
        *(vm(f"vcp{n}", size.guest_control_plane_memory) for n in range(1, controls + 1)),
        *(vm(f"vw{n}", size.guest_worker_memory) for n in range(1, workers + 1)),
    ]


def sample(lab: Lab, version: str) -> Spec:
    """A control plane of lab-vm at this version of Kubernetes, of which only a guest's image is
    made."""
    key = " ".join(machines.ssh_key(lab).split()[:2])  # any, nobody connects
    host = {"name": "sample", "address": BAKERY, "hostKey": key, "role": "control-plane"}
    made = site(lab, [host], VM)
    made["cluster"]["kubernetes"]["version"] = version
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CHECKOUT / "stacks" / "platform.yaml", folder)
        return write_stack(Path(folder), "sample", made)


def configure(lab: Lab, hosts: Sequence[Mapping[str, Any]], twin: Twin = METAL) -> Spec:
    """Write the stack's file, and make the stack where there is none."""
    spec = write_stack(CHECKOUT / "stacks", twin.name, site(lab, hosts, twin), force=True)
    pulumi(lab, "stack", "select", "--create", twin.name, quiet=True)
    return spec


def pulumi(lab: Lab, *arguments: str, quiet: bool = False) -> str:
    """Run pulumi in the lab's network. Returns what it printed, or shows it as it comes.

    Raises GroundplaneError with its output when it fails.
    """
    done = subprocess.run(
        [f"{lab.folder}/bin/pulumi", *arguments, "--non-interactive"],
        cwd=CHECKOUT,
        env=environment.in_lab(lab),
        stdin=subprocess.DEVNULL,
        capture_output=quiet,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        detail = (done.stdout or "") + (done.stderr or "")
        raise GroundplaneError(
            f"pulumi {' '.join(arguments)}", f"failed. {detail}".strip(), "", "See above."
        )
    return done.stdout or ""


def write_kubeconfig(lab: Lab, twin: Twin = METAL) -> Path:
    """The stack's kubeconfig where kubectl looks for it, readable by its owner only; at any time
    the old one or the new one."""
    text = pulumi(
        lab, "stack", "output", "kubeconfig", "--show-secrets", "--stack", twin.name, quiet=True
    )
    path = environment.kubeconfig(lab, twin)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    new.write_text(text)
    new.replace(path)
    return path


def host_keys(lab: Lab, twin: Twin = VM) -> dict[str, str]:
    """The public SSH host keys of a stack's guests, by name: their hypervisor made them."""
    text = pulumi(lab, "stack", "output", "hostKeys", "--json", "--stack", twin.name, quiet=True)
    keys: dict[str, str] = json.loads(text)
    return keys


def nodes(lab: Lab, twin: Twin = METAL) -> list[dict[str, Any]]:
    """The Nodes as the cluster shows them."""
    done = subprocess.run(
        [f"{lab.folder}/bin/kubectl", "--context", twin.name, "get", "nodes", "-o", "json"],
        env=environment.in_lab(lab),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items
