"""How long guests take from a blank hypervisor, beside virt-install."""

from __future__ import annotations

from benchmarks.benchmark import Benchmark, Session, figures, table
from benchmarks.ground import NEW
from benchmarks.measured import Samples, in_turn, ratios
from lab.guests import accelerator

OTHERS = {
    "answer": "`virt-install`, until both answer",
    "installed": "`virt-install`, until both are installed",
}


def measure(runs: int, session: Session) -> Samples:
    hypervisor = session.hypervisor
    samples: Samples = {"accelerator": accelerator.name(), "groundplane": []}
    samples |= {name: [] for name in OTHERS}

    def theirs() -> None:
        for name, took in hypervisor.virt_install(NEW).items():
            samples[name].append(took)

    for run in range(runs):
        session.say(f"  run {run + 1} of {runs}")
        in_turn(run, runs, theirs, lambda: samples["groundplane"].append(hypervisor.installed(NEW)))
    return samples


def section(samples: Samples) -> str:
    ours = samples["groundplane"]
    rows = [["`pulumi up` of groundplane", *figures(ours, "s")]]
    for name, title in OTHERS.items():
        rows.append([title, *figures(samples[name], "s")])
        rows.append(["**ratio**", *figures(ratios(ours, samples[name]), "", 2)])
    return f"""\
Two guests of one hypervisor, a control plane and a worker that are to be, from a hypervisor with
libvirt and nothing of theirs. Guests were run by {samples["accelerator"]}.

{table(["", "median", "least to most", "runs"], rows)}

Both sides find the same: a hypervisor that was made a moment ago, and the lab's mirror, which holds
the image. Both fetch it while the clock runs, and make the same guests side by side, by the same
specification: processors, memory, disks that hold what differs from the image, network, users and
keys.

The other side is [virt-install](../benchmarks/bare/guests.sh) with `--import`. It looks at nothing
before, checks no digest and keeps no record. A guest answers when it lets root in by SSH; it is
installed when cloud-init has ended, which takes a while longer. Ours is `pulumi up` of
[the guests alone](../benchmarks/programs/guests/__main__.py), which ends when they are installed,
answer with their own key, and have lost the seed that it was in. So the first ratio is what all of
that costs, with the look and the engine on top; the second leaves out the wait for cloud-init.
Where guests are emulated, most of either side is their first start."""


BENCHMARK = Benchmark("Guests on a blank hypervisor", section, measure, runs=2, minutes=20)
