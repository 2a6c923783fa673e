"""`groundplane preflight`, from a made-up look."""

import io
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from test_preflight import build

from groundplane.commands import preflight as command
from groundplane.preflight import check


def run(monkeypatch: pytest.MonkeyPatch, case: Mapping[str, Any], *arguments: str) -> Result:
    cluster, hosts, seen = build(case)
    spec = SimpleNamespace(stack="lab", cluster=cluster, hosts=hosts)
    monkeypatch.setattr(command, "load", lambda stack: spec)
    monkeypatch.setattr(command, "look_around", lambda spec: seen)
    monkeypatch.setattr(command, "of_sources", lambda spec, seen: [])
    return CliRunner().invoke(command.preflight, arguments, catch_exceptions=False)


def test_all_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {})
    assert (result.exit_code, result.output) == (0, "4 of 4 hosts answer: nothing found\n")


def test_warnings_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"seen": {"w1": {"runtimes": ["/usr/bin/containerd"]}}})
    assert result.exit_code == 0
    assert "WARNING  w1  runtime" in result.output
    assert result.output.endswith("4 of 4 hosts answer: 1 warning\n")


def test_errors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"silent": {"w1": "unreachable"}})
    assert result.exit_code == 1
    assert "ERROR  w1  reachability  the cause\n" in result.output
    assert result.output.endswith("3 of 4 hosts answer: 1 error\n")


def test_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {"silent": {"w1": "auth-refused"}}, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "stack": "lab",
        "hosts": {"cp1": "seen", "cp2": "seen", "cp3": "seen", "w1": "auth-refused"},
        "findings": [
            {
                "host": "w1",
                "check": "ssh-key",
                "severity": "error",
                "cause": "the cause",
                "remedy": "The remedy.",
            }
        ],
    }


def test_in_colour() -> None:
    findings = check(*build({"seen": {"w1": {"hostname": "[red]x"}, "cp1": {"swap": 1 << 30}}}))
    out = io.StringIO()
    Console(file=out, width=60).print(command.coloured(findings))
    assert "[red]x" in out.getvalue(), "what hosts say is no markup"
    assert max(map(len, out.getvalue().splitlines())) <= 60
