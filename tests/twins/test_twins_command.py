"""`groundplane twins`, from made-up looks: the table, the JSON and the exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from syrupy.assertion import SnapshotAssertion
from twins_support import arm, compared

from groundplane.commands import twins as command
from groundplane.errors import SpecError
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.portrait import Portrait
from groundplane.twins import Own

MANY: dict[str, Any] = {
    "on": {"b": "emulated"},
    "b": {
        "all": {
            "kernel/release": "6.12.4",
            "sysctl/fs.file-max": 1000000,
            "kubelet/config/logging/format": "[red]json",
            "processor/flags/avx512f": "yes",
        },
        "cp2": {"sysctl/vm.swappiness": 10},
        "cluster": {
            "coredns/Corefile": ".:53 { errors ready health kubernetes cluster.local forward }"
        },
    },
}


def run(monkeypatch: pytest.MonkeyPatch, case: Mapping[str, Any], *arguments: str) -> Result:
    arms = {"metal": arm("a", case), "vm": arm("b", case)}
    monkeypatch.setattr(command, "load", lambda stack: SimpleNamespace(stack=stack, hosts=stack))
    monkeypatch.setattr(command, "reachable", lambda spec: spec)
    monkeypatch.setattr(command, "portraits", lambda of: [arms[stack].portrait for stack in of])
    monkeypatch.setattr(Own, "of", lambda spec: arms[spec.stack].own)
    words = ["metal", "vm", *arguments]
    return CliRunner().invoke(command.twins, words, catch_exceptions=False)


def test_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {})
    assert result.exit_code == 0
    assert result.output == (
        "metal: 3 control-plane, 2 worker; bare metal\n"
        "vm: 3 control-plane, 2 worker; bare metal\n"
        "twins: 78 facts equal, 0 breaking, 0 tolerable, 1 intended (--all lists them)\n"
    )


def test_a_table(monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    result = run(monkeypatch, MANY)
    assert result.exit_code == 1
    assert result.output == snapshot


def test_a_table_of_all(monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    result = run(monkeypatch, MANY, "--all")
    assert result.exit_code == 1
    assert result.output == snapshot


def test_json(monkeypatch: pytest.MonkeyPatch, snapshot: SnapshotAssertion) -> None:
    result = run(monkeypatch, MANY, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["verdict"] == "not comparable"
    assert result.stdout == snapshot


def test_in_colour_and_narrow() -> None:
    out = io.StringIO()
    command.show(compared(MANY), True, Console(file=out, width=80))
    assert "[red]json" in out.getvalue(), "what hosts say is no markup"
    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_hosts_that_are_not_seen(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    silent = (HostUnreachable("w1", Kind.UNREACHABLE, "no answer", "Look at it."),)
    spec = SimpleNamespace(stack="vm", hosts=[])
    monkeypatch.setattr(command, "load", lambda stack: spec)
    monkeypatch.setattr(command, "reachable", lambda spec: spec)
    monkeypatch.setattr(
        command, "portraits", lambda _: [Portrait({}, {}), Portrait({}, {}, silent)]
    )
    result = CliRunner().invoke(command.twins, ["a", "b", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr == (
        "vm w1: no answer\nLook at it.\nnot seen: 1 host could not be looked at\n"
    )
    if arguments:
        assert json.loads(result.stdout)["silent"][0]["host"] == "w1"
    else:
        assert result.stdout == ""


def test_a_stack_that_is_wrong_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(stack: str) -> Any:
        from groundplane.errors import Finding

        raise SpecError([Finding("Pulumi.a.yaml", "no hosts", "", "List some.")])

    monkeypatch.setattr(command, "load", load)
    result = CliRunner().invoke(command.twins, ["a", "b"])
    assert (result.exit_code, result.stderr) == (2, "Pulumi.a.yaml: no hosts.\nList some.\n")


def test_a_stack_is_no_twin_of_itself() -> None:
    assert CliRunner().invoke(command.twins, ["a", "a"]).exit_code == 2
