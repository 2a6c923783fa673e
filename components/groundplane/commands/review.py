"""`groundplane review`: what an update would disturb, from a preview."""

from __future__ import annotations

import json
from typing import TextIO

import click

from groundplane.review import document, table
from groundplane.review import review as reviewed

DISTURBS = 2


@click.command()
@click.argument("preview", type=click.File(), default="-")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def review(preview: TextIO, as_json: bool) -> None:
    """Say what a preview would disturb, in which order and on which hosts; what it would remove
    and replace.

    PREVIEW is what `pulumi preview --json` printed, a file or stdin. Exit status 0: nothing is
    disturbed, removed or replaced; 2: something is; 1: it is no preview, or one that failed.
    """
    found = reviewed(preview.read())
    click.echo(json.dumps(document(found), indent=2) if as_json else table(found))
    if found.disturbs:
        raise SystemExit(DISTURBS)
