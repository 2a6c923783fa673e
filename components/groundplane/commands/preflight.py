"""`groundplane preflight`: look at all hosts and say what stands in the way; nothing is changed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from groundplane.preflight import Finding, Severity, check, summary, table
from groundplane.remote.connect import HostUnreachable
from groundplane.remote.observation import Observation
from groundplane.spec import load
from groundplane.survey import look_around, of_sources

COLOURS = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


@click.command()
@click.option("-s", "--stack", help="The stack; else the one that is selected.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def preflight(stack: str | None, as_json: bool) -> None:
    """Look at all hosts at once and list what stands in the way. Changes nothing.

    Exit status 1 when there are errors: `pulumi up` would stop before it changes anything.
    """
    spec = load(stack)
    seen = look_around(spec)
    findings = check(spec.cluster, spec.hosts, seen, of_sources(spec, seen))
    if as_json:
        click.echo(json.dumps(document(spec.stack, seen, findings), indent=2))
    elif findings and sys.stdout.isatty():
        Console().print(coloured(findings))
    elif findings:
        click.echo(table(findings))
    answered = sum(not isinstance(found, HostUnreachable) for found in seen.hosts.values())
    click.echo(f"{answered} of {len(seen.hosts)} hosts answer: {summary(findings)}", err=as_json)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise SystemExit(1)


def document(stack: str, seen: Observation, findings: Sequence[Finding]) -> dict[str, object]:
    """The findings for programs: each host "seen" or why not, and the table."""
    return {
        "stack": stack,
        "hosts": {
            name: found.kind if isinstance(found, HostUnreachable) else "seen"
            for name, found in seen.hosts.items()
        },
        "findings": [dataclasses.asdict(finding) for finding in findings],
    }


def coloured(findings: Sequence[Finding]) -> Table:
    columns = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "host", "check", "cause and remedy"):
        columns.add_column(name, overflow="fold")
    for found in findings:
        # As Text: brackets in an error message are no markup.
        columns.add_row(
            Text(found.severity, COLOURS[found.severity]),
            found.host or "-",
            found.check,
            Text(found.cause).append("\n" + found.remedy, "dim"),
        )
    return columns
