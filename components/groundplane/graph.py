"""The picture of a program's steps: a lane a host, from left to right what waits for what.

It is drawn from what Pulumi says of itself, a state or a preview, so it shows what is and not what
somebody once drew; a team's own resources on a cluster are in it too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from groundplane.errors import GroundplaneError
from groundplane.picture import BLUE, GREEN, GREY, SAND, WHITE, Picture

__all__ = ["Graph", "Step", "graph", "mermaid", "svg"]

CLUSTER = re.compile(r"groundplane:index:\w+Cluster")
OF_A_HOST = re.compile(
    r"(?P<host>.+)-(?P<step>scripts|bundle|prepare|firewall|confirm|secrets|patch|node)"
)
PROGRAM = "program"


@dataclass(frozen=True)
class Step:
    """One resource that is more than a folder of others."""

    urn: str
    lane: str
    """The host that it runs on; else the cluster's name, or the component that it is part of."""
    label: str
    colour: str
    changes: bool
    """False where a preview found nothing to do."""
    control_plane: bool

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.rpartition("::")[2]


@dataclass(frozen=True)
class Graph:
    """Steps and what each waits for, both by URN; of two ways to the same the longer one only."""

    steps: dict[str, Step]
    after: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def depth(self) -> dict[str, int]:
        """How many steps come before each, on the longest way."""
        found: dict[str, int] = {}
        for urn in _in_order(self.after):
            found[urn] = 1 + max((found[other] for other in self.after[urn]), default=-1)
        return found

    @cached_property
    def lanes(self) -> list[str]:
        """Clusters, their control planes and their workers, then what stands on them."""
        rank: dict[str, tuple[int, int, list[Any]]] = {}
        for step in self.steps.values():
            kind = {SAND: 0, GREEN: 2}.get(step.colour, 1)
            own = (kind, 0 if step.control_plane else 1, _natural(step.lane))
            rank[step.lane] = min(own, rank.get(step.lane, own))
        return sorted(rank, key=lambda lane: rank[lane])


def graph(document: Any) -> Graph:
    """What `pulumi stack export` or `pulumi preview --json` printed, as steps.

    Raises GroundplaneError where it is neither, or holds no step.
    """
    states = dict(_states(document))
    clusters = {
        urn: _name(urn) for urn, (state, _) in states.items() if CLUSTER.fullmatch(state["type"])
    }
    steps = {
        urn: _step(state, changes, clusters, states)
        for urn, (state, changes) in sorted(states.items())
        if state.get("custom") and not state["type"].startswith("pulumi:providers:")
    }
    if not steps:
        raise GroundplaneError(
            "the state or preview",
            "holds no step",
            "There is nothing to draw before a stack's first update",
            "Take a preview: pulumi preview --json",
        )
    inside: dict[str, list[str]] = defaultdict(list)
    for urn, (state, _) in states.items():
        parent = state.get("parent")
        while parent in states:  # who waits for a component waits for all in it
            inside[parent].append(urn)
            parent = states[parent][0].get("parent")
    direct = {
        urn: {
            one
            for other in states[urn][0].get("dependencies") or ()
            for one in [other, *inside[other]]
            if one in steps and one != urn
        }
        for urn in steps
    }
    return Graph(steps, _reduced(direct))


def _states(document: Any) -> Iterable[tuple[str, tuple[dict[str, Any], bool]]]:
    """URN -> (the resource as it is or is to be, whether a preview would touch it)."""
    try:
        if "deployment" in document:
            for state in document["deployment"].get("resources") or ():
                if not state.get("delete"):  # what a replacement left behind
                    yield state["urn"], (state, True)
        else:
            for step in document["steps"]:
                if "newState" in step:
                    yield step["urn"], (step["newState"], step["op"] != "same")
    except (KeyError, TypeError, AttributeError):
        raise GroundplaneError(
            "the input",
            "neither a state nor a preview of Pulumi",
            "The picture is drawn from what Pulumi says",
            "Give it one: pulumi stack export | groundplane graph > cluster.svg",
        ) from None


