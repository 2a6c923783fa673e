"""`groundplane graph`: the picture of a stack's steps, from what Pulumi says of them."""

from __future__ import annotations

import json
from typing import TextIO

import click

from groundplane import graph as drawing
from groundplane.errors import GroundplaneError

FORMATS = {"svg": drawing.svg, "mermaid": drawing.mermaid}


@click.command()
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@click.option(
    "-f", "--format", "form", type=click.Choice(list(FORMATS)), default="svg", show_default=True
)
def graph(file: TextIO, form: str) -> None:
    """Draw a stack's steps: a lane a host, from left to right what waits for what.

    FILE is what one of these printed; without it, stdin is read:

    \b
      pulumi stack export | groundplane graph > cluster.svg
      pulumi preview --json | groundplane graph > next.svg

    Of a preview, steps with nothing to do have a dashed border. The picture needs neither the hosts
    nor a network. No property of a step is in it but its name.
    """
    if file.isatty():
        raise GroundplaneError(
            "groundplane graph",
            "waits for a state or a preview of Pulumi, and gets a terminal",
            "It asks neither Pulumi nor hosts by itself",
            "Give it one: pulumi stack export | groundplane graph > cluster.svg",
        )
    try:
        document = json.load(file)
    except ValueError:
        document = None
    shown = drawing.graph(document)
    stacks = {step.urn.split("::")[0].rpartition(":")[2] for step in shown.steps.values()}
    click.echo(FORMATS[form](shown, f"Steps of {', '.join(sorted(stacks))}"), nl=False)
