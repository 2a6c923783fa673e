"""SSH to a real sshd: each way to fail has its name, its cause and its remedy."""

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.sshd import Hop, Host, Sshd, keygen, run_sshd

from groundplane.remote import connect
from groundplane.remote.connect import Done, HostUnreachable, Kind, run_all


def one(host: Host, *argv: str, stdin: str = "", seconds: float = 20) -> Done | HostUnreachable:
    return run_all([host], argv or ("true",), stdin, seconds)[host.name]


def failure(host: Host, *argv: str, seconds: float = 20) -> HostUnreachable:
    result = one(host, *argv, seconds=seconds)
    assert isinstance(result, HostUnreachable), result
    assert result.cause
    assert result.remedy
    return result


def test_a_command_gets_its_arguments_and_stdin_whole(sshd: Sshd) -> None:
    big = "x" * 300_000
    result = one(sshd.host, "sh", "-c", 'printf %s "$1"; wc -c >&2; exit 3', "-", "a 'b' $c")
    assert result == Done("h1", 3, "a 'b' $c", "0\n")
    assert one(sshd.host, "wc", "-c", stdin=big) == Done("h1", 0, "300000\n", "")


def test_all_hosts_at_once(sshd: Sshd, tmp_path: Path) -> None:
    hosts = [sshd.named(f"h{n}") for n in range(8)]
    meet = 'mktemp "$0/XXXXXX"; until [ "$(ls "$0" | wc -l)" = 8 ]; do sleep 0.1; done'
    results = run_all(hosts, ["sh", "-c", meet, str(tmp_path)])
    assert list(results) == [host.name for host in hosts]
    assert all(isinstance(result, Done) and result.status == 0 for result in results.values())


def test_works_inside_a_running_loop(sshd: Sshd) -> None:
    async def program() -> Done | HostUnreachable:
        return one(sshd.host)

    assert connect.finish(program()) == Done("h1", 0, "", "")


def test_a_changed_host_key_is_never_accepted(sshd: Sshd, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    found = failure(replace(sshd.host, host_key=other))
    assert found.kind is Kind.HOST_KEY_CHANGED
    for key in (sshd.host.host_key, other):
        (tmp_path / "k.pub").write_text(key)
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True
        ).stdout.split()[1]
        assert shown in found.cause


def test_a_host_key_of_another_type(sshd: Sshd, tmp_path: Path) -> None:
    found = failure(replace(sshd.host, host_key=keygen(tmp_path / "rsa", "rsa")))
    assert found.kind is Kind.HOST_KEY_CHANGED


def test_the_recorded_key_is_asked_for_among_several(tmp_path: Path) -> None:
    rsa = keygen(tmp_path / "rsa", "rsa")
    (tmp_path / "s").mkdir()
    with run_sshd(tmp_path / "s", f"HostKey {tmp_path}/rsa") as sshd:
        assert one(replace(sshd.host, host_key=rsa)) == Done("h1", 0, "", "")


def test_a_damaged_host_key(sshd: Sshd) -> None:
    found = failure(replace(sshd.host, host_key="ssh-ed25519 AAAA"))
    assert found.kind is Kind.HOST_KEY_CHANGED


