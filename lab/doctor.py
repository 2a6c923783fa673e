"""What this computer needs to carry the lab, said before anything is begun."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from groundplane.errors import Finding, SpecError
from lab.config import CHECKOUT, Lab
from lab.machines import requirements
from lab.parts import cache
from lab.parts.progress import Progress

PACKAGES = [
    *requirements(),
    "build-essential",
    "ca-certificates",
    "conntrack",
    "iptables",
    "runc",
    "unzip",
    "util-linux",
]
GIB = 1024**3
DISK = 12 * GIB  # parts 4, images 2, machines 1 each
GUESTS = 6 * GIB  # a control plane, a worker, and what runs them


def examine(lab: Lab, progress: Progress, guests: bool = False) -> None:
    """Install what can be installed; raise with everything else that is missing, all at once.

    `guests`: whether virtual machines are to run, too.
    """
    checks = (_architecture(), _root(), _memory(lab, guests), _disk(lab), _overlay())
    if found := [finding for finding in checks if finding]:
        raise SpecError(found)
    done = subprocess.run(
        [CHECKOUT / "lab" / "install-packages", *PACKAGES],
        text=True,
        capture_output=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        progress(line)
    if done.returncode != 0:
        raise SpecError(
            [
                Finding(
                    "this computer",
                    f"packages cannot be installed: {done.stderr.strip()}",
                    "The lab's machines are made with them",
                    f"apt-get install {' '.join(PACKAGES)}",
                )
            ]
        )
    if network := _network():
        raise SpecError([network])


def _architecture() -> Finding | None:
    here = platform.machine()
    if here == "x86_64":
        return None
    return Finding(
        "this computer",
        f"its architecture is {here}, and the lab is for amd64 only",
        "The parts that it fetches, builds and runs are of that one",
        "Use a computer or a virtual machine with an amd64 processor.",
    )


def _root() -> Finding | None:
    if os.geteuid() == 0:
        return None
    return Finding(
        "this computer",
        "the lab needs root",
        "It makes machines, network namespaces and mounts",
        "sudo make lab",
    )


def _memory(lab: Lab, guests: bool) -> Finding | None:
    # What 3+2 machines really used, by their number: about 1 GiB a control plane, half a worker.
    wanted = (lab.size.control_planes * 1.1 + lab.size.workers * 0.6 + 1) * GIB
    if guests:
        wanted += GUESTS
    values = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(values["MemAvailable"].split()[0]) * 1024
    if available >= wanted:
        return None
    return Finding(
        "this computer",
        f"{available / GIB:.1f} GiB of memory are free, the lab takes {wanted / GIB:.1f}",
        "Machines would kill each other's processes",
        f"Free some, or make fewer machines: {lab.folder.relative_to(CHECKOUT)}/config.yaml with "
        "`control_planes: 1`, `workers: 1`.",
    )


def _disk(lab: Lab) -> Finding | None:
    folder = next(path for path in (lab.folder, *lab.folder.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free >= DISK or ((cache() / "parts").exists() and free >= DISK / 3):
        return None
    return Finding(
        "this computer",
        f"{free / GIB:.1f} GiB of disk are free, the lab takes up to {DISK / GIB:.0f}",
        "Parts, images and machines are kept there",
        "Free some.",
    )


def _overlay() -> Finding | None:
    known = Path("/proc/filesystems").read_text().split()
    if (
        "overlay" in known
        or subprocess.run(["modprobe", "-q", "overlay"], check=False).returncode == 0
    ):
        return None
    return Finding(
        "this computer",
        "its kernel has no overlay file system",
        "A machine's disk is an overlay over a common one",
        "Use a full distribution kernel.",
    )


# What the lab's network is made of, once through, in a namespace that ends with the command.
REHEARSAL = """
ip link add lab type bridge
ip link add one type veth peer name other
nft add table ip lab
nft add chain ip lab out "{ type nat hook postrouting priority srcnat; }"
nft add rule ip lab out masquerade
"""


def _network() -> Finding | None:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-e", "-c", REHEARSAL],
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    said = next(iter(done.stderr.strip().splitlines()), f"status {done.returncode}")
    return Finding(
        "this computer",
        f"it cannot make the lab's network: {said}",
        "Machines hang on a bridge in a network namespace, and their pods need nftables",
        "Use a full distribution kernel; in a container, one that has all capabilities.",
    )
