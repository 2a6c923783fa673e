"""Hosts whose address or key another resource of the same program gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import pulumi
import pytest
from support.guests import guest, hypervisor, virtual
from support.program import Resource, register, vm
from support.seen import blank, standing
from support.specs import KEY, hosts, spec

from groundplane import survey
from groundplane.clusters import kubeadm, shared
from groundplane.errors import SpecError
from groundplane.remote import observation
from groundplane.remote.connect import HostUnreachable
from groundplane.remote.facts import HostSeen, HostToCome
from groundplane.remote.observation import Expect, Observation
from groundplane.spec import Host, Hypervisor, Jump, Spec

Make = Callable[[], Sequence[Host]]


@dataclasses.dataclass
class World:
    """What is there to be looked at, and which addresses were looked at."""

    there: Callable[[Spec], Observation] = blank
    looked_at: list[str] = dataclasses.field(default_factory=list)
    told: list[str] = dataclasses.field(default_factory=list)

    def observe(self, machines: Sequence[Host], expect: Expect) -> Observation:
        self.looked_at += [host.address for host in machines]
        every = self.there(spec())
        return Observation("metal", {host.name: every.hosts[host.name] for host in machines})

    def run(self, make: Make, **how: Any) -> dict[str, Resource]:
        self.looked_at.clear()
        found = register(lambda: kubeadm.KubeadmCluster("metal", spec(list(make()))), **how)
        return {name: each for name, each in found.items() if not name.startswith("vm ")}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(survey, "observe", world.observe)
    monkeypatch.setattr(survey, "answers", lambda address: True)
    monkeypatch.setattr(observation.secrets, "token_hex", lambda _: "fresh")
    monkeypatch.setattr(shared, "token_hex", lambda _: "fresh")
    # These machines are nobody's, and have no memory and no system.
    monkeypatch.setattr(survey.preflight, "require", lambda *_: [])
    monkeypatch.setattr(pulumi.log, "info", world.told.append)
    return world


def plain() -> list[Host]:
    return hosts()


def given(*names: str) -> Make:
    """The same hosts, some at an address that another resource gives."""

    def make() -> list[Host]:
        return [
            Host(**{**dict(host), "address": (at := vm(host.address)), "node_address": at})
            if host.name in names
            else host
            for host in hosts()
        ]

    return make


ALL = ("cp1", "cp2", "cp3", "w1", "w2")


def addresses(*names: str) -> set[str]:
    return {host.address for host in hosts() if host.name in names}


@pytest.mark.parametrize("names", [("w1",), ("cp2", "w1"), ALL], ids=len)
def test_a_preview_takes_them_for_hosts_to_come(world: World, names: tuple[str, ...]) -> None:
    found = world.run(given(*names), preview=True, blank=True)
    assert set(world.looked_at) == addresses(*set(ALL) - set(names))
    assert found.keys() == world.run(plain, preview=True, blank=True).keys()
    for name in ALL:
        assert found[f"metal-{name}-prepare"].known == (name not in names)
    assert [text.partition(":")[0] for text in world.told] == [", ".join(names)]


@pytest.mark.parametrize("names", [("w1",), ("cp2", "w1"), ALL], ids=len)
def test_an_update_looks_at_them_once_they_are_there(world: World, names: tuple[str, ...]) -> None:
    """And does what it does where the same addresses stand in the program."""
    found = world.run(given(*names))
    assert set(world.looked_at) == addresses(*ALL)
    there = world.run(plain)
    assert {n: made.inputs for n, made in found.items()} == {n: m.inputs for n, m in there.items()}
    assert world.told == []


def test_what_stands_is_left_alone(world: World) -> None:
    """Once they are known, a preview knows them too, and shows no change."""
    world.there = standing
    names = [host.name for host in hosts()]
    there, found = world.run(plain, preview=True), world.run(given(*names), preview=True)
    tokens = {name: step.data["token"] for name, step in there.items() if name.endswith("-node")}
    assert tokens == {name: found[name].data["token"] for name in tokens}
    assert set(tokens.values()) == {f"token-{name}-node" for name in names}


def test_one_that_is_made_anew_beside_others_that_stand(world: World) -> None:
    """A preview of a machine that is being replaced: the others stay as they are."""
    world.there = standing
    found = world.run(given("w1"), preview=True, blank=True)
    assert not found["metal-w1-node"].known
    assert json.loads(found["metal-w2-prepare"].inputs["stdin"])["token"] == "token-w2-prepare"
    assert "metal-unreachable" not in found


def test_keys_and_ways_may_be_given_too(world: World) -> None:
    jump = Jump(address="192.0.2.1", host_key=KEY)

    def make() -> list[Host]:
        through = Jump(**{**dict(jump), "address": vm("192.0.2.1")})
        one, *others = hosts(1, 1)
        return [Host(**{**dict(one), "host_key": vm(KEY), "jump": through}), *others]

    found = world.run(make)
    assert found["metal-cp1-node"].connection["proxy"]["host"] == "192.0.2.1"
    assert found["metal-cp1-node"].connection["hostKey"] == KEY
    world.run(make, preview=True, blank=True)
    assert world.looked_at == ["192.0.2.101"]


def test_a_lost_host_is_not_looked_at_and_not_to_come(world: World) -> None:
    def make() -> list[Host]:
        one, two = hosts(1, 1)
        return [one, Host(**{**dict(two), "address": vm(two.address), "state": "lost"})]

    lost = HostUnreachable("w1", survey.Kind.LOST, "marked as lost: not tried", "")
    world.there = lambda made: Observation("metal", {**blank(made).hosts, "w1": lost})
    assert world.run(make, preview=True, blank=True)["metal-w1-node"].retain
    assert world.run(make)["metal-w1-node"].retain


def test_all_that_is_wrong_with_them_is_said_at_once(world: World) -> None:
    def make() -> list[Host]:
        one, two, three = hosts(1, 2)
        return [
            Host(**{**dict(one), "address": pulumi.Output.secret("192.0.2.11")}),
            Host(**{**dict(two), "address": vm("192.0.2.300")}),
            Host(**{**dict(three), "host_key": vm("none")}),
        ]

    with pytest.raises(SpecError) as caught:
        world.run(make)
    said = [str(finding).partition("\n")[0] for finding in caught.value.findings]
    assert said[0] == "cp1: its address or host key is a secret."
    assert said[1].startswith("Host.address (w1): '192.0.2.300' is neither an IP address")
    assert said[2].startswith("Host.host_key (w2): ")
    assert world.looked_at == []
    assert isinstance(caught.value, pulumi.RunError)


def test_a_hypervisor_is_there_before_its_guests(world: World) -> None:
    def program() -> None:
        own = Hypervisor(**{**dict(hypervisor()), "address": vm("192.0.2.31")})
        kubeadm.KubeadmCluster("vm", virtual(guest("cp1"), hypervisors=[own]))

    with pytest.raises(SpecError, match=r"^hv1: its address or host key comes from another"):
        register(program, preview=True)


def test_two_that_turn_out_to_be_one(world: World) -> None:
    def make() -> list[Host]:
        one, two = hosts(1, 1)
        return [one, Host(**{**dict(two), "address": vm(one.address)})]

    with pytest.raises(SpecError, match=r"192\.0\.2\.11 is taken by"):
        world.run(make)


def test_an_update_never_guesses(world: World) -> None:
    """As with --target, which leaves out what gives the address."""
    with pytest.raises(SpecError, match=r"^w1: its address or host key is not known"):
        world.run(given("w1"), blank=True)
    assert world.looked_at == []


def test_plain_ones_are_as_they_were() -> None:
    made = spec()
    assert survey.as_known(made) is made


def test_hosts_to_come_are_as_good_as_seen() -> None:
    assert issubclass(HostToCome, HostSeen)
