"""The workflow that a team can copy: its commands are there, and its levels are known."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from test_docs import CHECKOUT, PULUMI

from groundplane.cli import cli

WORKFLOW = CHECKOUT / "examples/policies/github-workflow.yaml"


def steps() -> list[dict[str, Any]]:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def commands() -> list[list[str]]:
    """The words of each command, of a pipe those of its parts."""
    found = []
    for step in steps():
        text = re.sub(r"\$\{\{[^}]*\}\}", "metal", step.get("run", "")).replace("\\\n", " ")
        for line in text.splitlines():
            for part in re.split(r"[|>]", line):
                if words := shlex.split(part):
                    found.append(words)
    return found


def test_all_steps_are_seen() -> None:
    assert len(steps()) >= 6
    programs = {Path(words[0]).name for words in commands()}
    assert {"pulumi", "groundplane", "pip"} <= programs


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "groundplane"], ids=" ".join)
def test_groundplane(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    for option in command.params:
        if isinstance(option.type, click.Path | click.File):
            monkeypatch.setattr(option, "type", click.Path())
    command.make_context(words[1], words[2:])


@pytest.mark.parametrize("words", [w for w in commands() if w[0] == "pulumi"], ids=" ".join)
def test_pulumi(words: list[str]) -> None:
    """tests/docs/test_docs.py looks these up in the program's own help."""
    name = " ".join(words[1:3]) if words[1] == "policy" else words[1]
    assert {word for word in words if word.startswith("--")} <= PULUMI[name]


def test_files_are_there() -> None:
    text = WORKFLOW.read_text()
    assert (CHECKOUT / "policies/requirements.txt").is_file()
    assert set(re.findall(r"policies/[a-z]+\.txt", text)) == {"policies/requirements.txt"}
