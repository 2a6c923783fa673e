"""What a host costs where there are many: time to register it, and bytes of state."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import asyncssh

from benchmarks.benchmark import Benchmark, Session, figures, table
from benchmarks.engine import Project
from benchmarks.measured import Samples, ratios
from groundplane import Platform
from groundplane.clusters import shared
from groundplane.spec import Endpoint, Spec
from lab.config import CHECKOUT
from tests.support.program import register
from tests.support.seen import standing
from tests.support.specs import host, spec

PROGRAM = Path(__file__).with_name("programs") / "scale" / "__main__.py"
FEW, MANY = 10, 100
HOW = ("registration", "uncollected")
"""Registered as by any program, and with Python's garbage collector off meanwhile."""


def measure(runs: int, session: Session) -> Samples:
    samples: Samples = {how: {} for how in (*HOW, "state", "resources")}
    for _ in range(runs):
        for how in HOW:
            for hosts in (FEW, MANY):
                # In a process of its own: what one leaves behind would slow down the next.
                command = [sys.executable, "-m", "benchmarks.scale", how, str(hosts)]
                took = float(subprocess.check_output(command, cwd=CHECKOUT, timeout=600))
                session.say(f"  {hosts} hosts, {how}: {took:.3f} s")
                samples[how].setdefault(str(hosts), []).append(took)
    for hosts in (FEW, MANY):
        size, resources = stored(hosts, session)
        session.say(f"  {hosts} hosts: a state of {size:,} bytes, {resources} resources")
        samples["state"][str(hosts)] = size
        samples["resources"][str(hosts)] = resources
    return samples


# ---- registration ------------------------------------------------------------------------------


def wanted(hosts: int) -> Spec:
    """Three control planes and as many workers as make `hosts`, on addresses of the loopback."""
    roles = ["control-plane"] * 3 + ["worker"] * (hosts - 3)
    connection = {
        name: os.environ[f"BENCHMARK_{name.upper()}"]
        for name in ("port", "key", "host_key")
        if f"BENCHMARK_{name.upper()}" in os.environ
    }
    return spec(
        [
            host(f"n{n}", address(n), role, node_address="192.0.2.", **connection)
            for n, role in enumerate(roles, 1)
        ],
        endpoint=Endpoint(address="192.0.2.250", router_id=51),
    )


def address(number: int) -> str:
    return f"127.0.2.{number}"


def registered(hosts: int, how: str) -> float:
    """Seconds of the processor until a cluster that stands is registered, with mocks in the
    engine's place. What else runs on the computer disturbs them least."""
    made = wanted(hosts)
    if how == "uncollected":
        gc.disable()
    with mock.patch.object(shared, "survey", standing):
        began = time.process_time()
        register(lambda: Platform("scale", made))
        return time.process_time() - began


# ---- the state ---------------------------------------------------------------------------------


def stored(hosts: int, session: Session) -> tuple[int, int]:
    """The bytes that the real engine keeps of a new cluster, and how many resources they are."""
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder), hosts) as variables:
        project = Project(Path(folder), PROGRAM, session.say)
        project.variables |= variables
        project.variables |= {"BENCHMARK_HOSTS": str(hosts), "PYTHONPATH": str(CHECKOUT)}
        project.pulumi("up", "--yes", "--skip-preview")
        text = project.state.read_bytes()
        return len(text), len(json.loads(text)["checkpoint"]["latest"]["resources"])


def noise(bytes_: int) -> str:
    """Text of so many bytes that cannot be compressed, as keys and certificates are."""
    return base64.b64encode(os.urandom(bytes_)).decode()[:bytes_]


PEMS = {
    "ca.crt": 620, "ca.key": 227, "sa.key": 227, "sa.pub": 178, "front-proxy-ca.crt": 640,
    "front-proxy-ca.key": 227, "etcd/ca.crt": 610, "etcd/ca.key": 227, "groundplane.key": 64,
}  # fmt: skip
"""What bootstrap gives back: the sizes of kubeadm's files with ECDSA keys, and of our own."""
KUBECONFIG = 3000


