"""A real sshd on a free port of this computer, with keys of its own; nothing of it stays."""

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from support import openssh


@dataclass(frozen=True)
class Hop:
    """As groundplane.spec's Jump, with what these tests need."""

    address: str
    port: int
    user: str
    key: str | None
    host_key: str


@dataclass(frozen=True)
class Host(Hop):
    """As groundplane.spec's Host, with what these tests need."""

    name: str
    jump: Hop | None = None
    sudo: bool = False
    state: str = "present"


@dataclass(frozen=True)
class Sshd:
    """A running sshd: a host that reaches it, and its folder with config, keys and fake sudo."""

    host: Host
    folder: Path
    pid: int

    def named(self, name: str, **changes: object) -> Host:
        return replace(self.host, name=name, **changes)

    def sudo(self, script: str) -> Host:
        """The host by sudo, where `sudo` is this script."""
        path = self.folder / "bin" / "sudo"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return replace(self.host, sudo=True)


def keygen(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair; the public key in authorized_keys form."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True
    )
    return path.with_suffix(".pub").read_text().strip()


@contextmanager
def run_sshd(folder: Path, *settings: str) -> Iterator[Sshd]:
    program = openssh.sshd()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "bin").mkdir()
    public = keygen(folder / "host_key")
    (folder / "authorized_keys").write_text(keygen(folder / "key") + "\n")
    config = folder / "sshd_config"
    config.write_text(
        "\n".join(
            (
                f"ListenAddress 127.0.0.1:{port}",
                f"HostKey {folder}/host_key",
                f"AuthorizedKeysFile {folder}/authorized_keys",
                "PidFile none",
                "StrictModes no",
                "UsePAM no",
                "PasswordAuthentication no",
                "PermitRootLogin yes",
                f"SetEnv PATH={folder}/bin:{os.environ['PATH']}",
                *settings,
                "",
            )
        )
    )
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*program, "-D", "-e", "-f", str(config)], stderr=log, start_new_session=True
        )
    try:
        wait_for(port, process, folder / "log")
        host = Host("127.0.0.1", port, getpass.getuser(), str(folder / "key"), public, name="h1")
        yield Sshd(host, folder, process.pid)
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    pytest.fail(f"sshd did not start: {log.read_text()}")
