"""`python -m lab`: machines, a mirror and a stack on this computer. `make lab` calls `up`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import click

from groundplane.errors import GroundplaneError
from lab import environment, machines, mirror, parts, stack
from lab.config import CHECKOUT, Lab, configured
from lab.doctor import examine
from lab.machines import Machine

STARTED = time.monotonic()


def say(line: str) -> None:
    """A line of progress, with the seconds since the start before it."""
    click.echo(f"{time.monotonic() - STARTED:6.1f} s  {line}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The lab: real machines on this computer, in a network of their own."""


@cli.command()
@click.option("--machines-only", is_flag=True, help="No cluster: machines, mirror and environment.")
def up(machines_only: bool) -> None:
    """Bring up the machines and the stack lab-metal on them. Again: nothing changes."""
    lab = configured()
    begin(lab)
    wanted = cast(lab)
    machines.boot_all(lab, wanted)
    say(f"{len(wanted)} machines answer")
    environment.write(lab)
    environment.write_ssh_config(lab, {m.name: m.address for m in machines.default_machines()})
    if not machines_only:
        stack.configure(lab, [stack.host(lab, machine) for machine in wanted])
        say("pulumi up")
        stack.pulumi(lab, "up", "--yes", "--skip-preview", "--stack", stack.STACK)
        stack.write_kubeconfig(lab)
        say("all nodes are Ready")
        summary(lab)


def begin(lab: Lab, others: bool = False) -> None:
    """What machines need before they boot: packages, parts, a network, the mirror.

    `others`: with the versions that a cluster can change from and to.
    """
    gather(lab, others)
    mirror.prepare(lab.folder, say)
    machines.network_up(lab)
    mirror.start(lab.name, lab.folder)


def gather(lab: Lab, others: bool) -> None:
    """Into the cache, what can be made before there is a lab."""
    examine(lab, say)
    parts.ensure(say, others)
    machines.make_rootfs(say)


@cli.command("parts")
def make_parts() -> None:
    """Make all parts that are missing, and list them. `up` makes those it needs by itself."""
    gather(configured(), others=True)
    parts.show(say)


def cast(lab: Lab) -> list[Machine]:
    """The machines of the lab's size."""
    size = lab.size
    memory = {f"cp{n}": size.control_plane_memory for n in range(1, size.control_planes + 1)}
    memory |= {f"w{n}": size.worker_memory for n in range(1, size.workers + 1)}
    named = {machine.name: machine for machine in machines.default_machines()}
    return [replace(named[name], memory=limit) for name, limit in memory.items()]


def summary(lab: Lab) -> None:
    """What stands now, and how to go on from here."""
    for node in stack.nodes(lab):
        info = node["status"]["nodeInfo"]
        ready = next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")
        state = "Ready" if ready == "True" else "NotReady"
        click.echo(f"  {node['metadata']['name']:8} {state:9} {info['kubeletVersion']}")
    click.echo(
        f"\n{stack.STACK} is up. Go on with:\n"
        f"  source {lab.folder.relative_to(CHECKOUT)}/env\n"
        f"  kubectl --context {stack.STACK} get pods -A\n"
        f"  pulumi preview --stack {stack.STACK}\n"
        "  make lab-down"
    )


@cli.command()
def down() -> None:
    """Take machines, mirror, network and stack away, leaving nothing behind."""
    lab = configured()
    mirror.stop(lab.folder)
    machines.destroy_all(lab)
    environment.forget(lab)
    say("nothing is left but the cache of built parts")


@cli.group()
def machine() -> None:
    """One machine: boot, stop (power off), wipe (re-image), reboot, destroy."""


def _on_machine(name: str, what: Callable[[Lab, str], object], help_text: str) -> None:
    @machine.command(name, help=help_text)
    @click.argument("machine_name", metavar="NAME")
    def command(machine_name: str) -> None:
        what(configured(), machine_name)


def _boot(lab: Lab, name: str) -> None:
    named = {machine.name: machine for machine in [*machines.default_machines(), *cast(lab)]}
    if name not in named:
        raise click.UsageError(f"no machine {name}; there are {', '.join(named)}")
    machines.boot(lab, named[name])


_on_machine("boot", _boot, "Start a machine; a new one where there is none of this name.")
_on_machine("stop", machines.stop, "Power it off, without a word to it.")
_on_machine("reboot", machines.reboot, "Restart it.")
_on_machine("wipe", machines.wipe, "Give it a fresh disk, under the same name and address.")
_on_machine("destroy", machines.destroy, "Take it away.")


def main() -> None:
    """Run it; an error of ours is a message and status 1."""
    try:
        cli()
    except GroundplaneError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