def _step(
    state: Mapping[str, Any],
    changes: bool,
    clusters: Mapping[str, str],
    states: Mapping[str, Any],
) -> Step:
    urn, parent = state["urn"], state.get("parent", "")
    stdin = str((state.get("inputs") or {}).get("stdin", ""))
    control_plane = '"role":"control-plane"' in stdin.replace(": ", ":")
    if parent not in clusters:
        folder = states[parent][0] if parent in states else {"type": "pulumi:pulumi:Stack"}
        lane = PROGRAM if folder["type"] == "pulumi:pulumi:Stack" else _name(parent)
        return Step(urn, lane, _name(urn), GREEN, changes, False)
    cluster, own = clusters[parent], _name(urn).removeprefix(f"{clusters[parent]}-")
    found = OF_A_HOST.fullmatch(own)
    if found is None:
        return Step(urn, cluster, own, SAND, changes, True)
    lane = found["host"] if len(clusters) == 1 else f"{cluster} {found['host']}"
    colour = BLUE if found["step"] == "node" else WHITE
    return Step(urn, lane, found["step"], colour, changes, control_plane)


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _natural(text: str) -> list[Any]:
    """To sort w10 behind w9."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text)
    ]


def _in_order(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Each behind all that it waits for."""
    done: dict[str, None] = {}
    for urn in after:
        waiting = [urn]
        while waiting:
            missing = [other for other in after[waiting[-1]] if other not in done]
            if missing:
                waiting += missing
            else:
                done[waiting.pop()] = None
    return list(done)


