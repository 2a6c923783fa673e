"""The lab's machines, as benchmarks use them: blank, or with a cluster of either side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.bare import Bare
from benchmarks.measured import Say
from groundplane.errors import GroundplaneError
from groundplane.spec import Spec, load
from lab import environment, machines, mirror
from lab.__main__ import begin
from lab.config import CHECKOUT, Lab, configured
from lab.parts.recipes import KUBERNETES, UPGRADES
from tests.e2e.harness import Stack

CONTROL_PLANES = ("cp1", "cp2", "cp3")
WORKERS = ("w1", "w2")
ALL = (*CONTROL_PLANES, *WORKERS)
NEW, OLD = KUBERNETES
"""The lab's versions of Kubernetes; upgrades go from the old to the new."""
SECONDS = 3600.0
"""For one `pulumi up`: a bound for what is stuck, and none that a slow computer would reach."""


class Ground:
    """Five machines of the lab, and which cluster stands on them."""

    def __init__(self, lab: Lab, say: Say) -> None:
        self.lab, self.say = lab, say
        self.stack = Stack(lab, "lab-bench")
        self.standing = ""
        """The Kubernetes version of groundplane's cluster; empty where none stands."""

    def fresh(self) -> None:
        """Blank machines, switched on. The mirror serves, and has all parts."""
        self.clear()
        self.say("  blank machines")
        self.stack.boot(*ALL)

    def clear(self) -> None:
        """No machine is left, also of others in this lab: who is measured is alone."""
        self.standing = ""
        self.stack.fresh()

    def wanted(self, version: str) -> Spec:
        """The stack's file with this version, as a specification: both sides are told by it."""
        self.stack.configure(self.stack.hosts(*ALL), kubernetes={"version": version})
        return load(self.stack.name, CHECKOUT / "stacks")

    def found(self, version: str) -> float:
        """groundplane's cluster on blank machines. Returns the seconds of `pulumi up`."""
        self.fresh()
        self.wanted(version)
        took = self.stack.up(timeout=SECONDS).seconds
        ready(self.stack, ALL, version)
        self.standing = version
        self.say(f"  groundplane, {version} on blank machines: {took:.1f} s")
        return took

    def upgrade(self, version: str) -> float:
        """groundplane's cluster to another version. Returns the seconds of `pulumi up`."""
        self.wanted(version)
        self.standing = ""
        took = self.stack.up(timeout=SECONDS).seconds
        ready(self.stack, ALL, version)
        self.standing = version
        self.say(f"  groundplane, upgrade to {version}: {took:.1f} s")
        return took

    def has(self, version: str) -> None:
        """groundplane's cluster stands at this version: it may stand already."""
        if self.standing != version:
            self.found(version)

    def bare(self, version: str) -> tuple[Bare, float]:
        """A bare cluster on blank machines, and the seconds of its script."""
        self.fresh()
        bare = Bare(self.lab)
        took = bare.run("up", self.wanted(version))
        self.say(f"  bare, {version} on blank machines: {took:.1f} s")
        return bare, took


def ready(stack: Stack, names: Sequence[str], version: str) -> None:
    """A time counts only when what took it is there. GroundplaneError where it is not."""
    found = {
        node["metadata"]["name"]: (
            next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"),
            node["status"]["nodeInfo"]["kubeletVersion"],
        )
        for node in stack.get("nodes")
    }
    if found != dict.fromkeys(names, ("True", f"v{version}")):
        raise GroundplaneError(
            stack.name,
            f"`pulumi up` ended, and its nodes are {found}",
            f"All of {', '.join(names)} must be Ready with v{version}, or its time says nothing",
            f"See the logs in {stack.logs}.",
        )


@contextmanager
def opened(say: Say, keep: bool) -> Iterator[Ground]:
    """The lab `bench`, beside any other of this checkout; taken away at the end unless `keep`."""
    os.environ.setdefault("GROUNDPLANE_LAB", "bench")
    lab = configured()
    # With the versions that an upgrade goes from: nothing may be built while something is timed.
    begin(lab, wanted=UPGRADES)
    environment.write(lab)
    environment.write_ssh_config(lab, {m.name: m.address for m in machines.default_machines()})
    ground = Ground(lab, say)
    say(f"all output: {ground.stack.logs}, {lab.folder}/bare")
    try:
        yield ground
    finally:
        ground.stack.stop_all()
        if keep:
            say(f"the lab {lab.name} is still up: GROUNDPLANE_LAB={lab.name} make lab-down")
        else:
            ground.stack.forget()
            mirror.stop(lab.folder)
            machines.destroy_all(lab)
            environment.forget(lab)
