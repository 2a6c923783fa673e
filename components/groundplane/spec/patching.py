"""Updates of the hosts' own packages, host after host."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from groundplane.spec import values as v
from groundplane.spec.model import Model


class Patching(Model):
    """Updates of the hosts' own packages: once on each host for each round, in its turn, behind the
    gate."""

    round: v.Round = Field(examples=["2026-11-01"])
    """Any word, such as the day: a host that was not patched for it yet is patched. Another one
    begins the next round."""
    packages: Literal["security", "all"] = "security"
    """`security`: what the system's security sources hold. `all`: everything newer than what is
    installed. Kubernetes, its runtime and packages on hold stay as they are."""
    reboot: Literal["if-needed", "never", "always"] = "if-needed"
    """Whether the host is restarted: `if-needed` for a new kernel, or where the system asks for
    it."""
