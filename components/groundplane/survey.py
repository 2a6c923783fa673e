"""The look at all hosts with which every program run begins, and the checks that follow it."""

import time

import pulumi

from groundplane import preflight
from groundplane.remote.connect import answers
from groundplane.remote.facts import Node
from groundplane.remote.observation import Expect, Observation, look, observe
from groundplane.spec import Cluster, Spec

__all__ = ["expectation", "silent_leavers", "survey"]

# Seconds: Kubernetes calls a Node Ready for up to 50 after its host's last word.
VERDICT = 70
PAUSE = 2


class RefusedError(preflight.PreflightError, pulumi.RunError):
    """A `PreflightError` that Pulumi shows as it is: of a RunError it prints no traceback."""


def survey(spec: Spec) -> Observation:
    """Observe all hosts and run the preflight; what is no error becomes a warning of the program,
    as do the specification's notices.

    Raises PreflightError with all findings.
    """
    for notice in spec.notices:
        pulumi.log.warn(str(notice))
    seen = settled(spec)
    try:
        findings = preflight.require(spec.cluster, spec.hosts, seen)
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
    seen = observe(spec.hosts, expectation(spec))
    deadline = time.monotonic() + VERDICT
    said = False
    while doubtful := [node.name for node in silent_leavers(spec, seen) if node.ready]:
        if time.monotonic() > deadline:
            break
        if not said:
            pulumi.log.info(f"waiting for the cluster's verdict: are {', '.join(doubtful)} dead?")
            said = True
        time.sleep(PAUSE)
        seen = look(spec.hosts, expectation(spec))
    return seen


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
    )


def _environment(cluster: Cluster) -> dict[str, str]:
    """As the step `prepare` sets it before it downloads."""
    if cluster.proxy is None:
        return {}
    names = {"http_proxy": cluster.proxy.http, "https_proxy": cluster.proxy.https}
    given = {name: value for name, value in names.items() if value}
    return {**given, "no_proxy": ",".join(cluster.direct)}
