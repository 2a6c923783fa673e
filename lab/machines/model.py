"""What a lab and its machines are, and where their things lie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from groundplane.errors import GroundplaneError
from lab.parts.store import write_whole

NETWORK = "198.18.0.0/24"  # reserved for benchmarks, so it collides with nobody's network
GATEWAY = "198.18.0.1"  # the bridge: the mirror listens there, nothing is forwarded
PREFIX = 24


class MachineError(GroundplaneError):
    """A machine of the lab, or its network, is not as it should be."""


@dataclass(frozen=True)
class Lab:
    """A network namespace of this computer and the folder that holds all of the lab's state."""

    name: str
    folder: Path

    @property
    def netns(self) -> Path:
        return Path("/run/netns") / self.name

    @property
    def key(self) -> Path:
        """The private key that every machine accepts for root, ops and nosudo."""
        return self.folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "ssh" / "known_hosts"

    @property
    def machines(self) -> Path:
        return self.folder / "machines"


@dataclass(frozen=True)
class Machine:
    """One machine. `memory` in MiB and `cpus` in processors are limits, not reservations."""

    name: str  # at most 12 characters: the bridge's end of its cable is called vb-NAME
    address: str
    memory: int = 2048
    cpus: float | None = None  # None: all there are
    root: str = ""  # root file systems as overlayfs takes them; empty: that of a host
    bridge: str = ""  # for its guests, on the lab's network by its cable
    kvm: bool = False  # whether its guests get the processor's help


def default_machines() -> list[Machine]:
    addresses = {f"cp{i}": f"198.18.0.{10 + i}" for i in range(1, 6)}
    addresses |= {f"w{i}": f"198.18.0.{20 + i}" for i in range(1, 4)}
    return [Machine(name, address) for name, address in addresses.items()]


def folder(lab: Lab, name: str) -> Path:
    return lab.machines / name


def record(lab: Lab, machine: Machine) -> None:
    write_whole(folder(lab, machine.name) / "machine.json", json.dumps(asdict(machine)))


def recorded(lab: Lab, name: str) -> Machine:
    """The machine as it was last booted."""
    path = folder(lab, name) / "machine.json"
    if not path.exists():
        raise MachineError(name, "no machine of this lab", str(path), "Boot it first.")
    return Machine(**json.loads(path.read_text()))


def names(lab: Lab) -> Sequence[str]:
    """All machines that were made and not destroyed, running or not."""
    return sorted(path.parent.name for path in lab.machines.glob("*/machine.json"))
