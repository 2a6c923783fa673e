"""Hosts that are guests, under Pulumi's mocks: in which order what is made, changed and left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
from support import guests, seen
from support.guests import guest, hypervisor, virtual
from support.program import Resource, register, resolved
from support.specs import host

from groundplane import survey
from groundplane.clusters import kubeadm, shared
from groundplane.errors import GroundplaneError
from groundplane.hosts import libvirt
from groundplane.platform import Platform
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import Domain, HostToCome
from groundplane.remote.guests import State
from groundplane.remote.observation import Observation
from groundplane.remote.step import INPUTS
from groundplane.spec import Spec

THREE = [
    *(guest(f"cp{n}", f"hv{n}") for n in (1, 2, 3)),
    *(guest(f"w{n}", f"hv{n}") for n in (1, 2)),
]
HYPERVISORS = [hypervisor(f"hv{n}") for n in (1, 2, 3)]
IMAGE = {"image": "0" * 64}
SMALLER = {"definition": "0" * 64}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    guests.key_file(tmp_path)


Run = Callable[..., dict[str, Resource]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Registers the platform, where hypervisors and the cluster stand as `there` shows."""

    def run(made: Spec, there: Observation, new: Any = (), **how: Any) -> dict[str, Resource]:
        monkeypatch.setattr(libvirt, "look", lambda _: there)
        found = observed(made, new)
        for module in (shared, libvirt):
            monkeypatch.setattr(module, "survey", lambda _: found)
        return register(lambda: Platform("metal", made), **how)

    def observed(made: Spec, new: Any) -> Observation:
        planned = libvirt.LibvirtHosts.plan(made)
        away = {n for n, g in planned.items() if g.state is not State.RUNNING}
        controls = [h.name for h in made.control_planes if h.name not in away | set(new)]
        shown = seen.standing(made, dead=away, new=new) if controls else seen.blank(made)
        told = {name: survey._without_a_look(name, planned[name]) for name in away}
        return dataclasses.replace(shown, hosts={**shown.hosts, **told}, guests=planned)

    return run


def three(**fields: Any) -> Spec:
    return virtual(*THREE, hypervisors=HYPERVISORS, **fields)


def absent(made: Spec) -> Observation:
    return guests.look(made, dict.fromkeys((h.name for h in made.guests), ""))


def before(found: Mapping[str, Resource], name: str) -> set[str]:
    done: set[str] = set()
    waiting = [name]
    while waiting:
        for other in found[waiting.pop()].after - done:
            done.add(other)
            waiting.append(other)
    return done


def differing(one: Mapping[str, Resource], other: Mapping[str, Resource]) -> set[str]:
    """What the second would do after the first, beside what it would not look at."""
    return {
        name
        for name in one.keys() | other.keys()
        if name not in one
        or name not in other
        or other[name].effective
        != {k: v for k, v in one[name].inputs.items() if k not in other[name].ignores}
    }


# ---- what there is -----------------------------------------------------------------------------


def test_everything_that_is_registered(run: Run, snapshot: Any) -> None:
    made = virtual()
    table = [
        f"{r.name}: {r.type}"
        + (f" after {' '.join(sorted(r.after))}" if r.after else "")
        + (f"; deleted with {r.deleted_with}" if r.deleted_with else "")
        + ("; protected" if r.protect else "")
        for r in run(made, absent(made)).values()
    ]
    assert "\n".join(table) == snapshot


def test_the_same_again_changes_nothing(run: Run) -> None:
    made = three()
    once = run(made, guests.look(made))
    assert differing(once, run(made, guests.look(made), preview=True)) == set()


def test_a_preview_of_what_stands_knows_everything(run: Run) -> None:
    made = three()
    assert [
        r.name for r in run(made, guests.look(made), preview=True).values() if not r.known
    ] == []


def test_after_the_first_update_no_data_differ(run: Run) -> None:
    """A guest's key is an output at first and plain from then on; it is the same key."""
    made = virtual()
    first, then = run(made, absent(made)), run(made, guests.look(made))
    assert first.keys() == then.keys()
    for name, resource in then.items():
        if resource.ignores >= set(INPUTS) or not name.endswith(("-node", "-machine", "-release")):
            continue
        assert {**first[name].data, "token": ""} == {**resource.data, "token": ""}, name


