"""The machine that guests run on: libvirt and QEMU in a machine like the others."""

from __future__ import annotations

from lab.machines.model import Machine
from lab.machines.rootfs import HERE, SERVER, Tree

HYPERVISOR = Tree(
    "hypervisor's root file system",
    (
        *SERVER,
        "genisoimage",
        "libvirt-clients",
        "libvirt-daemon-system",
        "qemu-system-x86",
        "qemu-utils",
    ),
    HERE / "customize",
    (HERE / "image",),
)
BRIDGE = "br0"
NAME = "hv1"
ADDRESS = "198.18.0.31"
ITSELF = 1024  # MiB for libvirt, and for QEMU beside its guests' memory


def machine(guests: int, kvm: bool) -> Machine:
    """The hypervisor; `guests` is the memory of all of them, in MiB."""
    return Machine(
        NAME, ADDRESS, guests + ITSELF, root=str(HYPERVISOR.folder), bridge=BRIDGE, kvm=kvm
    )
