"""A whole specification: hosts, hypervisors, the cluster, its add-ons and the catalogue of one
stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from groundplane.catalogue import Catalogue, product
from groundplane.errors import Finding, SpecError
from groundplane.spec import guests
from groundplane.spec.addons import Chosen, ordered
from groundplane.spec.addons import check as check_addons
from groundplane.spec.checks import check
from groundplane.spec.models import Cluster, Host, Hypervisor
from groundplane.spec.siblings import Sibling


@dataclass(frozen=True)
class Spec:
    """What a stack is to be. Building one checks everything together; see `checks`.

    Raises SpecError with all findings.
    """

    stack: str
    """The stack's name; hosts remember it, and belong to no other."""
    hosts: list[Host]
    """The machines, in the order in which control planes are changed."""
    cluster: Cluster
    """What they are to become."""
    catalogue: Catalogue = field(default_factory=product)
    """What can be installed; the release's own unless given."""
    hypervisors: list[Hypervisor] = field(default_factory=list)
    """The machines that run those of the hosts that are guests."""
    notices: tuple[Finding, ...] = ()
    """What was found beside it and stops nothing: files of other stacks that cannot be read."""
    siblings: tuple[Sibling, ...] = ()
    """The stacks beside this one, as far as their files can be read."""
    addons: Sequence[Chosen] = ()
    """What is to run on the cluster; in the order of their needs, whatever order they come in."""
    size: Literal["production", "lab"] = "production"
    """How large add-ons are: `lab` is one replica of each, with few resources."""

    def __post_init__(self) -> None:
        findings = check(self.hosts, self.cluster, self.catalogue)
        findings += guests.check(self.hosts, self.hypervisors, self.cluster, self.catalogue)
        findings += check_addons(self.addons, self.cluster, self.hosts)
        if findings:
            raise SpecError(findings)
        object.__setattr__(self, "addons", ordered(self.addons))

    @property
    def guests(self) -> list[Host]:
        """The hosts that are made on hypervisors, in the order given."""
        return [host for host in self.hosts if host.guest is not None]

    def failure_domain(self, host: Host) -> str | None:
        """What fails together with a host: as it says, or as the hypervisor of a guest does."""
        on = host.guest.hypervisor if host.guest else None
        below = next((h.failure_domain for h in self.hypervisors if h.name == on), None)
        return host.failure_domain or below

    @property
    def control_planes(self) -> list[Host]:
        """The hosts that run the control plane, in the order given."""
        return [host for host in self.hosts if host.role == "control-plane"]

    @property
    def workers(self) -> list[Host]:
        """The other hosts, in the order given."""
        return [host for host in self.hosts if host.role == "worker"]
