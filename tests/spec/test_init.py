"""`groundplane init` against real SSH servers: keys gathered, compared, written."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml
from click.testing import CliRunner, Result
from spec_support import SITE

from groundplane.begin import read_fingerprints, write_stack
from groundplane.commands.init import init
from groundplane.errors import GroundplaneError, SpecError
from groundplane.spec import load


@dataclass(frozen=True)
class Server:
    port: int
    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        return str(self.key.get_fingerprint())

    @property
    def line(self) -> str:
        return " ".join(self.key.export_public_key().decode().split()[:2])


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    """Three SSH servers on this machine, each with a key of its own; the third lets users in."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    class Open(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return False

        def connection_requested(self, *_: Any) -> bool:
            return True

    async def listen() -> list[Server]:
        found = []
        for _ in range(3):
            key = asyncssh.generate_private_key("ssh-ed25519")
            server = await asyncssh.listen(
                "127.0.0.1", 0, server_host_keys=[key], server_factory=Open
            )
            found.append(Server(server.get_port(), key))
        return found

    yield asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: list[Server]) -> Path:
    """A project's folder, with a site file that gives the hosts their node addresses."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").write_text("name: x\nstackConfigDir: stacks\n")
    hosts = [
        {
            "name": name,
            "address": "127.0.0.1",
            "port": server.port,
            "nodeAddress": node,
            "role": role,
        }
        for name, server, node, role in zip(
            ("cp1", "w1"),
            servers,
            ("192.0.2.11", "192.0.2.21"),
            ("control-plane", "worker"),
            strict=False,
        )
    ]
    (tmp_path / "site.yaml").write_text(yaml.safe_dump({"hosts": hosts}))
    return tmp_path


def run(*flags: str, answers: str | None = None) -> Result:
    return CliRunner().invoke(init, list(flags), input=answers)


def said(result: Result) -> str:
    assert isinstance(result.exception, GroundplaneError), result.output or result.exception
    return str(result.exception)


BASIC = ("--stack", "metal", "--site", "site.yaml", "--endpoint", "192.0.2.10")


def prints(servers: list[Server]) -> list[str]:
    return [
        f"--fingerprint={name}={server.fingerprint}"
        for name, server in zip(("cp1", "w1"), servers, strict=False)
    ]


def test_known_fingerprints_need_no_questions(folder: Path, servers: list[Server]) -> None:
    result = run(*BASIC, *prints(servers))
    assert result.exit_code == 0, result.exception
    assert "control planes: cp1\n  workers: w1" in result.output
    spec = load("metal", folder / "stacks")
    assert [host.host_key for host in spec.hosts] == [server.line for server in servers[:2]]
    assert 1 <= (spec.cluster.endpoint.router_id or 0) <= 255
    written = (folder / "stacks/Pulumi.metal.yaml").read_text()
    assert written.startswith("# yaml-language-server: $schema=")
    assert "podCidrs: [10.244.0.0/16]" in written
    assert (folder / "stacks/platform.yaml").is_file()


def test_nothing_is_accepted_in_silence(folder: Path, servers: list[Server]) -> None:
    text = said(run(*BASIC))
    for name, server in zip(("cp1", "w1"), servers, strict=False):
        assert f"--fingerprint {name}={server.fingerprint}" in text
    assert not (folder / "stacks").exists()


def test_another_key_than_expected(folder: Path, servers: list[Server]) -> None:
    first, _ = prints(servers)
    text = said(run(*BASIC, first, f"--fingerprint=w1={servers[2].fingerprint}"))
    assert f"its host key is {servers[1].fingerprint}, not {servers[2].fingerprint}" in text
    assert not (folder / "stacks").exists()


def test_fingerprints_from_a_file(folder: Path, servers: list[Server]) -> None:
    (folder / "known").write_text(
        f"# a comment\ncp1 {servers[0].fingerprint}\nw1 {servers[1].fingerprint}\n"
    )
    assert run(*BASIC, "--accept-fingerprints", "known").exit_code == 0


def test_fingerprints_from_known_hosts(folder: Path, servers: list[Server]) -> None:
    lines = [f"[127.0.0.1]:{server.port} {server.line}\n" for server in servers]
    (folder / "known").write_text("".join(lines))
    assert read_fingerprints(folder / "known") == {
        "127.0.0.1": {server.fingerprint for server in servers}
    }
    assert run(*BASIC, "--accept-fingerprints", "known").exit_code == 0
    (folder / "known").write_text("cp1 rubbish\n")
    assert "known:1: neither a fingerprint" in said(
        run(*BASIC, "--force", "--accept-fingerprints", "known")
    )


def test_silent_hosts_are_all_named(folder: Path) -> None:
    flags = ("--control-plane", "127.0.0.1:1", "--worker", "spare=127.0.0.1:2")
    text = said(run("--stack", "metal", *flags, "--endpoint", "192.0.2.10"))
    assert "cp1 (127.0.0.1, port 1): showed no host key" in text
    assert "spare (127.0.0.1, port 2): showed no host key" in text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundplane.commands.init.at_terminal", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_a_person_confirms_each(folder: Path, servers: list[Server]) -> None:
    result = run("--site", "site.yaml", answers="prod\n10.7.0.0/16\n\n192.0.2.10\ny\ny\n")
    assert result.exit_code == 0, result.exception
    assert f"cp1 (127.0.0.1) ssh-ed25519 {servers[0].fingerprint}: the same there?" in result.output
    cluster = load("prod", folder / "stacks").cluster
    assert (cluster.name, cluster.pod_cidrs) == ("prod", ["10.7.0.0/16"])


@pytest.mark.usefixtures("terminal")
def test_a_person_refuses_one(folder: Path) -> None:
    text = said(run(*BASIC, answers="\n\ny\nn\n"))
    assert "w1 (127.0.0.1): its host key was not confirmed, so nothing was written" in text
    assert not (folder / "stacks").exists()


def test_through_a_jump_host(folder: Path, servers: list[Server]) -> None:
    jump = servers[2]
    private = asyncssh.generate_private_key("ssh-ed25519")
    (folder / "id").write_bytes(private.export_private_key())
    (folder / "id").chmod(0o600)
    result = run(
        *BASIC,
        *prints(servers),
        f"--jump=me@127.0.0.1:{jump.port}",
        f"--fingerprint=jump={jump.fingerprint}",
        "--key=id",
    )
    assert result.exit_code == 0, result.exception
    host = load("metal", folder / "stacks").hosts[0]
    assert host.jump and host.jump.user == "me" and host.jump.host_key == jump.line
    assert host.key == host.jump.key == str(folder / "id")
    text = said(
        run(*BASIC, "--force", f"--jump=127.0.0.1:{jump.port}", f"--fingerprint=jump={'SHA256:x'}")
    )
    assert "its host key is" in text


def test_a_site_is_not_overwritten(folder: Path, servers: list[Server]) -> None:
    assert run(*BASIC, *prints(servers)).exit_code == 0
    assert "this stack has a site already" in said(run(*BASIC, *prints(servers)))
    assert run(*BASIC, *prints(servers), "--force").exit_code == 0


def test_what_is_missing_is_named(folder: Path) -> None:
    text = said(run("--stack", "metal", "--site", "site.yaml"))
    assert "not given, and nobody to ask: Free address for the cluster's API" in text


BEFORE = """\
# ours
encryptionsalt: v1:salt
config:
  other:key: 1 # one
  groundplane:site: {hosts: [], cluster: {name: old}}
  # about the secret
  groundplane:registryPassword:
    secure: v1:abc