def test_the_key_of_a_guest_that_is_there_is_what_its_hypervisor_told(run: Run) -> None:
    made = virtual()
    found = run(made, guests.look(made))
    assert found["metal-cp1-node"].connection["hostKey"] == guests.PUBLIC


def test_the_keys_of_guests_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody could know them beforehand; those of other hosts stand in the site."""
    platforms: list[Any] = []

    plain = Platform

    def kept(*given: Any) -> None:
        platforms.append(plain(*given))

    made = virtual(host("cp1", "192.0.2.11", "control-plane"), guest("w1"))
    monkeypatch.setitem(globals(), "Platform", kept)
    run(made, absent(made))
    keys = {name: pulumi.Output.from_input(key) for name, key in platforms[0].host_keys.items()}
    assert {name: resolved(key) for name, key in keys.items()} == {"w1": (guests.PUBLIC, False)}


def test_a_guest_beside_a_host(run: Run) -> None:
    made = virtual(host("cp1", "192.0.2.11", "control-plane"), guest("w1"))
    found = run(made, guests.look(made))
    assert "metal-cp1-machine" not in found
    assert found["metal-cp1-prepare"].deleted_with == "metal-teardown"
    assert found["metal-w1-prepare"].deleted_with == "metal-w1-machine"
    # Guests go with their machines: nothing resets them before.
    assert [h["name"] for h in found["metal-teardown"].data["hosts"]] == ["cp1"]


def test_without_its_source_a_guest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = virtual()
    monkeypatch.setattr(shared, "survey", lambda _: seen.blank(made))
    with pytest.raises(GroundplaneError, match="nothing here makes it"):
        register(lambda: kubeadm.KubeadmCluster("metal", made))


def test_a_guest_fails_with_its_hypervisor(run: Run) -> None:
    made = virtual(
        guest("cp1"), guest("w1", failure_domain="rack9"),
        hypervisors=[hypervisor(failure_domain="rack1")],
    )  # fmt: skip
    nodes = run(made, guests.look(made))["metal-nodes"].data["nodes"]
    zone = "topology.kubernetes.io/zone"
    assert [nodes[name]["labels"][zone] for name in ("cp1", "w1")] == ["rack1", "rack9"]


def test_a_program_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source and a cluster, with names of their own."""
    made = virtual()
    there = guests.look(made)
    monkeypatch.setattr(libvirt, "look", lambda _: there)
    shown = dataclasses.replace(seen.standing(made), guests=libvirt.LibvirtHosts.plan(made))
    for module in (shared, libvirt):
        monkeypatch.setattr(module, "survey", lambda _: shown)
    found = register(
        lambda: kubeadm.KubeadmCluster("k", made, sources=[libvirt.LibvirtHosts("m", made)])
    )
    assert "m-cp1-machine" in found["k-cp1-node"].after


# ---- leaving -----------------------------------------------------------------------------------


def test_a_guest_leaves_the_cluster_before_its_machine_goes(run: Run) -> None:
    """Deletes that are due together follow direct dependencies, and no others."""
    made = three()
    found = run(made, guests.look(made))
    for name in ("cp1", "w2"):
        node = found[f"metal-{name}-node"]
        assert f"metal-{name}-machine" in node.after
        # Its machine alone is no reason to leave without a word.
        assert node.deleted_with == "metal-teardown"
        for step in ("scripts", "bundle", "prepare", "secrets", "release"):
            assert found[f"metal-{name}-{step}"].deleted_with == f"metal-{name}-machine"
    assert "metal-hv1-pool" in found["metal-cp1-machine"].after
    assert "metal-hv1-bundle" in found["metal-hv1-pool"].after


def test_what_a_hypervisor_is_told_by_two_stacks_lies_apart(run: Run) -> None:
    made = virtual()
    found = run(made, guests.look(made))
    machine = found["metal-cp1-machine"]
    assert machine.inputs["create"] == (
        "/usr/local/lib/groundplane/for-metal/run machine.metal.cp1 apply"
    )
    assert machine.inputs["delete"].endswith("/run machine.metal.cp1 destroy")
    assert machine.data["domain"] == "metal.cp1"
    bundle = found["metal-hv1-bundle"].inputs
    assert bundle["delete"] == "/usr/local/lib/groundplane/for-metal/forget metal"
    assert bundle["stdin"].split()[1:3] == ["metal", "for-metal"]


