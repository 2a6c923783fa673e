"""Of stacks/__main__.py only what makes guests: it ends when all of them are installed."""

import os
from pathlib import Path

from groundplane import LibvirtHosts, from_pulumi_config

spec = from_pulumi_config(Path(os.environ["BENCHMARK_STACKS"]))
guests = LibvirtHosts(spec.cluster.name, spec)
for host in spec.guests:
    guests.machine(host)