"""


def test_all_else_in_the_file_stays(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.metal.yaml").write_text(BEFORE)
    write_stack(tmp_path, "metal", SITE, force=True)
    text = (tmp_path / "Pulumi.metal.yaml").read_text()
    old = "  groundplane:site: {hosts: [], cluster: {name: old}}\n"
    head, tail = BEFORE.split(old)
    assert text.startswith(head + "  groundplane:site:\n    hosts:\n") and text.endswith(tail)
    write_stack(tmp_path, "metal", SITE, force=True)
    assert (tmp_path / "Pulumi.metal.yaml").read_text() == text


@pytest.mark.parametrize(
    "before",
    [
        "",
        "config: {}\n",
        "config:\n",
        "encryptionsalt: v1:salt\n",
        "encryptionsalt: v1:salt",
        "config:\n  other:key: 1\nencryptionsalt: v1:salt\n",
        "config: {other:key: 1}\nencryptionsalt: v1:salt\n",
        "config:\n    other:key:\n        - a\n        - b\n\n# the end\n",
        "config:\n  other:key: |\n    text\n    more\nencryptionsalt: v1:salt\n",
        "config:\n  groundplane:site:\n    hosts:\n      - name: x\n\n  other:key: 1\n",
        "config:\n  groundplane:site: null\n  other:key: 1\n",
        "config:\n  groundplane:site:\n    hosts: |\n      a\n      b\n  other:key: 1\n",
    ],
)
def test_it_goes_into_whatever_is_there(before: str, tmp_path: Path) -> None:
    path = tmp_path / "Pulumi.metal.yaml"
    path.write_text(before)
    assert len(write_stack(tmp_path, "metal", SITE, force=True).hosts) == 4
    old, new = yaml.safe_load(before) or {}, yaml.safe_load(path.read_text())
    for data in (old, new):
        data["config"] = {
            key: value
            for key, value in (data.get("config") or {}).items()
            if key != "groundplane:site"
        }
    assert new == old
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in path.read_text().splitlines() if line.startswith("#")] == comments


def test_what_was_written_is_checked(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no hosts"):
        write_stack(tmp_path, "metal", {"cluster": SITE["cluster"]})


def test_values_that_yaml_would_misread_are_quoted(tmp_path: Path) -> None:
    odd = {"a": "1e3", "b": "true", "c": "10", "d": "on", "e": "2026-01-01", "f": ""}
    site = {**SITE, "hosts": [{**SITE["hosts"][0], "labels": odd}]}
    assert write_stack(tmp_path, "metal", site).hosts[0].labels == odd
