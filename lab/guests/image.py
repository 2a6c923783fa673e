"""The image that guests are installed from, with what a node needs already in it.

Emulated processors are slow at what this computer is fast at. So the product's own `prepare` step
runs once, in a container of the same root file system; what it leaves is the image. On a guest the
step finds each part with the digest it must have, and has nothing to fetch.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundplane.clusters import data
from groundplane.remote.bundle import LIBRARY, bundle, installer
from groundplane.remote.step import canonical
from groundplane.spec import Spec
from lab import machines
from lab.machines import Lab, Machine, MachineError
from lab.machines.model import folder
from lab.machines.rootfs import HERE as MACHINES
from lab.machines.rootfs import KUBERNETES, SERVER, Tree
from lab.parts import images
from lab.parts.progress import Progress, run_logged, timed
from lab.parts.store import cache

HERE = Path(__file__).parent
CLOUD = (
    "cloud-guest-utils",
    "cloud-init",
    "fdisk",
    "grub-pc-bin",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "systemd-resolved",
    "systemd-timesyncd",
    "zstd",
)
GUEST = Tree(
    "guest's root file system",
    (*SERVER, *KUBERNETES, *CLOUD),
    HERE / "customize",
    (HERE / "image",),
)
NAME = "debian-12"
BAKER = "bake"  # the machine that it is made in, and the stack that its steps believe to be of
ADDRESS = "198.18.0.9"
# A container is no machine: its network is not its own to set up, and it has no seed.
MASKED = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final", "systemd-networkd")
# What is that machine's, and not every guest's.
FORGOTTEN = (
    "etc/hostname",
    "etc/hosts",
    "etc/lab-machine",
    "etc/machine-id",
    "etc/ssh",
    "root",
    "run",
    "tmp",
    LIBRARY.lstrip("/"),
    "var/cache",
    "var/lib/dbus",
    "var/lib/groundplane",
    "var/lib/systemd",
    "var/log",
    "var/tmp",
)


def requirements() -> list[str]:
    """Debian packages that this computer needs for it."""
    return ["e2fsprogs", "fdisk", "qemu-utils"]


def ensure(lab: Lab, specs: Sequence[Spec], progress: Progress) -> Path:
    """Makes the image unless it is in the cache, for the first control plane of each of `specs`,
    the last of which is what guests begin with. The lab's network and mirror must be up."""
    # Unhardened: most of that is a kernel's, which a container has none of. A guest does it itself.
    wanted = [
        {**data.prepare(spec, spec.control_planes[0], "amd64", "apt"), "hardening": None}
        for spec in specs
    ]
    target = cache() / "guests" / f"{_key(wanted)}.qcow2"
    if not target.exists():
        with timed("guest's image", progress):
            try:
                _bake(lab, wanted, progress)
                _write(lab, target, progress)
            finally:
                machines.destroy(lab, BAKER)
    return target


def _key(wanted: Sequence[Mapping[str, Any]]) -> str:
    """What decides the content. Not the steps' scripts: a guest runs them itself, and sees what
    they would have done otherwise."""
    parts = [GUEST.folder.name, *map(canonical, wanted)]
    names = {name for each in wanted for name in images.wanted(each["kubernetes"])}
    parts += [(images.image(name).folder / "index.json").read_text() for name in sorted(names)]
    parts += [path.read_text() for path in (HERE / "disk", Path(__file__))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _bake(lab: Lab, wanted: Sequence[Mapping[str, Any]], progress: Progress) -> None:
    """Runs the product's step in a machine of the guest's root file system."""
    machines.destroy(lab, BAKER)
    layer = lab.folder / "guests" / "container"
    _container(layer)
    machines.boot(lab, Machine(BAKER, ADDRESS, memory=2048, root=f"{layer}:{GUEST.folder}"))
    scripts = bundle()
    _run(lab, ["sh", "-c", installer()], f"{scripts.digest} {BAKER} 0\n{scripts.archive}")
    for number, each in enumerate(wanted):
        with timed(f"guest's image: Kubernetes {each['kubernetes']}", progress):
            head = {"stack": BAKER, "step": "prepare", "revision": 1, "token": str(number)}
            step = [f"{LIBRARY}/current/run", "prepare", "apply"]
            _run(lab, step, canonical({**head, **each}))
    # Its images are in the data base of containerd, which must have been closed.
    _run(lab, ["systemctl", "stop", "containerd"])
    machines.stop(lab, BAKER)


def _container(layer: Path) -> None:
    """What lies over the guest's root file system while it is a container, and in no image."""
    shutil.rmtree(layer, ignore_errors=True)
    shutil.copytree(MACHINES / "image", layer)
    (layer / "usr/local/sbin/lab-machine").chmod(0o755)
    units = layer / "etc/systemd/system"
    for unit in MASKED:
        (units / f"{unit}.service").symlink_to("/dev/null")
    wants = units / "sysinit.target.wants"
    wants.mkdir()
    (wants / "lab-machine.service").symlink_to("/etc/systemd/system/lab-machine.service")


def _run(lab: Lab, argv: Sequence[str], stdin: str = "") -> None:
    machines.exec(lab, BAKER, argv, stdin, check=True)


def _write(lab: Lab, target: Path, progress: Progress) -> None:
    """The disk of what the machine left, without what was its own."""
    disk = folder(lab, BAKER) / "disk"
    for name in FORGOTTEN:
        path = disk / "upper" / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = ["unshare", "--mount", HERE / "disk", target, disk / "containerd"]
    argv += [f"{disk / 'upper'}:{GUEST.folder}"]
    log = cache() / "logs/guest-disk.log"
    with timed("guest's image: disk", progress):
        if run_logged("guest's image: disk", argv, log, progress) != 0:
            raise MachineError(str(log), "the disk could not be made", log.read_text().strip())