def answer(command: str) -> str:
    """What a step gives back on stdout."""
    if "/run bootstrap " in command:
        identity = {path: noise(size) for path, size in PEMS.items()}
        return json.dumps({"cluster": "0123456789abcdef", "identity": identity})
    return noise(KUBECONFIG) if "/run kubeconfig " in command else ""


@contextmanager
def servers(folder: Path, hosts: int) -> Iterator[dict[str, str]]:
    """SSH servers on the loopback, one a host, that take files and commands and do nothing."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    mine = asyncssh.generate_private_key("ssh-ed25519")
    (folder / "key").write_bytes(mine.export_private_key())
    (folder / "authorized").write_bytes(mine.export_public_key())
    files = folder / "files"
    files.mkdir()

    async def run(process: asyncssh.SSHServerProcess[str]) -> None:
        await process.stdin.read()
        process.stdout.write(answer(process.command or ""))
        process.exit(0)

    class Files(asyncssh.SFTPServer):
        """Keeps what it is given, wherever that is to be, in one folder."""

        def __init__(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
            super().__init__(channel, chroot=os.fsencode(files))

        def map_path(self, path: bytes) -> bytes:
            mapped = super().map_path(path)
            Path(os.fsdecode(mapped)).parent.mkdir(parents=True, exist_ok=True)
            return mapped

    async def listen() -> int:
        port = 0
        for number in range(1, hosts + 1):
            server = await asyncssh.listen(
                address(number),
                port,
                server_host_keys=[key],
                authorized_client_keys=str(folder / "authorized"),
                process_factory=run,
                sftp_factory=Files,
            )
            port = port or server.get_port()
        return port

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(listen(), loop).result(60)
        yield {
            "BENCHMARK_PORT": str(port),
            "BENCHMARK_KEY": str(folder / "key"),
            "BENCHMARK_HOST_KEY": key.export_public_key().decode().strip(),
        }
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# ---- the page ----------------------------------------------------------------------------------


def per_host(samples: Samples) -> dict[str, list[float]]:
    """How much more a host costs among many than among few, of each run."""
    few, many = str(FEW), str(MANY)
    found = {name: samples[name] for name in HOW}
    found["state"] = {hosts: [size] for hosts, size in samples["state"].items()}
    return {
        name: [ratio * FEW / MANY for ratio in ratios(sides[many], sides[few])]
        for name, sides in found.items()
    }


def section(samples: Samples) -> str:
    ratio = per_host(samples)
    rows = [
        [
            f"{hosts} hosts",
            f"{samples['resources'][str(hosts)]:,}",
            *figures(samples["registration"][str(hosts)], "s", 2),
            figures(samples["uncollected"][str(hosts)], "s", 2)[0],
            f"{samples['state'][str(hosts)] / 1024:,.0f} KiB",
        ]
        for hosts in (FEW, MANY)
    ]
    last = ["**per host, ratio**", "", *figures(ratio["registration"], "", 2)]
    last += [figures(ratio[name], "", 2)[0] for name in ("uncollected", "state")]
    head = ["", "resources", "registration", "least to most", "runs", "uncollected", "state"]
    return f"""\
Three control planes, and workers as many as there are to be.

{table(head, [*rows, last])}

The last line is what one host costs among {MANY}, by what it costs among {FEW}: 1 is growth in
proportion, less is what the cluster has once.

Registration is what the program does from its first resource to its last, for a cluster that
stands, with Pulumi's mocks in the engine's place, in seconds of the processor. Pulumi's library has
the outputs and tasks of all resources in memory meanwhile. Python's garbage collector would walk
through them again and again, so a cluster makes it walk seldom; uncollected is with it off.

The state is the file that the real engine wrote of a new cluster, with secrets encrypted by a
passphrase. The hosts behind it are an SSH server that takes everything and does nothing; what
bootstrap and kubeconfig give back is noise as long as theirs."""


BENCHMARK = Benchmark("Many hosts", section, measure, runs=5, minutes=5)

if __name__ == "__main__":
    registered(FEW, HOW[0])  # what is loaded at the first use is no part of it
    print(registered(int(sys.argv[2]), sys.argv[1]))
