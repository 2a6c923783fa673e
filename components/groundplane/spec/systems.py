"""The operating systems that groundplane supports, and which of them its tests have run on.

`tested` tells of real machines, virtual ones or the lab's; not of a belief that it should work.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """One system as its /etc/os-release and architecture name it."""

    os_id: str
    version: str
    arch: str
    family: str
    """`debian` (apt) or `rhel` (dnf)."""
    tested: bool = False

    def __str__(self) -> str:
        return f"{self.os_id} {self.version} {self.arch}"


_RELEASES = {
    "debian": [("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")],
    "rhel": [("rhel", "9"), ("rocky", "9"), ("almalinux", "9"), ("centos", "9")],
}
_TESTED = {("debian", "12", "amd64")}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

SYSTEMS = tuple(
    System(os_id, version, arch, family, (os_id, version, arch) in _TESTED)
    for family, releases in _RELEASES.items()
    for os_id, version in releases
    for arch in ("amd64", "arm64")
)


def architecture(machine: str) -> str | None:
    """The name that downloads use for what `uname -m` says; None where there are none."""
    return _MACHINES.get(machine)


def supported(os_id: str, version_id: str, arch: str) -> System | None:
    """The system for ID and VERSION_ID of /etc/os-release and an architecture ("amd64" or what
    `uname -m` says); None when it is not supported. 9.6 of the RHEL family is 9."""
    found = architecture(arch)
    for system in SYSTEMS:
        version = version_id.split(".")[0] if system.family == "rhel" else version_id
        if (system.os_id, system.version, system.arch) == (os_id, version, found):
            return system
    return None


KUBERNETES_MINORS = ("1.35", "1.36", "1.37")
"""The release lines of Kubernetes that groundplane supports, oldest first."""
