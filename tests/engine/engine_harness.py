"""The real engine on tiny programs, and real SSH servers for them to talk to."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.openssh import sshd

# What every program begins with; `here` is the folder in which its commands leave their traces.
PRELUDE = """
import json, os
from pathlib import Path
import pulumi
import pulumi_random
from pulumi import Output, ResourceOptions
from pulumi_command import local, remote

here = Path(os.environ["HERE"])

"""


@dataclass
class Outcome:
    """What one call of the CLI did.

    steps: the operation on each resource of the program, by name: create, update, same...
    text: everything that the user saw.
    """

    failed: bool
    steps: dict[str, str]
    text: str


class Stack:
    """A project with one stack on a file backend, all of it in one folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.here = folder / "here"
        self.here.mkdir(parents=True)
        (folder / "state").mkdir()
        (folder / "Pulumi.yaml").write_text("name: conformance\nruntime: python\n")
        self.environment = environment | {
            "HERE": str(self.here),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "conformance",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DEBUG_COMMANDS": "1",  # Allows --event-log.
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        }
        self.cli("stack", "init", "test")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def cli(self, *arguments: str) -> str:
        process = self.start(*arguments)
        text, _ = process.communicate(timeout=120)
        assert process.returncode == 0, text
        return text

    def write(self, program: str) -> None:
        (self.folder / "__main__.py").write_text(PRELUDE + textwrap.dedent(program))

    def begin(self, verb: str, program: str | None = None) -> tuple[subprocess.Popen[str], Path]:
        if program is not None:
            self.write(program)
        events = self.folder / "events.json"
        events.unlink(missing_ok=True)
        options = ["--yes", "--skip-preview"] if verb != "preview" else ["--diff"]
        return self.start(verb, *options, "--event-log", str(events)), events

    def run(self, verb: str, program: str | None = None) -> Outcome:
        process, events = self.begin(verb, program)
        text, _ = process.communicate(timeout=180)
        return Outcome(
            failed=process.returncode != 0,
            steps=steps(events),
            text=text,
        )

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in plain."""
        outputs: dict[str, Any] = json.loads(
            self.cli("stack", "output", "--json", "--show-secrets")
        )
        return outputs

    def up(self, program: str | None = None) -> Outcome:
        """Update, which must succeed."""
        outcome = self.run("up", program)
        assert not outcome.failed, outcome.text
        return outcome

    def fail(self, program: str | None = None, verb: str = "up") -> str:
        """Update, which must fail, and what the user saw."""
        outcome = self.run(verb, program)
        assert outcome.failed, outcome.text
        return outcome.text

    def preview(self, program: str | None = None) -> Outcome:
        """Preview, which must succeed."""
        outcome = self.run("preview", program)
        assert not outcome.failed, outcome.text
        return outcome

    def destroy(self) -> Outcome:
        outcome = self.run("destroy")
        assert not outcome.failed, outcome.text
        return outcome

    def state(self) -> str:
        """The state as it lies on disk, secrets encrypted."""
        return (self.folder / "state/.pulumi/stacks/conformance/test.json").read_text()

    def resource(self, name: str) -> dict[str, Any]:
        """One resource of the state, secrets in plain."""
        state = json.loads(self.cli("stack", "export", "--show-secrets"))
        return next(
            resource
            for resource in state["deployment"]["resources"]
            if resource["urn"].endswith(f"::{name}")
        )

    def trace(self, name: str = "trace") -> list[str]:
        """The lines that commands have left in a file, which is emptied."""
        file = self.here / name
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


def shown(events: Path) -> str:
    """What the engine has logged so far."""
    return events.read_text() if events.exists() else ""


def steps(events: Path) -> dict[str, str]:
    """The last operation on each resource; of a replacement that is `replace`."""
    found: dict[str, str] = {}
    for line in events.read_text().splitlines() if events.exists() else []:
        event = json.loads(line)
        for kind in ("resourcePreEvent", "resOutputsEvent"):
            metadata = event.get(kind, {}).get("metadata")
            if metadata and not metadata["type"].startswith("pulumi:"):
                name = metadata["urn"].split("::")[-1]
                if found.get(name) != "replace":
                    found[name] = metadata["op"]
    return found


@dataclass
class Server:
    """An OpenSSH server on the loopback, for the user who runs the tests."""

    folder: Path
    port: int
    host_key: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Network:
    """Makes SSH servers; `connection(...)` is the program text that leads to one."""

    folder: Path
    key: Path
    user: str

    @contextmanager
    def server(
        self, port: int | None = None, key_type: str = "ed25519", sftp: bool = True
    ) -> Iterator[Server]:
        port = port or free_port()
        folder = self.folder / str(port)
        folder.mkdir()
        keygen(folder / "host_key", key_type=key_type)
        (folder / "config").write_text(
            f"""\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {self.key}.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
AcceptEnv ALLOWED_*
MaxStartups 200:30:400
{"Subsystem sftp internal-sftp" if sftp else ""}
"""
        )
        argv = [*sshd(), "-D", "-f", f"{folder}/config", "-E", f"{folder}/log"]
        process = subprocess.Popen(argv)
        try:
            wait_for(lambda: answers(port), f"sshd on port {port}")
            key = " ".join((folder / "host_key.pub").read_text().split()[:2])
            yield Server(folder, port, key, process)
        finally:
            process.terminate()
            process.wait(10)

    def connection(self, port: int, key: Path | None = None, tries: int = 2, **more: str) -> str:
        """Program text for `connection=`; `more` is program text by argument."""
        given = {
            "host": "'127.0.0.1'",
            "port": str(port),
            "user": repr(self.user),
            "private_key": f"Path({str(key or self.key)!r}).read_text()",
            "dial_error_limit": str(tries),
        } | more
        arguments = ", ".join(f"{name}={value}" for name, value in given.items())
        return f"remote.ConnectionArgs({arguments})"


def keygen(path: Path, passphrase: str = "", key_type: str = "ed25519") -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", key_type, "-N", passphrase, "-C", "", "-f", path], check=True
    )


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as stream:
            return stream.recv(4) == b"SSH-"
    except OSError:
        return False


@contextmanager
def unanswering_port() -> Iterator[int]:
    """A port whose queue is full, so that the kernel drops what else wants to connect."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield int(listener.getsockname()[1])


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for a condition, and name it when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C once."""
    process.send_signal(signal.SIGINT)
