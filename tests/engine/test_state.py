"""What a whole cluster puts into the state, on the real engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine_harness import Stack, keygen

PROGRAM = """
from groundplane.clusters import shared
from groundplane.platform import Platform
from support.seen import {seen}
from support.specs import hosts, spec

shared.survey = {seen}
Platform("metal", spec(hosts(3, {workers}, key={key!r}), protect=False))
"""


def test_a_state_is_small(idle_stack: Stack, tmp_path: Path) -> None:
    """Inputs and outputs of a host's steps are 5 KB each on average, and half of its first update
    is no longer its scripts. What the engine writes beside them, and what a step said when it ran
    last, come on top."""
    keygen(tmp_path / "key")
    idle_stack.environment["PYTHONPATH"] = ":".join(sys.path)
    key = str(tmp_path / "key")
    idle_stack.up(PROGRAM.format(seen="blank", workers=1, key=key))
    before = len(idle_stack.state())
    idle_stack.up(PROGRAM.format(seen="blank", workers=2, key=key))
    size = {
        resource["urn"].rpartition("::")[2]: len(
            json.dumps([resource["inputs"], resource["outputs"]], separators=(",", ":"))
        )
        for resource in json.loads(idle_stack.cli("stack", "export"))["deployment"]["resources"]
        if resource.get("custom") and "inputs" in resource
    }
    worker = [value for name, value in size.items() if name.startswith("metal-w2-")]
    assert len(worker) == 5
    assert sum(worker) / len(worker) < 5 * 1024, size
    assert size["metal-w2-scripts"] + size["metal-w2-bundle"] < 8 * 1024, size
    # With all that the engine writes.
    assert len(idle_stack.state()) - before < 50 * 1024
    assert "put_file" not in idle_stack.state()
