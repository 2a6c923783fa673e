"""What is true of a distribution: what it installs, where it keeps what, what its programs are."""

from collections.abc import Callable
from dataclasses import dataclass

from groundplane.spec import Host, Spec

__all__ = ["Distribution"]


@dataclass(frozen=True)
class Distribution:
    """What is true of a distribution, and of its hosts."""

    name: str
    """As a specification has it, and as its scripts are called."""
    component: str
    """The name of its class, by which the engine knows its clusters."""
    parts: Callable[[Spec, Host], dict[str, str]]
    """The parts of the catalogue that a host has, and their versions; besides the network's plugins
    and etcd's tools."""
    pki: tuple[str, ...]
    """Where those certificates are that its node step renews."""
    ca: str
    """The cluster's root certificate, as its identity calls it."""
    etcd: str
    """The folder that shows that a host is a member of etcd."""
    runtime: bool = False
    """Whether it brings the container runtime along."""
    programs: tuple[str, ...] = ()
    """The processes that hold all ports of Kubernetes, where it is one program."""