# ---- guests that are not as they were ----------------------------------------------------------


def test_one_that_was_stopped_is_started_and_nothing_else(run: Run) -> None:
    made = three()
    usual = run(made, guests.look(made))
    for name, state in (("w1", "shut off"), ("cp2", "paused"), ("w2", "crashed")):
        now = run(made, guests.look(made, {name: state}), preview=True)
        # Its own data are the same but for the token; all else about it stays.
        assert differing(usual, now) == {f"metal-{name}-machine"}
        assert {**usual[f"metal-{name}-machine"].data, "token": ""} == {
            **now[f"metal-{name}-machine"].data,
            "token": "",
        }
        assert "metal-unreachable" not in now


def test_the_only_control_plane_that_was_stopped_founds_nothing(run: Run) -> None:
    made = virtual()
    usual = run(made, guests.look(made))
    now = run(made, guests.look(made, {"cp1": "shut off"}), preview=True)
    assert differing(usual, now) - {"metal-w1-node", "metal-w1-secrets"} <= {
        "metal-cp1-machine",
        *(name for name in now if name.startswith("metal-w1-")),
    }
    for name in ("metal-bootstrap", "metal-membership", "metal-kubeconfig", "metal-nodes"):
        assert now[name].ignores >= set(INPUTS), name


def test_one_that_is_gone_is_made_and_joins_anew(run: Run) -> None:
    made = three()
    usual = run(made, guests.look(made))
    now = run(made, guests.look(made, {"w1": ""}), new=["w1"])
    changed = differing(usual, now)
    assert {f"metal-w1-{s}" for s in ("machine", "bundle", "prepare", "secrets", "node")} <= changed
    assert not {n for n in changed if not n.startswith("metal-w1-")} - {"metal-membership"}
    assert "metal-w1-machine" in before(now, "metal-w1-scripts")


def test_a_guest_of_a_silent_hypervisor_keeps_its_steps(run: Run) -> None:
    made = three()
    usual = run(made, guests.look(made))
    now = run(made, guests.look(made, silent=["hv2"]), preview=True)
    assert differing(usual, now) == {"metal-unreachable"}
    (line,) = now["metal-unreachable"].inputs["stdin"].splitlines()
    assert line.startswith("cp2, w2: its hypervisor hv2 cannot be looked at: no answer.")


# ---- machines that change ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cp2", "w1"])
def test_a_member_is_released_before_its_machine_changes(run: Run, name: str) -> None:
    made = three()
    found = run(made, guests.look(made, old={name: SMALLER}))
    machine, node = found[f"metal-{name}-machine"], found[f"metal-{name}-node"]
    assert f"metal-{name}-release" in machine.after
    assert f"metal-{name}-machine" in node.after
    earlier = {"cp2": "metal-cp1-node", "w1": "metal-cp3-node"}[name]
    assert earlier in before(found, f"metal-{name}-release")
    # Whoever comes next waits until it is back.
    later = {"cp2": "metal-cp3-node", "w1": "metal-w2-node"}[name]
    assert f"metal-{name}-node" in before(found, later)
    # What needs no disturbance does not wait for its turn.
    assert f"metal-{name}-machine" not in before(found, f"metal-{name}-secrets")


def test_another_size_shows_where_it_disturbs(run: Run) -> None:
    one, other = (
        three(),
        virtual(
            *(guest("w1", "hv1", memory_mib=8192) if h.name == "w1" else h for h in THREE),
            hypervisors=HYPERVISORS,
        ),
    )
    old = {"w1": {"definition": guests.record(one, one.hosts[3])["definition"]}}
    usual = run(one, guests.look(one))
    now = run(other, guests.look(other, old=old), preview=True)
    assert {n for n in differing(usual, now)} == {
        "metal-w1-machine",
        "metal-w1-node",
        "metal-w1-release",
    }


def test_machines_of_control_planes_change_one_after_the_other(run: Run) -> None:
    made = three()
    found = run(made, guests.look(made, old={f"cp{n}": SMALLER for n in (1, 2, 3)}))
    for one, other in (("cp1", "cp2"), ("cp2", "cp3")):
        assert f"metal-{one}-node" in before(found, f"metal-{other}-release")


