"""Reviews of previews/NAME.json, which the real engine made (tests/engine/test_review_engine.py),
and of what such a preview might say, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from groundplane.cli import cli
from groundplane.errors import GroundplaneError
from groundplane.review import Host, review, table

PREVIEWS = {path.stem: path for path in sorted(Path(__file__).parent.glob("previews/*.json"))}


@pytest.mark.parametrize("name", PREVIEWS)
def test_tables(name: str, snapshot: Any) -> None:
    assert table(review(PREVIEWS[name].read_text())) == snapshot


@pytest.mark.parametrize("name", PREVIEWS)
def test_the_command(name: str, tmp_path: Path) -> None:
    """By file and by stdin, for people and for programs; its status tells."""
    text = PREVIEWS[name].read_text()
    status = 0 if name == "unchanged" else 2
    by_file = CliRunner().invoke(cli, ["review", str(PREVIEWS[name])])
    by_stdin = CliRunner().invoke(cli, ["review"], input=text)
    assert (by_file.exit_code, by_stdin.exit_code) == (status, status)
    assert by_file.output == by_stdin.output == table(review(text)) + "\n"
    as_json = CliRunner().invoke(cli, ["review", "--json", "-"], input=text)
    assert as_json.exit_code == status
    found = json.loads(as_json.output)
    assert found["disturbs"] is (status == 2)
    assert [host["name"] for host in found["hosts"]] == [h.name for h in review(text).hosts]


def changed(name: str, **changes: Any) -> str:
    """A recorded preview with other values at the keys of the steps of these resources."""
    preview = json.loads(PREVIEWS[name].read_text())
    for step in preview["steps"]:
        step.update(changes.get(step["urn"].rpartition("::")[2].replace("-", "_"), {}))
    return json.dumps(preview)


def node(old: str, new: str) -> dict[str, Any]:
    """The two states of a host's step, with what they are given."""
    parent = "urn:pulumi:metal::p::groundplane:index:KubeadmCluster::metal"
    create = "sudo -n /usr/local/lib/groundplane/current/run node apply"
    states = [
        {
            "type": "command:remote:Command",
            "parent": parent,
            "inputs": {"create": create, "stdin": s},
        }
        for s in (old, new)
    ]
    return {"oldState": states[0], "newState": states[1]}


def test_a_step_of_which_the_data_are_not_known() -> None:
    text = changed(
        "settings", metal_cp1_node=node("[secret]", "04da6b54-80e4-46f7-96ec-b56ff0331ba9")
    )
    assert Host("metal", "cp1", "", "changes") in review(text).hosts


def test_hosts_that_go_through_sudo() -> None:
    """Their step is called otherwise."""
    given = node('{"role": "worker", "token": "a"}', '{"role": "worker", "token": "b"}')
    text = changed("settings", metal_cp1_node=given)
    assert Host("metal", "cp1", "worker", "is repaired") in review(text).hosts


def test_a_host_that_is_gone_for_good_is_forgotten() -> None:
    preview = json.loads(PREVIEWS["members"].read_text())
    for step in preview["steps"]:
        if step["op"] == "delete":
            step["oldState"]["retainOnDelete"] = True
    found = review(json.dumps(preview))
    assert [h.name for h in found.hosts if h.what == "is forgotten"] == ["cp3", "w3"]
    assert "cp3  control-plane  is forgotten, and not reset" in table(found)


def test_what_does_not_change_is_left_out() -> None:
    """A preview may be told to show that, too."""
    preview = json.loads(PREVIEWS["settings"].read_text())
    for step in preview["steps"]:
        step["op"] = "same"
    assert not review(json.dumps(preview)).disturbs


def test_steps_of_a_replacement_are_one() -> None:
    preview = json.loads(PREVIEWS["workloads"].read_text())
    (replaced,) = [step for step in preview["steps"] if step["op"] == "replace"]
    preview["steps"].append({**replaced, "op": "delete-replaced"})
    preview["steps"].append({**replaced, "op": "create-replacement"})
    assert [change.name for change in review(json.dumps(preview)).replaced] == ["orders"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not what pulumi prints"),
        ("[]", "is not what pulumi prints"),
        ('{"changeSummary": {}}', "is not what pulumi prints"),
        (
            '{"steps": [], "diagnostics": [{"severity": "error", "message": "error: no host"}]}',
            "failed: no host",
        ),
    ],
)
def test_what_is_no_preview(text: str, words: str) -> None:
    """One that failed says only a part: nothing may be concluded from it."""
    with pytest.raises(GroundplaneError, match=words):
        review(text)
