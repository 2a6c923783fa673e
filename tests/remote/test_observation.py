"""What an observation answers, from hosts made up and from a real look by SSH."""

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from support.sshd import Host, Sshd

from groundplane.remote import observation
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import Certificate, Etcd, HostSeen, Member, Node
from groundplane.remote.ledger import Drift, Entry
from groundplane.remote.observation import Expect, Observation, look, observe

DATA = ("/etc/kubernetes/kubelet.conf",)


def entry(step: str, stack: str = "ours") -> Entry:
    return Entry(stack, "c", step, 1, f"token-of-{step}", "d", None)


def host(name: str, *steps: str, stack: str = "ours", **more: object) -> HostSeen:
    return replace(HostSeen(name, ledger={step: entry(step, stack) for step in steps}), **more)


def silent(name: str) -> HostUnreachable:
    return HostUnreachable(name, Kind.UNREACHABLE, "no answer", "look")


def seen(*hosts: HostSeen | HostUnreachable) -> Observation:
    return Observation("ours", {host.name: host for host in hosts})


# ---- tokens -------------------------------------------------------------------------------------


def fresh(token: str) -> bool:
    return re.fullmatch("[0-9a-f]{16}", token) is not None


def test_a_step_that_holds_keeps_its_token() -> None:
    assert seen(host("a", "node", "prepare")).token("a", "node") == "token-of-node"


@pytest.mark.parametrize(
    "found",
    [
        host("a"),
        host("a", "prepare"),
        host("a", "node", stack="theirs"),
        host("a", "node", drift=(Drift("node", "file /x", "1", "2"),)),
        silent("a"),
    ],
    ids=["wiped", "another step", "another stack", "drifted", "silent"],
)
def test_else_it_gets_a_fresh_one(found: HostSeen | HostUnreachable) -> None:
    one, two = seen(found), seen(found)
    assert fresh(one.token("a", "node"))
    assert one.token("a", "node") == one.token("a", "node"), "preview asks more than once"
    assert one.token("a", "node") != two.token("a", "node"), "from facts it would miss a wipe"


def test_drift_is_of_one_step() -> None:
    drift = Drift("prepare", "file /x", "1", "2")
    look = seen(host("a", "node", "prepare", drift=(drift,)))
    assert look.conforms("a", "node")
    assert not look.conforms("a", "prepare")
    assert look.drift("a") == [drift]


def test_drift_of_another_stack_is_not_ours() -> None:
    drifted = host("a", "node", stack="theirs", drift=(Drift("node", "file /x", "1", "2"),))
    assert seen(drifted).drift("a") == []


# ---- whose a host is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "states"),
    [
        (host("a"), {"blank"}),
        (host("a", "prepare"), set()),
        (host("a", "prepare", "node"), {"joined"}),
        (host("a", "prepare", cluster_data=DATA), {"joined"}),
        (host("a", cluster_data=DATA), {"foreign"}),
        (host("a", "node", stack="theirs"), {"foreign"}),
        (host("a", "node", stack="theirs", cluster_data=DATA), {"foreign"}),
        (host("a", record={"stack": "theirs"}), {"foreign"}),
        (host("a", record={"stack": "ours"}, cluster_data=DATA), set()),
        (silent("a"), {"unreachable"}),
    ],
    ids=[
        "blank",
        "prepared",
        "a node",
        "half joined",
        "somebody's",
        "theirs",
        "theirs, running",
        "their record",
        "our record, no ledger",
        "silent",
    ],
)
def test_whose(found: HostSeen | HostUnreachable, states: set[str]) -> None:
    look = seen(found)
    names = ("blank", "joined", "foreign", "unreachable")
    assert {name for name in names if getattr(look, name)("a")} == states


# ---- the cluster --------------------------------------------------------------------------------


def member(name: str) -> Member:
    return Member(name, name, (), (), False, True)


def node(name: str) -> Node:
    return Node(name, (), True, "1.36.3", False, (), True)


