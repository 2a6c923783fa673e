"""All that there is to hardening: what hardening.yaml beside this file says, chosen by a level.

What hosts read of it is written by `python -m groundplane.spec.reference`; a test keeps it current.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groundplane.spec import values as v
from groundplane.spec.documents import read

if TYPE_CHECKING:
    from groundplane.spec.models import Hardening

__all__ = [
    "LEVELS",
    "Check",
    "admission",
    "asked",
    "checks",
    "flags",
    "known",
    "kubelet",
    "of_ssh",
    "on_hosts",
    "table",
]

LEVELS = ("none", "baseline", "cis")
"""Each asks for all that the one before it does."""
ON_HOSTS = (
    "apt",
    "journald",
    "line",
    "mode",
    "module",
    "mount",
    "package",
    "sshd",
    "sysctl",
    "unit",
)
"""The kinds that steps set on hosts. The others are settings of Kubernetes."""
KERNEL = "The kernel is that of the machine that it runs on."


@dataclass(frozen=True)
class Check:
    """One line of hardening.yaml, where its fields are described."""

    id: str
    level: str
    what: str
    source: str
    kind: str
    key: str | tuple[str, ...] = ""
    value: str | tuple[str, ...] | None = None
    also: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    by: str = "groundplane"
    on: str = ""
    remedy: str = ""
    container: str = ""
    missing: str = ""
    note: str = ""
    needs: str = ""
    dnf: str = ""
    path: str = ""
    rests: str = ""
    unless: str = ""

    @property
    def cannot(self) -> str:
        """Why it cannot apply in a container; empty where it can."""
        shared = self.kind == "module" or (
            self.kind == "sysctl" and not str(self.key).startswith("net.")
        )
        return self.container or (KERNEL if shared else "")

    @property
    def cure(self) -> str:
        """What to do where it does not hold."""
        ours = f"Run `pulumi up` with cluster.hardening.level: {self.level}."
        return self.remedy or ours


@cache
def checks() -> tuple[Check, ...]:
    """All checks, in the order of the file."""
    data = read(Path(__file__).with_suffix(".yaml")).data
    return tuple(Check(**{k: _frozen(v) for k, v in check.items()}) for check in data)


def _frozen(value: Any) -> Any:
    return tuple(map(str, value)) if isinstance(value, list) else value


def known(check: str) -> str:
    """The id of a check, as an exemption names it."""
    from groundplane.spec.checks import did_you_mean  # which is made for models

    ids = [each.id for each in checks()]
    if check not in ids:
        raise v.BadValueError(
            f"{v.show(check)} is no check",
            did_you_mean(check, ids) or "docs/reference/hardening.md lists them.",
            "Nothing would be exempt",
        )
    return check


def asked(level: str) -> list[Check]:
    """The checks of a level."""
    return [check for check in checks() if LEVELS.index(check.level) <= LEVELS.index(level)]


def wanted(hardening: Hardening) -> list[Check]:
    """What groundplane sets."""
    return [
        check
        for check in asked(hardening.level)
        if check.by == "groundplane" and not {check.id, check.rests} & hardening.exempt.keys()
    ]


# ---- on hosts ----------------------------------------------------------------------------------


def on_hosts(hardening: Hardening) -> dict[str, Any] | None:
    """What a step is told. The hosts have the table, from the release; its digest makes a step run
    again for a release that asks for something else."""
    if hardening.level == "none":
        return None
    here = [check for check in asked(hardening.level) if check.kind in ON_HOSTS]
    rows = _digest(check for check in here if check.id not in hardening.exempt)
    return {
        "level": hardening.level,
        "exempt": " ".join(sorted(check.id for check in here if check.id in hardening.exempt))
        or None,
        "settings": rows,
    }


def of_ssh(hardening: Hardening) -> str | None:
    """A digest of SSH's settings; None where there are none."""
    rows = [check for check in wanted(hardening) if check.kind == "sshd"]
    return _digest(rows) if rows else None


def _digest(chosen: Iterable[Check]) -> str:
    return hashlib.sha256("".join(map(_row, chosen)).encode()).hexdigest()[:12]


def table() -> str:
    """What hosts read: ID LEVEL KIND KEY VALUE MORE CONTAINER, separated by tabs, - for nothing.
    MORE is what `also`, `dnf` or `needs` say; CONTAINER is `no` for what cannot apply in one."""
    head = "# Generated from spec/hardening.yaml by `python -m groundplane.spec.reference`.\n"
    kinds = (*ON_HOSTS, "kubelet")  # which differs in a container
    rows = [c for c in checks() if c.by == "groundplane" and c.kind in kinds]
    return head + "".join(_row(c) for c in rows if c.kind in ON_HOSTS or c.container)


def _row(check: Check) -> str:
    more = ",".join(check.also) or check.dnf or check.needs
    key = " ".join(check.key) if isinstance(check.key, tuple) else check.key
    fields = (check.id, check.level, check.kind, key, str(check.value or ""), more)
    return "\t".join([*(field or "-" for field in fields), "no" if check.cannot else "-"]) + "\n"


# ---- settings of Kubernetes --------------------------------------------------------------------


def kubelet(hardening: Hardening) -> dict[str, Any]:
    """Fields of KubeletConfiguration."""
    return {str(c.key): _plain(c.value) for c in wanted(hardening) if c.kind == "kubelet"}


def flags(hardening: Hardening, program: str, given: Mapping[str, str]) -> dict[str, str]:
    """The flags of a program of the control plane: ours, and those given, which go over them. What
    is a list of both holds both."""
    found: dict[str, str] = {}
    for check in wanted(hardening):
        name, _, flag = str(check.key).partition(" --")
        if check.kind != "flag" or name != program or check.unless in given:
            continue
        if check.includes:
            # kubeadm's own is lost where the flag is given.
            listed = given.get(flag) or found.get(flag) or "NodeRestriction"
            found[flag] = ",".join(dict.fromkeys([*listed.split(","), *check.includes]))
            given = {name: value for name, value in given.items() if name != flag}
        else:
            found[flag] = ",".join(check.value or ()) if _many(check) else str(check.value)
    return {**found, **given}


def admission(hardening: Hardening) -> dict[str, Any] | None:
    """What the API server's admission is told; None where it is told nothing."""
    ids = {check.id for check in wanted(hardening)}
    if "api-admission" not in ids:
        return None
    security = hardening.pod_security
    return {
        "enforce": security.enforce if "pod-security" in ids else "privileged",
        "namespaces": security.exempt_namespaces,
    }


def _many(check: Check) -> bool:
    return isinstance(check.value, tuple)


def _plain(value: Any) -> Any:
    """As YAML would read it: numbers and truth values are no text to a kubelet."""
    if isinstance(value, tuple):
        return list(value)
    return {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
