"""`python -m lab`: machines, a mirror and two stacks on this computer. `make lab` calls `up`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import click

from groundplane.errors import GroundplaneError
from lab import environment, machines, mirror, parts, stack, together
from lab.config import CHECKOUT, METAL, TWINS, VM, Lab, Twin, configured
from lab.doctor import examine
from lab.guests import accelerator, hypervisor, image
from lab.guests.hypervisor import HYPERVISOR
from lab.guests.image import GUEST
from lab.machines import Machine
from lab.parts import recipes

STARTED = time.monotonic()


def say(line: str) -> None:
    """A line of progress, with the seconds since the start before it."""
    click.echo(f"{time.monotonic() - STARTED:6.1f} s  {line}")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The lab: real machines on this computer, in a network of their own."""


@cli.command()
@click.option("--machines-only", is_flag=True, help="No cluster: machines, mirror and environment.")
@click.option(
    "--stack",
    "only",
    type=click.Choice([twin.name for twin in TWINS]),
    help="One of the twins alone.",
)
def up(machines_only: bool, only: str | None) -> None:
    """Bring up machines and guests, with a cluster on either. Again: nothing changes."""
    lab = configured()
    twins = [twin for twin in TWINS if only in (None, twin.name)]
    begin(lab, twins)
    wanted = cast(lab, twins)
    machines.boot_all(lab, wanted)
    say(f"{len(wanted)} machines answer")
    environment.write(lab)
    addresses = {machine.name: machine.address for machine in wanted}
    environment.write_ssh_config(lab, addresses)
    if machines_only:
        return
    for twin in reversed(twins):  # the first is what `pulumi` means by itself
        stack.configure(lab, hosts(lab, twin), twin)
    ups = together.up(lab, twins, say)
    for twin in twins:
        stack.write_kubeconfig(lab, twin)
    if VM in twins:
        keys = stack.host_keys(lab)
        guests = {host["name"]: (host["address"], keys[host["name"]]) for host in hosts(lab, VM)}
        environment.write_ssh_config(lab, addresses, guests)
    say("all nodes are Ready")
    summary(lab, twins)
    together.where_time_went(ups)
    how_to_go_on(lab, twins)


def begin(
    lab: Lab, twins: Sequence[Twin] = (METAL,), wanted: Sequence[recipes.Part] = recipes.FIRST
) -> None:
    """What machines need before they boot: packages, parts, a network, the mirror."""
    gather(lab, wanted, VM in twins)
    mirror.prepare(lab.folder, say)
    machines.network_up(lab)
    mirror.start(lab.name, lab.folder)
    if VM in twins:
        say(f"guests run by {accelerator.name()}")
        others = [part.version for part in wanted if part.name == "kubernetes"]
        versions = [lab.size.kubernetes, *others]
        # The last is what guests begin with.
        specs = [stack.sample(lab, version) for version in reversed(dict.fromkeys(versions))]
        mirror.offer(lab.folder, {image.NAME: image.ensure(lab, specs, say)})


def gather(lab: Lab, wanted: Sequence[recipes.Part], guests: bool) -> None:
    """Into the cache, what can be made before there is a lab. `guests`: theirs, too."""
    examine(lab, say, guests)
    parts.ensure(say, wanted)
    machines.make_rootfs(say)
    if guests:
        machines.make_rootfs(say, HYPERVISOR)
        machines.make_rootfs(say, GUEST)


@cli.command("parts")
@click.option("--all", "every", is_flag=True, help="With older versions, and what guests take.")
def make_parts(every: bool) -> None:
    """Make the parts that are missing, and list them. `up` makes those it needs by itself."""
    gather(configured(), recipes.UPGRADES if every else recipes.STORIES, guests=every)
    parts.show(say)


def cast(lab: Lab, twins: Sequence[Twin] = (METAL,)) -> list[Machine]:
    """The machines of the lab's size; a hypervisor stands for all guests."""
    made: list[Machine] = []
    if METAL in twins:
        size = lab.size
        memory = {f"cp{n}": size.control_plane_memory for n in range(1, size.control_planes + 1)}
        memory |= {f"w{n}": size.worker_memory for n in range(1, size.workers + 1)}
        named = {machine.name: machine for machine in machines.default_machines()}
        made += [replace(named[name], memory=limit) for name, limit in memory.items()]
    if VM in twins:
        kvm = accelerator.kvm()
        made.append(hypervisor.machine(sum(vm.memory for vm in stack.vms(lab, kvm)), kvm))
    return made


def hosts(lab: Lab, twin: Twin) -> list[dict[str, Any]]:
    """The hosts of a twin as its site has them."""
    if twin is VM:
        return [stack.guest(lab, vm) for vm in stack.vms(lab, accelerator.kvm())]
    return [stack.host(lab, machine) for machine in cast(lab)]


def summary(lab: Lab, twins: Sequence[Twin]) -> None:
    """What stands now."""
    for twin in twins:
        by = f"guests, by {accelerator.name()}" if twin is VM else "containers on this kernel"
        click.echo(f"\n{twin.name}: {by}")
        for node in stack.nodes(lab, twin):
            info = node["status"]["nodeInfo"]
            ready = next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")
            state = "Ready" if ready == "True" else "NotReady"
            click.echo(f"  {node['metadata']['name']:8} {state:9} {info['kubeletVersion']}")


def how_to_go_on(lab: Lab, twins: Sequence[Twin]) -> None:
    """What to type next."""
    lines = [f"source {lab.folder.relative_to(CHECKOUT)}/env"]
    lines += [f"kubectl --context {twin.name} get pods -A" for twin in twins]
    lines += [f"pulumi preview --stack {twins[0].name}", "make lab-down"]
    names = " and ".join(twin.name for twin in twins)
    verb = "are" if len(twins) > 1 else "is"
    click.echo(f"\n{names} {verb} up. Go on with:")
    for line in lines:
        click.echo(f"  {line}")


@cli.command()
def down() -> None:
    """Take machines, guests, mirror, network and stacks away, leaving nothing behind."""
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
    known = [*machines.default_machines(), *cast(lab)]
    if HYPERVISOR.folder.exists():
        known += cast(lab, [VM])
    named = {machine.name: machine for machine in known}
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
