"""Whether hosts are as a level of hardening asks: what was seen, held against the checks.

What the checks are stands in spec/hardening.yaml. Each host is asked once.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from groundplane.remote.connect import HostUnreachable
from groundplane.remote.portrait import Answer, arguments, ask, flat
from groundplane.spec import Hardening
from groundplane.spec.hardening import Check, asked
from groundplane.spec.models import Host

__all__ = ["Result", "Status", "judge", "look"]


class Status(StrEnum):
    """What became of a check on a host, the worst first."""

    FAILED = "failed"
    EXEMPT = "exempt"
    CANNOT = "cannot apply"
    PASSED = "passed"


@dataclass(frozen=True)
class Result:
    """A check on a host. `said`: what was there instead, or why it was not asked."""

    host: str
    check: Check
    status: Status
    said: str


@dataclass(frozen=True)
class Evidence:
    """What was seen on a host."""

    role: str
    facts: Mapping[str, str]
    texts: Mapping[str, str]
    kubelet: Mapping[str, str]
    flags: Mapping[str, Mapping[str, str]]

    @classmethod
    def of(cls, role: str, answer: Answer) -> Evidence:
        """What the look at a host means."""
        import yaml

        documents = answer.documents
        programs = {
            path.removeprefix("process/"): dict(arguments(text.splitlines()))
            for path, text in documents.items()
            if path.startswith("process/")
        }
        settings = flat(yaml.safe_load(documents.get("kubelet", "")) or {}, "")
        return cls(
            role,
            answer.facts,
            documents,
            {path.strip("/").replace("/", "."): value for path, value in settings.items()},
            programs,
        )


class NotHereError(Exception):
    """A check that has nothing to look at on this host; why."""


# ---- the look ----------------------------------------------------------------------------------


def look(hosts: Sequence[Host]) -> dict[str, Evidence | HostUnreachable]:
    """All hosts that are not lost, by name."""
    here = [host for host in hosts if host.state != "lost"]
    answers = ask(here, "hardening.sh", lambda host: parameters(asked("cis")))
    return {
        host.name: Evidence.of(host.role, answer) if isinstance(answer, Answer) else answer
        for host, answer in zip(here, answers, strict=True)
    }


def parameters(checks: Iterable[Check]) -> str:
    """What the script is told, as shell assignments for the lines before it."""
    names: dict[str, list[str]] = {
        name: []
        for name in (
            *("SYSCTLS", "MODULES", "MOUNTS", "PACKAGES", "UNITS"),
            *("MODES", "FILES", "PROGRAMS"),
        )
    }
    arrays = {
        "sysctl": "SYSCTLS",
        "module": "MODULES",
        "mount": "MOUNTS",
        "package": "PACKAGES",
        "unit": "UNITS",
        "mode": "MODES",
        "line": "FILES",
        "document": "FILES",
        "flag": "PROGRAMS",
    }
    for check in checks:
        if check.kind not in arrays:
            continue
        keys = [check.key] if isinstance(check.key, str) else check.key
        names[arrays[check.kind]] += [key.partition(" --")[0] for key in keys]
        if check.dnf not in ("", "-"):
            names["PACKAGES"].append(check.dnf)
    return "".join(
        f"{name}=({shlex.join(dict.fromkeys(found))})\n" for name, found in names.items()
    )


# ---- the judgement -----------------------------------------------------------------------------


def judge(host: str, seen: Evidence, hardening: Hardening) -> Iterator[Result]:
    """Every check of the level, on one host."""
    for check in asked(hardening.level):
        if check.on in ("", seen.role):
            status, said = _judged(check, seen, hardening)
            yield Result(host, check, status, said)


def _judged(check: Check, seen: Evidence, hardening: Hardening) -> tuple[Status, str]:
    reason = hardening.exempt.get(check.id) or hardening.exempt.get(check.rests)
    if reason:
        return Status.EXEMPT, reason
    container = seen.facts.get("container", "none")
    try:
        wrong = KINDS[check.kind](check, seen)
    except NotHereError as why:
        return Status.CANNOT, str(why)
    # What holds all the same is worth as much in a container.
    if wrong and check.cannot and container not in ("none", ""):
        return Status.CANNOT, f"in a container: {check.cannot}"
    return (Status.FAILED, wrong) if wrong else (Status.PASSED, "")


def _compared(check: Check, value: str | None) -> str:
    """What is wrong with a value; nothing where it is one that is taken."""
    if value is None:
        return "" if check.missing or check.value == "" else "not set"
    if check.value == "":
        return "set"
    listed = {word.strip() for word in value.split(",")}
    if check.includes and not listed >= set(check.includes):
        return f"is {value}"
    if any(part in (listed if check.kind == "flag" else value) for part in check.without):
        return f"is {value}"
    if check.without or check.includes or check.value is None:
        return ""
    if isinstance(check.value, tuple):
        return "" if listed == set(check.value) else f"is {value}"
    return "" if value in (check.value, *check.also) else f"is {value}"


def _sysctl(check: Check, seen: Evidence) -> str:
    value = seen.facts.get(f"sysctl/{check.key}")
    return _compared(check, value) if value is not None or check.missing else "the kernel has none"


def _module(check: Check, seen: Evidence) -> str:
    state = seen.facts.get(f"module/{check.key}", "allowed")
    return "" if state == "denied" else f"is {state}"


def _mount(check: Check, seen: Evidence) -> str:
    options = seen.facts.get(f"mount/{check.key}")
    if options is None:
        raise NotHereError("It is no file system of its own here.")
    lacking = set(str(check.value).split(",")) - set(options.split(","))
    return f"lacks {', '.join(sorted(lacking))}" if lacking else ""


def _journald(check: Check, seen: Evidence) -> str:
    lines = seen.texts.get("journald", "").splitlines()
    values = [line.partition("=")[2] for line in lines if line.startswith(f"{check.key}=")]
    return _compared(check, values[-1] if values else None)


def _apt(check: Check, seen: Evidence) -> str:
    if "apt" not in seen.texts:
        raise NotHereError("This system has no apt.")
    line = f'{check.key} "{check.value}";'
    return "" if line in seen.texts["apt"].splitlines() else "not set"


def _line(check: Check, seen: Evidence) -> str:
    if check.needs.endswith("/apt-get") and "apt" not in seen.texts:
        raise NotHereError("This system has no apt.")
    text = seen.texts.get(f"file/{check.key}")
    if text is None:
        return f"there is no {check.key}"
    return "" if str(check.value) in text.splitlines() else f"{check.key} does not say it"


def _package(check: Check, seen: Evidence) -> str:
    name = check.dnf if seen.facts.get("packager") == "dnf" and check.dnf else str(check.key)
    if name == "-":
        raise NotHereError("This system has no such package.")
    return "" if f"package/{name}" in seen.facts else f"{name} is not installed"


def _unit(check: Check, seen: Evidence) -> str:
    states = [seen.facts.get(f"unit/{name}", "") for name in check.key]
    if any(state.startswith("enabled") and state.endswith(" active") for state in states):
        return ""
    return f"not one of {', '.join(check.key)} runs and starts at boot"


def _confinement(check: Check, seen: Evidence) -> str:
    return "neither is on" if seen.facts.get("confinement", "none") == "none" else ""


def _sshd(check: Check, seen: Evidence) -> str:
    if not any(path.startswith("sshd/") for path in seen.facts):
        raise NotHereError("sshd is not here, or does not tell its settings.")
    return _compared(check, seen.facts.get(f"sshd/{str(check.key).lower()}"))


def _mode(check: Check, seen: Evidence) -> str:
    most = int(str(check.value), 8)
    lines = [line.split(" ", 2) for line in seen.texts.get("modes", "").splitlines()]
    found = [line for line in lines if fnmatch.fnmatchcase(line[2], str(check.key))]
    # A pattern is one folder's: to fnmatch a * goes on into those below it.
    found = [line for line in found if line[2].count("/") == str(check.key).count("/")]
    if not found:
        raise NotHereError(NO_NODE if "node" not in seen.facts else "There is no such file here.")
    wrong = [
        f"{path} is {mode.zfill(4)} {owner}"
        for mode, owner, path in found
        if int(mode, 8) & ~most or owner != "root:root"
    ]
    return ", ".join(wrong)


NO_NODE = "It is no node yet."


def _kubelet(check: Check, seen: Evidence) -> str:
    if "kubelet" not in seen.texts:
        raise NotHereError(NO_NODE)
    value = seen.kubelet.get(str(check.key))
    return _compared(check, None if value is None else value.replace(", ", ","))


def _flag(check: Check, seen: Evidence) -> str:
    program, _, flag = str(check.key).partition(" ")
    if program not in seen.flags:
        if "node" in seen.facts:
            return f"{program} does not run"
        raise NotHereError(NO_NODE)
    return _compared(check, seen.flags[program].get(flag))


def _document(check: Check, seen: Evidence) -> str:
    text = seen.texts.get(f"file/{check.key}")
    if text is None:
        if "node" not in seen.facts:
            raise NotHereError(NO_NODE)
        return f"there is no {check.key}"
    import json

    try:
        found = flat(json.loads(text), "")
    except ValueError:
        return f"{check.key} is no JSON"
    return _compared(check, found.get(f"/{check.path}"))


KINDS: Mapping[str, Callable[[Check, Evidence], str]] = {
    "sysctl": _sysctl,
    "module": _module,
    "mount": _mount,
    "journald": _journald,
    "apt": _apt,
    "line": _line,
    "package": _package,
    "unit": _unit,
    "confinement": _confinement,
    "sshd": _sshd,
    "mode": _mode,
    "kubelet": _kubelet,
    "flag": _flag,
    "document": _document,
}
"""Each kind of check: what is wrong, or nothing."""


def document(results: Iterable[Result]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "host": result.host,
            "check": result.check.id,
            "status": str(result.status),
            "said": result.said,
            "what": result.check.what,
            "source": result.check.source,
            "remedy": result.check.cure if result.status is Status.FAILED else "",
        }
        for result in results
    ]
