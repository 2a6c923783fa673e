"""`groundplane restore`: a cluster from a snapshot, or from the one control plane that is left."""

from __future__ import annotations

from pathlib import Path

import click

from groundplane import restore as ways
from groundplane.commands.reset import reset_hosts
from groundplane.errors import GroundplaneError
from groundplane.spec import load
from groundplane.survey import reachable

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--stack", help="The stack; the selected one unless given.")
@click.option(
    "--snapshot",
    metavar="FILE|NAME|latest",
    help="A file, a name that `groundplane snapshots` lists, or the newest of all.",
)
@click.option("--key", type=FILE, help="The private key (PEM) of backup.recipient.")
@click.option("--identity", type=FILE, help="The cluster's identity; from the stack unless given.")
@click.option("--wipe", is_flag=True, help="Reset control planes that are not blank.")
@click.option("--from-survivor", metavar="HOST", help="Go on with what this control plane holds.")
@click.option(
    "--accept-data-loss-after-last-write",
    "accepted",
    is_flag=True,
    help="With --from-survivor: what only the dead members knew is lost.",
)
def restore(
    stack: str | None,
    snapshot: str | None,
    key: Path | None,
    identity: Path | None,
    wipe: bool,
    from_survivor: str | None,
    accepted: bool,
) -> None:
    """Rebuild a cluster whose control planes are lost, or whose etcd lost its quorum.

    From a snapshot on blank hosts (--snapshot), or from a control plane that still has its data
    (--from-survivor). Afterwards `pulumi up` lets the other hosts join.
    """
    if (snapshot is None) == (from_survivor is None):
        raise click.UsageError("name either --snapshot or --from-survivor")
    if from_survivor and not accepted:
        raise GroundplaneError(
            f"groundplane restore --from-survivor {from_survivor}",
            "not done",
            "What was written to the others and never reached this one is lost, and a member that "
            "comes back later is a second cluster of the same identity until it is wiped",
            "If the others are gone for good, add --accept-data-loss-after-last-write.",
        )
    spec = reachable(load(stack))
    say = ways.stopwatch(click.echo)
    if from_survivor:
        host = ways.from_survivor(spec, from_survivor, wipe, reset_hosts, say)
    else:
        assert snapshot is not None
        who = (
            ways.read_identity(identity.read_text(), str(identity))
            if identity
            else ways.identity_of_stack(spec.stack)
        )
        host = ways.from_snapshot(spec, snapshot, key, who, wipe, reset_hosts, say)
    say(f"{spec.cluster.name} stands again, on {host.name} alone")
    click.echo(f"next: pulumi up --stack {spec.stack}, which lets the other hosts join")
    if from_survivor:
        click.echo("wipe the dead control planes before they see this network again")