def test_a_member_that_is_installed_anew_waits_for_its_turn(run: Run) -> None:
    made = three()
    for name, first in (("cp1", "metal-membership"), ("w1", "metal-cp3-node")):
        found = run(made, guests.look(made, old={name: IMAGE}), preview=True, blank=False)
        assert first in before(found, f"metal-{name}-release")
        assert f"metal-{name}-release" in before(found, f"metal-{name}-machine")
        for step in ("bundle", "prepare", "secrets", "node"):
            assert f"metal-{name}-machine" in before(found, f"metal-{name}-{step}")
    # The others do not found on, nor speak through, one that goes.
    found = run(made, guests.look(made, old={"cp1": IMAGE}))
    assert found["metal-bootstrap"].connection["host"] == "192.0.2.62"
    assert found["metal-membership"].connection["host"] == "192.0.2.62"


def test_an_image_shows_in_what_lets_workers_in(run: Run) -> None:
    """One that is installed anew lives still while it is let in."""
    made = three()
    other = virtual(
        *(guest("w1", "hv1", image="debian-13") if h.name == "w1" else h for h in THREE),
        hypervisors=HYPERVISORS,
    )
    was = run(made, guests.look(made))["metal-membership"].data["images"]
    now = run(other, guests.look(other))["metal-membership"].data["images"]
    assert was.keys() == now.keys() == {"w1", "w2"}
    assert was["w1"] != now["w1"]
    assert was["w2"] == now["w2"] == was["w1"]


# ---- the look ----------------------------------------------------------------------------------


def test_hypervisors_are_looked_at_before_their_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    made = three()
    there = guests.look(made, {"cp1": "", "w1": "shut off"}, silent=["hv3"])
    monkeypatch.setattr(libvirt, "look", lambda _: there)
    asked: list[tuple[str, str]] = []

    def observe(hosts: Any, expect: Any) -> Observation:
        asked.extend((host.name, host.host_key) for host in hosts)
        return dataclasses.replace(seen.standing(made), shared=False)

    monkeypatch.setattr(survey, "observe", observe)
    found = survey.look_around(made)
    assert asked == [("cp2", guests.PUBLIC), ("w2", guests.PUBLIC)]
    assert list(found.hosts) == [host.name for host in made.hosts]
    assert isinstance(found.hosts["cp1"], HostToCome)
    stopped, hidden = found.hosts["w1"], found.hosts["cp3"]
    assert isinstance(stopped, HostUnreachable) and stopped.kind is Kind.STOPPED
    assert isinstance(hidden, HostUnreachable) and hidden.kind is Kind.HYPERVISOR


