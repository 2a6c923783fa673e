"""Sites, and the twins that they are of: what must not meet, and what must be the same."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from itertools import combinations

from rules.clusters import CLUSTERS, listed, plans
from rules.rule import MANDATORY, FoundIn, Resource, Settings, View, need, rule

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _network(view: View) -> Network | None:
    """A range, or an address as a range of one; None for what is no literal one."""
    try:
        return ipaddress.ip_network(view.text, strict=False) if view.known else None
    except ValueError:
        return None


def _ranges(site: View) -> Iterator[tuple[str, View]]:
    for kind in ("pod", "service"):
        for found in site[f"{kind}Cidrs"]:
            yield f"the {kind} range", found


def _addresses(site: View) -> Iterator[tuple[str, View]]:
    for name, host in site["hosts"].items():
        yield f"{name} at", host["address"]
    yield "the endpoint", site["endpoint"]["address"]


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=None,
    remedy="Choose ranges apart from each other, from the hosts' networks and from those of the "
    "sites beside this one.",
)
def ranges_apart(clusters: list[Resource], settings: Settings) -> FoundIn:
    """The ranges of pods and services meet no host, and nothing of a site in the same network.

    An address in two ranges is reached by chance; between sites, routes and firewalls cannot tell
    them apart.
    """
    looked_at: list[View] = []
    for cluster, its in plans(clusters):
        own = list(_ranges(its))
        others = [
            (f"{what} of {stack}", found)
            for stack, site in its["siblings"].items()
            for what, found in (*_ranges(site), *_addresses(site))
        ]
        pairs = [
            *combinations(own, 2),
            *((one, other) for one in own for other in (*_addresses(its), *others)),
        ]
        for (what, found), (other, there) in pairs:
            one, two = _network(found), _network(there)
            if one and two and one.version == two.version and one.overlaps(two):
                yield cluster, f"{what} {found.text} overlaps with {other} {there.text}"
        looked_at += [view for pair in pairs for _, view in pair]
    need(*looked_at)


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=None,
    remedy="Set it in platform.yaml, which both have, and not in one site. While a change is tried "
    "on one of them first, exempt that one's cluster, with the reason.",
)
def twins_equal(clusters: list[Resource], settings: Settings) -> FoundIn:
    """Twins differ in their site and in nothing else.

    What is tried on one says something of the other only as long as they are the same.
    """
    for cluster, its in plans(clusters):
        for stack, twin in its["siblings"].items():
            # What is wrong in the twin's own file has no digest.
            different = [
                name
                for name, digest in its["settings"].items()
                if twin["settings"][name].value not in (None, digest.value)
            ]
            if different:
                yield cluster, f"not as on {stack}: {listed(different)}"
