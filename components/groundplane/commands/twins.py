"""`groundplane twins A B`: whether two clusters may be compared; nothing is changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from groundplane.errors import GroundplaneError
from groundplane.remote.portrait import Portrait, portraits
from groundplane.spec import Spec, load
from groundplane.survey import reachable
from groundplane.twins import Arm, Class, Comparison, Difference, Own, compare

COLOURS = {Class.BREAKING: "bold red", Class.TOLERABLE: "yellow", Class.INTENDED: "dim"}
WIDTH = 120  # where no terminal says it
LONGEST = 60  # characters of a value; JSON has all of it
NOT_COMPARABLE, NOT_SEEN = 1, 2


@click.command()
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--all", "everything", is_flag=True, help="List intended differences too.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def twins(one: str, other: str, everything: bool, as_json: bool) -> None:
    """Look at the nodes of the stacks A and B and say whether they are twins. Changes nothing.

    Exit status 0: nothing differs that would spoil a comparison. 1: something does. 2: they could
    not be looked at.
    """
    if one == other:
        raise click.UsageError("name two stacks")
    try:
        specs = [load(one), load(other)]
    except GroundplaneError as error:
        click.echo(f"{error}", err=True)
        raise SystemExit(NOT_SEEN) from None
    seen = portraits([reachable(spec).hosts for spec in specs])
    if any(portrait.silent for portrait in seen):
        not_seen(specs, seen, as_json)
        raise SystemExit(NOT_SEEN)
    arms = [Arm(spec.stack, p, Own.of(spec)) for spec, p in zip(specs, seen, strict=True)]
    found = compare(arms[0], arms[1])
    if as_json:
        click.echo(json.dumps(found.document(), indent=2))
    else:
        show(found, everything, Console(width=None if sys.stdout.isatty() else WIDTH))
    raise SystemExit(0 if found.twins else NOT_COMPARABLE)


def not_seen(specs: Sequence[Spec], seen: Sequence[Portrait], as_json: bool) -> None:
    """Which hosts could not be looked at, and why: half a look would call unlike clusters alike."""
    silent = [(s.stack, h) for s, p in zip(specs, seen, strict=True) for h in p.silent]
    if as_json:
        document = {
            "stacks": [spec.stack for spec in specs],
            "verdict": "not seen",
            "silent": [
                {"stack": stack, "host": h.name, "kind": h.kind, "cause": h.cause}
                for stack, h in silent
            ],
        }
        click.echo(json.dumps(document, indent=2))
    for stack, host in silent:
        click.echo(f"{stack} {host.name}: {host.cause}\n{host.remedy}", err=True)
    click.echo(
        f"not seen: {len(silent)} host{'s' * (len(silent) > 1)} could not be looked at", err=True
    )


def show(found: Comparison, everything: bool, console: Console) -> None:
    """The table for people: what breaks a comparison first, then counts and the verdict."""
    classes = [Class.BREAKING, Class.TOLERABLE, *([Class.INTENDED] if everything else [])]
    if any(found.of(cls) for cls in classes):
        console.print(table([[Text(w, "dim") for w in ("what differs", *found.stacks, "where")]]))
        for cls in classes:
            for why, rows in groups(found.of(cls)).items():
                console.print(Text(cls, COLOURS[cls]).append(f": {why}", "dim"))
                console.print(table([row(path, first) for path, first in rows]))
        console.print()
    for stack, kinds, nodes in zip(found.stacks, found.substrates, found.nodes, strict=True):
        count = ", ".join(f"{number} {role}" for role, number in nodes.items())
        console.print(Text(f"{stack}: {count}; {', '.join(kinds)}"))
    counts = ", ".join(
        [
            f"{found.equal} facts equal",
            *(f"{len(found.of(c))} {c}" for c in COLOURS),
        ]
    )
    hidden = "" if everything or not found.of(Class.INTENDED) else " (--all lists them)"
    for doubt in found.doubts:
        console.print(Text(f"simulation, not evidence: {doubt}", "yellow"))
    verdict = Text("twins" if found.twins else "not comparable", "bold")
    console.print(verdict.append(f": {counts}{hidden}", "not bold"))


def table(rows: Sequence[Sequence[Text]]) -> Table:
    """Rows in columns that are as wide in every such table."""
    columns = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for ratio in (5, 3, 3, 2):
        columns.add_column(overflow="fold", ratio=ratio)
    for cells in rows:
        columns.add_row(*cells)
    return columns


def row(path: str, difference: Difference) -> list[Text]:
    # As Text: brackets in what hosts say are no markup.
    values = [Text(told(side)) for side in difference.values]
    return [Text(f"  {path}"), *values, Text(difference.scope, "dim")]


def groups(differences: Sequence[Difference]) -> dict[str, list[tuple[str, Difference]]]:
    """Why -> a path and a difference for each row. Neighbours of the same values share a row."""
    rows: dict[tuple[str, ...], list[Difference]] = {}
    for each in differences:
        folder = each.path.rpartition("/")[0]
        key = (each.why, folder, each.scope, *(told(values) for values in each.values))
        rows.setdefault(key, []).append(each)
    found: dict[str, list[tuple[str, Difference]]] = {}
    for (why, folder, *_), alike in rows.items():
        names = [each.path.rpartition("/")[2] for each in alike]
        path = alike[0].path if len(names) == 1 else f"{folder}/: {', '.join(names)}"
        found.setdefault(why, []).append((path, alike[0]))
    return found


def told(values: Mapping[str, Sequence[str]]) -> str:
    """The values of one side; where its own nodes differ, each with the nodes that have it."""
    if len(values) == 1:
        return cut(next(iter(values)))
    return "\n".join(f"{cut(value)} ({', '.join(nodes)})" for value, nodes in values.items())


def cut(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"
