"""The rules as policies of Pulumi's SDK, in the pack's own virtual environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from policy_support import PACK, examples, settings

from rules import all_rules
from rules.rule import Secret, Unknown

EXAMPLES = examples()
# As the engine sends them.
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
REDACTED = "[secret]"


def wire(value: Any) -> Any:
    if isinstance(value, Unknown):
        return UNKNOWN
    if isinstance(value, Secret):
        return {SIGNATURE: SECRET, "value": wire(value.value)}
    if isinstance(value, dict):
        return {key: wire(inner) for key, inner in value.items()}
    return [wire(inner) for inner in value] if isinstance(value, list) else value


def run(cases: list[dict[str, Any]]) -> Any:
    python = PACK / ".venv" / "bin" / "python"
    if not python.exists():
        pytest.fail("no policies/.venv: make it by `make policies/.venv`")
    script = Path(__file__).with_name("validate.py")
    done = subprocess.run(
        [python, script], input=json.dumps(cases), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def case(rule: str, side: str) -> dict[str, Any]:
    example = EXAMPLES[rule]
    given = [{**each, "props": wire(each["props"])} for each in example[side]]
    return {"rule": rule, "resources": given, "settings": settings(example, side)}


# (rule, properties of a command, what is found): "" where it could not be checked.
OTHERS = [
    ("no-secrets-in-commands", {"create": Secret(Unknown())}, "create is, or holds"),
    ("no-secrets-in-commands", {"create": Unknown()}, ""),
    ("no-secrets-in-commands", {"create": REDACTED}, "create is, or holds"),
    ("host-keys-checked", {"connection": Secret(Unknown())}, ""),
    ("host-keys-checked", {"connection": REDACTED}, ""),
    ("host-keys-checked", {"connection": Secret(REDACTED)}, ""),
    ("host-keys-checked", {"connection": Secret({"hostKey": ""})}, "connection.hostKey is missing"),
]


def test_examples_and_marks() -> None:
    """One run for all, since it starts an interpreter."""
    sides = [(rule, side) for rule in EXAMPLES for side in ("passes", "fails")]
    cases = [case(rule, side) for rule, side in sides]
    cases += [
        {
            "rule": rule,
            "resources": [{"type": "command:remote:Command", "props": wire(props)}],
            "settings": {},
        }
        for rule, props, _ in OTHERS
    ]
    answer = run(cases)
    assert answer["policies"] == {r.name: [r.summary, r.level] for r in all_rules()}
    verdicts = answer["verdicts"]
    for (rule, side), verdict in zip(sides, verdicts, strict=False):
        assert verdict["unknown"] == "", rule
        if side == "passes":
            assert verdict["said"] == [], rule
        else:
            (message,) = verdict["said"]
            assert EXAMPLES[rule]["finds"] in message
    for (rule, props, words), verdict in zip(OTHERS, verdicts[len(sides) :], strict=True):
        if words:
            assert words in verdict["said"][0], (rule, props)
        else:
            assert verdict["said"] == [], (rule, props)
            assert "could not be checked in this preview" in verdict["unknown"]


def test_the_pack_can_be_imported() -> None:
    """Without serving the engine, which never ends."""
    done = subprocess.run(
        [PACK / ".venv/bin/python", "-c", "import runpy; runpy.run_path('__main__.py')"],
        cwd=PACK,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


def test_the_environment_is_as_pinned() -> None:
    """What is installed is what requirements.txt names, hash by hash."""
    pinned = (PACK / "requirements.txt").read_text()
    assert "pulumi-policy==" in pinned
    names = [line for line in pinned.splitlines() if "==" in line]
    assert all(line.endswith("\\") for line in names)
