"""docs/performance.md, from what was measured and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import again, guests, imports, scale, up, up_guests, upgrade
from benchmarks.benchmark import Benchmark, table
from lab.config import CHECKOUT

PAGE = CHECKOUT / "docs" / "performance.md"

BENCHMARKS: Mapping[str, Benchmark] = {
    "up": up.BENCHMARK,
    "again": again.BENCHMARK,
    "upgrade": upgrade.BENCHMARK,
    "guests": guests.BENCHMARK,
    "up-guests": up_guests.BENCHMARK,
    "scale": scale.BENCHMARK,
    "imports": imports.BENCHMARK,
}

HEAD = """\
<!-- Written by `make bench`: change benchmarks/ and not this page. -->
# Performance

How long groundplane takes, wherever possible beside something that does the same work with less.
A ratio says more than seconds: what slows the computer slows both sides. Of several runs the page
gives the median, the least and the most. Two sides run in turn, and a ratio is that of one run to
the run beside it.

The machines are the [lab's](../README.md#see-it-on-one-computer): five systemd containers that
share one computer's processors, disk and kernel with the mirror and the engine, or one that runs
guests. Servers of your own are quicker, and may spend their time elsewhere.

```sh
make bench
```

It measures everything, as root, on machines of its own beside any lab that is up, and writes this
page from [what it measured](../benchmarks/results.json). `make bench BENCH="up upgrade"` measures
those two; `.venv/bin/python -m benchmarks --help` names them all. Let nothing else run meanwhile.
"""


def render(results: Mapping[str, Any]) -> str:
    """The page. A benchmark that never ran is named, with how to run it."""
    parts = [HEAD]
    for name, benchmark in BENCHMARKS.items():
        if name in results:
            text = benchmark.section(results[name]["samples"])
        else:
            text = f'Not measured yet: `make bench BENCH="{name}"`.'
        parts.append(f"## {benchmark.title}\n\n{text}\n")
    if results:
        parts.append(f"## Where and when\n\n{where(results)}\n")
    return "\n".join(parts)


def where(results: Mapping[str, Any]) -> str:
    """The computer, said once for all that ran on the same, and what differs."""
    lines: list[str] = []
    rows = []
    for name, benchmark in BENCHMARKS.items():
        if name not in results:
            continue
        found = results[name]["conditions"]
        versions = ", ".join(f"{part} {version}" for part, version in found["versions"].items())
        line = (
            f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB of memory; "
            f"{found['system']}, Linux {found['kernel']}; Python {found['python']}; {versions}."
        )
        if line not in lines:
            lines.append(line)
        commit, load = f"`{found['commit']}`", f"{found['load']:.2f}"
        rows.append([benchmark.title, found["date"], commit, load, str(lines.index(line) + 1)])
    computers = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    head = ["", "date", "commit", "load at the start", "computer"]
    return f"{table(head, rows)}\n\n{computers}"


def write(results: Mapping[str, Any]) -> None:
    PAGE.write_text(render(results), encoding="utf-8")
