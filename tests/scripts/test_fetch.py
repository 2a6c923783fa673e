"""The download path, against a server of our own that shows each fault: a verified file comes, or
none does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from support.host import Done, Host

from lab.mirror.server import Fault, Running, running

CONTENT = random.Random(1).randbytes(300_000)
DIGEST = sha256(CONTENT).hexdigest()
TARGET = "/opt/groundplane/kubernetes/1.36.4/kubelet"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    files = tmp_path / "files" / "dl.example.org"
    files.mkdir(parents=True)
    (files / "kubelet").write_bytes(CONTENT)
    with running(tmp_path / "files", tmp_path) as server:
        yield server


def fetch(host: Host, url: str, digest: str = DIGEST, **environment: str) -> Done:
    script = f"fetch {url} {digest} {TARGET}"
    # On this computer's network, where the server listens.
    return host.bash(script, network=False, env=environment)


def direct(host: Host, server: Running, digest: str = DIGEST) -> Done:
    return fetch(host, f"{server.url}/dl.example.org/kubelet", digest)


def statuses(server: Running) -> list[int]:
    return [int(line.split('" ')[1].split()[0]) for line in server.log]


def assert_there(host: Host, done: Done) -> None:
    assert done.status == 0, done.err
    assert done.changes == ["kubelet fetched"]
    assert host.path(TARGET).read_bytes() == CONTENT
    assert [p.name for p in host.path(TARGET).parent.iterdir()] == ["kubelet"]


def assert_refused(host: Host, done: Done) -> None:
    assert done.status == 1
    assert "not to be had with the digest" in done.err
    assert not host.there(TARGET)


def test_a_file_is_fetched_once(host: Host, server: Running) -> None:
    assert_there(host, direct(host, server))
    assert direct(host, server) == Done(0, "", "")
    assert statuses(server) == [200]


FAULTS: dict[str, list[Fault]] = {
    "busy for a while": [{"path": "*", "status": 503, "times": 1}],
    "too many at once": [{"path": "*", "status": 429, "times": 1, "retry_after": 1}],
    "broken for a while": [{"path": "*", "status": 500, "times": 1}],
    "reset once": [{"path": "*", "off": True, "times": 1}],
    "cut off twice": [{"path": "*", "truncate": 100_000, "times": 2}],
    "damaged on the way once": [{"path": "*", "corrupt": 1234, "times": 1}],
    "cut off and damaged": [
        {"path": "*", "truncate": 100_000, "times": 1},
        {"path": "*", "corrupt": 1234, "times": 1},
    ],
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_a_server_that_recovers(host: Host, server: Running, faults: list[Fault]) -> None:
    server.set_faults(faults)
    assert_there(host, direct(host, server))


def test_what_came_before_a_cut_is_not_fetched_again(host: Host, server: Running) -> None:
    server.set_faults([{"path": "*", "truncate": 100_000, "times": 1}])
    assert_there(host, direct(host, server))
    assert statuses(server) == [200, 206]


FOR_EVER: dict[str, list[Fault]] = {
    "damaged": [{"path": "*", "corrupt": 1234}],
    "off": [{"path": "*", "off": True}],
    "absent": [{"path": "*", "status": 404}],
    "cut off in the same place": [{"path": "*", "truncate": 0}],
}


@pytest.mark.parametrize("faults", FOR_EVER.values(), ids=FOR_EVER.keys())
def test_a_server_that_does_not(host: Host, server: Running, faults: list[Fault]) -> None:
    server.set_faults(faults)
    assert_refused(host, direct(host, server))


def test_another_file_than_the_catalogue_names(host: Host, server: Running) -> None:
    done = direct(host, server, sha256(b"another").hexdigest())
    assert_refused(host, done)
    assert "Remedy: is the mirror reachable" in done.err


def test_what_an_earlier_try_left_may_be_of_another_file(host: Host, server: Running) -> None:
    host.write(f"{TARGET}.part", "the beginning of something else")
    assert_there(host, direct(host, server))


def test_what_an_earlier_try_left_may_be_whole(host: Host, server: Running) -> None:
    """The power went between the last byte and the rename."""
    host.write(f"{TARGET}.part", "")
    host.path(f"{TARGET}.part").write_bytes(CONTENT)
    assert_there(host, direct(host, server))
    assert sum(int(line.split()[-1]) for line in server.log) == 0


def test_a_full_disk(host: Host, server: Running) -> None:
    done = host.bash(
        f"""
        mkdir -p /opt/groundplane
        mount -t tmpfs -o size=64k small /opt/groundplane
        (fetch {server.url}/dl.example.org/kubelet {DIGEST} {TARGET}) || echo refused
        [ ! -e {TARGET} ] && echo absent""",
        network=False,
    )
    assert done.out.split() == ["refused", "absent"]


def test_through_a_proxy(host: Host, server: Running) -> None:
    """As the step sets it from the specification: the name is the proxy's to look up."""
    proxy = {"runtime": {"proxy": {"http": server.url, "no_proxy": "localhost,.svc"}}}
    script = f"proxy_export; fetch http://files.invalid/dl.example.org/kubelet {DIGEST} {TARGET}"
    assert_there(host, host.bash(script, proxy, step="prepare", network=False))
    assert "http://files.invalid/dl.example.org/kubelet" in server.log[0]


def test_past_the_proxy(host: Host, server: Running) -> None:
    proxy = {"runtime": {"proxy": {"http": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}}}
    script = f"proxy_export; fetch {server.url}/dl.example.org/kubelet {DIGEST} {TARGET}"
    assert_there(host, host.bash(script, proxy, step="prepare", network=False))
