"""The firewall and rounds of patches in a cluster's program: which steps, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from support.program import Resource
from support.seen import blank, changed, drifted, entry, standing
from support.specs import host, hosts, spec
from test_program import Run, before, differing, run

from groundplane.remote.facts import HostSeen, Session
from groundplane.remote.observation import Observation
from groundplane.spec import Firewall, Host, Patching, Spec

__all__ = ["run"]

NOVEMBER = Patching(round="2026-11-01")


def guarded(machines: list[Host] | None = None, **given: Any) -> Spec:
    return spec(machines, firewall=Firewall(**given))


def with_steps(seen: Observation, *steps: str) -> Observation:
    """The same, with these steps applied on all hosts that answer."""
    for name, found in seen.hosts.items():
        if isinstance(found, HostSeen):
            ledger = {**found.ledger, **{step: entry(seen.stack, name, step) for step in steps}}
            seen = changed(seen, name, ledger=ledger)
    return seen


def of_kind(found: dict[str, Resource], *kinds: str) -> set[str]:
    return {name for name in found if name.endswith(tuple(f"-{kind}" for kind in kinds))}


# ---- the firewall ----------------------------------------------------------------------------


def test_none_unless_asked_for(run: Run) -> None:
    assert of_kind(run(spec(), blank(spec())), "firewall", "confirm", "patch") == set()


def test_a_connection_of_its_own_confirms_before_anything_else(run: Run) -> None:
    found = run(guarded(), blank(spec()))
    for machine in ("cp1", "cp3", "w2"):
        confirm = f"metal-{machine}-confirm"
        assert f"metal-{machine}-firewall" in found[confirm].after
        assert f"metal-{machine}-prepare" in found[f"metal-{machine}-firewall"].after
        assert confirm in found[f"metal-{machine}-secrets"].after
    assert "metal-cp1-confirm" in before(found, "metal-bootstrap")


def test_the_control_planes_know_who_joins_before_anybody_does(run: Run) -> None:
    found = run(
        guarded(hosts(3, 3)), with_steps(standing(spec(hosts(3, 3)), new=["w3"]), "firewall")
    )
    known = {f"metal-cp{n}-confirm" for n in (1, 2, 3)}
    assert known <= before(found, "metal-w3-node")


def test_another_node_confirms_and_disturbs_nobody(run: Run) -> None:
    seen = with_steps(standing(spec(hosts(3, 3))), "firewall", "confirm")
    fewer, more = run(guarded(hosts(3, 2)), seen), run(guarded(hosts(3, 3)), seen)
    touched = {name for name in differing(fewer, more) if not name.startswith("metal-w3-")}
    of_all = {"metal-membership", "metal-nodes", "metal-teardown"}
    assert touched == of_kind(fewer, "firewall", "confirm") | of_all


def test_whenever_it_runs_it_is_confirmed(run: Run) -> None:
    """Whatever for: the script alone knows whether rules are on trial."""
    seen = with_steps(standing(spec()), "firewall", "confirm")
    spoiled = drifted(seen, "w1", "firewall")
    assert differing(run(guarded(), seen), run(guarded(), spoiled)) == {
        "metal-w1-firewall",
        "metal-w1-confirm",
    }


def test_the_port_that_the_host_is_connected_by(run: Run) -> None:
    machines = [host("cp1", "192.0.2.11", "control-plane", port=2222)]
    seen = changed(blank(spec(machines)), "cp1", session=Session("192.0.2.9", 22))
    found = run(guarded(machines), seen)
    assert found["metal-cp1-firewall"].data["ssh_ports"] == [22, 2222]


def test_it_is_taken_away_where_it_is_no_longer_asked_for(run: Run) -> None:
    found = run(guarded(), standing(spec()))
    assert found["metal-w1-firewall"].inputs["delete"].endswith("run firewall destroy")
    assert "delete" not in found["metal-w1-confirm"].inputs


def test_a_host_that_does_not_answer_is_not_called(run: Run) -> None:
    """Also where the step is new: it is left unmade until the host is back."""
    found = run(guarded(), standing(spec(), dead=["w1"]))
    assert "create" not in found["metal-w1-firewall"].inputs
    assert "create" in found["metal-w1-firewall"].ignores


@pytest.mark.parametrize("steps, let_go", [(["firewall"], True), ([], False)])
def test_a_dead_host_that_left_is_let_go_of(run: Run, steps: list[str], let_go: bool) -> None:
    gone = host("w9", "192.0.2.109", "worker")
    seen = with_steps(standing(spec(), gone=[gone]), *steps)
    assert ("metal-w9-firewall" in run(spec(), seen)) is let_go


def test_what_a_step_is_given_stays_small(run: Run) -> None:
    made = guarded(hosts(5, 95), ssh=["192.0.2.0/24"])
    found = run(made, blank(made))
    assert len(found["metal-cp1-firewall"].inputs["stdin"]) < 2048


# ---- patches ---------------------------------------------------------------------------------


def test_a_round_turns_from_host_to_host(run: Run) -> None:
    found = run(spec(patching=NOVEMBER), standing(spec()))
    for machine in ("cp1", "cp2", "cp3", "w1", "w2"):
        assert f"metal-{machine}-patch" in found[f"metal-{machine}-node"].after
    # One is back before the next goes.
    assert "metal-cp1-node" in found["metal-cp2-patch"].after
    assert "metal-cp3-node" in found["metal-w1-patch"].after
    assert "metal-w1-node" in found["metal-w2-patch"].after


def test_the_next_round_runs_both_steps_of_each_host_and_no_other(run: Run) -> None:
    seen = with_steps(standing(spec()), "patch")
    november = run(spec(patching=NOVEMBER), seen)
    december = run(spec(patching=Patching(round="2026-12-01")), seen)
    assert differing(november, december) == of_kind(november, "patch") | {
        f"metal-{name}-node" for name in ("cp1", "cp2", "cp3", "w1", "w2")
    }


def test_whether_to_restart_alone_disturbs_no_node(run: Run) -> None:
    seen = with_steps(standing(spec()), "patch")
    never = Patching(round=NOVEMBER.round, reboot="never")
    one, other = run(spec(patching=NOVEMBER), seen), run(spec(patching=never), seen)
    assert differing(one, other) == of_kind(one, "patch")


def test_a_host_that_restarts_is_waited_for(run: Run) -> None:
    found = run(spec(patching=NOVEMBER), standing(spec()))
    assert found["metal-w1-node"].connection["dialErrorLimit"] == 60
    assert found["metal-w1-secrets"].connection["dialErrorLimit"] == 10


def test_a_host_in_maintenance_is_left_alone(run: Run) -> None:
    machines = [*hosts(3, 1), host("w2", "192.0.2.102", "worker", state="maintenance")]
    found = run(spec(machines, patching=NOVEMBER), standing(spec(machines)))
    assert of_kind(found, "patch") == {f"metal-{n}-patch" for n in ("cp1", "cp2", "cp3", "w1")}
