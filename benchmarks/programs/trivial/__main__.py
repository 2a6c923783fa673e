"""As many resources as a cluster has, which do nothing: the engine's own time."""

# ruff: noqa: E402 - the imports are what is timed.

import time

began = time.perf_counter()

import json
import os
from pathlib import Path

from pulumi_command import local

imported = time.perf_counter()

for number in range(int(os.environ["BENCHMARK_RESOURCES"])):
    local.Command(f"trivial-{number}", create=":")

Path(os.environ["BENCHMARK_TIMES"]).write_text(json.dumps({"import": imported - began}))
