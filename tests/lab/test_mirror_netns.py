"""Both servers in a network namespace, as the lab runs them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import mirror, parts
from lab.mirror import daemon
from lab.parts import build, recipes

pytestmark = pytest.mark.lab
NETNS = "gp-test-mirror"
FILE = "dl.example/tool"


def ip(*argv: str, check: bool = True) -> None:
    subprocess.run(["ip", *argv], check=check, stderr=subprocess.DEVNULL if not check else None)


def make_namespace() -> None:
    ip("netns", "add", NETNS)
    ip("-n", NETNS, "link", "set", "lo", "up")


@pytest.fixture
def lab_dir(tmp_path: Path) -> Iterator[Path]:
    parts.ensure(print)
    file = tmp_path / "mirror/files" / FILE
    file.parent.mkdir(parents=True)
    file.write_text("tool")
    ip("netns", "del", NETNS, check=False)  # of a run that was killed
    make_namespace()
    yield tmp_path
    mirror.stop(tmp_path)
    ip("netns", "del", NETNS)


def get(path: str) -> str:
    """What a machine in the namespace gets for http://127.0.0.1PATH."""
    return subprocess.run(
        [*mirror.enter(NETNS), "curl", "-sS", "-m", "5", f"http://127.0.0.1{path}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def pids(lab_dir: Path) -> list[int | None]:
    return [daemon.running(lab_dir / f"mirror/{name}.pid") for name in mirror.SERVERS]


def test_serves_until_stopped(lab_dir: Path) -> None:
    mirror.start(NETNS, lab_dir)
    assert get(f":8080/{FILE}") == "tool"
    assert get(":5000/v2/_catalog") == '{"repositories":[]}\n'
    assert [one.path for one in mirror.accesses(lab_dir)] == [f"/{FILE}", "/v2/_catalog"]
    mirror.set_faults(lab_dir, [{"path": "*", "off": True}])
    with pytest.raises(subprocess.CalledProcessError):
        get(f":8080/{FILE}")
    before = pids(lab_dir)
    mirror.start(NETNS, lab_dir)
    assert pids(lab_dir) == before
    mirror.stop(lab_dir)
    assert pids(lab_dir) == [None, None]


def test_a_namespace_made_anew_gets_servers_of_its_own(lab_dir: Path) -> None:
    mirror.start(NETNS, lab_dir)
    before = pids(lab_dir)
    ip("netns", "del", NETNS)
    make_namespace()
    mirror.start(NETNS, lab_dir)
    assert set(pids(lab_dir)).isdisjoint(before)
    assert get(f":8080/{FILE}") == "tool"


def test_a_full_mirror(lab_dir: Path) -> None:
    """The real parts: the images that kubeadm asks for, under the names that it uses."""
    mirror.prepare(lab_dir, print)
    said: list[str] = []
    mirror.prepare(lab_dir, said.append)
    assert said == []
    mirror.start(NETNS, lab_dir)
    made = [v for v in recipes.KUBERNETES if build.home("kubernetes", v).exists()]
    assert made
    tags = get(":5000/v2/kube-apiserver/tags/list")
    assert [v for v in made if f'"v{v}"' not in tags] == []
    assert '"1"' in get(":5000/v2/probe/tags/list")
