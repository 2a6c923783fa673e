"""The lab's machines: systemd containers with SSH, on a network of their own.

lab = Lab("gp", Path(".lab").resolve())
make_rootfs(print)
network_up(lab)
boot_all(lab, default_machines()[:3])
destroy_all(lab)
"""

from __future__ import annotations

from lab.machines.model import GATEWAY, PREFIX, Lab, Machine, MachineError, default_machines, names
from lab.machines.network import degrade, heal, inside, network_down, network_up, partition
from lab.machines.power import (
    boot,
    boot_all,
    destroy,
    destroy_all,
    exec,
    host_key,
    init,
    reboot,
    running,
    ssh_key,
    stop,
    wait_ssh,
    wipe,
)
from lab.machines.rootfs import make as make_rootfs
from lab.machines.rootfs import requirements

__all__ = [
    "GATEWAY",
    "PREFIX",
    "Lab",
    "Machine",
    "MachineError",
    "boot",
    "boot_all",
    "default_machines",
    "degrade",
    "destroy",
    "destroy_all",
    "exec",
    "heal",
    "host_key",
    "init",
    "inside",
    "make_rootfs",
    "names",
    "network_down",
    "network_up",
    "partition",
    "reboot",
    "requirements",
    "running",
    "ssh_key",
    "stop",
    "wait_ssh",
    "wipe",
]
