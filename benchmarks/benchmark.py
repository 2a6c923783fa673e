"""What a benchmark is made of. Each is one file: how it is measured, what the page says of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import click

from benchmarks.measured import Samples, ratios, summary

if TYPE_CHECKING:
    from benchmarks.ground import Ground
    from benchmarks.hypervisor import Hypervisor


@dataclass
class Session:
    """One call of the command: what it says meanwhile, and the lab once somebody asks for it."""

    ends: ExitStack
    keep: bool = False
    began: float = field(default_factory=time.monotonic)

    def say(self, line: str) -> None:
        """A line of progress, with the seconds since the start before it."""
        click.echo(f"{time.monotonic() - self.began:7.1f} s  {line}")

    @cached_property
    def ground(self) -> Ground:
        """The lab's machines, shared by all benchmarks of this call."""
        from benchmarks.ground import opened

        return self.ends.enter_context(opened(self.say, self.keep))

    @cached_property
    def hypervisor(self) -> Hypervisor:
        """A machine of this lab that runs guests, shared likewise."""
        from benchmarks.hypervisor import opened

        return self.ends.enter_context(opened(self.ground))


@dataclass(frozen=True)
class Benchmark:
    """`measure` takes the number of runs; `section` makes the page's text of its samples."""

    title: str
    section: Callable[[Samples], str]
    measure: Callable[[int, Session], Samples]
    runs: int
    """How many unless told otherwise."""
    minutes: int
    """How long these take about, on two cores."""


# ---- tables ------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown. The first column is words, the others are figures."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def figures(samples: Sequence[float], unit: str, digits: int = 1) -> list[str]:
    """Cells: the median, and from the least to the most."""
    found = summary(samples)
    texts = [f"{value:,.{digits}f}" for value in (found.median, found.least, found.most)]
    span = f"{texts[1]} to {texts[2]}" if found.runs > 1 else ""
    return [f"{texts[0]} {unit}".strip(), span, str(found.runs)]


def beside(name: str, ours: Sequence[float], other: str, theirs: Sequence[float], unit: str) -> str:
    """Two sides of the same work, and the ratio of each run to the run beside it."""
    return table(
        ["", "median", "least to most", "runs"],
        [
            [name, *figures(ours, unit)],
            [other, *figures(theirs, unit)],
            ["**ratio**", *figures(ratios(ours, theirs), "", 2)],
        ],
    )