def test_a_refused_key(sshd: Sshd, tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    found = failure(replace(sshd.host, key=str(tmp_path / "stranger")))
    assert found.kind is Kind.AUTH_REFUSED
    assert sshd.host.user in found.cause


def test_a_refused_key_is_tried_once(tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    with run_sshd(tmp_path, "LogLevel VERBOSE") as sshd:
        failure(replace(sshd.host, key=str(tmp_path / "stranger")))
        # Written before the client hears of it.
        assert (tmp_path / "log").read_text().count("Failed publickey") == 1


@pytest.mark.parametrize(
    ("content", "words"), [(None, "not there"), ("no key\n", "stranger")], ids=["missing", "bad"]
)
def test_a_key_file_that_is_none(
    sshd: Sshd, tmp_path: Path, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "stranger").write_text(content)
    found = failure(replace(sshd.host, key=str(tmp_path / "stranger")))
    assert found.kind is Kind.AUTH_REFUSED
    assert words in found.cause


def test_nobody_listens() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host = Host("127.0.0.1", closed.getsockname()[1], "root", None, ANY_KEY, name="h1")
        found = failure(host)
    assert found.kind is Kind.UNREACHABLE
    assert "refused" in found.cause


def test_a_name_that_does_not_resolve() -> None:
    found = failure(Host("nosuch.invalid", 22, "root", None, ANY_KEY, name="h1"))
    assert found.kind is Kind.UNREACHABLE
    assert "nosuch.invalid" in found.cause


def test_a_black_hole_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        found = failure(
            Host("127.0.0.1", silent.getsockname()[1], "root", None, ANY_KEY, name="h1")
        )
    assert found.kind is Kind.UNREACHABLE
    assert time.monotonic() - started < 3


def silent_stranger(port: int) -> socket.socket:
    """Holds the only place for unauthenticated connections; sshd drops everyone else meanwhile."""
    for _ in range(50):
        stranger = socket.create_connection(("127.0.0.1", port), 5)
        with suppress(ConnectionResetError):
            if stranger.recv(100).startswith(b"SSH-"):
                return stranger
        stranger.close()
        time.sleep(0.05)  # the place is taken by the one before; sshd tells nobody when it is free
    pytest.fail("sshd lets nobody in")


def test_dropped_handshakes_are_tried_again(tmp_path: Path) -> None:
    with run_sshd(tmp_path, "MaxStartups 1") as sshd:
        threading.Timer(0.5, silent_stranger(sshd.host.port).close).start()
        assert one(sshd.host) == Done("h1", 0, "", "")
        assert "maxstartups" in (tmp_path / "log").read_text().lower()


def test_handshakes_dropped_for_good(tmp_path: Path) -> None:
    with run_sshd(tmp_path, "MaxStartups 1") as sshd, silent_stranger(sshd.host.port):
        found = failure(sshd.host)
    assert found.kind is Kind.UNREACHABLE
    assert "MaxStartups" in found.remedy


def test_a_command_that_takes_too_long(sshd: Sshd) -> None:
    started = time.monotonic()
    found = failure(sshd.host, "sleep", "60", seconds=1)
    assert found.kind is Kind.UNREACHABLE
    assert time.monotonic() - started < 5


def test_a_host_that_falls_silent(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "KEEPALIVE_SECONDS", 0.3)
    # The sshd that holds the connection stops; nothing closes it.
    freeze = "echo $PPID > $0; kill -STOP $PPID; sleep 60"
    note = sshd.folder / "frozen"
    found = failure(sshd.host, "bash", "-c", freeze, str(note), seconds=30)
    try:
        assert found.kind is Kind.UNREACHABLE
        assert "lost" in found.cause
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_sudo_that_works(sshd: Sshd) -> None:
    host = sshd.sudo('[ "$1" = -n ] || exit 9; shift; exec "$@"')
    assert one(host, "echo", "a b") == Done("h1", 0, "a b\n", "")


@pytest.mark.parametrize(
    "script",
    [
        "echo 'sudo: a password is required' >&2; exit 1",
        "echo 'sudo: sorry, you must have a tty to run sudo' >&2; exit 1",
        "echo 'bash: line 1: sudo: command not found' >&2; exit 127",
    ],
)
def test_sudo_that_does_not(sshd: Sshd, script: str) -> None:
    found = failure(sshd.sudo(script))
    assert found.kind is Kind.SUDO_REFUSED
    assert found.cause.split(": ")[-1] in script


def test_a_failed_command_under_sudo_is_a_result(sshd: Sshd) -> None:
    host = sshd.sudo('shift; exec "$@"')
    assert one(host, "sh", "-c", "echo broken >&2; exit 1") == Done("h1", 1, "", "broken\n")


def test_a_jump_host_is_dialled_once(sshd: Sshd, tmp_path: Path) -> None:
    with run_sshd(tmp_path) as gate:
        jump = as_hop(gate.host)
        hosts = [sshd.named(f"h{n}", jump=jump) for n in range(4)]
        assert all(isinstance(r, Done) for r in run_all(hosts, ["true"]).values())
        assert (tmp_path / "log").read_text().count("Accepted publickey") == 1


def test_a_jump_host_that_fails_is_named(sshd: Sshd, tmp_path: Path) -> None:
    jump = replace(as_hop(sshd.host), host_key=keygen(tmp_path / "other"))
    results = run_all([sshd.named("a", jump=jump), sshd.named("b", jump=jump)], ["true"])
    for found in results.values():
        assert isinstance(found, HostUnreachable)
        assert found.kind is Kind.HOST_KEY_CHANGED
        assert found.cause.startswith("jump host: ")


def as_hop(host: Host) -> Hop:
    return Hop(host.address, host.port, host.user, host.key, host.host_key)


ANY_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"  # RFC 8709's
)
