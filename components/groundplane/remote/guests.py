"""What a source of hosts tells of the guests that it makes, before anything is registered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """What a guest is now."""

    RUNNING = "running"
    STOPPED = "stopped"  # it is there, and is not run
    ABSENT = "absent"
    HIDDEN = "hidden"  # its hypervisor cannot tell


@dataclass(frozen=True)
class Guest:
    """A guest as it is now, and what the update makes of it.

    `host_key` is its public key, "" while it has none. `arch` and `packager` are what it has or
    will have. `said` is what its hypervisor calls its state, or why it tells none.
    """

    hypervisor: str
    state: State
    host_key: str = ""
    arch: str = "amd64"
    packager: str = "apt"
    said: str = ""
    restarts: bool = False
    """The update shuts it off and starts it with another definition."""
    anew: bool = False
    """The update installs it anew: what is on its first disk is lost."""
    own: Mapping[str, str] = field(default_factory=dict)
    """What its source wants to know of it again."""
    machine: Mapping[str, str] = field(default_factory=dict)
    """Digests of what its machine is to be: `definition`, another one restarts it, and `image`."""

    @property
    def key_is_known(self) -> bool:
        """Whether its key is the same after the update as now."""
        return bool(self.host_key) and not self.anew and self.state is not State.ABSENT
