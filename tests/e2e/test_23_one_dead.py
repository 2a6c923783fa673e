"""One of three control planes is dead: nobody else is disturbed, and nothing is founded anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Recorder, Stack, assert_pods_reach_each_other

from lab import machines

THREE = ("cp1", "cp2", "cp3")
ALL = (*THREE, "w1")


@pytest.fixture(scope="module")
def recorder(session_stack: Stack) -> Iterator[Recorder]:
    with Recorder(session_stack.lab) as recording:
        yield recording


def test_from_nothing(stack: Stack) -> None:
    stack.fresh(*ALL, "cp4")
    stack.configure(stack.hosts(*ALL))
    stack.up()
    assert_pods_reach_each_other(stack)


def test_with_one_of_three_dead_nobody_else_is_disturbed(stack: Stack) -> None:
    machines.stop(stack.lab, "cp3")
    before = stack.processes("cp1", "cp2", "w1")
    settings = {"apiServer": {"extraArgs": {"max-requests-inflight": 500}}}
    stack.configure(stack.hosts(*ALL), **settings)
    stack.refused("refused to disturb cp1: etcd would keep 1 of 3 members", "not healthy: cp3")
    assert stack.processes("cp1", "cp2", "w1") == before
    # Nor may another join, or a living one leave.
    stack.configure(stack.hosts("cp1", "cp3", "cp4", "w1"))
    stack.refused("refused to disturb cp4: not healthy: cp3")
    assert stack.members() == dict.fromkeys(THREE, True)
    assert stack.cordoned() == []


def test_a_blank_control_plane_among_silent_peers_founds_nothing(
    stack: Stack, recorder: Recorder
) -> None:
    founded = recorder.count("kubeadm init --config")
    machines.wipe(stack.lab, "cp1")
    machines.stop(stack.lab, "cp2")
    stack.configure(stack.hosts(*ALL))
    assert stack.up(check=False).status != 0
    assert recorder.count("kubeadm init --config") == founded
    assert stack.shell("cp1", "ls /var/lib/etcd", check=False) == ""
    stack.boot("cp2", "cp3")
    stack.up()
    assert recorder.count("kubeadm init --config") == founded
    assert stack.members("cp2") == dict.fromkeys(THREE, True)
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.preview() == {}


def test_destroy_with_one_of_three_dead(stack: Stack) -> None:
    machines.stop(stack.lab, "cp3")
    done = stack.destroy()
    assert "cp3: not reset" in done.text
    assert stack.resources() == []
    for name in ("cp1", "cp2", "w1"):
        assert stack.processes(name) == {name: []}
