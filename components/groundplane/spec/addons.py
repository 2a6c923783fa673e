"""Which add-ons there are to be, whether they can work together, and in which order they come.

Add-ons know nothing of each other: each says what it needs and what it gives.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic.alias_generators import to_camel

from groundplane.errors import Finding
from groundplane.registry import PROFILES, Addon, addon_names, addon_of
from groundplane.spec.checks import Problem, did_you_mean
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Host
from groundplane.spec.validate import partial
from groundplane.spec.values import is_output

SIZES = ("production", "lab")
SIZE = "How large add-ons are: in a lab, one replica of each, with few resources."
PROFILE = "Which add-ons there are besides those named: each profile has all of the one before."


class Need(StrEnum):
    """What add-ons need and give."""

    BACKUP = "backups"
    BLOCK_STORAGE = "a storage class"
    CERTIFICATES = "certificates (cert-manager.io)"
    EXTERNAL_SECRETS = "external secrets (external-secrets.io)"
    GATEWAY = "a gateway class"
    GATEWAY_CRDS = "the Gateway API (gateway.networking.k8s.io)"
    LOAD_BALANCER = "addresses for services of type LoadBalancer"
    LOGS = "a store of logs"
    METRICS = "the metrics API (metrics.k8s.io)"
    MONITOR_CRDS = "service monitors (monitoring.coreos.com)"
    MONITORING = "monitoring"
    NODE_FEATURES = "labels for the nodes' features"
    OBJECT_STORE = "an object store"
    POD_NETWORK = "the pod network"
    SECRET_STORE = "a store of secrets"
    SHARED_STORAGE = "a storage class for volumes that many nodes write to"
    SNAPSHOTS = "volume snapshots (snapshot.storage.k8s.io)"
    TRACES = "a store of traces"


ALONE = frozenset(
    {
        Need.CERTIFICATES,
        Need.EXTERNAL_SECRETS,
        Need.GATEWAY_CRDS,
        Need.LOAD_BALANCER,
        Need.METRICS,
        Need.MONITOR_CRDS,
        Need.MONITORING,
        Need.NODE_FEATURES,
        Need.POD_NETWORK,
        Need.SNAPSHOTS,
    }
)
"""What a cluster has once: two owners would undo each other's work."""


@dataclass(frozen=True)
class Claim:
    """Something that an add-on must have to itself, and how two that want it can both be had."""

    what: str
    """Such as "the BGP session with 192.0.2.1". Two claims of one text exclude each other."""
    why: str = field(default="", compare=False)
    remedy: str = field(default="", compare=False)


DEFAULT_STORAGE_CLASS = Claim(
    "the default storage class",
    "A claim that names no class would get one or the other",
    "Leave `default` out of one of them.",
)


BUCKETS = Claim(
    "the cluster's buckets",
    "An add-on that asks for a bucket would get it in one object store or the other",
    "Leave one of the object stores out.",
)


def bgp_session(router: str) -> Claim:
    """The claim of whatever speaks BGP to a router from the nodes' addresses."""
    return Claim(
        f"the BGP session with {router}",
        "A router keeps one session with an address, so the two would cut each other off for ever",
        "Let Calico announce the services' addresses and switch MetalLB's speakers off; or let "
        "MetalLB announce on layer 2; or let Calico use VXLAN without BGP; or let MetalLB peer "
        "with another router.",
    )


class AddonArgs(Model):
    """What an add-on can be told. What it needs, gives and claims may follow from it.

    A field of type Secret is none of YAML's: it is filled from the stack's secret `secret_key`.
    """

    def also_needs(self) -> Collection[Need]:
        """What it needs with these arguments, besides what it always does."""
        return ()

    def also_provides(self) -> Collection[Need]:
        """What it gives with these arguments, besides what it always does."""
        return ()

    def claims(self) -> Collection[Claim]:
        """What no other add-on may have."""
        return ()

    def buckets(self) -> Collection[str]:
        """The buckets that it asks of the cluster's object store."""
        return ()

    def urls(self) -> Mapping[Need, str]:
        """The URLs, for pods, of what it gives: of an object store that speaks S3, of stores that
        take logs and traces."""
        return {}

    def erases(self) -> bool:
        """Whether it is to erase what of it outlives the cluster. It then goes before the cluster
        does, and not with it."""
        return False

    def secrets(self) -> Collection[str]:
        """The fields of type Secret that it cannot do without."""
        return ()

    def clashes(self, cluster: Cluster, hosts: Sequence[Host]) -> Iterable[Problem]:
        """What of it does not go with this cluster; places are paths through its own keys. As in
        `spec.checks`, what is wrong in the cluster itself is None here."""
        return ()


