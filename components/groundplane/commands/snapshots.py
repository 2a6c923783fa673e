"""`groundplane snapshots`: what there is to restore from, at the target and on the hosts."""

from __future__ import annotations

import json

import click

from groundplane import snapshots as places
from groundplane.spec import load


@click.command()
@click.option("--stack", help="The stack; the selected one unless given.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one list.")
def snapshots(stack: str | None, as_json: bool) -> None:
    """List the snapshots of a stack's cluster, newest first."""
    spec = load(stack)
    found = places.found(spec, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps([{**vars(s), "at": s.at.isoformat()} for s in found], indent=2))
        return
    if not found:
        click.echo(f"no snapshot of {spec.cluster.name} anywhere")
        return
    rows = [("TAKEN (UTC)", "ON", "WHY", "SIZE", "", "WHERE", "NAME")]
    rows += [
        (
            f"{s.at:%F %T}",
            s.host,
            s.reason,
            f"{s.bytes / (1 << 20):.1f} MiB",
            "" if s.encrypted else "not encrypted",
            s.place,
            s.name,
        )
        for s in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[6]]))
