"""How long a cluster on guests takes from a blank hypervisor, beside the least that it can take."""

from __future__ import annotations

from benchmarks.benchmark import Benchmark, Session, beside
from benchmarks.ground import NEW
from benchmarks.measured import Samples, in_turn
from lab.guests import accelerator


def measure(runs: int, session: Session) -> Samples:
    hypervisor = session.hypervisor
    samples: Samples = {
        "accelerator": accelerator.name(),
        "kubernetes": NEW,
        "groundplane": [],
        "bare": [],
    }
    for run in range(runs):
        session.say(f"  run {run + 1} of {runs}")
        in_turn(
            run,
            runs,
            lambda: samples["bare"].append(hypervisor.bare(NEW)),
            lambda: samples["groundplane"].append(hypervisor.found(NEW)),
        )
    return samples


def section(samples: Samples) -> str:
    table = beside(
        "`pulumi up` of groundplane",
        samples["groundplane"],
        "`virt-install`, then the bare script",
        samples["bare"],
        "s",
    )
    return f"""\
A control plane and a worker with Kubernetes {samples["kubernetes"]} on guests of one hypervisor,
from a hypervisor with libvirt and nothing of theirs until both nodes are Ready. Guests were run by
{samples["accelerator"]}.

{table}

The guests are made as [above](#guests-on-a-blank-hypervisor) and the cluster as
[on machines](#a-cluster-from-nothing): on the other side by `virt-install`, and by the bare script
once both guests answer. Their image has all parts and container images in it already, as
[the lab makes it](decisions/0020-lab-guests.md): groundplane finds each with the digest that it
must have, and the bare script takes what is there. Where guests are emulated, most of either side
is Kubernetes' own start on slow processors."""


BENCHMARK = Benchmark("A cluster on guests", section, measure, runs=1, minutes=40)
