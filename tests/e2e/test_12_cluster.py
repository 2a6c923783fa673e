"""A cluster from nothing, and what its days are like: the same again, drift, hosts that die."""

from __future__ import annotations

from harness import Recorder, Stack, assert_pods_reach_each_other

RECORDED = Recorder


def test_from_nothing(stack: Stack) -> None:
    stack.fresh("cp1", "w1")
    stack.configure(stack.hosts("cp1", "w1"))
    stack.up()
    assert all(stack.nodes().values())
    assert_pods_reach_each_other(stack)


def test_again(stack: Stack) -> None:
    before = stack.processes()
    assert stack.preview() == {}
    stack.up()
    assert stack.processes() == before