@dataclass(frozen=True)
class Chosen:
    """An add-on that is to be."""

    name: str
    args: AddonArgs
    after: tuple[str, ...] = ()
    """The names of those that must be ready before it begins."""

    @property
    def entry(self) -> Addon:
        """What is known of it."""
        return addon_of(self.name)

    @property
    def needs(self) -> frozenset[str]:
        """Without these it cannot work."""
        return self.entry.needs | frozenset(self.args.also_needs())

    @property
    def provides(self) -> frozenset[str]:
        """What others may count on once it is ready."""
        return self.entry.provides | frozenset(self.args.also_provides())


def secret_key(name: str, field: str) -> str:
    """The key of the stack's secret that an add-on's field is filled from."""
    return to_camel(f"{name.replace('-', '_')}_{field}")


def secrets() -> dict[str, str]:
    """The keys of all add-ons' secrets, and what each holds. It imports all add-ons."""
    found: dict[str, str] = {}
    for name in addon_names():
        args: type[AddonArgs] = addon_of(name).args
        for key, about in args.model_fields.items():
            if about.exclude:
                found[secret_key(name, key)] = str(about.description)
    return found


def filled(
    chosen: Sequence[Chosen], secrets: Mapping[str, Any], found: list[Problem]
) -> tuple[Chosen, ...]:
    """The add-ons with their secrets where they are used; a missing one is a problem."""
    made = []
    for one in chosen:
        fields = type(one.args).model_fields
        keys = {name: secret_key(one.name, name) for name, f in fields.items() if f.exclude}
        found += [
            Problem(
                ("addons", one.name),
                f"the stack has no secret groundplane:{keys[name]}",
                str(fields[name].description),
                f"pulumi config set --secret groundplane:{keys[name]}",
            )
            for name in one.args.secrets()
            if keys[name] not in secrets
        ]
        given = {name: secrets[key] for name, key in keys.items() if is_output(secrets.get(key))}
        made.append(replace(one, args=one.args.model_copy(update=given)))
    return tuple(made)


def in_profile(profile: str | None) -> list[str]:
    """The names of a profile's add-ons."""
    if profile is None:
        return []
    held = PROFILES[: PROFILES.index(profile) + 1]
    return [name for name in addon_names() if addon_of(name).profile in held]


def choose(
    network: str, profile: str | None, given: Mapping[Any, Any], found: list[Problem]
) -> tuple[Chosen, ...]:
    """The add-ons of a profile, the one that is the cluster's network, and those that are given
    with their arguments, as YAML has them; `false` in place of arguments leaves one out. What is
    wrong with it goes to `found`."""
    chosen, known = [], addon_names()
    for name in given:
        if name not in known:
            remedy = did_you_mean(str(name), known) or f"Known are {', '.join(known)}."
            at = ("addons", name)
            found.append(Problem(at, "there is no such add-on", "Nothing would install it", remedy))
    for name in sorted({*in_profile(profile), *({network, *given} & {*known})}):
        if given.get(name) is False:
            continue
        raw = {} if given.get(name) is None else given[name]
        args: AddonArgs
        wrong: list[Problem]
        args, wrong = partial(addon_of(name).args, raw, ("addons", name))
        found += wrong
        # One whose arguments are wrong cannot say what follows from them.
        chosen.append(Chosen(name, args if not wrong else AddonArgs()))
    return tuple(chosen)


def ordered(chosen: Sequence[Chosen]) -> tuple[Chosen, ...]:
    """Each behind those that it needs or uses; by name where that leaves a choice.

    Those that wait for each other are left out; `problems` tells of them.
    """
    behind = {one.name: _behind(one, chosen) for one in chosen}
    waiting = dict(behind)
    ready: list[str] = []
    done: list[str] = []
    while True:
        for name in [name for name, others in waiting.items() if not others - set(done)]:
            heapq.heappush(ready, name)
            del waiting[name]
        if not ready:
            break
        done.append(heapq.heappop(ready))
    by_name = {one.name: one for one in chosen}
    return tuple(replace(by_name[name], after=tuple(sorted(behind[name]))) for name in done)


