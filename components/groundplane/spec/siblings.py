"""What two stacks must not both have: addresses, ranges, names, a place for backups.

Stacks whose files stand beside each other are siblings. Each is compared with the others' sites as
they are written, good parts of bad ones too.

What is bound to a network only collides in the same one: see `PLACE`. Names of hosts are not
compared, since no cluster knows the other's.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from groundplane.errors import Finding
from groundplane.spec.checks import Location, Network, place
from groundplane.spec.documents import Document
from groundplane.spec.models import Cluster, Host

PLACE = (
    "The network in which the stack stands, in a word of yours. Stacks of one place must not have "
    "addresses or ranges in common. Without it, a stack stands in the network behind its jump "
    "hosts, or in the one of this computer."
)
"""What the key `place` of a site means."""
SEGMENT = {4: 24, 6: 64}
"""The prefix length below which addresses are taken for neighbours in one network segment: how
long the real one is stands in no file."""
MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
ELSEWHERE = "Where the two networks do not reach each other, give one of the stacks another place:."


@dataclass(frozen=True)
class Site:
    """One stack as its file has it; fields that are wrong in themselves are None."""

    stack: str
    document: Document
    place: str | None
    hosts: Sequence[Host]
    cluster: Cluster

    def networks(self) -> set[tuple[str, str]]:
        """The networks it stands in; it meets those siblings that share one."""
        if self.place:
            return {("place", self.place)}
        behind = {str(host.jump.address) if host.jump else "" for host in self.hosts}
        return {("behind", jump) for jump in behind or {""}}

    def meets(self, other: Site) -> bool:
        """Whether both stand in one network."""
        return bool(self.networks() & other.networks())

    def told(self, at: Location) -> str:
        """FILE:LINE: KEY of something in it."""
        return f"{self.document.at(at)}: {place(at, self.hosts)}"


@dataclass(frozen=True)
class Sibling:
    """A stack beside one, for who compares more than what collides. What is wrong in its file is
    None."""

    stack: str
    hosts: Sequence[Host]
    cluster: Cluster
    near: bool
    """Whether both stand in one network."""


@dataclass(frozen=True)
class Use:
    """An address that a stack uses: one port of it, or all of it."""

    address: str
    port: int | None
    at: Location

    def meets(self, other: Use) -> bool:
        both = None not in (self.port, other.port)
        return self.address == other.address and not (both and self.port != other.port)


def seen_from(own: Site, siblings: Sequence[Site]) -> tuple[Sibling, ...]:
    """The stacks beside `own`."""
    return tuple(
        Sibling(other.stack, other.hosts, other.cluster, own.meets(other)) for other in siblings
    )


def collisions(own: Site, siblings: Sequence[Site]) -> list[tuple[Location, Finding]]:
    """Everything of `own` that a sibling has too, each by its location in the own file."""
    found: list[tuple[Location, Finding]] = []
    for sibling in siblings:
        found += _everywhere(own, sibling)
        if own.meets(sibling):
            found += _in_one_network(own, sibling)
            if _segments(own) & _segments(sibling):
                found += _in_one_segment(own, sibling)
    return found


def _finding(
    own: Site, at: Location, what: str, other: Site, there: Location, why: str, remedy: str
) -> tuple[Location, Finding]:
    return at, Finding(own.told(at), f"{what} {other.told(there)}", why, remedy)


def _everywhere(own: Site, other: Site) -> Iterator[tuple[Location, Finding]]:
    at: Location = ("cluster", "name")
    if own.cluster.name and own.cluster.name == other.cluster.name:
        yield _finding(
            own,
            at,
            f"{own.cluster.name} is also",
            other,
            at,
            "Snapshots and the contexts of kubeconfigs are told apart by the cluster's name",
            "Name one of the two otherwise.",
        )
    ours, theirs = _target(own), _target(other)
    if ours and theirs and ours[1] == theirs[1]:
        yield _finding(
            own,
            ours[0],
            "snapshots go to the same place as those of",
            other,
            theirs[0],
            "What may write there could remove the other's",
            "Give each stack a path or a prefix of its own, such as its name.",
        )


def _target(site: Site) -> tuple[Location, tuple[object, ...]] | None:
    """Where snapshots are copied to, and the key that says so."""
    target = site.cluster.backup.target if site.cluster.backup else None
    at: Location = ("cluster", "backup", "target")
    if target and target.ssh:
        ssh = target.ssh
        return (*at, "ssh", "path"), (ssh.address, ssh.port, ssh.path.rstrip("/"))
    if target and target.s3:
        s3 = target.s3
        return (*at, "s3", "prefix"), (s3.endpoint.rstrip("/"), s3.bucket, s3.prefix)
    return None


def _in_one_network(own: Site, other: Site) -> Iterator[tuple[Location, Finding]]:
    for use, theirs in product(_uses(own), _uses(other)):
        if use.meets(theirs):
            yield _finding(
                own,
                use.at,
                f"{use.address} is taken by",
                other,
                theirs.at,
                "One machine can be in one cluster only, and an address at one machine",
                f"Give each its own. {ELSEWHERE}",
            )
    for (at, mac), (there, their_mac) in product(_macs(own), _macs(other)):
        if mac == their_mac:
            yield _finding(
                own,
                at,
                f"{mac} is also the MAC address of",
                other,
                there,
                "Two machines of one MAC address take each other's packets",
                "Give each its own.",
            )
    for around, inside in ((own, other), (other, own)):
        for (at, network), use in product(_ranges(around), _uses(inside)):
            if _in(use.address, network):
                own_at, their_at = (at, use.at) if around is own else (use.at, at)
                what = "holds the address of" if around is own else f"{use.address} lies in"
                yield _finding(
                    own,
                    own_at,
                    what,
                    other,
                    their_at,
                    "The cluster routes the range itself, so it could not reach this machine",
                    f"Choose a range apart from the networks of both. {ELSEWHERE}",
                )


def _in_one_segment(own: Site, other: Site) -> Iterator[tuple[Location, Finding]]:
    at: Location = ("cluster", "endpoint", "routerId")
    ours, theirs = own.cluster.endpoint, other.cluster.endpoint
    if ours and theirs and ours.router_id and ours.router_id == theirs.router_id:
        yield _finding(
            own,
            at,
            f"{ours.router_id} is also",
            other,
            at,
            "In one network segment their keepalived would take the address from each other",
            "Write another number from 1 to 255.",
        )
    for (here, one), (there, two) in product(_ranges(own), _ranges(other)):
        if one.version == two.version and one.overlaps(two):
            yield _finding(
                own,
                here,
                f"{one} overlaps with {two} of",
                other,
                there,
                "The clusters stand in one network segment, and no packet from such an address "
                "would tell which of the two it came from",
                f"Choose ranges apart. {ELSEWHERE}",
            )


def _uses(site: Site) -> list[Use]:
    found = []
    for index, host in enumerate(site.hosts):
        at: Location = ("hosts", index)
        if host.address and host.address != host.node_address:
            found.append(Use(_plain(host.address), host.port, (*at, "address")))
        if host.node_address:
            same = host.address == host.node_address
            field = "address" if same else "nodeAddress"
            found.append(Use(_plain(host.node_address), None, (*at, field)))
        if host.second_node_address:
            found.append(Use(_plain(host.second_node_address), None, (*at, "secondNodeAddress")))
    endpoint = site.cluster.endpoint
    if endpoint and endpoint.address:
        # One load balancer can serve many clusters, each at a port of its own.
        port = endpoint.port if endpoint.mode == "external" else None
        found.append(Use(_plain(endpoint.address), port, ("cluster", "endpoint", "address")))
    return found


def _plain(address: str) -> str:
    """An address in the one spelling that is compared."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return address.lower()


def _macs(site: Site) -> list[tuple[Location, str]]:
    return [
        (("hosts", index, "interface"), host.interface.lower())
        for index, host in enumerate(site.hosts)
        if host.interface and MAC.fullmatch(host.interface)
    ]


def _ranges(site: Site) -> list[tuple[Location, Network]]:
    fields = (("podCidrs", site.cluster.pod_cidrs), ("serviceCidrs", site.cluster.service_cidrs))
    return [
        (("cluster", field, index), ipaddress.ip_network(text))
        for field, texts in fields
        for index, text in enumerate(texts or ())
    ]


def _in(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False


def _segments(site: Site) -> set[Network]:
    """The network segments that its nodes and its endpoint are taken to be in."""
    found: set[Network] = set()
    for use in _uses(site):
        if use.at[-1] == "address" and use.port is not None:
            continue  # where SSH or a load balancer answers, which need not be where nodes are
        try:
            version = ipaddress.ip_address(use.address).version
        except ValueError:
            continue
        found.add(ipaddress.ip_network(f"{use.address}/{SEGMENT[version]}", strict=False))
    return found
