"""How long a cluster takes from blank machines, beside the least that it can take."""

from __future__ import annotations

from benchmarks.benchmark import Benchmark, Session, beside
from benchmarks.ground import NEW
from benchmarks.measured import Samples, in_turn


def measure(runs: int, session: Session) -> Samples:
    ground = session.ground
    samples: Samples = {"kubernetes": NEW, "groundplane": [], "bare": []}
    for run in range(runs):
        session.say(f"  run {run + 1} of {runs}")
        in_turn(
            run,
            runs,
            lambda: samples["bare"].append(ground.bare(NEW)[1]),
            lambda: samples["groundplane"].append(ground.found(NEW)),
        )
    return samples


def section(samples: Samples) -> str:
    table = beside(
        "`pulumi up` of groundplane", samples["groundplane"], "bare script", samples["bare"], "s"
    )
    return f"""\
Three control planes and two workers with Kubernetes {samples["kubernetes"]}, from blank machines
until all nodes are Ready.

{table}

Both sides find the same: machines that were made a moment ago, with Debian's packages and nothing
of Kubernetes, and the lab's mirror on the same computer, which holds all parts and images. What
they need they fetch from it while the clock runs. Both make the same cluster: the same versions,
containerd, HAProxy and keepalived in front of three API servers, ECDSA keys, kube-proxy with
nftables, the reference CNI plugins with routes.

The bare script ([cluster.sh](../benchmarks/bare/cluster.sh), [host.sh](../benchmarks/bare/host.sh))
is the least that the same kubeadm commands take. It prepares all hosts at once, and begins with
`kubeadm init` as soon as the first is prepared; workers join at once, control planes one after the
other, as etcd demands. It looks at nothing before, checks no digest, keeps no record, settles the
pods' ranges beforehand, waits for no election of who has the endpoint's address, has no etcdctl, no
audit log and no encryption of Secrets, and fails for good when anything fails. So the ratio is what
all of this costs, with the engine on top."""


BENCHMARK = Benchmark("A cluster from nothing", section, measure, runs=3, minutes=25)