def _behind(one: Chosen, chosen: Iterable[Chosen]) -> set[str]:
    wanted = one.needs | one.entry.uses
    early = one.entry.starts == "api_ready"
    return {
        other.name
        for other in chosen
        if other.name != one.name
        and (
            wanted & other.provides
            # What makes the nodes Ready comes before all that waits for them.
            or (not early and other.entry.starts == "api_ready")
        )
    }


def problems(
    chosen: Sequence[Chosen], cluster: Cluster, hosts: Sequence[Host]
) -> Iterator[Problem]:
    """What cannot work together."""
    for check in CHECKS:
        yield from check(chosen, cluster)
    for one in chosen:
        for problem in one.args.clashes(cluster, hosts):
            yield replace(problem, at=("addons", one.name, *problem.at))


def check(chosen: Sequence[Chosen], cluster: Cluster, hosts: Sequence[Host]) -> list[Finding]:
    """The same for a specification that a program makes."""
    return [
        Finding(".".join(map(str, problem.at)), problem.what, problem.why, problem.remedy)
        for problem in problems(chosen, cluster, hosts)
    ]


def missing(chosen: Sequence[Chosen], cluster: Cluster) -> Iterator[Problem]:
    """What is needed is there."""
    there = frozenset().union(*(one.provides for one in chosen))
    for one in chosen:
        for need in sorted(one.needs - there):
            givers = [n for n in addon_names() if need in addon_of(n).provides]
            yield Problem(
                ("addons", one.name),
                f"needs {need}, and nothing here gives that",
                "It would wait for it for ever, or fail half way",
                f"Add {' or '.join(givers)} to addons, or leave {one.name} out."
                if givers
                else f"Leave {one.name} out: no add-on of this release gives it.",
            )


def network(chosen: Sequence[Chosen], cluster: Cluster) -> Iterator[Problem]:
    """The pod network is the one that the hosts are told of."""
    brought = {one.name for one in chosen if Need.POD_NETWORK in one.provides}
    for name in sorted(brought - {cluster.network}):
        yield Problem(
            ("addons", name),
            f"brings a pod network, and the cluster's is {cluster.network}",
            "The hosts would lay another beside it, or wait for nobody's",
            f"Write `network: {name}` below cluster, or leave {name} out of addons.",
        )
    if cluster.network in addon_names() and cluster.network not in brought:
        yield Problem(
            ("cluster", "network"),
            f"the add-on {cluster.network} is left out",
            "No node would become Ready",
            f"Give it its arguments below addons, or none, and no `{cluster.network}: false`.",
        )


def alone(chosen: Sequence[Chosen], cluster: Cluster) -> Iterator[Problem]:
    """What a cluster has once has one owner."""
    owners: dict[str, str] = {}
    for one in chosen:
        for need in sorted(one.provides & ALONE):
            owner = owners.setdefault(need, one.name)
            if owner != one.name:
                yield Problem(
                    ("addons", one.name),
                    f"{need}: {owner} and {one.name} both bring it",
                    "A cluster has it once, and each would undo the other's work",
                    f"Leave one of them out, with `{one.name}: false` where a profile brings it.",
                )


def claimed(chosen: Sequence[Chosen], cluster: Cluster) -> Iterator[Problem]:
    """What one must have to itself, no other has."""
    owners: dict[Claim, str] = {}
    for one in chosen:
        for claim in one.args.claims():
            owner = owners.setdefault(claim, one.name)
            if owner != one.name:
                yield Problem(
                    ("addons", one.name),
                    f"{owner} and {one.name} both want {claim.what}",
                    claim.why,
                    claim.remedy,
                )


def cycles(chosen: Sequence[Chosen], cluster: Cluster) -> Iterator[Problem]:
    """None waits for itself, through others."""
    left = {one.name for one in chosen} - {one.name for one in ordered(chosen)}
    circle = _circle({one.name: _behind(one, chosen) & left for one in chosen if one.name in left})
    if circle:
        yield Problem(
            ("addons", circle[0]),
            f"waits for itself: {' waits for '.join(circle)}",
            "None of them could be the first",
            "Leave one of them out.",
        )


def _circle(behind: Mapping[str, set[str]]) -> list[str]:
    """A way from a name back to it. All names have something behind them, so there is one."""
    if not behind:
        return []
    way = [min(behind)]
    while way.count(way[-1]) == 1:
        way.append(min(behind[way[-1]]))
    return way[way.index(way[-1]) :]


Check = Callable[[Sequence[Chosen], Cluster], Iterator[Problem]]
CHECKS: tuple[Check, ...] = (network, missing, alone, claimed, cycles)
