"""What exists: sources of hosts, distributions and add-ons, by the name that a user writes.

A module registers its class by decorator; nothing else in the package knows the class's name.
Configuration, tests and documentation walk these tables.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from groundplane.errors import GroundplaneError

Class = TypeVar("Class", bound=type)

HOST_SOURCES: dict[str, type] = {}
"""What makes hosts, by name: `libvirt`, ..."""
DISTRIBUTIONS: dict[str, type] = {}
"""What makes a cluster of hosts, by name: `kubeadm`, ..."""
ADDONS: dict[str, type] = {}
"""What runs on a cluster, by name: `metrics-server`, ... `addon_of` says more of each."""

PROFILES = ("minimal", "standard", "full")
"""Sets of add-ons, each with all of the one before."""


@dataclass(frozen=True)
class Addon:
    """What is known of an add-on before it is made. Its needs are those of `spec.addons`."""

    name: str
    component: type
    """Makes it: called with a name, a Ground, its arguments and Pulumi's options."""
    args: type
    """Its arguments: a subclass of AddonArgs."""
    namespace: str
    """Where it lives; empty where it has nothing but kinds for the whole cluster."""
    sources: tuple[str, ...]
    """The entries of the catalogue's `addons` that it installs, in order."""
    pod_security: Literal["restricted", "baseline", "privileged"] = "restricted"
    """The Pod Security Standard that its namespace enforces; what it needs and not more."""
    needs: frozenset[str] = frozenset()
    """Without one of these it cannot work, whatever its arguments are."""
    uses: frozenset[str] = frozenset()
    """Where there is one of these, it comes after it and makes use of it."""
    provides: frozenset[str] = frozenset()
    """What others may count on once it is ready."""
    profile: str | None = None
    """The smallest profile that holds it; None: only where it is named."""
    starts: Literal["api_ready", "nodes_ready"] = "nodes_ready"
    """What of the cluster it waits for. Only what makes nodes Ready may start before they are."""
    outlives: str = ""
    """What of it is outside of the cluster, such as disks, and is left when the cluster goes,
    unless its arguments say to erase it."""


def _register(table: dict[str, type], name: str) -> Callable[[Class], Class]:
    def record(cls: Class) -> Class:
        there = table.setdefault(name, cls)
        # A module that is imported anew brings its class again; that is the same one.
        if (there.__module__, there.__qualname__) != (cls.__module__, cls.__qualname__):
            raise GroundplaneError(
                f"{cls.__module__}.{cls.__qualname__}",
                f"the name {name!r} is taken by {there.__module__}.{there.__qualname__}",
                "A name in a specification must mean one thing",
                "Choose another name.",
            )
        table[name] = cls
        return cls

    return record


def host_source(name: str) -> Callable[[Class], Class]:
    """Registers a class that gives hosts."""
    return _register(HOST_SOURCES, name)


def distribution(name: str) -> Callable[[Class], Class]:
    """Registers a class that makes a cluster."""
    return _register(DISTRIBUTIONS, name)


def addon(
    name: str,
    *,
    args: type,
    namespace: str,
    sources: Collection[str],
    needs: Collection[str] = (),
    uses: Collection[str] = (),
    provides: Collection[str] = (),
    **more: Any,
) -> Callable[[Class], Class]:
    """Registers a class that installs something on a cluster. The arguments are Addon's."""

    def record(cls: Class) -> Class:
        _register(ADDONS, name)(cls)
        _KNOWN[name] = Addon(
            name,
            cls,
            args,
            namespace,
            tuple(sources),
            needs=frozenset(needs),
            uses=frozenset(uses),
            provides=frozenset(provides),
            **more,
        )
        return cls

    return record


_KNOWN: dict[str, Addon] = {}


def addon_names() -> list[str]:
    """The names of all add-ons; a module of `addons` is called as its add-on, with `_` for `-`.

    Without importing one, as of hosts.
    """
    package = import_module("groundplane.addons")
    return sorted(module.name.replace("_", "-") for module in iter_modules(package.__path__))


def addon_of(name: str) -> Addon:
    """What is known of the add-on of this name."""
    import_module(f"groundplane.addons.{name.replace('-', '_')}")
    return _KNOWN[name]


def host_sources() -> list[str]:
    """The names of all sources of hosts; a module of `hosts` is called as its source.

    Without importing one: a specification is checked where Pulumi is not needed.
    """
    package = import_module("groundplane.hosts")
    return sorted(module.name for module in iter_modules(package.__path__))


def host_source_of(name: str) -> type:
    """The source of hosts of this name."""
    import_module(f"groundplane.hosts.{name}")
    return HOST_SOURCES[name]


def distributions() -> list[str]:
    """The names of all distributions."""
    discover()
    return sorted(DISTRIBUTIONS)


def distribution_of(name: str) -> Any:
    """The distribution of this name: the class of its clusters."""
    import_module(f"groundplane.clusters.{name}")
    return DISTRIBUTIONS[name]


def discover() -> None:
    """Imports every module of these packages, so that the tables are complete."""
    for folder in ("hosts", "clusters", "addons"):
        try:
            package = import_module(f"groundplane.{folder}")
        except ModuleNotFoundError as error:
            if error.name != f"groundplane.{folder}":
                raise
            continue
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
