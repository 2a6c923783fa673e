"""What a rule is: a function that looks at a resource and says what is wrong with it.

Rules know nothing of Pulumi's policy SDK, and use the standard library only: so they are read,
listed and tested without it, and the folder can be copied into any repository. `analyzer.py`
beside this package hands them to the SDK.
"""

from __future__ import annotations

import fnmatch
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[1]


class Level(StrEnum):
    """mandatory: stops a preview and an update. advisory: is only said."""

    MANDATORY = "mandatory"
    ADVISORY = "advisory"


MANDATORY, ADVISORY = Level.MANDATORY, Level.ADVISORY

# ---- what a rule looks at ------------------------------------------------------------------------


class Unknown:
    """A value that only the update will know."""


UNKNOWN = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that the program marked as a secret. A rule may compare it, and never says it."""

    value: Any = field(repr=False)


class NotKnownError(Exception):
    """A rule needs a value that is not known; `path` leads to it."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


@dataclass(frozen=True)
class View:
    """A value among a resource's properties, and the path that leads to it.

    What is missing, or has another shape than is looked for, is as good as not there; so a rule
    never falls over a resource that is not as usual. What is not known raises NotKnownError.
    """

    raw: Any = field(default=None, repr=False)
    path: str = ""

    @property
    def secret(self) -> bool:
        """Whether it is marked as a secret, as a whole."""
        return isinstance(self.raw, Secret)

    @property
    def known(self) -> bool:
        """Whether there is a value to look at, if only None."""
        return (self.raw.value if isinstance(self.raw, Secret) else self.raw) is not UNKNOWN

    @property
    def value(self) -> Any:
        """The value itself."""
        if not self.known:
            raise NotKnownError(self.path)
        return self.raw.value if isinstance(self.raw, Secret) else self.raw

    @property
    def text(self) -> str:
        """The value where it is text, else ""."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def number(self) -> float:
        """The value where it is a number, else 0. The engine hands all numbers over as floats."""
        number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        return self.value if number else 0

    def __getitem__(self, key: str) -> View:
        """The value below a key of a mapping."""
        inner = self.value.get(key) if isinstance(self.value, Mapping) else None
        return View(inner, f"{self.path}.{key}" if self.path else key)

    def __iter__(self) -> Iterator[View]:
        """The elements of a list; of one that is not known, itself: who looks into it is told."""
        if not self.known:
            yield self
        elif isinstance(self.value, list):
            for index, element in enumerate(self.value):
                yield View(element, f"{self.path}[{index}]")

    def items(self) -> Iterator[tuple[str, View]]:
        """The entries of a mapping."""
        for key in self.value if isinstance(self.value, Mapping) else ():
            yield key, self[key]


def need(*views: View) -> None:
    """Says of these that they are not known, where they are not: after all else was looked at."""
    for view in views:
        _ = view.value


@dataclass(frozen=True)
class Resource:
    """A resource as the engine hands it over.

    `props` are its inputs; for rules about a whole stack, its outputs.
    """

    type: str
    name: str
    urn: str
    props: View

    def __str__(self) -> str:
        return f"{self.type.rpartition(':')[2]} {self.name}"


# ---- rules ---------------------------------------------------------------------------------------

Settings = Mapping[str, Any]
Found = Iterator[str]
FoundIn = Iterator[tuple[Resource, str]]
Each = Callable[[Resource], Iterator[View]]

EXEMPT = {
    "type": "object",
    "default": {},
    "additionalProperties": {"type": "string"},
    "description": "Resources that are left alone, by name or URN (`*` for anything), each with "
    "the reason why.",
}


@dataclass(frozen=True)
class Rule:
    """One rule, and all that is told of it."""

    name: str
    area: str
    level: Level
    summary: str
    """What must hold."""
    why: str
    remedy: str
    on: tuple[str, ...]
    """The types of resources that it looks at; `*` for anything."""
    each: Each | None
    """The parts of a resource that are looked at one by one; None: it looks at a whole stack."""
    check: Callable[..., Iterator[Any]]
    settings: Mapping[str, Mapping[str, Any]]
    """What a stack may set: name -> JSON schema with its default."""
    source: str
    """FILE:LINE, from the folder of the pack."""

    def concerns(self, resource: Resource) -> bool:
        """Whether it looks at a resource of this type."""
        return any(fnmatch.fnmatchcase(resource.type, pattern) for pattern in self.on)


def itself(resource: Resource) -> Iterator[View]:
    """The resource as a whole."""
    yield resource.props


def rule(
    level: Level,
    *,
    on: Sequence[str],
    remedy: str,
    each: Each | None = itself,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., Iterator[Any]]], Rule]:
    """Makes a rule of a generator that yields what is wrong, without a full stop at its end.

    Its name is the function's, its area the module's. The first line of the docstring says what
    must hold, the rest why.

    `each`: what of a resource the function is called with, a View at a time. None: the function is
    called once, with all resources of the stack, and yields (resource, what).

    What it yields may name keys and paths. It names no values, which may be secret; but those of a
    cluster's plan, which never are.
    """

    def made(check: Callable[..., Iterator[Any]]) -> Rule:
        summary, _, why = (inspect.getdoc(check) or "").partition("\n\n")
        file = Path(inspect.getsourcefile(check) or "").resolve()
        shown = file.relative_to(PACK) if PACK in file.parents else file.name
        return Rule(
            name=check.__name__.replace("_", "-"),
            area=file.stem.replace("_", " "),
            level=level,
            summary=" ".join(summary.split()),
            why=" ".join(why.split()),
            remedy=remedy,
            on=tuple(on),
            each=each,
            check=check,
            settings={**(settings or {}), "exempt": EXEMPT},
            source=f"{shown}:{check.__code__.co_firstlineno}",
        )

    return made


# ---- a verdict -----------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What a rule found, resource by resource, and the paths to what it could not see."""

    rule: Rule
    found: list[tuple[Resource | None, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[tuple[str, str]]:
        """(urn, message) for each resource: what is wrong, why it matters, what to do."""
        by_resource: dict[str, list[str]] = {}
        for resource, what in self.found:
            lines = by_resource.setdefault(resource.urn if resource else "", [])
            lines.append(f"{resource or 'the stack'}: {what}.")
        return [
            (urn, "\n".join(filter(None, [*lines, self.rule.why, self.rule.remedy])))
            for urn, lines in by_resource.items()
        ]

    @property
    def unchecked(self) -> str:
        """What to say of that which is not known; "" when all is."""
        what = ", ".join(dict.fromkeys(self.unknown))
        return what and (
            f"could not be checked in this preview, since not known: {what}. The update checks it "
            "when it is known"
        )


def judge(rule: Rule, resources: Sequence[Resource], given: Settings | None = None) -> Verdict:
    """A rule's verdict on resources: on each, or on all of a stack.

    A part that is not known hides no other. A rule that falls over says so, as if something were
    wrong: what it did not come to see may be.
    """
    defaults = {name: schema["default"] for name, schema in rule.settings.items()}
    settings = {**defaults, **(given or {})}
    verdict = Verdict(rule)
    seen = [r for r in resources if rule.concerns(r) and not _exempt(r, settings["exempt"])]
    if rule.each is None:
        for found in _guarded(verdict, None, rule.check(seen, settings)):
            verdict.found.append(found)
        return verdict
    for resource in seen:
        for part in _guarded(verdict, resource, rule.each(resource)):
            for what in _guarded(verdict, resource, rule.check(part, settings)):
                verdict.found.append((resource, what))
    return verdict


def _guarded(verdict: Verdict, resource: Resource | None, run: Iterator[Any]) -> Iterator[Any]:
    """What a function of a rule yields, up to where it comes upon what is not known, or falls."""
    try:
        yield from run
    except NotKnownError as error:
        verdict.unknown.append(f"{error.path} of {resource}" if resource else error.path)
    except Exception as error:
        # Neither its text nor its values, which may be secret.
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        verdict.found.append((resource, f"the rule itself failed, so look for yourself: {place}"))


def _exempt(resource: Resource, exemptions: Mapping[str, str]) -> bool:
    return any(
        fnmatch.fnmatchcase(name, pattern)
        for pattern in exemptions
        for name in (resource.name, resource.urn)
    )
