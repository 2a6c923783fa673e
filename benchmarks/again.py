"""What an update costs that changes nothing, and who takes the time."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.benchmark import Benchmark, Session, figures, table
from benchmarks.engine import Project
from benchmarks.ground import NEW, SECONDS
from benchmarks.measured import Samples, seconds
from lab.config import CHECKOUT

PROGRAMS = Path(__file__).with_name("programs")
UNCHANGED = ("up", "--yes", "--skip-preview", "--expect-no-changes")


def measure(runs: int, session: Session) -> Samples:
    ground = session.ground
    ground.has(NEW)
    stack = ground.stack
    state = json.loads(stack.pulumi("stack", "export").text)
    resources = sum(
        resource["custom"] and not resource["type"].startswith("pulumi:")
        for resource in state["deployment"]["resources"]
    )
    times = ground.lab.folder / "times.json"
    stack.variables |= {
        "BENCHMARK_TIMES": str(times),
        "BENCHMARK_STACKS": str(CHECKOUT / "stacks"),
    }
    samples: Samples = {"resources": resources}
    with tempfile.TemporaryDirectory() as folder:
        beside = Project(Path(folder), PROGRAMS / "trivial" / "__main__.py", session.say)
        beside.variables |= {
            "BENCHMARK_TIMES": str(Path(folder, "times.json")),
            "BENCHMARK_RESOURCES": str(resources),
        }
        beside.pulumi("up", "--yes", "--skip-preview")
        for run in range(runs + 1):
            here = ("--cwd", str(PROGRAMS / "again"))
            found = {
                "total": stack.pulumi(*UNCHANGED, *here, timeout=SECONDS).seconds,
                **json.loads(times.read_text()),
                "engine": seconds(lambda: beside.pulumi(*UNCHANGED)),
            }
            found["import"] -= json.loads(Path(folder, "times.json").read_text())["import"]
            session.say(f"  {found}" + ("" if run else " (not counted)"))
            if run:
                for name, figure in found.items():
                    samples.setdefault(name, []).append(figure)
    return samples


def shares(samples: Samples) -> dict[str, list[float]]:
    """Who takes which part of each run's seconds; together, all of them."""
    rows = zip(*(samples[name] for name in ("total", "engine", "look", "import")), strict=True)
    found: dict[str, list[float]] = {"engine": [], "look": [], "import": [], "rest": []}
    for total, engine, look, imports in rows:
        for name, part in zip(
            found, (engine, look, imports, total - engine - look - imports), strict=True
        ):
            found[name].append(part)
    return found


def section(samples: Samples) -> str:
    parts = shares(samples)
    rows = {
        "`pulumi up`, all of it": samples["total"],
        f"the engine: {samples['resources']} trivial resources": parts["engine"],
        "the look at all hosts": parts["look"],
        "importing groundplane, beyond Pulumi's own": parts["import"],
        "the rest: checks, registration, a larger state": parts["rest"],
    }
    cells = [[name, *figures(row, "s", 2)] for name, row in rows.items()]
    return f"""\
Three control planes and two workers, all as they should be: nothing is to be done.

{table(["", "median", "least to most", "runs"], cells)}

The program is [that of all stacks](../stacks/__main__.py) with
[a clock](../benchmarks/programs/again/__main__.py). The engine's part is what
[another program](../benchmarks/programs/trivial/__main__.py) takes that has as many resources, each
a command that does nothing: the command line, the engine, the language host, the plugin, Python
with Pulumi's libraries, and the comparison with the state. The look and the import are measured
within the program; the look has the import of the SSH library in it. The rest is what is left of
the whole. The state holds more than the trivial one, and the engine decrypts and compares all of
it, so that some of the rest is the engine's too."""


BENCHMARK = Benchmark("An update that changes nothing", section, measure, runs=5, minutes=5)
