"""Whether this computer's processor runs guests, or a program has to play one.

A /dev/kvm proves nothing: inside a virtual machine it may be there and never get through a
kernel's start. So a guest's own kernel is started, until it looks for its disk.
"""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path

from lab.guests.hypervisor import HYPERVISOR
from lab.guests.image import GUEST
from lab.parts.store import cache, write_whole

PATIENCE = 10  # seconds; with KVM one is enough
BOOT = Path("/proc/sys/kernel/random/boot_id")
# No disk and no initramfs: who says this has come through all of a kernel's start.
ARRIVED = "Unable to mount root fs"
NAMES = {True: "KVM", False: "emulation (TCG)"}


def kvm() -> bool:
    """Whether KVM runs a guest's kernel; tried once for each start of this computer."""
    noted = cache() / "kvm.json"
    question = [BOOT.read_text(), str(GUEST.folder), str(HYPERVISOR.folder)]
    if noted.exists():
        asked, answer = json.loads(noted.read_text())
        if asked == question:
            return bool(answer)
    answer = Path("/dev/kvm").exists() and starts("kvm")
    write_whole(noted, json.dumps([question, answer]))
    return answer


def starts(accelerator: str, seconds: float = PATIENCE) -> bool:
    """Whether QEMU with this accelerator brings the guest's kernel through its start."""
    qemu = [
        "qemu-system-x86_64",
        *("-accel", accelerator, "-cpu", "max", "-m", "512", "-nodefaults", "-no-reboot"),
        *("-display", "none", "-serial", "stdio", "-kernel", "/run/vmlinuz"),
        *("-append", "console=ttyS0 panic=-1"),
    ]
    # In the hypervisor's root file system: this computer needs no QEMU of its own.
    script = (
        'root=$1 kernel=$2; shift 2; mount --bind /dev "$root/dev"; '
        'mount -t tmpfs run "$root/run"; cp "$kernel" "$root/run/vmlinuz"; exec chroot "$root" "$@"'
    )
    argv = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    argv += [str(HYPERVISOR.folder), str(GUEST.folder / "vmlinuz"), *qemu]
    try:
        done = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as hung:
        return ARRIVED.encode() in (hung.stdout or b"")
    return ARRIVED.encode() in done.stdout


@functools.cache
def name() -> str:
    """What runs guests here, as every output calls it."""
    return NAMES[kvm()]
