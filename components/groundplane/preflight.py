"""The checks before anything is changed: all hosts, all findings, one table.

Pure functions from what was seen and what is wanted to findings. `groundplane preflight`, a
preview and an update run the same ones, and a program stops before it registers anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from groundplane.errors import GroundplaneError
from groundplane.remote.observation import Observation
from groundplane.spec.models import Cluster, Host


class Severity(StrEnum):
    """error: nothing is changed. warning: look at it. note: for the record."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """What a check found on a host ("" where it is about all of them)."""

    host: str
    check: str
    severity: Severity
    cause: str
    remedy: str


def check(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> list[Finding]:
    """All findings, errors first, in the hosts' order."""
    raise NotImplementedError


def require(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> list[Finding]:
    """The findings that are no errors; raises `PreflightError` with all of them when one is."""
    findings = check(cluster, hosts, seen)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise PreflightError(findings)
    return findings


class PreflightError(GroundplaneError):
    """Hosts are not as they must be; its text is the whole table."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        raise NotImplementedError
