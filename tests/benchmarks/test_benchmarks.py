"""The benchmarks' arithmetic, their page and their command. `make bench` is the measuring."""

from __future__ import annotations

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import again, measured, page, scale
from benchmarks.benchmark import Benchmark, Session, beside, figures
from benchmarks.measured import Summary, in_turn, ratios, summary
from benchmarks.probe import PATIENCE, Question, follow, outage

UP = {"kubernetes": "1.36.3", "groundplane": [120.0, 110.0, 130.0], "bare": [100.0, 110.0, 100.0]}
PROBED = {"seconds": [300.0, 320.0], "asked": [3000, 3200], "failed": [0, 2], "gap": [0.1, 1.3]}
SAMPLES: dict[str, dict[str, Any]] = {
    "up": UP,
    "again": {
        "resources": 27,
        "total": [3.0, 4.0],
        "engine": [1.0, 1.5],
        "look": [0.5, 0.25],
        "import": [0.25, 0.25],
    },
    "guests": {
        "accelerator": "emulation (TCG)",
        "groundplane": [150.0, 200.0],
        "answer": [120.0, 100.0],
        "installed": [150.0, 160.0],
    },
    "up-guests": {
        "accelerator": "KVM",
        "kubernetes": "1.36.3",
        "groundplane": [99.0],
        "bare": [90.0],
    },
    "upgrade": {"from": "1.35.4", "to": "1.36.3", "groundplane": PROBED, "bare": PROBED},
    "scale": {
        "registration": {"10": [0.2, 0.1], "100": [1.0, 2.0]},
        "uncollected": {"10": [0.1, 0.1], "100": [1.1, 1.1]},
        "state": {"10": 100 * 1024, "100": 900 * 1024},
        "resources": {"10": 49, "100": 409},
    },
    "imports": {
        name: {"seconds": [seconds], "mib": [mib]}
        for name, seconds, mib in (
            ("floor", 0.2, 40.0),
            ("package", 0.01, 1.0),
            ("program", 0.3, 50.0),
        )
    },
}
CONDITIONS = {
    "date": "2026-11-24", "commit": "0123456789ab", "load": 0.5, "cpu": "A processor", "cores": 2,
    "memory_gib": 8.0, "kernel": "6.1", "system": "Debian", "python": "3.11.7",
    "versions": {"pulumi": "3.259.0"},
}  # fmt: skip


def results(**differing: Any) -> dict[str, Any]:
    return {
        name: {"conditions": CONDITIONS | differing.get(name, {}), "samples": samples}
        for name, samples in SAMPLES.items()
    }


# ---- arithmetic --------------------------------------------------------------------------------


def test_a_summary() -> None:
    assert summary([3.0, 1.0, 10.0]) == Summary(3.0, 1.0, 10.0, 3)
    assert figures([3.0, 1.0, 10.0], "s") == ["3.0 s", "1.0 to 10.0", "3"]
    assert figures([1.25], "", 2) == ["1.25", "", "1"]


def test_a_ratio_is_to_the_run_beside_it() -> None:
    """Where the computer was twice as slow for one pair, no ratio shows it."""
    assert ratios([120.0, 240.0], [100.0, 200.0]) == [1.2, 1.2]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("runs", "order"), [(1, "ab"), (2, "baab"), (3, "abbaab")])
def test_two_sides_take_turns(runs: int, order: str) -> None:
    seen: list[str] = []
    for run in range(runs):
        in_turn(run, runs, lambda: seen.append("a"), lambda: seen.append("b"))
    assert "".join(seen) == order


def test_the_shares_of_an_update_are_all_of_it() -> None:
    shares = again.shares(SAMPLES["again"])
    assert shares["rest"] == [1.25, 2.0]
    assert [sum(parts) for parts in zip(*shares.values(), strict=True)] == [3.0, 4.0]


def test_what_a_host_costs_among_many() -> None:
    found = scale.per_host(SAMPLES["scale"])
    assert found["registration"] == [0.5, 2.0]
    assert found["uncollected"] == pytest.approx([1.1, 1.1])
    assert found["state"] == pytest.approx([0.9])


def asked(*answered: bool) -> list[Question]:
    """A question each second from 100.0 on."""
    return [Question(100.0 + n, 0.01, "" if ok else "refused") for n, ok in enumerate(answered)]


