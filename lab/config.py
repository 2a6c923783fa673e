"""What the lab is made of, and what of it can be set: the environment, or `.lab/config.yaml`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from groundplane.errors import GroundplaneError
from lab import machines

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Twin:
    """A stack of the lab, and what it cannot share with the other one beside it."""

    name: str
    endpoint: str
    router_id: int
    pods: str
    services: str


METAL = Twin("lab-metal", "198.18.0.10", 51, "10.244.0.0/16", "10.96.0.0/16")
VM = Twin("lab-vm", "198.18.0.60", 61, "10.245.0.0/16", "10.97.0.0/16")
TWINS = (METAL, VM)


class Size(BaseModel):
    """How many machines, and how large. Memory in MiB, a limit and not a reservation."""

    model_config = ConfigDict(extra="forbid")
    control_planes: int = Field(default=3, ge=1, le=5)
    workers: int = Field(default=2, ge=0, le=3)
    control_plane_memory: int = Field(default=3072, ge=1536)
    worker_memory: int = Field(default=2048, ge=768)
    # Unless given, 1 and 1 where guests are emulated, 3 and 2 with KVM.
    guest_control_planes: int | None = Field(default=None, ge=1, le=5)
    guest_workers: int | None = Field(default=None, ge=0, le=3)
    guest_control_plane_memory: int = Field(default=3072, ge=2048)
    guest_worker_memory: int = Field(default=2048, ge=1024)
    kubernetes: str = "1.36.3"


@dataclass(frozen=True)
class Lab(machines.Lab):
    """One lab on this computer: a network namespace, a folder, and its size."""

    size: Size = field(default_factory=Size)


def configured() -> Lab:
    """The lab of this checkout. `GROUNDPLANE_LAB` names another beside it.

    Raises GroundplaneError when .lab/config.yaml is not what `Size` describes.
    """
    name = os.environ.get("GROUNDPLANE_LAB", "gp")
    folder = CHECKOUT / (".lab" if name == "gp" else f".lab/{name}")
    return Lab(name, folder, _size(folder / "config.yaml"))


def _size(path: Path) -> Size:
    if not path.exists():
        return Size()
    try:
        return Size.model_validate(yaml.safe_load(path.read_text()) or {})
    except (ValidationError, yaml.YAMLError) as error:
        raise GroundplaneError(str(path), str(error), "", "Correct it, or delete it.") from None
