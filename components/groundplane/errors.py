"""Errors that name the place, the cause and the remedy.

Everything that this package raises on purpose is a `GroundplaneError`; anything else is a defect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?:" else text + "."


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what, why it matters, what to do about it."""

    place: str
    what: str
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        head = f"{self.place}: {_sentence(self.what)}" if self.place else _sentence(self.what)
        return "\n".join(line for line in (head, _sentence(self.why), self.remedy.strip()) if line)


class GroundplaneError(Exception):
    """The base of all errors of this package. Its text is "PLACE: WHAT.\\nWHY.\\nREMEDY"."""

    def __init__(self, place: str, what: str, why: str = "", remedy: str = "") -> None:
        self.finding = Finding(place, what, why, remedy)
        super().__init__(str(self.finding))


class SpecError(GroundplaneError):
    """Everything that is wrong with a specification, all at once."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        Exception.__init__(self, "\n\n".join(str(finding) for finding in self.findings))
        self.finding = self.findings[0]


class CatalogueError(GroundplaneError):
    """A version, an architecture or a digest that the catalogue does not know."""
