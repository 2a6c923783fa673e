"""The root file system that all machines share, read-only, beneath a layer of their own."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from lab.machines.model import MachineError
from lab.parts.progress import Progress, run_logged, timed
from lab.parts.store import cache, locked, whole

HERE = Path(__file__).parent
SOURCES = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d/debian.sources",
    "/etc/apt/sources.list.d/ubuntu.sources",
)
# What a server has, and what Kubernetes' hosts need beside it.
PACKAGES = [
    "ca-certificates",
    "conntrack",
    "curl",
    "dbus",
    "e2fsprogs",
    "ethtool",
    "haproxy",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "keepalived",
    "kmod",
    "libseccomp2",
    "nftables",
    "openssh-server",
    "openssl",
    "procps",
    "socat",
    "sudo",
    "systemd",
    "systemd-sysv",
    "util-linux",
]


def requirements() -> list[str]:
    """Debian packages that this computer needs for making machines."""
    return [
        "iproute2",
        "kmod",
        "mmdebstrap",
        "nftables",
        "openssh-client",
        "procps",
        "systemd-container",
    ]


def rootfs() -> Path:
    """Where the root file system for this computer's release is, or will be."""
    digest = hashlib.sha256(" ".join([_release(), *PACKAGES]).encode())
    for path in sorted([HERE / "customize", *(HERE / "image").rglob("*")]):
        if path.is_file():
            digest.update(path.read_bytes())
    return cache() / "rootfs" / digest.hexdigest()[:16]


def make(progress: Progress) -> Path:
    """Makes the root file system unless it is in the cache, from the computer's own sources."""
    with locked(progress):
        target = rootfs()
        if target.exists():
            return target
        log = cache() / "logs" / "rootfs.log"
        sources = [path for path in SOURCES if Path(path).exists()]
        with timed("root file system", progress), whole(target) as draft:
            argv: list[str | Path] = [
                # Its own mounts: a killed run leaves none in the half-made tree.
                "unshare",
                "--mount",
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                "--format=directory",
                f"--include={','.join(PACKAGES)}",
                f'--customize-hook={HERE / "customize"} "$1"',
                _release(),
                draft,
                *sources,
            ]
            if run_logged("root file system", argv, log, progress) != 0:
                raise MachineError(
                    str(log),
                    "mmdebstrap failed",
                    "\n".join(log.read_text().splitlines()[-5:]),
                    "Check that this computer's package sources answer: apt-get update",
                )
    return target


def _release() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]
