"""The command `groundplane`: thin; each command is a file in `commands/`."""

from __future__ import annotations

from importlib import import_module

import click

from groundplane.errors import GroundplaneError

# A command's module is imported when it is called: --help and completion stay quick.
COMMANDS = {
    "catalogue": "say whether charts are still as add-ons were written for them",
    "graph": "draw a stack's steps: what waits for what, on which host",
    "hardening": "check whether hosts are as hard to break into as their level says",
    "init": "write a stack: hosts, their keys, the cluster's place",
    "policies": "list the rules of a policy pack",
    "preflight": "look at all hosts and say what stands in the way",
    "reset": "take everything of ours off hosts, whatever state they are in",
    "restore": "rebuild a cluster from a snapshot, or from the one control plane that is left",
    "review": "say what a preview would disturb, remove and replace",
    "schema": "print the JSON schema of the files that you write",
    "snapshots": "list what there is to restore from",
    "twins": "say whether two clusters are alike enough to be compared",
}


class Lazy(click.Group):
    """A group whose commands are modules of `groundplane.commands`, by their own names."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command = getattr(import_module(f"groundplane.commands.{name}"), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="groundplane")
def cli() -> None:
    """Kubernetes on machines that you own."""


def main() -> None:
    """Run it; an error of ours is a message and status 1, never a traceback."""
    try:
        cli()
    except GroundplaneError as error:
        raise SystemExit(f"{error}") from None
