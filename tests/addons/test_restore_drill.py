"""The script of velero's restore drill, with a kubectl of ours."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from groundplane.addons.velero import SCRIPT, VeleroArgs, alerts

# What it runs in, and what is at hand anyway.
SHELLS = [shell for shell in (["busybox", "sh"], ["dash"], ["sh"]) if shutil.which(shell[0])][:2]

KUBECTL = r"""#!/bin/sh
# Notes each call; answers from the files of its folder.
echo "$*" >>"$STATE/calls"
case "$*" in
  *"get backups.velero.io -l velero.io/schedule-name=velero-daily "*) cat "$STATE/backups" ;;
  *"get restores.velero.io "*) cat "$STATE/phase" ;;
  *"get deployment canary "*) cat "$STATE/available" ;;
  *"get configmap restore-drill "*) cat "$STATE/last" 2>/dev/null || : ;;
  *"create -f -"*) cat >"$STATE/restore" ;;
  *"apply "*) cat >"$STATE/result" ;;
  *"delete "*) [ ! -e "$STATE/stuck" ] ;;
  *) echo "unknown: $*" >&2; exit 1 ;;
esac
"""

OLD = "2026-11-24T01:20:00Z older"
NEW = "2026-11-25T01:20:00Z newer"


@dataclass
class Done:
    status: int
    out: str
    err: str
    calls: list[str]
    metrics: dict[str, float]
    result: str


class Place:
    """Where a drill runs."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder, self.shell = folder, shell
        (folder / "bin").mkdir()
        (folder / "bin/kubectl").write_text(KUBECTL)
        (folder / "bin/kubectl").chmod(0o755)
        for name, text in (
            ("backups", f"{NEW}\n{OLD}\n"),
            ("phase", "Completed"),
            ("available", "1"),
        ):
            self.say(name, text)

    def say(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.is_file() else ""

    def drill(self, limit: int = 1) -> Done:
        env = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "STATE": str(self.folder),
            "SCHEDULE": "velero-daily",
            "SPACE": "velero",
            "SOURCE": "restore-drill",
            "SCRATCH": "restore-drill-scratch",
            "RESULT": "restore-drill",
            "LIMIT": str(limit),
            "PAUSE": "0.1",
        }
        (self.folder / "calls").write_text("")
        done = subprocess.run(
            [*self.shell, SCRIPT], env=env, capture_output=True, text=True, timeout=60
        )
        result = self.read("result")
        text = yaml.safe_load(result)["data"]["metrics.txt"] if result else ""
        found = re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE)
        metrics = {name: float(value) for name, value in found}
        calls = self.read("calls").splitlines()
        return Done(done.returncode, done.stdout, done.stderr, calls, metrics, result)


@pytest.fixture(params=SHELLS, ids=" ".join)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(tmp_path, request.param)


def prefixed(metrics: dict[str, float]) -> dict[str, float]:
    prefix = "groundplane_restore_drill_"
    assert all(name.startswith(prefix) for name in metrics)
    return {name.removeprefix(prefix): value for name, value in metrics.items()}


def test_the_newest_backup_is_restored_and_its_time_told(place: Place) -> None:
    began = time.time()
    done = place.drill()
    assert done.status == 0, done.err
    restore = yaml.safe_load(place.read("restore"))
    assert restore["spec"] == {
        "backupName": "newer",
        "includedNamespaces": ["restore-drill"],
        "namespaceMapping": {"restore-drill": "restore-drill-scratch"},
        "restorePVs": True,
    }
    told = prefixed(done.metrics)
    assert told["success"] == 1
    assert 0 <= told["duration_seconds"] < 30
    # 2026-11-25T01:20:00Z
    assert abs(told["backup_age_seconds"] - (began - 1795569600)) < 30
    assert told["timestamp_seconds"] >= int(began)
    assert told["last_success_timestamp_seconds"] >= int(began)


def test_what_it_made_is_taken_away_before_and_after(place: Place) -> None:
    calls = [call for call in place.drill().calls if " delete " in call]
    space = [call for call in calls if "namespace restore-drill-scratch" in call]
    restores = [call for call in calls if "groundplane.io/drill=restore-drill-scratch" in call]
    assert (len(space), len(restores)) == (2, 2)


FAILURES = {
    "no backup": ({"backups": ""}, "schedule velero-daily has no backup that is whole"),
    "a restore that fails": ({"phase": "PartiallyFailed"}, "the restore is PartiallyFailed"),
    "a restore without an end": ({"phase": "InProgress"}, "the restore is InProgress after 1 s"),
    "one that does not begin": ({"phase": ""}, "the restore is not begun after 1 s"),
    "data that is not whole": ({"available": ""}, "the data of newer are not whole after 1 s"),
}


@pytest.mark.parametrize("said, why", FAILURES.values(), ids=FAILURES.keys())
def test_a_drill_that_fails_says_why(place: Place, said: dict[str, str], why: str) -> None:
    for name, text in said.items():
        place.say(name, text)
    done = place.drill()
    assert done.status == 1
    assert f"the drill failed: {why}" in done.err
    assert prefixed(done.metrics)["success"] == 0
    assert "delete namespace restore-drill-scratch" in done.calls[-1]


def test_the_last_good_one_is_not_forgotten(place: Place) -> None:
    good = place.drill()
    place.say("last", yaml.safe_load(good.result)["data"]["last"])
    place.say("phase", "Failed")
    bad = prefixed(place.drill().metrics)
    assert bad["success"] == 0
    kept = ("last_success_timestamp_seconds", "duration_seconds", "backup_age_seconds")
    assert {key: bad[key] for key in kept} == {key: prefixed(good.metrics)[key] for key in kept}


def test_a_namespace_that_does_not_go_is_not_restored_into(place: Place) -> None:
    place.say("stuck", "")
    done = place.drill()
    assert done.status == 1
    assert "what an earlier drill left in namespace restore-drill-scratch does not go" in done.err
    assert place.read("restore") == ""


def test_its_page_is_what_prometheus_reads(place: Place) -> None:
    """The format in text: HELP and TYPE before each, and nothing else."""
    text = yaml.safe_load(place.drill().result)["data"]["metrics.txt"]
    kinds = [line.split()[:2] if line.startswith("#") else ["value"] for line in text.splitlines()]
    assert kinds == [["#", "HELP"], ["#", "TYPE"], ["value"]] * (len(kinds) // 3)


def test_alerts_are_of_metrics_that_it_writes(place: Place) -> None:
    external = {"url": "https://s3.example.org", "bucket": "b", "access_key": "k"}
    rules = alerts(VeleroArgs(external=external))
    asked = {name for rule in rules for name in re.findall(r"groundplane_\w+", rule["expr"])}
    assert asked
    assert asked <= place.drill().metrics.keys()