def _reduced(direct: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Without those that another one waits for already."""
    before: dict[str, set[str]] = {}
    for urn in _in_order(direct):
        before[urn] = set(direct[urn]).union(*(before[other] for other in direct[urn]))
    return {
        urn: sorted(others - set().union(*(before[other] for other in others)))
        for urn, others in direct.items()
    }


# ---- as a picture ----------------------------------------------------------------------------

LETTER, PAD = 7.2, 11  # pixels: a letter of the picture's font, and beside a text
BOX, ROW, TOP = 30, 44, 76  # height of a box, of a lane, and of what stands above the lanes
GAP, TRACK = 26, 7  # between two columns, and for each bundle of lines that turns there


def svg(shown: Graph, title: str) -> str:
    """The picture, the same for the same graph."""
    lanes, cells = shown.lanes, _cells(shown)
    height = {lane: max(row for _, row in cells[lane].values()) + 1 for lane in lanes}
    top, y = {}, TOP
    for lane in lanes:
        top[lane] = y
        y += height[lane] * ROW
    tracks = _tracks(shown, cells)
    left, wide = _columns(shown, max(_width(lane) for lane in lanes), tracks)
    legend = _legend(shown)
    width = max(left[-1] + wide[-1] + GAP, 40 + sum(30 + _width(word) for _, word in legend))
    picture = Picture(width, y + 16, title)
    picture.text(20, 28, title, bold=True)
    x = 20
    for colour, words in legend:
        picture.box(x, 42, 18, 18, fill=colour)
        picture.text(x + 24, 56, words, soft=True)
        x += 30 + _width(words)
    for number, lane in enumerate(lanes):
        if number % 2 == 0:
            picture.band(10, top[lane], width - 20, height[lane] * ROW, GREY)
        picture.text(20, top[lane] + ROW // 2 + 5, lane, bold=True)

    def spot(urn: str) -> tuple[int, int]:
        """Column, and the height at which lines come and go."""
        lane = shown.steps[urn].lane
        column, row = cells[lane][urn]
        return column, top[lane] + row * ROW + ROW // 2

    for urn in shown.steps:
        column, end = spot(urn)
        for other in shown.after[urn]:
            source, start = spot(other)
            out, into = left[source] + wide[source], left[column] - 1
            if start == end:
                picture.arrow((out, start), (into, end))
                continue
            track = tracks[column].index(_bundle(shown, other, urn))
            turn = left[column] - GAP // 2 - TRACK * track
            picture.arrow((out, start), (turn, start), (turn, end), (into, end))
    for urn, step in shown.steps.items():
        column, middle = spot(urn)
        waits = ", ".join(shown.steps[other].name for other in shown.after[urn])
        picture.box(
            left[column],
            middle - BOX // 2,
            wide[column],
            BOX,
            fill=step.colour,
            dashed=not step.changes,
            hint=f"{step.name} waits for {waits}" if waits else step.name,
        )
        picture.text(left[column] + PAD, middle + 5, step.label, soft=not step.changes)
    return str(picture)


def _width(text: str) -> int:
    return round(len(text) * LETTER) + 2 * PAD


def _cells(shown: Graph) -> dict[str, dict[str, tuple[int, int]]]:
    """Lane -> URN -> (column, row in the lane): steps of one lane and column stand below each
    other."""
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    taken: dict[tuple[str, int], int] = defaultdict(int)
    for urn, step in shown.steps.items():
        column = shown.depth[urn]
        found[step.lane][urn] = (column, taken[step.lane, column])
        taken[step.lane, column] += 1
    return found


def _bundle(shown: Graph, source: str, target: str) -> tuple[str, str]:
    """Lines that turn together: those from one step to a column, or those to one step; the more."""
    column = shown.depth[target]
    going = sum(source in shown.after[u] for u in shown.steps if shown.depth[u] == column)
    coming = len(shown.after[target])
    return ("from", source) if going >= coming else ("to", target)


def _tracks(
    shown: Graph, cells: Mapping[str, Mapping[str, tuple[int, int]]]
) -> dict[int, list[tuple[str, str]]]:
    """Column -> the bundles of lines that turn before it."""
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)

    def spot(urn: str) -> tuple[str, int]:
        lane = shown.steps[urn].lane
        return lane, cells[lane][urn][1]

    for urn in shown.steps:
        for other in shown.after[urn]:
            bundle = _bundle(shown, other, urn)
            if spot(other) != spot(urn) and bundle not in found[shown.depth[urn]]:
                found[shown.depth[urn]].append(bundle)
    return found


def _columns(
    shown: Graph, first: int, tracks: Mapping[int, list[tuple[str, str]]]
) -> tuple[list[int], list[int]]:
    """Where each column begins, and how wide its boxes are."""
    widths: dict[int, int] = defaultdict(int)
    for urn, step in shown.steps.items():
        column = shown.depth[urn]
        widths[column] = max(widths[column], _width(step.label))
    left, x = [], first + 10
    for column in range(len(widths)):
        x += GAP + TRACK * max(len(tracks.get(column, ())) - 1, 0)
        left.append(x)
        x += widths[column]
    return left, [widths[column] for column in range(len(widths))]


def _legend(shown: Graph) -> list[tuple[str, str]]:
    """The colours that there are."""
    words = {
        SAND: "of the whole cluster",
        WHITE: "on a host, disturbs nobody",
        BLUE: "disturbs its node",
        GREEN: "of your program",
    }
    there = {step.colour for step in shown.steps.values()}
    return [(colour, text) for colour, text in words.items() if colour in there]


# ---- as text ---------------------------------------------------------------------------------


def mermaid(shown: Graph, title: str) -> str:
    """The same as a Mermaid flowchart, for pages that draw it themselves."""
    number = {urn: f"s{n}" for n, urn in enumerate(shown.steps)}
    lines = ["---", f"title: {title}", "---", "flowchart LR"]
    for n, lane in enumerate(shown.lanes):
        lines.append(f'  subgraph l{n}["{lane}"]')
        inside = [step for step in shown.steps.values() if step.lane == lane]
        lines += [f'    {number[step.urn]}["{step.label}"]' for step in inside]
        lines.append("  end")
    for urn, others in shown.after.items():
        lines += [f"  {number[other]} --> {number[urn]}" for other in others]
    return "\n".join(lines) + "\n"
