"""The stack `lab-metal`: the product on the lab's machines, by the same commands as anywhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from groundplane.begin import write_stack
from groundplane.errors import GroundplaneError
from lab import environment, machines
from lab.config import CHECKOUT, Lab

STACK = "lab-metal"
ENDPOINT = "198.18.0.10"
MIRROR = "http://198.18.0.1"

# What these machines are: containers on a shared kernel, perhaps with cgroup v1. A real host needs
# none of it.
CONTAINERS: dict[str, Any] = {
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


def site(lab: Lab, hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What binds the stack to this lab; `hosts` as the site's file has them."""
    return {
        # The addresses are the same in every lab of this checkout, each in a network of its own.
        "place": f"lab {lab.name}",
        "catalogue": str(lab.folder / "catalogue.yaml"),
        "hosts": list(hosts),
        "cluster": {
            "name": STACK,
            "kubernetes": {"version": lab.size.kubernetes},
            "podCidrs": ["10.244.0.0/16"],
            "serviceCidrs": ["10.96.0.0/16"],
            "endpoint": {"address": ENDPOINT, "routerId": 51},
            "mirrors": {
                "downloads": f"{MIRROR}:8080",
                "images": {
                    "registry.k8s.io": f"{MIRROR}:5000",
                    "groundplane.test": f"{MIRROR}:5000",
                },
            },
            "protect": False,
            "preflight": {"minDiskGib": 2},
            "containerd": {"version": _lab_version(lab, "containerd"), "restrictOomScoreAdj": True},
            **CONTAINERS,
        },
    }


def _lab_version(lab: Lab, part: str) -> str:
    """The version that the lab has, which need not be the one that platform.yaml names."""
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


def configure(lab: Lab, hosts: Sequence[Mapping[str, Any]]) -> None:
    """Write the stack's file, and make the stack where there is none."""
    write_stack(CHECKOUT / "stacks", STACK, site(lab, hosts), force=True)
    pulumi(lab, "stack", "select", "--create", STACK, quiet=True)


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


def write_kubeconfig(lab: Lab) -> None:
    """The stack's kubeconfig where kubectl looks for it, readable by its owner only; at any time
    the old one or the new one."""
    text = pulumi(
        lab, "stack", "output", "kubeconfig", "--show-secrets", "--stack", STACK, quiet=True
    )
    path = lab.folder / "kubeconfig"
    new = path.with_name(".kubeconfig.new")
    new.unlink(missing_ok=True)
    new.touch(0o600)
    new.write_text(text)
    new.replace(path)


def nodes(lab: Lab) -> list[dict[str, Any]]:
    """The Nodes as the cluster shows them."""
    done = subprocess.run(
        [f"{lab.folder}/bin/kubectl", "--context", STACK, "get", "nodes", "-o", "json"],
        env=environment.in_lab(lab),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items
