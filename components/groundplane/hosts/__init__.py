"""Sources of hosts: each a module of the name by which a hypervisor's `kind` calls it.

What makes hosts registers a component by `@host_source`. Proxmox or vSphere is one file more: its
own look, plan and checks, and how it makes a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    # A specification is checked where Pulumi is not needed.
    import pulumi

    from groundplane.preflight import Finding
    from groundplane.remote.guests import Guest
    from groundplane.remote.observation import Observation
    from groundplane.spec import Host, Spec

__all__ = ["HostSource"]


class HostSource(Protocol):
    """What makes hosts: a component, whose name, specification and options it is made with."""

    hosts: dict[str, Host]
    """The guests as hosts, by name, each once it was made."""

    @staticmethod
    def plan(spec: Spec) -> dict[str, Guest]:
        """What each of its guests is now, and what the update makes of it; by name. Looks at its
        hypervisors, all at once, and changes nothing."""

    @staticmethod
    def check(spec: Spec, seen: Observation) -> list[Finding]:
        """What stands in the way on its hypervisors; an error keeps everything from beginning.
        `seen`: the hosts, guests among them."""

    def makes(self, host: Host) -> bool:
        """Whether this host is one of its guests."""

    def machine(
        self, host: Host, after: Sequence[pulumi.Resource] = ()
    ) -> tuple[Host, pulumi.Resource]:
        """The host as others reach it, and the resource that makes its machine once `after` is
        there. Names, addresses and number are plain; the host's key may be an Output."""

    def snapshot(
        self, host: Host, kubernetes: str, after: Sequence[pulumi.Resource]
    ) -> pulumi.Resource:
        """What copies the host's disks, once `after` is there, before its Kubernetes becomes this
        version."""
