"""The picture of a program's steps: true to the graph, readable, and always the same."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.program import Resource, register
from support.seen import blank, standing
from support.specs import hosts, spec

from groundplane.cli import cli
from groundplane.clusters import shared
from groundplane.errors import GroundplaneError
from groundplane.graph import Graph, graph, mermaid, svg
from groundplane.platform import Platform
from groundplane.spec import Spec

SVG = "{http://www.w3.org/2000/svg}"
STACK = "urn:pulumi:metal::groundplane::pulumi:pulumi:Stack::groundplane-metal"
CLUSTER = "urn:pulumi:metal::groundplane::groundplane:index:KubeadmCluster::metal"


def urn(made: Resource) -> str:
    return f"{CLUSTER.rpartition('::')[0]}${made.type}::{made.name}"


def state(found: dict[str, Resource]) -> dict[str, Any]:
    """What was registered as `pulumi stack export` prints it."""
    components = [
        {"urn": STACK, "type": "pulumi:pulumi:Stack"},
        {"urn": CLUSTER, "type": "groundplane:index:KubeadmCluster", "parent": STACK},
    ]
    steps = [
        {
            "urn": urn(made),
            "type": made.type,
            "custom": True,
            "parent": CLUSTER,
            "inputs": made.inputs,
            "dependencies": [urn(found[name]) for name in made.after],
        }
        for made in found.values()
    ]
    return {"version": 3, "deployment": {"resources": [*components, *steps]}}


def registered(made: Spec, *, there: bool = False) -> dict[str, Resource]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "survey", standing if there else blank)
        return register(lambda: Platform("metal", made))


def drawn(control_planes: int, workers: int) -> tuple[Graph, ET.Element]:
    shown = graph(state(registered(spec(hosts(control_planes, workers)))))
    return shown, ET.fromstring(svg(shown, "Steps of metal"))


def test_three_and_two(snapshot: Any) -> None:
    shown, _ = drawn(3, 2)
    picture = Path(__file__).parents[2] / "docs" / "images" / "graph.svg"
    assert svg(shown, "Steps of metal") == picture.read_text(), "look at it, then replace the file"
    assert mermaid(shown, "Steps of metal") == snapshot


@pytest.mark.parametrize("size", [(1, 0), (3, 2), (5, 10)], ids=str)
def test_it_can_be_read(size: tuple[int, int]) -> None:
    """A box for each step; none over another or outside; no line through a box; lines go right."""
    shown, root = drawn(*size)
    width, height = int(root.get("width", 0)), int(root.get("height", 0))
    boxes = [
        tuple(float(box.get(key, 0)) for key in ("x", "y", "width", "height"))
        for box in root.iter(f"{SVG}rect")
        if box.find(f"{SVG}title") is not None
    ]
    assert len(boxes) == len(shown.steps)
    for x, y, w, h in boxes:
        assert x >= 0 and x + w <= width and y >= 0 and y + h <= height
    for one, other in combinations(boxes, 2):
        assert apart(one, other)
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert len(lines) == sum(map(len, shown.after.values()))
    for line in lines:
        assert all(x <= to for (x, _), (to, _) in pairwise(line))
        for (x, y), (to, down) in pairwise(line):
            stretch = (min(x, to), min(y, down), abs(to - x), abs(down - y))
            assert all(apart(stretch, box) for box in boxes), (line, stretch)
    assert {lane: shown.lanes.index(lane) for lane in shown.lanes} == {
        "metal": 0,
        **{f"cp{n}": n for n in range(1, size[0] + 1)},
        **{f"w{n}": size[0] + n for n in range(1, size[1] + 1)},
    }


def apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return (
        one[0] + one[2] <= other[0]
        or other[0] + other[2] <= one[0]
        or one[1] + one[3] <= other[1]
        or other[1] + other[3] <= one[1]
    )


def test_nothing_is_lost_by_leaving_out() -> None:
    """Who waited for whom before still does, if by another; and no line says what others say."""
    found = registered(spec())
    shown = graph(state(found))
    names = {u: step.name for u, step in shown.steps.items()}

    def before(name: str, after: dict[str, set[str]]) -> set[str]:
        return set().union(*({other} | before(other, after) for other in after[name]), set())

    drawn = {names[u]: {names[o] for o in others} for u, others in shown.after.items()}
    told = {name: set(made.after) for name, made in found.items()}
    for name in found:
        assert before(name, drawn) == before(name, told)
        for other in drawn[name]:
            assert other not in set().union(
                *(before(o, drawn) for o in drawn[name] - {other}), set()
            )


def test_a_teams_own_resources_are_in_it() -> None:
    """What depends on the component waits for all of it; an unchanged step is dashed."""
    document = state(registered(spec(), there=True))
    own = {
        "urn": "urn:pulumi:metal::groundplane::command:local:Command::addon",
        "type": "command:local:Command",
        "custom": True,
        "parent": STACK,
        "dependencies": [CLUSTER],
    }
    states = [*document["deployment"]["resources"], own]
    steps = [
        {"op": "create" if state is own else "same", "urn": state["urn"], "newState": state}
        for state in states
    ]
    shown = graph({"steps": steps})
    assert shown.lanes == ["metal", "cp1", "cp2", "cp3", "w1", "w2", "program"]
    assert [shown.steps[u].name for u in shown.after[own["urn"]]] == ["metal-nodes"]
    text = svg(shown, "Steps of metal")
    assert text.count("stroke-dasharray") == len(shown.steps) - 1


def test_no_property_is_in_it() -> None:
    found = registered(spec())
    assert "192.0.2." not in svg(graph(state(found)), "Steps of metal")


def test_the_command() -> None:
    text = json.dumps(state(registered(spec())))
    done = CliRunner().invoke(cli, ["graph"], input=text)
    assert done.exit_code == 0
    assert done.output.startswith("<svg ")
    assert "<title>Steps of metal</title>" in done.output
    again = CliRunner().invoke(cli, ["graph", "--format", "mermaid", "-"], input=text)
    assert re.search(r'subgraph l0\["metal"\]', again.output)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "neither a state nor a preview"),
        ("[]", "neither a state nor a preview"),
        ('{"hosts": 1}', "neither a state nor a preview"),
        ('{"deployment": {}}', "holds no step"),
    ],
)
def test_what_is_refused(given: str, words: str) -> None:
    done = CliRunner().invoke(cli, ["graph"], input=given)
    assert isinstance(done.exception, GroundplaneError)
    assert words in str(done.exception)
