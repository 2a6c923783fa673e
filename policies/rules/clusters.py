"""Where a cluster's plan stands, and how to read it. groundplane registers it as plain data."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rules.rule import Resource, View

CLUSTERS = ("groundplane:index:*Cluster",)


def plan(resource: Resource) -> Iterator[View]:
    """The cluster's plan."""
    if resource.props["plan"].value is not None:
        yield resource.props["plan"]


def plans(resources: list[Resource]) -> Iterator[tuple[Resource, View]]:
    """Each cluster of a stack with its plan, in which then stands what was observed, too."""
    for resource in resources:
        for found in plan(resource):
            yield resource, found


def members(plan: View) -> dict[str, View]:
    """The hosts that are to be control planes, and with that members of etcd."""
    return {
        name: host
        for name, host in plan["hosts"].items()
        if host["role"].text == "control-plane" and host["state"].text != "lost"
    }


def quorum(count: int) -> int:
    """How many of so many members must serve."""
    return count // 2 + 1


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version: v1.36.4 -> (1, 36, 4)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def minors(version: str) -> int:
    """The second number of a version."""
    return (*release(version), 0, 0)[1]


def listed(names: list[str]) -> str:
    """Names as a sentence has them."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "none"
