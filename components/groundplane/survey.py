"""The look at all hosts with which every program run begins, and the checks that follow it."""

import dataclasses
import time
from typing import Any

import pulumi

from groundplane import preflight
from groundplane.registry import host_source_of
from groundplane.remote.connect import HostUnreachable, Kind, answers
from groundplane.remote.facts import HostSeen, HostToCome, Node
from groundplane.remote.given import as_known, given
from groundplane.remote.guests import Guest, State
from groundplane.remote.observation import Expect, Observation, look, observe
from groundplane.spec import Cluster, Host, Spec

__all__ = [
    "expectation",
    "look_around",
    "of_sources",
    "reachable",
    "silent_leavers",
    "sources",
    "survey",
]

# Seconds: Kubernetes calls a Node Ready for up to 50 after its host's last word.
VERDICT = 70
PAUSE = 2


class RefusedError(preflight.PreflightError, pulumi.RunError):
    """A `PreflightError` that Pulumi shows as it is: of a RunError it prints no traceback."""


_surveys: dict[int, tuple[Spec, Observation]] = {}


def survey(spec: Spec) -> Observation:
    """Observe all hosts and run the preflight; what is no error becomes a warning of the program,
    as do the specification's notices.

    Of one specification the second call gives what the first found. Raises PreflightError with all
    findings.
    """
    if id(spec) not in _surveys:
        _surveys[id(spec)] = spec, _survey(spec)
    return _surveys[id(spec)][1]


def _survey(spec: Spec) -> Observation:
    for notice in spec.notices:
        pulumi.log.warn(str(notice))
    spec = as_known(spec)
    seen = settled(spec)
    try:
        findings = preflight.require(spec.cluster, spec.hosts, seen, of_sources(spec, seen))
    except preflight.PreflightError as error:
        raise RefusedError(error.findings) from None
    for finding in findings:
        if finding.severity is preflight.Severity.WARNING:
            pulumi.log.warn(f"{finding.host}: {finding.cause}. {finding.remedy}".lstrip(": "))
    return seen


def settled(spec: Spec) -> Observation:
    """The look at all hosts; again while it is open whether a host that left the list is dead.

    The state lets go of a dead one, and resets a living one: so this must not be guessed.
    """
    seen = look_around(spec)
    deadline = time.monotonic() + VERDICT
    said = False
    while doubtful := [node.name for node in silent_leavers(spec, seen) if node.ready]:
        if time.monotonic() > deadline:
            break
        if not said:
            pulumi.log.info(f"waiting for the cluster's verdict: are {', '.join(doubtful)} dead?")
            said = True
        time.sleep(PAUSE)
        seen = look_around(spec, again=True)
    return seen


def look_around(spec: Spec, *, again: bool = False) -> Observation:
    """Hypervisors first, all at once; then all hosts that can be looked at; `again` once more.

    A guest that is not there yet will be blank, and so, it is taken, will a host whose address is
    not known yet. A guest that is not run is started by the update.
    """
    guests: dict[str, Guest] = {}
    for source in sources(spec):
        guests |= source.plan(spec)
    told: dict[str, HostSeen | HostUnreachable] = {}
    hosts: list[Host] = []
    for host in spec.hosts:
        guest = guests.get(host.name)
        if host.state == "lost":
            hosts.append(host)
        elif guest is not None and guest.state is not State.RUNNING:
            told[host.name] = _without_a_look(host.name, guest)
        elif given(host):
            told[host.name] = HostToCome(host.name, arch="amd64", packager="apt")
        elif guest is not None:
            hosts.append(host.model_copy(update={"host_key": guest.host_key}))
        else:
            hosts.append(host)
    seen = (look if again else observe)(hosts, expectation(spec))
    ordered = {h.name: told.get(h.name) or seen.hosts[h.name] for h in spec.hosts}
    return dataclasses.replace(seen, hosts=ordered, guests=guests)


def reachable(spec: Spec) -> Spec:
    """The specification with the keys of those guests that are there."""
    known = {name: g.host_key for source in sources(spec) for name, g in source.plan(spec).items()}
    if not known:
        return spec
    hosts = [
        host.model_copy(update={"host_key": known[host.name]}) if known.get(host.name) else host
        for host in spec.hosts
    ]
    return dataclasses.replace(spec, hosts=hosts)


def _without_a_look(name: str, guest: Guest) -> HostSeen | HostUnreachable:
    if guest.state is State.ABSENT:
        return HostToCome(name, arch=guest.arch, packager=guest.packager)
    if guest.state is State.STOPPED:
        return HostUnreachable(
            name, Kind.STOPPED, f"{guest.said} on {guest.hypervisor}", "The update starts it."
        )
    return HostUnreachable(
        name, Kind.HYPERVISOR, guest.said, f"Bring back {guest.hypervisor}, and what runs on it."
    )


def sources(spec: Spec) -> list[Any]:
    """What makes those hosts of a stack that are guests."""
    return [host_source_of(kind) for kind in sorted({h.kind for h in spec.hypervisors})]


def of_sources(spec: Spec, seen: Observation) -> list[preflight.Finding]:
    """What stands in the way on hypervisors."""
    return [finding for source in sources(spec) for finding in source.check(spec, seen)]


def silent_leavers(spec: Spec, seen: Observation) -> list[Node]:
    """The Nodes of hosts that are no longer in the list and do not answer."""
    named = {host.name for host in spec.hosts}
    return [
        node
        for node in seen.nodes
        if node.name not in named and not any(map(answers, node.addresses))
    ]


def expectation(spec: Spec) -> Expect:
    """What the look at this stack's hosts is for."""
    cluster = spec.cluster
    mirrors = [cluster.mirrors.downloads, *cluster.mirrors.images.values()]
    return Expect(
        stack=spec.stack,
        node_addresses={host.name: host.node_address for host in spec.control_planes},
        mirrors=tuple(url for url in mirrors if url),
        proxy=_environment(cluster),
        ports=tuple(sorted({*Expect.ports, cluster.endpoint.port})),
        patches=cluster.patching.packages if cluster.patching else "",
    )


def _environment(cluster: Cluster) -> dict[str, str]:
    """As the step `prepare` sets it before it downloads."""
    if cluster.proxy is None:
        return {}
    names = {"http_proxy": cluster.proxy.http, "https_proxy": cluster.proxy.https}
    given = {name: value for name, value in names.items() if value}
    return {**given, "no_proxy": ",".join(cluster.direct)}
