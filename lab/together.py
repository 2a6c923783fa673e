"""Several stacks brought up at once, and where the time went."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import click

from groundplane.errors import GroundplaneError
from lab import environment
from lab.config import CHECKOUT, Lab, Twin
from lab.parts.progress import Progress

UP = ("up", "--yes", "--skip-preview", "--non-interactive", "--stack")
# A line about a resource that was made, such as ` +  command:remote:Command lab-vm-vcp1-node
# created (12s)`; below a second, the engine says how long in another form.
MADE = re.compile(r"(\S+) (?:created|updated)(?: replacement)? \(([\d.]+)s\)")
LONGEST = 8  # steps that are worth a line


@dataclass
class Up:
    """One update: how long it took, and how long each of its resources did. Seconds."""

    twin: Twin
    seconds: float = 0
    status: int = 0
    resources: dict[str, float] = field(default_factory=dict)


def up(lab: Lab, twins: Sequence[Twin], progress: Progress) -> list[Up]:
    """`pulumi up` of all of them, side by side; their lines come as they are said, each after the
    name of its stack. Raises GroundplaneError with the names of those that failed."""
    progress(f"pulumi up of {' and '.join(twin.name for twin in twins)}")
    with ThreadPoolExecutor(len(twins)) as pool:
        ups = list(pool.map(lambda twin: _up(lab, twin, progress), twins))
    failed = [each.twin.name for each in ups if each.status]
    if failed:
        raise GroundplaneError(" and ".join(failed), "pulumi up failed", "", "See above.")
    return ups


def _up(lab: Lab, twin: Twin, progress: Progress) -> Up:
    began, done = time.monotonic(), Up(twin)
    with subprocess.Popen(
        [f"{lab.folder}/bin/pulumi", *UP, twin.name],
        cwd=CHECKOUT,
        env=environment.in_lab(lab),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            click.echo(f"{twin.name:9} | {line.rstrip()}")
            if made := MADE.search(line):
                name = made[1].removeprefix(f"{twin.name}-")
                done.resources[name] = float(made[2])
    done.status, done.seconds = process.returncode, time.monotonic() - began
    progress(f"{twin.name}: pulumi up ended after {done.seconds:.0f} s")
    return done


def where_time_went(ups: Sequence[Up]) -> None:
    """The longest steps of each update. They overlap: their sum is more than the whole."""
    for each in ups:
        longest = sorted(each.resources.items(), key=lambda item: -item[1])[:LONGEST]
        steps = ", ".join(f"{name} {seconds:.0f}" for name, seconds in longest)
        click.echo(f"\n{each.twin.name}: {each.seconds:.0f} s" + (f", of it {steps}" * bool(steps)))
