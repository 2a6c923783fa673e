"""The lab's hypervisor, as benchmarks use it: blank, or with guests of either side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.bare import Bare
from benchmarks.ground import SECONDS, Ground, ready
from groundplane.spec import Spec, load
from lab import machines
from lab import stack as lab_stack
from lab.__main__ import begin
from lab.config import CHECKOUT, VM
from lab.guests import accelerator
from lab.guests.hypervisor import HYPERVISOR, machine
from lab.machines.rootfs import make
from tests.e2e.harness import Guests

# Both sides find virt-install there, and one of them uses it: machines reach no package source.
TREE = replace(
    HYPERVISOR,
    title="benchmark's hypervisor root file system",
    packages=(*HYPERVISOR.packages, "virtinst"),
)
PROGRAMS = Path(__file__).with_name("programs")


class Hypervisor:
    """A hypervisor of the lab, and a control plane and a worker that are to be its guests."""

    def __init__(self, ground: Ground) -> None:
        self.ground, self.lab, self.say = ground, ground.lab, ground.say
        self.stack = Guests(self.lab, "lab-bench-vm")
        size = self.lab.size
        self.vms = (
            lab_stack.vm("vcp1", size.guest_control_plane_memory),
            lab_stack.vm("vw1", size.guest_worker_memory),
        )
        self.names = [vm.name for vm in self.vms]

    def fresh(self) -> None:
        """A blank hypervisor, switched on, and no other machine."""
        self.ground.clear()
        self.stack.forget()
        self.say("  a blank hypervisor")
        booted = machine(sum(vm.memory for vm in self.vms), accelerator.kvm())
        machines.boot(self.lab, replace(booted, root=str(TREE.folder)))

    def wanted(self, version: str) -> Spec:
        """The stack's file with this version, as a specification: both sides are told by it."""
        hosts = [lab_stack.guest(self.lab, vm) for vm in self.vms]
        self.stack.configure(hosts, kubernetes={"version": version})
        return load(self.stack.name, CHECKOUT / "stacks")

    def installed(self, version: str) -> float:
        """groundplane's guests and nothing on them. Returns the seconds of `pulumi up`."""
        self.fresh()
        self.wanted(version)
        self.stack.variables["BENCHMARK_STACKS"] = str(CHECKOUT / "stacks")
        took = self.stack.up("--cwd", str(PROGRAMS / "guests"), timeout=SECONDS).seconds
        for name in self.names:
            self.stack.shell(name, "true")
        self.say(f"  groundplane, guests on a blank hypervisor: {took:.1f} s")
        return took

    def found(self, version: str) -> float:
        """groundplane's cluster on guests. Returns the seconds of `pulumi up`."""
        self.fresh()
        self.wanted(version)
        took = self.stack.up(timeout=SECONDS).seconds
        ready(self.stack, self.names, version)
        self.say(f"  groundplane, {version} on a blank hypervisor: {took:.1f} s")
        return took

    def virt_install(self, version: str) -> dict[str, float]:
        """Guests by virt-install. Returns the seconds until they answer, and are installed."""
        self.fresh()
        bare, wanted = Bare(self.lab), self.wanted(version)
        answer = self._guests(bare, wanted)
        return {"answer": answer, "installed": answer + bare.run("installed", wanted)}

    def bare(self, version: str) -> float:
        """A bare cluster on guests by virt-install. Returns the seconds of both."""
        self.fresh()
        bare, wanted = Bare(self.lab), self.wanted(version)
        answer = self._guests(bare, wanted)
        then = bare.run("up", wanted)
        self.say(f"  bare, {version} on guests: {then:.1f} s more")
        return answer + then

    def _guests(self, bare: Bare, wanted: Spec) -> float:
        took = bare.guests(wanted, "kvm" if accelerator.kvm() else "qemu")
        self.say(f"  virt-install, guests on a blank hypervisor: {took:.1f} s")
        return took


@contextmanager
def opened(ground: Ground) -> Iterator[Hypervisor]:
    """What guests need, in the lab of the others; its stack is taken away at the end."""
    begin(ground.lab, [VM])
    make(ground.say, TREE)
    hypervisor = Hypervisor(ground)
    ground.say(f"guests run by {accelerator.name()}")
    try:
        yield hypervisor
    finally:
        hypervisor.stack.stop_all()
