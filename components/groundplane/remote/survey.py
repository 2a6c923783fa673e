"""The look at all hosts with which every program run begins, and the checks that follow it."""

from groundplane import preflight
from groundplane.remote.observation import Expect, Observation, observe
from groundplane.spec import Spec

__all__ = ["expectation", "survey"]


def survey(spec: Spec) -> Observation:
    """Observe all hosts and run the preflight. Raises PreflightError with all findings."""
    seen = observe(spec.hosts, expectation(spec))
    preflight.require(spec.cluster, spec.hosts, seen)
    return seen


def expectation(spec: Spec) -> Expect:
    """What the look at this stack's hosts is for."""
    cluster = spec.cluster
    mirrors = [cluster.mirrors.downloads, *cluster.mirrors.images.values()]
    return Expect(
        stack=spec.stack,
        node_addresses={host.name: host.node_address for host in spec.control_planes},
        mirrors=tuple(url for url in mirrors if url),
        proxy=(cluster.proxy and cluster.proxy.http) or "",
        ports=tuple(sorted({*Expect.ports, cluster.endpoint.port})),
    )
