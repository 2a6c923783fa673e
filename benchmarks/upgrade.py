"""How long a rolling upgrade takes beside kubeadm's own steps in a row, and who notices it."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from benchmarks.benchmark import Benchmark, Session, beside, table
from benchmarks.ground import NEW, OLD, Ground
from benchmarks.measured import Samples, in_turn
from benchmarks.probe import PATIENCE, RATE, outage, probing

SIDES = {"groundplane": "`pulumi up` of groundplane", "bare": "bare script"}
FIGURES = ("seconds", "asked", "failed", "gap")
PROBES = count(1)


def measure(runs: int, session: Session) -> Samples:
    ground = session.ground
    samples: Samples = {side: {figure: [] for figure in FIGURES} for side in SIDES}
    samples |= {"from": OLD, "to": NEW}

    def keep(side: str, found: dict[str, float]) -> None:
        session.say(f"  {side}: {found}")
        for figure in FIGURES:
            samples[side][figure].append(found[figure])

    for run in range(runs):
        session.say(f"  run {run + 1} of {runs}")
        in_turn(
            run,
            runs,
            lambda: keep("bare", bare(ground)),
            lambda: keep("groundplane", ours(ground)),
        )
    return samples


def ours(ground: Ground) -> dict[str, float]:
    ground.has(OLD)
    kubeconfig = ground.stack.output("kubeconfig")
    return probed(ground, kubeconfig, lambda: ground.upgrade(NEW))


def bare(ground: Ground) -> dict[str, float]:
    cluster, _ = ground.bare(OLD)
    kubeconfig = ground.stack.shell("cp1", "cat /etc/kubernetes/admin.conf")
    wanted = ground.wanted(NEW)
    return probed(ground, kubeconfig, lambda: cluster.run("upgrade", wanted))


def probed(ground: Ground, kubeconfig: str, upgrade: Callable[[], float]) -> dict[str, float]:
    """The seconds of an upgrade, and what became of questions to the API meanwhile."""
    folder = ground.lab.folder / "probe" / f"{next(PROBES):03}"
    with probing(ground.lab, kubeconfig, folder) as questions:
        began = time.time()
        took = upgrade()
        ended = time.time()
    return {"seconds": took, **outage(questions, began, ended)}


def section(samples: Samples) -> str:
    ours, theirs = samples["groundplane"], samples["bare"]
    times = beside(SIDES["groundplane"], ours["seconds"], SIDES["bare"], theirs["seconds"], "s")
    answers = table(
        ["", "questions", "failed", "longest time without an answer"],
        [
            [
                name,
                f"{sum(samples[side]['asked']):,}",
                f"{sum(samples[side]['failed']):,}",
                f"{max(samples[side]['gap']):.1f} s",
            ]
            for side, name in SIDES.items()
        ],
    )
    return f"""\
Three control planes and two workers, from Kubernetes {samples["from"]} to {samples["to"]}, one node
after the other.

{times}

The lower bound is kubeadm's own steps in a row, on a cluster that the
[bare script](../benchmarks/bare/cluster.sh) made. All hosts fetch the new binaries at once. Then,
for one node after the other: `kubeadm upgrade apply` on the first and `kubeadm upgrade node` on the
others, drain, the new kubelet, and the wait until the node is Ready with the new version. Nothing
is checked between two nodes, no snapshot of etcd is taken, no turn is waited for, and containerd
keeps the pause image of the old version.

Meanwhile, on both sides, somebody asked for an object of the API through the cluster's endpoint
{RATE:.0f} times a second: each time by a new connection, and whether or not the ones before it had
their answers. What had no good answer within {PATIENCE:.0f} s has failed.

{answers}

These are the sums of all runs, and the longest time of all of them. Questions are 0.1 s apart, so
less than that cannot be seen."""


BENCHMARK = Benchmark("A rolling upgrade", section, measure, runs=1, minutes=30)