def test_the_living_serve() -> None:
    look = seen(
        host("no-etcd", "node"),
        host("sick", "node", etcd=Etcd(False, (member("sick"),))),
        silent("silent"),
        host("theirs", "node", stack="theirs", etcd=Etcd(True, (member("theirs"),))),
        host("well", "node", etcd=Etcd(True, (member("well"),), ("NOSPACE",))),
    )
    assert look.living(look.hosts) == ["well"]
    assert [m.name for m in look.members] == ["well"], "one with a quorum knows best"
    assert look.alarms == ("NOSPACE",)


def test_without_a_quorum_any_list_is_better_than_none() -> None:
    look = seen(host("sick", "node", etcd=Etcd(False, (member("sick"), member("gone")))))
    assert look.living(["sick"]) == []
    assert [m.name for m in look.members] == ["sick", "gone"]


def test_nodes_are_those_of_the_first_that_answers() -> None:
    look = seen(
        host("a", "node"),
        host("theirs", "node", stack="theirs", nodes=(node("theirs"),)),
        host("b", "node", nodes=(node("a"), node("b"))),
    )
    assert [n.name for n in look.nodes] == ["a", "b"]
    assert seen(host("a")).nodes == ()


def test_certificates_near_their_end() -> None:
    now = datetime.now(UTC)
    certificates = tuple(
        Certificate(f"{days}", now + timedelta(days=days)) for days in (100, 5, 20, -3)
    )
    look = seen(host("a", certificates=certificates), silent("b"))
    assert [c.path for c in look.expiring("a", timedelta(days=90))] == ["-3", "5", "20"]
    assert look.expiring("b", timedelta(days=90)) == []


# ---- the look -----------------------------------------------------------------------------------


def test_every_host_is_there_seen_or_not(sshd: Sshd) -> None:
    hosts = [
        sshd.named("a"),
        sshd.named("gone", state="lost", address="192.0.2.1"),
        sshd.named("closed", port=1),
        sshd.named("b"),
    ]
    found = look(hosts, Expect("ours"))
    assert list(found.hosts) == ["a", "gone", "closed", "b"]
    assert [found.unreachable(host.name) for host in hosts] == [False, True, True, False]
    assert kind(found, "gone") is Kind.LOST
    assert kind(found, "closed") is Kind.UNREACHABLE
    assert found.seen("a") != found.seen("b") is not None


def kind(found: Observation, name: str) -> Kind | None:
    host = found.hosts[name]
    return host.kind if isinstance(host, HostUnreachable) else None


def test_by_sudo(sshd: Sshd) -> None:
    allowed = sshd.sudo('shift; exec "$@"')
    assert not look([allowed], Expect("ours")).unreachable("h1")
    refused = sshd.sudo("echo 'sudo: a password is required' >&2; exit 1")
    found = look([refused], Expect("ours"))
    assert kind(found, "h1") is Kind.SUDO_REFUSED


@pytest.mark.parametrize("script", ["exit 0", "echo Welcome; exit 1", "echo broken >&2; exit 1"])
def test_a_look_that_fails(sshd: Sshd, script: str) -> None:
    broken = sshd.folder / "bin" / "bash"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    try:
        assert kind(look([sshd.host], Expect("ours")), "h1") is Kind.COMMAND_FAILED
    finally:
        broken.unlink()


def test_a_look_that_takes_too_long(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    look([sshd.host], Expect("ours"))
    # A few times what it takes on this computer now.
    monkeypatch.setattr(observation, "LOOK_SECONDS", 2 + 3 * (time.monotonic() - started))
    slow = sshd.sudo("sleep 60")
    found = look([slow, sshd.named("quick")], Expect("ours"))
    assert kind(found, "h1") is Kind.UNREACHABLE
    assert not found.unreachable("quick")


def test_one_look_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def looked(hosts: list[Host], expect: Expect) -> Observation:
        looks.append([host.name for host in hosts])
        return seen()

    monkeypatch.setattr(observation, "look", looked)
    monkeypatch.setattr(observation, "_looks", {})
    a = Host("192.0.2.1", 22, "root", None, "key", name="a")
    assert observe([a], Expect("ours")) is observe([a], Expect("ours"))
    observe([replace(a, address="192.0.2.2")], Expect("ours"))
    observe([a], Expect("theirs"))
    assert looks == [["a"], ["a"], ["a"]]
