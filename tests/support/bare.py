"""Machines of the lab with this checkout's scripts on them, reached by SSH as an engine does it."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from groundplane.remote.bundle import SCRIPTS
from lab import machines
from lab.machines import Lab, Machine

LIBRARY = "/usr/local/lib/groundplane/current"


def put(lab: Lab, machine: str, path: str, content: bytes) -> None:
    """A file on a machine, by the lab's own door."""
    text = base64.b64encode(content).decode()
    machines.exec(lab, machine, ["bash", "-c", f"base64 -d >{path}"], text, check=True)


class Bare:
    """One machine without Kubernetes."""

    def __init__(self, lab: Lab, machine: Machine) -> None:
        self.lab, self.machine = lab, machine
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(SCRIPTS, arcname=".")
        put(lab, machine.name, "/run/scripts.tar.gz", archive.getvalue())
        self.shell(f"mkdir -p {LIBRARY} && tar -xzf /run/scripts.tar.gz -C {LIBRARY}")

    def shell(self, script: str, *, check: bool = True) -> str:
        """A script on the machine, without SSH."""
        argv = ["bash", "-c", script]
        return machines.exec(self.lab, self.machine.name, argv, check=check).stdout

    def ssh(
        self, *words: str, stdin: str = "", options: tuple[str, ...] = (), seconds: int = 3
    ) -> subprocess.CompletedProcess[str]:
        """A command over a connection of its own, unless `options` name another's."""
        argv = ["nsenter", f"--net={self.lab.netns}", "ssh", "-F", "none", "-i", str(self.lab.key)]
        for option in (
            "BatchMode=yes",
            f"ConnectTimeout={seconds}",
            f"UserKnownHostsFile={self.lab.known_hosts}",
            *options,
        ):
            argv += ["-o", option]
        argv += [f"root@{self.machine.address}", *words]
        return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)

    def step(
        self, name: str, data: Mapping[str, Any], **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """A step, as the engine calls it."""
        whole = {"stack": "metal", "step": name, "revision": 1, "token": "t", **data}
        return self.ssh(LIBRARY + "/run", name, "apply", stdin=json.dumps(whole), **how)

    def lets_in(self, seconds: int = 2) -> bool:
        """Whether a new connection by SSH comes about."""
        return self.ssh("true", seconds=seconds).returncode == 0

    def until_let_in(self, seconds: float) -> float:
        """How long it took; AssertionError if it never did."""
        began = time.monotonic()
        while not self.lets_in():
            assert time.monotonic() < began + seconds, "nobody is let in"
        return time.monotonic() - began