# ---- what stands in the way --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "own", "finds"),
    [
        ({}, {}, []),
        ({"libvirt": ""}, {}, ["libvirt"]),
        ({"libvirt": "7.0.0"}, {}, ["libvirt"]),
        ({"kvm": ""}, {}, ["kvm"]),
        ({"kvm": "hangs"}, {}, ["kvm"]),
        ({"kvm": "untried"}, {}, []),
        ({"bridges": ()}, {}, ["bridge"]),
        ({}, {"macvtap": "eno2"}, ["bridge"]),
        ({}, {"macvtap": "eno1"}, []),
        ({}, {"overcommit": {"cpu": 0.2}}, ["cpu"]),
        ({}, {"overcommit": {"memory": 0.11}}, ["memory"]),
    ],
)
def test_what_stands_in_the_way(
    fields: dict[str, Any], own: dict[str, Any], finds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = virtual(hypervisors=[hypervisor(**own)])
    monkeypatch.setattr(libvirt, "look", lambda _: guests.look(made, **fields))
    found = libvirt.LibvirtHosts.check(made, seen.blank(made))
    assert [(f.host, f.check, str(f.severity)) for f in found] == [
        ("hv1", check, "error") for check in finds
    ]
    assert all(f.remedy and not f.cause.endswith(".") for f in found)


def test_emulation_is_allowed_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    made = virtual(hypervisors=[hypervisor(emulation=True)])
    there = guests.look(made, {"w1": ""}, kvm="hangs")
    monkeypatch.setattr(libvirt, "look", lambda _: there)
    (found,) = libvirt.LibvirtHosts.check(made, seen.blank(made))
    assert (str(found.severity), found.check) == ("warning", "kvm")
    plan = libvirt.LibvirtHosts.plan(made)
    # One that was made with KVM is not taken for another because of one look.
    assert [plan[name].own["accelerator"] for name in ("cp1", "w1")] == ["kvm", "qemu"]
    assert libvirt.machine(made, made.hosts[1], plan["w1"])["definition"]["cpu"] == {
        "mode": "maximum", "shares": None, "quota": None, "pin": [],
    }  # fmt: skip


def test_others_on_the_hypervisor_count(monkeypatch: pytest.MonkeyPatch) -> None:
    made = virtual()
    there = guests.look(made)
    found = there.hosts["hv1"]
    assert not isinstance(found, HostUnreachable) and found.hypervisor is not None
    domains = {**found.hypervisor.domains, "other.w1": Domain("running", 16, 64 << 30)}
    more = dataclasses.replace(found.hypervisor, domains=domains)
    crowded = dataclasses.replace(there, hosts={"hv1": dataclasses.replace(found, hypervisor=more)})
    monkeypatch.setattr(libvirt, "look", lambda _: crowded)
    assert [f.check for f in libvirt.LibvirtHosts.check(made, seen.blank(made))] == [
        "cpu",
        "memory",
    ]


def test_a_silent_hypervisor_is_one_finding_that_names_its_guests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = three()
    monkeypatch.setattr(libvirt, "look", lambda _: guests.look(made, silent=["hv1"]))
    (found,) = libvirt.LibvirtHosts.check(made, seen.blank(made))
    assert (found.cause, str(found.severity)) == ("no answer; with it cp1, w1", "error")
    # Dead nodes hold up nothing.
    (found,) = libvirt.LibvirtHosts.check(made, seen.standing(made, dead=["cp1", "w1"]))
    assert str(found.severity) == "warning"


def test_a_guest_that_is_elsewhere_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    made = three()
    moved = virtual(
        *(guest("w1", "hv3") if h.name == "w1" else h for h in THREE), hypervisors=HYPERVISORS
    )
    there = guests.look(made)
    monkeypatch.setattr(libvirt, "look", lambda _: there)
    (found,) = libvirt.LibvirtHosts.check(moved, seen.standing(moved))
    assert (found.host, str(found.severity)) == ("hv1", "error")
    assert found.cause == "w1 is here, and is to be on hv3"


def test_a_machine_that_tells_no_key_ends_the_program() -> None:
    with pytest.raises(GroundplaneError, match="told no host key"):
        libvirt._key_told("\n")
    assert libvirt._key_told(f"{guests.PUBLIC}\n") == guests.PUBLIC


def test_new_guests_want_room(monkeypatch: pytest.MonkeyPatch) -> None:
    made = virtual()
    monkeypatch.setattr(
        libvirt, "look", lambda _: guests.look(made, {"cp1": "", "w1": ""}, available=1 << 30)
    )
    assert [f.check for f in libvirt.LibvirtHosts.check(made, seen.blank(made))] == ["memory"]


# ---- copies before an upgrade ------------------------------------------------------------------


def copied(name: str, version: str = "1.36.3", workers: str = "1.36.3") -> Spec:
    """Three and two, of which one is copied before its Kubernetes changes."""
    machines = [
        guest(h.name, h.guest.hypervisor, snapshot_before_upgrade=h.name == name)
        for h in THREE
        if h.guest
    ]
    kubernetes = {"version": version, "workers": workers}
    return virtual(*machines, hypervisors=HYPERVISORS, kubernetes=kubernetes)


@pytest.mark.parametrize("name", ["cp2", "w2"])
def test_a_copy_is_made_in_its_turn_and_before_its_node_changes(run: Run, name: str) -> None:
    made = copied(name)
    found = run(made, guests.look(made))
    copy = f"metal-{name}-snapshot"
    assert [n for n in found if n.endswith("-snapshot")] == [copy]
    assert copy in found[f"metal-{name}-node"].after
    assert f"metal-{name}-machine" in found[copy].after
    earlier = {"cp2": "metal-cp1-node", "w2": "metal-w1-node"}[name]
    assert earlier in before(found, copy)


@pytest.mark.parametrize(("name", "changes"), [("cp2", False), ("w2", True)])
def test_only_another_version_of_its_own_makes_a_copy(run: Run, name: str, changes: bool) -> None:
    old, new = copied(name, workers="1.35.4"), copied(name)
    usual = run(old, guests.look(old))
    now = differing(usual, run(new, guests.look(new), preview=True))
    assert (f"metal-{name}-snapshot" in now) is changes
