"""`groundplane snapshots`: what there is to restore from, at the target and on the hosts."""

from __future__ import annotations

import json

import click

from groundplane import snapshots as places
from groundplane.spec import load
from groundplane.survey import reachable


@click.command()
@click.option("--stack", help="The stack; the selected one unless given.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one list.")
def snapshots(stack: str | None, as_json: bool) -> None:
    """List the snapshots of a stack's cluster, newest first."""
    spec = reachable(load(stack))
    found = places.found(spec, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps([{**vars(s), "at": s.at.isoformat()} for s in found], indent=2))
        return
    if not found:
        click.echo(f"no snapshot of {spec.cluster.name} anywhere")
        return
    where: dict[str, list[str]] = {}
    for s in found:
        where.setdefault(s.name, []).append(s.place)
    once = {s.name: s for s in found}
    rows = [("TAKEN (UTC)", "ON", "WHY", "SIZE", "NAME", "WHERE")]
    rows += [
        (
            f"{s.at:%F %T}",
            s.host,
            s.reason,
            f"{s.bytes / (1 << 20):.1f} MiB",
            s.name,
            ", ".join(where[s.name]) + ("" if s.encrypted else " (not encrypted)"),
        )
        for s in once.values()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[5]]))
