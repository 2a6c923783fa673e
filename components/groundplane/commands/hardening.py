"""`groundplane hardening`: whether hosts are as hard to break into as their level says."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from groundplane.hardening import Evidence, Result, Status, document, judge, look
from groundplane.remote.connect import HostUnreachable
from groundplane.spec import load
from groundplane.spec.hardening import LEVELS, Check
from groundplane.survey import reachable

COLOURS = {
    Status.FAILED: "bold red",
    Status.EXEMPT: "yellow",
    Status.CANNOT: "dim",
    Status.PASSED: "green",
}
WIDTH = 120  # where no terminal says it
FAILED, NOT_SEEN = 1, 2


@click.command()
@click.option("-s", "--stack", help="The stack; else the one that is selected.")
@click.option(
    "--level",
    type=click.Choice(LEVELS[1:]),
    help="Another level than the stack's own, such as one that it may have next.",
)
@click.option("--all", "everything", is_flag=True, help="List the checks that passed, too.")
@click.option("--json", "as_json", is_flag=True, help="Print all results as JSON.")
def hardening(stack: str | None, level: str | None, everything: bool, as_json: bool) -> None:
    """Look at all hosts at once and check them against the stack's level. Changes nothing.

    Exit status 0: no check failed. 1: one did. 2: a host could not be looked at.
    """
    spec = load(stack)
    asked = spec.cluster.hardening
    asked = asked.model_copy(update={"level": level or asked.level})
    seen = look(reachable(spec).hosts)
    results = [
        result
        for name, evidence in seen.items()
        if isinstance(evidence, Evidence)
        for result in judge(name, evidence, asked)
    ]
    silent = [found for found in seen.values() if isinstance(found, HostUnreachable)]
    if as_json:
        found = {
            "stack": spec.stack,
            "level": asked.level,
            "counts": counts(results),
            "silent": [{"host": h.name, "kind": h.kind, "cause": h.cause} for h in silent],
            "results": document(results),
        }
        click.echo(json.dumps(found, indent=2))
    else:
        show(results, everything, Console(width=None if sys.stdout.isatty() else WIDTH))
        click.echo(f"{spec.stack}, level {asked.level}: {summary(results)}")
    for host in silent:
        click.echo(f"{host.name}: {host.cause}\n{host.remedy}", err=True)
    failed = any(result.status is Status.FAILED for result in results)
    raise SystemExit(NOT_SEEN if silent else FAILED if failed else 0)


def counts(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """Of each host: how many checks came to what."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        found.setdefault(result.host, Counter())[str(result.status)] += 1
    return {host: {str(s): number[str(s)] for s in Status} for host, number in found.items()}


def summary(results: Sequence[Result]) -> str:
    number = Counter(result.status for result in results)
    told = ", ".join(f"{number[status]} {status}" for status in Status)
    hosts = len({result.host for result in results})
    return f"{told}, on {hosts} host{'s' * (hosts != 1)}"


def show(results: Sequence[Result], everything: bool, console: Console) -> None:
    """The table: what failed first; a check that came to the same on several hosts is one row."""
    for status in Status:
        if status is Status.PASSED and not everything:
            continue
        rows = list(grouped(result for result in results if result.status is status))
        if not rows:
            continue
        console.print(Text(str(status), COLOURS[status]))
        table = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for ratio in (4, 2, 6):
            table.add_column(overflow="fold", ratio=ratio)
        for check, hosts, said in rows:
            # As Text: brackets in what hosts say are no markup.
            why = Text(check.what)
            if said:
                why.append(f"\n{said}", "dim")
            if status is Status.FAILED:
                why.append(f"\n{check.cure}", "dim")
            table.add_row(Text(f"  {check.id}"), Text(", ".join(hosts)), why)
        console.print(table)
        console.print()


def grouped(results: Iterable[Result]) -> Iterator[tuple[Check, list[str], str]]:
    """Check, hosts and what was said, in the order in which they come first."""
    rows: dict[tuple[str, str], tuple[Check, list[str], str]] = {}
    for each in results:
        row = rows.setdefault((each.check.id, each.said), (each.check, [], each.said))
        row[1].append(each.host)
    yield from rows.values()
