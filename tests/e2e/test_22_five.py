"""Five control planes come and go: power fails on the way, and two of them leave in one edit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from harness import Recorder, Stack, assert_pods_reach_each_other, at_most_one_down, until

from lab import machines
from lab.config import CHECKOUT

FIVE = ("cp1", "cp2", "cp3", "cp4", "cp5")
THREE = ("cp1", "cp2", "cp3")
POLICIES = CHECKOUT / "policies"
MEANWHILE = {"containerd": {"version": "2.2.1"}, "certificatesGeneration": 2}


@pytest.fixture(scope="module")
def recorder(session_stack: Stack) -> Iterator[Recorder]:
    with Recorder(session_stack.lab) as recording:
        yield recording


def test_the_power_fails_while_it_is_founded(stack: Stack, recorder: Recorder) -> None:
    stack.fresh(*THREE, "w1")
    stack.configure(stack.hosts("cp1", "w1"))
    first = stack.start_up()
    until(lambda: recorder.count("kubeadm init --config") or first.ended, "kubeadm init", 300)
    assert not first.ended, first.text
    machines.stop(stack.lab, "cp1")
    assert first.wait().status != 0
    stack.boot("cp1")
    stack.up()
    assert stack.nodes() == {"cp1": True, "w1": True}
    assert stack.members() == {"cp1": True}
    assert stack.preview() == {}


def test_the_power_fails_while_a_control_plane_joins(stack: Stack) -> None:
    stack.configure(stack.hosts(*THREE, "w1"))
    first = stack.start_up()
    until(lambda: len(members(stack)) == 2 or first.ended, "cp2 is a member", 300)
    assert not first.ended, first.text
    machines.stop(stack.lab, "cp2")
    assert first.wait().status != 0
    stack.boot("cp2")
    stack.up()
    assert stack.members() == dict.fromkeys(THREE, True)
    assert stack.nodes() == dict.fromkeys((*THREE, "w1"), True)
    assert stack.preview() == {}


def members(stack: Stack) -> set[str]:
    """etcd's members; nothing while it does not answer."""
    try:
        return set(stack.members())
    except machines.MachineError:
        return set()


def test_a_join_that_is_taken_up_after_its_token_has_expired(stack: Stack) -> None:
    stack.boot("cp4", "cp5", "w2")
    stack.configure(stack.hosts(*FIVE, "w1", "w2"))
    first = stack.start_up()
    until(lambda: stack.runs("w2", "node") or first.ended, "w2's node step", 500)
    until(lambda: stack.shell("w2", "pkill -KILL -ex kubeadm", check=False), "w2's kubeadm join")
    assert first.wait().status != 0
    # As the token cleaner does after two hours.
    stack.kubectl("-n", "kube-system", "delete", "secret", "--field-selector", TOKENS)
    stack.up()
    assert stack.members() == dict.fromkeys(FIVE, True)
    assert stack.nodes() == dict.fromkeys((*FIVE, "w1", "w2"), True)
    assert stack.preview() == {}
    assert_pods_reach_each_other(stack)


def test_policies_judge_what_stands(stack: Stack) -> None:
    """By what was seen on its machines: as it is, by its state, and as a change would leave it."""
    pack = ("--policy-pack", str(POLICIES))
    levels = ("--policy-pack-config", str(POLICIES / "levels" / "lab.json"))
    judged = stack.pulumi("preview", *pack, *levels)
    assert "mandatory" not in judged.text
    judged = stack.pulumi("policy", "analyze", "--stack", stack.name, *pack, *levels)
    assert "mandatory" not in judged.text
    stack.configure(stack.hosts("cp1", "w1", "w2"))
    refused = stack.pulumi("preview", *pack, *levels, check=False)
    assert refused.status != 0
    assert "would leave in one change, so that 1 of 5 members stay" in refused.text
    stack.configure(stack.hosts(*FIVE, "w1", "w2"))
    assert stack.preview() == {}


TOKENS = "type=bootstrap.kubernetes.io/token"


def test_the_runtime_and_all_certificates_roll(stack: Stack) -> None:
    before = {name: serials(stack, name) for name in FIVE}
    stack.configure(stack.hosts(*FIVE, "w1", "w2"), **MEANWHILE)
    with at_most_one_down(stack, *FIVE):
        stack.up(timeout=1400)
    for name in FIVE:
        assert not serials(stack, name) & before[name]
    for node in stack.get("nodes"):
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == "containerd://2.2.1"
    assert stack.cordoned() == []
    assert stack.preview() == {}


def serials(stack: Stack, machine: str) -> set[str]:
    """Of the certificates with which the API server and etcd really answer."""
    script = (
        "for port in 6443 2379; do "
        "openssl s_client -connect localhost:$port </dev/null 2>/dev/null |"
        " openssl x509 -noout -serial; done"
    )
    return set(stack.shell(machine, script).split())


def test_two_of_five_leave_in_one_edit(stack: Stack) -> None:
    """Deletes are not chained: it is the gate that keeps them apart."""
    stack.configure(stack.hosts(*THREE, "w1", "w2"), **MEANWHILE)
    with leaving(stack, "cp4", "cp5") as seen:
        stack.up()
    assert seen[0] == seen[-1] == set()
    assert any(seen), "nobody was seen to leave: the recorder saw nothing"
    assert {"cp4", "cp5"} not in seen
    assert stack.members() == dict.fromkeys(THREE, True)
    assert stack.nodes() == dict.fromkeys((*THREE, "w1", "w2"), True)
    assert stack.preview() == {}


@contextlib.contextmanager
def leaving(stack: Stack, *names: str) -> Iterator[list[set[str]]]:
    """Who is cordoned, the first thing behind the gate, and still a node, each time it changes."""
    seen: list[set[str]] = []
    ended = threading.Event()
    cordoned = "{.items[?(@.spec.unschedulable==true)].metadata.name}"
    script = f"kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes -o jsonpath='{cordoned}'"

    def look() -> None:
        while not ended.wait(0.1):
            try:
                between = set(stack.shell("cp1", script).split()) & set(names)
            except machines.MachineError:
                continue  # its API server did not answer for once
            if not seen or seen[-1] != between:
                seen.append(between)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_destroy(stack: Stack) -> None:
    stack.destroy()
    assert stack.resources() == []