OUTAGES = {
    "all are answered": (asked(True, True, True), {"asked": 3, "failed": 0, "gap": 1.0}),
    "two in the middle are not": (
        asked(True, False, False, True),
        {"asked": 4, "failed": 2, "gap": 3.0},
    ),
    "none is": (asked(False, False), {"asked": 2, "failed": 2, "gap": 5.0}),
    "the last are not": (asked(True, True, False, False), {"asked": 4, "failed": 2, "gap": 4.0}),
    "late is as good as never": (
        [Question(100.0, 0.1), Question(101.0, PATIENCE + 0.1), Question(102.0, PATIENCE)],
        {"asked": 3, "failed": 1, "gap": 3.0},
    ),
    "those before and after do not count": (
        [Question(90.0, 0.1, "refused"), *asked(True), Question(110.0, 0.1, "refused")],
        {"asked": 1, "failed": 0, "gap": 5.0},
    ),
    "answers come in any order": (
        [*reversed(asked(True, True, True))],
        {"asked": 3, "failed": 0, "gap": 3.0},
    ),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage(name: str) -> None:
    """From 100.0 to 105.0."""
    questions, wanted = OUTAGES[name]
    ends = {"all are answered": 103.0}
    assert outage(questions, 100.0, ends.get(name, 105.0)) == wanted


# ---- the probe ---------------------------------------------------------------------------------


def test_it_asks_on_while_answers_are_awaited() -> None:
    """An open loop: one that waited for each answer would not have noticed an outage."""
    stopping, hung = threading.Event(), threading.Event()
    kept: list[Question] = []
    begun: list[float] = []

    def ask() -> None:
        begun.append(time.time())
        if len(begun) == 3:
            hung.wait(30)
            raise OSError("no answer")

    thread = threading.Thread(target=follow, args=(ask, kept.append, stopping))
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while len(kept) < 10 and time.monotonic() < deadline:
            time.sleep(0.01)
        # The third still waits, and those after it were asked and answered.
        assert len(begun) > len(kept) >= 10
    finally:
        hung.set()
        stopping.set()
        thread.join(30)
    assert len(kept) == len(begun)
    failed = [question for question in kept if not question.answered]
    assert [question.error for question in failed] == ["OSError: no answer"]
    assert failed[0].took >= 0.5
    due = sorted(question.at for question in kept)
    steps = [later - earlier for earlier, later in pairwise(due)]
    assert steps == pytest.approx([0.1] * len(steps), abs=0.002)


# ---- the page ----------------------------------------------------------------------------------


def test_the_page_is_what_was_measured() -> None:
    """Nobody edited it, and nobody changed benchmarks/ without writing it again."""
    assert page.PAGE.read_text() == page.render(measured.load()), (
        "run: python -m benchmarks --page-only"
    )


def test_every_benchmark_has_its_section() -> None:
    text = page.render(results())
    for benchmark in page.BENCHMARKS.values():
        assert f"## {benchmark.title}\n" in text
    assert "Not measured yet" not in text
    assert "| **ratio** | 1.20 | 1.00 to 1.30 | 3 |" in text
    assert "Guests were run by emulation (TCG)." in text
    assert "| **ratio** | 1.62 | 1.25 to 2.00 | 2 |" in text
    assert "| **ratio** | 1.12 | 1.00 to 1.25 | 2 |" in text
    assert "Guests were run by\nKVM." in text
    assert "| **ratio** | 1.10 |  | 1 |" in text
    assert "| `pulumi up` of groundplane | 6,200 | 2 | 1.3 s |" in text
    assert "| **per host, ratio** |  | 1.25 | 0.50 to 2.00 | 2 | 1.10 | 0.90 |" in text
    assert f"| `{'from groundplane import Platform, from_pulumi_config'}` | 0.300 s |" in text
    assert "| 1.50 | 50.0 MiB | 1.25 |" in text


def test_what_never_ran_is_said() -> None:
    text = page.render({name: found for name, found in results().items() if name != "upgrade"})
    assert 'Not measured yet: `make bench BENCH="upgrade"`.' in text
    assert text.count("Not measured yet") == 1
    assert page.render({}).count("Not measured yet") == len(page.BENCHMARKS)


def test_two_computers_are_told_apart() -> None:
    text = page.where(results(scale={"cpu": "Another processor", "commit": "ba9876543210"}))
    assert "1. A processor, 2 cores" in text
    assert "2. Another processor, 2 cores" in text
    assert "| Many hosts | 2026-11-24 | `ba9876543210` | 0.50 | 2 |" in text
    assert "3. " not in text


def test_both_sides_and_their_ratio() -> None:
    assert beside("ours", [2.0], "theirs", [1.0], "s").splitlines()[2:] == [
        "| ours | 2.0 s |  | 1 |",
        "| theirs | 1.0 s |  | 1 |",
        "| **ratio** | 2.00 |  | 1 |",
    ]


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout's files in another folder, and two benchmarks that cost nothing."""

    def measure(runs: int, session: Session) -> measured.Samples:
        return {"runs": runs}

    monkeypatch.setattr(measured, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "docs" / "performance.md")
    monkeypatch.setattr(command, "CHECKOUT", tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("scale", "imports"):
        cheap = Benchmark(name, lambda samples: f"{samples['runs']} runs", measure, 7, 1)
        monkeypatch.setitem(page.BENCHMARKS, name, cheap)  # type: ignore[arg-type]
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(command.cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_it_measures_and_writes(elsewhere: Path) -> None:
    text = run("scale")
    assert "written: docs/performance.md" in text
    kept = json.loads((elsewhere / "results.json").read_text())
    assert kept["scale"]["samples"] == {"runs": 7}
    assert {"date", "commit", "load", "cpu", "cores", "kernel", "python"} <= kept["scale"][
        "conditions"
    ].keys()
    assert "## scale\n\n7 runs" in (elsewhere / "docs/performance.md").read_text()


def test_other_results_stay(elsewhere: Path) -> None:
    run("scale")
    run("imports", "--runs", "2")
    assert {name: kept["samples"]["runs"] for name, kept in measured.load().items()} == {
        "scale": 7,
        "imports": 2,
    }
    before = measured.load()
    run("--page-only")
    assert measured.load() == before


def test_help_names_each() -> None:
    text = run("--help")
    for name, benchmark in page.BENCHMARKS.items():
        assert name in text
        assert benchmark.title in text


def test_a_name_that_is_none() -> None:
    done = CliRunner().invoke(command.cli, ["down"])
    assert done.exit_code == 2
    assert "'up', 'again', 'upgrade', 'guests', 'up-guests', 'scale', 'imports'" in done.output
