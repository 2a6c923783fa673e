"""`groundplane schema`: the JSON schema of the files that a user writes."""

import click

from groundplane.spec.schema import KINDS, text


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
def schema(kind: str) -> None:
    """Print the JSON schema of platform.yaml or of a stack's file."""
    click.echo(text(kind), nl=False)
