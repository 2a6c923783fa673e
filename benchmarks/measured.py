"""What was measured: samples, what they say, and where they were taken."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.config import CHECKOUT
from lab.parts.store import write_whole

RESULTS = Path(__file__).with_name("results.json")

Samples = dict[str, Any]
"""Of one benchmark, as JSON: a name -> the figure of each run, in the order of the runs."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What some runs of the same work came to."""

    median: float
    least: float
    most: float
    runs: int


def summary(figures: Sequence[float]) -> Summary:
    return Summary(statistics.median(figures), min(figures), max(figures), len(figures))


def ratios(ours: Sequence[float], beside: Sequence[float]) -> list[float]:
    """Of each run its ratio to the run beside it: what slows the computer slows both."""
    return [one / other for one, other in zip(ours, beside, strict=True)]


def in_turn(run: int, runs: int, first: Callable[[], None], second: Callable[[], None]) -> None:
    """Both, in an order that changes with every run; in the last one `second` comes second."""
    order = (first, second) if (runs - run) % 2 else (second, first)
    for side in order:
        side()


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


# ---- the file ----------------------------------------------------------------------------------


def load() -> dict[str, Any]:
    """Benchmark -> {conditions, samples}; those that never ran are missing."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def keep(name: str, conditions: dict[str, Any], samples: Samples) -> None:
    """Put a benchmark's results in place of its old ones."""
    results = load() | {name: {"conditions": conditions, "samples": samples}}
    write_whole(RESULTS, json.dumps(dict(sorted(results.items())), indent=1) + "\n")


# ---- where and when ----------------------------------------------------------------------------


def conditions() -> dict[str, Any]:
    """This computer, what it runs, and how busy it is at this moment."""
    release = platform.freedesktop_os_release()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "load": round(os.getloadavg()[0], 2),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "system": release["PRETTY_NAME"],
        "python": platform.python_version(),
        "versions": {
            name: version(name) for name in ("pulumi", "pulumi_command", "pydantic", "asyncssh")
        },
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _commit() -> str:
    """The commit that is measured, `-changed` where files are not as it has them; empty outside of
    a checkout. What the benchmarks themselves write does not count."""
    written = [":!benchmarks/results.json", ":!docs/performance.md"]
    head = _git("rev-parse", "--short=12", "HEAD")
    changed = head and _git("status", "--porcelain", "--untracked-files=no", "--", ".", *written)
    return f"{head}-changed" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
