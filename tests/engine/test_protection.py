"""The product's own resources on the real engine: what a protected cluster keeps when it is told to
go. Its steps are done here and not on hosts, and say that they were."""

from __future__ import annotations

import json
from pathlib import Path

from engine_harness import Stack

PROGRAM = """
import sys
from types import SimpleNamespace

sys.path.insert(0, {tests!r})
from support.program import BOOTSTRAP
from support.seen import blank
from support.specs import hosts, spec

from groundplane import Platform
from groundplane.clusters import shared
from groundplane.remote import step

def command(name, connection, create, delete=None, **given):
    def say(verb):
        return f"cat >/dev/null; echo {{verb}} {{name}} >>{{here}}/trace"
    answer = f"; printf %s '{{BOOTSTRAP}}'" if name.endswith("bootstrap") else ""
    delete = say("delete") if delete else None
    return local.Command(name, create=say("create") + answer, delete=delete, **given)

def upload(name, connection, source, remote_path, opts):
    return local.Command(name, create=f"echo create {{name}} >>{{here}}/trace", opts=opts)

step.remote = SimpleNamespace(
    Command=command,
    CopyToRemote=upload,
    ConnectionArgs=remote.ConnectionArgs,
    Logging=local.Logging,
)
shared.survey = blank
Platform("metal", spec(hosts(3, 1), protect={protect}))
"""


def program(protect: bool) -> str:
    return PROGRAM.format(tests=str(Path(__file__).parents[1]), protect=protect)


def resources(stack: Stack) -> set[str]:
    state = json.loads(stack.cli("stack", "export"))
    return {found["urn"].rpartition("::")[2] for found in state["deployment"].get("resources", [])}


def test_a_protected_cluster_loses_nothing(plain_stack: Stack, tmp_path: Path) -> None:
    """Even without a preview, which would have said so before."""
    stack = plain_stack
    calls = tmp_path / "bin" / "groundplane"
    calls.parent.mkdir()
    calls.write_text('#!/bin/sh\ncat >/dev/null\necho "$@" >>"$HERE/trace"\n')
    calls.chmod(0o755)
    stack.environment["PATH"] = f"{calls.parent}:{stack.environment['PATH']}"

    stack.up(program(protect=True))
    there = resources(stack)
    assert {"metal-teardown", "metal-nodes", "metal-kubeconfig"} <= there
    stack.trace()
    assert "protected" in stack.fail(verb="destroy")
    assert (resources(stack), stack.trace()) == (there, [])

    # As docs/operations/destroy.md has it.
    stack.up(program(protect=False))
    assert resources(stack) == there
    stack.trace()
    stack.destroy()
    assert resources(stack) == set()
    assert stack.trace() == ["reset --all --from-stdin"]
