"""What other resources give of a host: an address or a key that a program has as an Output.

A host is looked at before anything is registered, and the look takes plain values. So an update
waits for them; in a preview they may be yet to be made, and then the host is one to come.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import pulumi
from pulumi.runtime.sync_await import _sync_await

from groundplane.errors import Finding, SpecError
from groundplane.spec import Host, Hypervisor, Jump, Spec
from groundplane.spec.values import is_output

__all__ = ["as_known", "given"]

Part = TypeVar("Part", Host, Jump)


class RefusedError(SpecError, pulumi.RunError):
    """A `SpecError` that Pulumi shows as it is: of a RunError it prints no traceback."""


def given(host: Host | Hypervisor) -> list[pulumi.Output[str]]:
    """What other resources give of a machine and of the way to it."""
    parts = [host, *([host.jump] if host.jump else [])]
    return [value for part in parts for _, value in part if is_output(value)]


def as_known(spec: Spec) -> Spec:
    """The specification with plain values in place of what other resources give of its hosts.

    In a preview, a host of which something is not known stays as it is. Raises SpecError, with all
    findings, where a value is none that could have stood there.
    """
    hosts: list[Host] = []
    findings = [
        Finding(
            hypervisor.name,
            "its address or host key comes from another resource",
            "What its guests are is asked of it, in a preview too",
            "Write both down: a hypervisor is there before its guests.",
        )
        for hypervisor in spec.hypervisors
        if given(hypervisor)
    ]
    for host in spec.hosts:
        try:
            hosts.append(_as_known(host))
        except SpecError as error:
            findings += error.findings
    if findings:
        raise RefusedError(findings)
    if to_come := [host.name for host in hosts if given(host)]:
        pulumi.log.info(
            f"{', '.join(to_come)}: where to reach them is known to the update only, so this "
            "preview shows them as hosts to come"
        )
    if all(new is old for new, old in zip(hosts, spec.hosts, strict=True)):
        return spec
    try:
        return dataclasses.replace(spec, hosts=hosts)
    except SpecError as error:
        raise RefusedError(error.findings) from None


def _as_known(host: Host) -> Host:
    # Private to Pulumi, and how its own `invoke` waits in the middle of a program.
    told = _sync_await(_told(host))
    if None not in told.values():
        return _with(host, told) if told else host
    if pulumi.runtime.is_dry_run():
        return host
    raise SpecError(
        [
            Finding(
                host.name,
                "its address or host key is not known, although this is an update",
                "A host is looked at before anything on it is changed",
                "Update what gives it as well: name that beside the others, or leave out --target.",
            )
        ]
    )


async def _told(host: Host) -> dict[int, str | None]:
    """What is given of a host: the Output's id -> its value, None where that is not known."""
    told: dict[int, str | None] = {}
    for output in given(host):
        if await output.is_secret():
            what, why = "its address or host key is a secret", "Findings about a host name both"
            remedy = "Hand it over as pulumi.Output.unsecret(...)."
            raise SpecError([Finding(host.name, what, why, remedy)])
        told[id(output)] = await output.future() if await output.is_known() else None
    return told


def _with(part: Part, told: Mapping[int, str | None]) -> Part:
    """A host or a jump host with what was told, checked as if it had stood there."""
    values: dict[str, Any] = {name: told.get(id(value), value) for name, value in part}
    if isinstance(jump := values.get("jump"), Jump):
        values["jump"] = _with(jump, told)
    return type(part)(**values)
