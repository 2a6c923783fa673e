"""What exists: the sources of hosts and the distributions, by the name that a user writes.

A module registers its class by decorator; nothing else in the package knows the class's name.
Configuration, tests and documentation walk these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

from groundplane.errors import GroundplaneError

Class = TypeVar("Class", bound=type)

HOST_SOURCES: dict[str, type] = {}
"""What makes hosts, by name: `libvirt`, ..."""
DISTRIBUTIONS: dict[str, type] = {}
"""What makes a cluster of hosts, by name: `kubeadm`, ..."""


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
    """Imports every module of `hosts` and `clusters`, so that the tables are complete."""
    for folder in ("hosts", "clusters"):
        try:
            package = import_module(f"groundplane.{folder}")
        except ModuleNotFoundError as error:
            if error.name != f"groundplane.{folder}":
                raise
            continue
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
