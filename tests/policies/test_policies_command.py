"""`groundplane policies`: the list, the page, and a stack's levels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from policy_support import PACK

from groundplane.cli import cli
from groundplane.errors import GroundplaneError
from rules import all_rules

RULES = {rule.name: rule for rule in all_rules()}
CHECKOUT = PACK.parent


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["policies", "--pack", str(PACK), *words])


def test_the_list() -> None:
    done = run()
    assert done.exit_code == 0
    header, *lines = done.output.splitlines()
    assert header.split()[:4] == ["RULE", "AREA", "LEVEL", "SOURCE"]
    assert len(lines) == len(RULES)
    for line in lines:
        rule = RULES[line.split()[0]]
        assert all(part in line for part in (rule.area, rule.level, rule.source, rule.summary))


def test_the_list_for_programs() -> None:
    found = json.loads(run("--json").output)
    assert {each["name"]: each["level"] for each in found} == {
        name: rule.level for name, rule in RULES.items()
    }


def test_the_page_is_current() -> None:
    made = run("--markdown").output
    page = CHECKOUT / "docs/reference/policies.md"
    assert page.read_text() == made, "run: groundplane policies --markdown > " + str(page.name)


def test_the_nearest_pack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(CHECKOUT / "stacks")
    assert CliRunner().invoke(cli, ["policies"]).exit_code == 0
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(cli, ["policies"])
    assert isinstance(failed.exception, GroundplaneError)
    assert "no policy pack here or above" in str(failed.exception)
    failed = CliRunner().invoke(cli, ["policies", "--pack", str(tmp_path)])
    assert "holds no rules" in str(failed.exception)


@pytest.mark.parametrize("path", sorted((PACK / "levels").glob("*.json")), ids=lambda p: p.stem)
def test_levels_that_come_with_the_pack(path: Path) -> None:
    done = run("--levels", str(path), "--json")
    assert done.exit_code == 0, done.exception
    levels = {each["name"]: each["level"] for each in json.loads(done.output)}
    for name, given in json.loads(path.read_text()).items():
        given = {"enforcementLevel": given} if isinstance(given, str) else given
        assert levels[name] == given.get("enforcementLevel", RULES[name].level)


def test_levels_for_all_and_for_one(tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    given: dict[str, Any] = {
        "all": "advisory",
        "probes": {"enforcementLevel": "mandatory", "exempt": {"web": "it has none yet"}},
    }
    path.write_text(json.dumps(given))
    found = {each["name"]: each for each in json.loads(run("--levels", str(path), "--json").output)}
    assert found["no-latest-tag"]["level"] == "advisory"
    assert found["probes"]["level"] == "mandatory"
    assert found["probes"]["set"] == {"exempt": {"web": "it has none yet"}}
    assert "  exempt: web (it has none yet)" in run("--levels", str(path)).output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "levels.json: Expecting"),
        ("[]", "there is no such rule"),
        ('{"no-latest": "advisory"}', "Did you mean no-latest-tag?"),
        ('{"probes": "strict"}', "strict is no level"),
        ('{"probes": 7}', "neither a level nor an object"),
        ('{"probes": {"exmpt": {}}}', "probes.exmpt: there is no such setting"),
        ('{"probes": {"exempt": ["web"]}}', "not an object of resources and reasons"),
        ('{"probes": {"exempt": {"web": " "}}}', "Who reads it in a year must learn why"),
    ],
)
def test_levels_that_guard_nothing(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "levels.json"
    path.write_text(text)
    failed = run("--levels", str(path))
    assert isinstance(failed.exception, GroundplaneError)
    assert words in str(failed.exception)
