"""What it takes to import groundplane, beside the libraries that it cannot do without."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.benchmark import Benchmark, Session, figures, table
from benchmarks.measured import Samples, ratios
from lab.config import CHECKOUT

STATEMENTS = {
    "floor": "import pulumi, pulumi_command, pydantic",
    "package": "import groundplane",
    "program": "from groundplane import Platform, from_pulumi_config",
}

# Memory: what of the process lies in memory, in KiB, as the kernel counts it.
MEASURED = """\
import json, re, time
from pathlib import Path

def memory():
    return int(re.search(r"VmRSS:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

before, began = memory(), time.perf_counter()
{statement}
took = time.perf_counter() - began
print(json.dumps({{"seconds": took, "mib": (memory() - before) / 1024}}))
"""


def measure(runs: int, session: Session) -> Samples:
    samples: Samples = {name: {"seconds": [], "mib": []} for name in STATEMENTS}
    for run in range(runs + 1):
        for name, statement in STATEMENTS.items():
            program = MEASURED.format(statement=statement)
            done = subprocess.run(
                [sys.executable, "-c", program],
                cwd=CHECKOUT,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=120,
            )
            for figure, value in json.loads(done.stdout).items():
                if run:  # The first may have to read it all from the disk.
                    samples[name][figure].append(value)
    session.say(f"  {runs} runs of {len(STATEMENTS)} statements")
    return samples


def section(samples: Samples) -> str:
    rows = []
    for name, statement in STATEMENTS.items():
        found = samples[name]
        times, floor = found["seconds"], samples["floor"]
        rows.append(
            [
                f"`{statement}`",
                *figures(times, "s", 3),
                figures(ratios(times, floor["seconds"]), "", 2)[0],
                figures(found["mib"], "MiB")[0],
                figures(ratios(found["mib"], floor["mib"]), "", 2)[0],
            ]
        )
    return f"""\
Each in a Python of its own, in turn; ratios are to the first line, which is the floor.

{table(["", "median", "least to most", "runs", "ratio", "memory", "ratio"], rows)}

`import groundplane` alone loads nothing but itself: names are looked up when they are first used,
so that `groundplane --help` need not wait for Pulumi. The last line is what a program says at its
top."""


BENCHMARK = Benchmark("Importing it", section, measure, runs=20, minutes=2)
