"""Root file systems that machines share, read-only, beneath a layer of their own."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
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
# What a server has.
SERVER = (
    "ca-certificates",
    "curl",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iptables",
    "iputils-ping",
    "jq",
    "kmod",
    "nftables",
    "openssh-server",
    "openssl",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "util-linux",
)
# What Kubernetes' hosts need beside it: machines cannot reach a package source.
KUBERNETES = ("conntrack", "ethtool", "haproxy", "keepalived", "libseccomp2", "socat")


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


@dataclass(frozen=True)
class Tree:
    """A root file system: Debian's packages, and a program that finishes it, called with its
    folder. `sources`: all that this program reads."""

    title: str
    packages: tuple[str, ...]
    customize: Path
    sources: tuple[Path, ...] = ()

    @property
    def folder(self) -> Path:
        """Where it is, or will be, for this computer's release."""
        digest = hashlib.sha256(" ".join([_release(), *self.packages]).encode())
        for path in sorted([self.customize, *(p for top in self.sources for p in top.rglob("*"))]):
            if path.is_file():
                digest.update(path.read_bytes())
        return cache() / "rootfs" / digest.hexdigest()[:16]


HOST = Tree("root file system", (*SERVER, *KUBERNETES), HERE / "customize", (HERE / "image",))


def make(progress: Progress, tree: Tree = HOST) -> Path:
    """Makes the root file system unless it is in the cache, from the computer's own sources."""
    target = tree.folder
    if target.exists():
        return target  # whole: what is being made has another name until then
    with locked(progress):
        if target.exists():
            return target
        log = cache() / "logs" / f"{tree.title.replace(' ', '-')}.log"
        sources = [path for path in SOURCES if Path(path).exists()]
        with timed(tree.title, progress), whole(target) as draft:
            argv: list[str | Path] = [
                # Its own mounts: a killed run leaves none in the half-made tree.
                "unshare",
                "--mount",
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                "--format=directory",
                f"--include={','.join(tree.packages)}",
                f'--customize-hook={tree.customize} "$1"',
                _release(),
                draft,
                *sources,
            ]
            if run_logged(tree.title, argv, log, progress) != 0:
                raise MachineError(
                    str(log),
                    "mmdebstrap failed",
                    "\n".join(log.read_text().splitlines()[-5:]),
                    "Check that this computer's package sources answer: apt-get update",
                )
    return target


def _release() -> str:
    return platform.freedesktop_os_release()["VERSION_CODENAME"]
