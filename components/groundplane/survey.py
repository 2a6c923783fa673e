"""The look at all hosts with which every program run begins, and the checks that follow it."""

import pulumi

from groundplane import preflight
from groundplane.remote.observation import Expect, Observation, observe
from groundplane.spec import Spec
from groundplane.spec.models import Proxy

__all__ = ["expectation", "survey"]


class RefusedError(preflight.PreflightError, pulumi.RunError):
    """A `PreflightError` that Pulumi shows as it is: of a RunError it prints no traceback."""


def survey(spec: Spec) -> Observation:
    """Observe all hosts and run the preflight; what is no error becomes a warning of the program.

    Raises PreflightError with all findings.
    """
    seen = observe(spec.hosts, expectation(spec))
    try:
        findings = preflight.require(spec.cluster, spec.hosts, seen)
    except preflight.PreflightError as error:
        raise RefusedError(error.findings) from None
    for finding in findings:
        if finding.severity is preflight.Severity.WARNING:
            pulumi.log.warn(f"{finding.host}: {finding.cause}. {finding.remedy}".lstrip(": "))
    return seen


def expectation(spec: Spec) -> Expect:
    """What the look at this stack's hosts is for."""
    cluster = spec.cluster
    mirrors = [cluster.mirrors.downloads, *cluster.mirrors.images.values()]
    return Expect(
        stack=spec.stack,
        node_addresses={host.name: host.node_address for host in spec.control_planes},
        mirrors=tuple(url for url in mirrors if url),
        proxy=_environment(cluster.proxy),
        ports=tuple(sorted({*Expect.ports, cluster.endpoint.port})),
    )


def _environment(proxy: Proxy | None) -> dict[str, str]:
    if proxy is None:
        return {}
    names = {"http_proxy": proxy.http, "https_proxy": proxy.https}
    if proxy.no_proxy:
        names["no_proxy"] = ",".join(proxy.no_proxy)
    return {name: value for name, value in names.items() if value}
