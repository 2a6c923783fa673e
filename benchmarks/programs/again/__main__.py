"""stacks/__main__.py with a clock: how long the import and the look take, in $BENCHMARK_TIMES."""

# ruff: noqa: E402 - the imports are what is timed.

import time

began = time.perf_counter()

import json
import os
from pathlib import Path

import pulumi

from groundplane import Platform, from_pulumi_config
from groundplane.remote.observation import observe
from groundplane.survey import expectation

imported = time.perf_counter()

spec = from_pulumi_config(Path(os.environ["BENCHMARK_STACKS"]))
loaded = time.perf_counter()
# The cluster asks the same a moment later, and gets the same answer.
observe(spec.hosts, expectation(spec))
looked = time.perf_counter()

cluster = Platform(pulumi.get_stack(), spec).cluster
pulumi.export("endpoint", cluster.endpoint)
pulumi.export("nodes", cluster.nodes)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("identity", cluster.identity)

times = {"import": imported - began, "look": looked - loaded}
Path(os.environ["BENCHMARK_TIMES"]).write_text(json.dumps(times))
