"""`groundplane hardening`, from made-up looks: the table, the JSON and the exit status."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from hardening.test_judge import CHECKS, good, spoiled
from support.specs import hosts, spec

from groundplane.commands import hardening as command
from groundplane.hardening import Evidence
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.spec import Hardening

SILENT = HostUnreachable("cp2", Kind.UNREACHABLE, "no answer", "Look at its console.")
CIS = Hardening(level="cis")


def run(
    monkeypatch: pytest.MonkeyPatch,
    seen: dict[str, Evidence | HostUnreachable],
    *words: str,
    made: Hardening = CIS,
) -> Result:
    stack = spec(hosts(1, 1), hardening=made)
    monkeypatch.setattr(command, "load", lambda name: stack)
    monkeypatch.setattr(command, "reachable", lambda spec: SimpleNamespace(hosts=spec.hosts))
    monkeypatch.setattr(command, "look", lambda hosts: seen)
    return CliRunner().invoke(command.hardening, list(words), catch_exceptions=False)


def test_all_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"cp1": good()})
    count = len(CHECKS)
    assert result.exit_code == 0
    assert result.output == (
        f"metal, level cis: 0 failed, 0 exempt, 0 cannot apply, {count} passed, on 1 host\n"
    )


def test_one_failed_on_two_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = spoiled(good(), CHECKS["ssh-passwords"])
    result = run(monkeypatch, {"cp1": bad, "cp2": bad})
    assert result.exit_code == 1
    assert "ssh-passwords" in result.output
    assert "cp1, cp2" in result.output
    assert "is 77" in result.output
    assert "Run `pulumi up` with cluster.hardening.level: cis." in result.output
    assert "ssh-idle" not in result.output
    assert "2 failed" in result.output


def test_all_are_listed_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"cp1": good()}, "--all")
    assert result.exit_code == 0
    assert all(name in result.output for name in CHECKS)


def test_another_level_than_the_stacks(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = spoiled(good(), CHECKS["ssh-passwords"])
    assert run(monkeypatch, {"cp1": bad}, "--level", "baseline").exit_code == 0
    none = Hardening(level="none")
    assert run(monkeypatch, {"cp1": bad}, made=none).exit_code == 0
    assert run(monkeypatch, {"cp1": bad}, "--level", "cis", made=none).exit_code == 1


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spoiled(good(), CHECKS["cramfs"])
    seen = replace(seen, facts={**seen.facts, "container": "lxc"})
    made = Hardening(level="cis", exempt={"ssh-x11": "somebody looks at pictures"})
    result = run(monkeypatch, {"cp1": seen}, "--json", made=made)
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["counts"]["cp1"] == {
        "failed": 0, "exempt": 1, "cannot apply": 1, "passed": len(CHECKS) - 2,
    }  # fmt: skip
    (cannot,) = [each for each in found["results"] if each["status"] == "cannot apply"]
    assert (cannot["host"], cannot["check"]) == ("cp1", "cramfs")
    assert cannot["said"].startswith("in a container: The kernel is that of")


def test_a_host_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a look must not be taken for a good one."""
    result = run(monkeypatch, {"cp1": good(), "cp2": SILENT})
    assert result.exit_code == 2
    assert "cp2: no answer\nLook at its console." in result.stderr
    found = json.loads(run(monkeypatch, {"cp1": good(), "cp2": SILENT}, "--json").stdout)
    assert found["silent"] == [{"host": "cp2", "kind": "unreachable", "cause": "no answer"}]
