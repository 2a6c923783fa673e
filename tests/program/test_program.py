"""The whole stack under Pulumi's mocks: what is registered, in which order, with which options."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from traceback import format_exception
from typing import Any

import pulumi
import pytest
from support.program import CANARIES, PEM, SECRET, Resource, register, resolved
from support.seen import blank, changed, drifted, entry, standing
from support.specs import host, hosts, spec

from groundplane import survey
from groundplane.clusters import shared
from groundplane.errors import GroundplaneError
from groundplane.platform import Platform
from groundplane.remote import step as remote_step
from groundplane.remote.bundle import Bundle
from groundplane.remote.facts import Certificate
from groundplane.remote.observation import Observation
from groundplane.remote.step import INPUTS
from groundplane.spec import (
    ApiServer,
    Backup,
    Containerd,
    Hardening,
    Host,
    Jump,
    Mirrors,
    Spec,
    SshTarget,
    Target,
)

Run = Callable[..., dict[str, Resource]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Registers a specification's platform, with hosts as an observation shows them."""

    def run(made: Spec, seen: Observation, **how: Any) -> dict[str, Resource]:
        monkeypatch.setattr(shared, "survey", lambda _: seen)
        # Whether a host that is gone still listens on its address.
        monkeypatch.setattr(survey, "answers", lambda address: False)
        return register(lambda: Platform("metal", made), **how)

    return run


@pytest.fixture(scope="module")
def there() -> dict[str, Resource]:
    """The usual platform where it stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "survey", lambda _: standing(spec()))
        return register(lambda: Platform("metal", spec()))


def steps(found: dict[str, Resource]) -> list[Resource]:
    """All resources that run a step with data."""
    return [r for r in found.values() if "/current/run " in str(r.inputs.get("create", ""))]


def differing(one: dict[str, Resource], other: dict[str, Resource]) -> set[str]:
    """What an update would touch: new, gone, or with other inputs that are not ignored."""
    return {
        name
        for name in one.keys() | other.keys()
        if name not in one
        or name not in other
        or (
            one[name].inputs != other[name].inputs
            and other[name].effective
            != {k: v for k, v in one[name].inputs.items() if k not in other[name].ignores}
        )
    }


def before(found: dict[str, Resource], name: str) -> set[str]:
    """All that must have ended before this resource begins, directly or not."""
    done: set[str] = set()
    waiting = [name]
    while waiting:
        for other in found[waiting.pop()].after - done:
            done.add(other)
            waiting.append(other)
    return done


def of(found: dict[str, Resource], machine: str) -> set[str]:
    return {name for name in found if name.startswith(f"metal-{machine}-")}


# ---- what there is ---------------------------------------------------------------------------


def test_everything_that_is_registered(run: Run, snapshot: Any) -> None:
    table = [
        f"{r.name}: {r.type}"
        + (f" after {' '.join(sorted(r.after))}" if r.after else "")
        + (f"; deleted with {r.deleted_with}" if r.deleted_with else "")
        + ("; protected" if r.protect else "")
        for r in run(spec(), blank(spec())).values()
    ]
    assert "\n".join(table) == snapshot


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
def test_a_preview_registers_what_an_update_does(run: Run, preview: bool) -> None:
    """Nothing is hidden behind an output that only an update knows."""
    found = run(spec(), blank(spec()), preview=preview, blank=preview)
    assert list(found) == list(run(spec(), blank(spec())))


def test_a_preview_of_what_stands_knows_everything(run: Run) -> None:
    found = run(spec(), standing(spec()), preview=True)
    assert [r.name for r in found.values() if not r.known] == []


def test_the_same_again_changes_nothing(run: Run) -> None:
    once = run(spec(), standing(spec()))
    again = run(spec(), standing(spec()), preview=True)
    assert differing(once, again) == set()


def test_after_the_first_update_nothing_differs_but_tokens(run: Run) -> None:
    """What stands is what the first update made."""
    first, then = run(spec(), blank(spec())), run(spec(), standing(spec()))
    for name, resource in then.items():
        if resource.ignores >= set(INPUTS):
            continue
        was, now = first[name].inputs, resource.inputs
        but_tokens = {"stdin", "remotePath"}
        assert {k: v for k, v in was.items() if k not in but_tokens} == {
            k: v for k, v in now.items() if k not in but_tokens
        }
        if "-bundle" not in name and "stdin" in now and "teardown" not in name:
            assert {**first[name].data, "token": ""} == {**resource.data, "token": ""}


def test_the_outputs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Platform] = []
    monkeypatch.setattr(shared, "survey", lambda _: standing(spec()))
    register(lambda: made.append(Platform("metal", spec())))
    cluster = made[0].cluster
    assert resolved(cluster.endpoint) == ("https://192.0.2.10:8443", False)
    nodes, secret = resolved(cluster.nodes)
    assert (nodes["w2"], secret) == ("192.0.2.102", False)
    assert resolved(cluster.kubeconfig) == (PEM, True)
    identity, secret = resolved(cluster.identity)
    assert secret
    assert json.loads(identity).keys() == {"cluster", "identity"}


# ---- order -----------------------------------------------------------------------------------


def test_control_planes_one_after_the_other(run: Run) -> None:
    for seen in (blank(spec()), standing(spec())):
        found = run(spec(), seen)
        assert "metal-cp2-node" in before(found, "metal-cp3-node")
    assert "metal-cp1-node" in before(found, "metal-cp2-node")


def test_those_that_join_come_behind_the_members(run: Run) -> None:
    """Who carries the endpoint's address must know of a newcomer before that one asks for it."""
    found = run(spec(), standing(spec(), new=["cp1"]))
    assert "metal-cp3-node" in before(found, "metal-cp1-node")


def test_nobody_writes_with_a_new_key_before_all_can_read_it(run: Run) -> None:
    for seen in (blank(spec()), standing(spec())):
        found = run(spec(), seen)
        secrets = {f"metal-cp{n}-secrets" for n in (1, 2, 3)}
        assert all(secrets <= before(found, f"metal-cp{n}-node") for n in (1, 2, 3))


def test_a_node_leaves_before_what_it_needs_for_that_goes(there: dict[str, Resource]) -> None:
    """Deletes that are due together follow direct dependencies, and no others."""
    for machine in ("cp1", "cp2", "cp3", "w1", "w2"):
        steps = [f"metal-{machine}-{step}" for step in ("node", "secrets", "prepare", "bundle")]
        for one, other in pairwise(steps):
            assert other in there[one].after


def test_new_workers_join_beside_new_control_planes(run: Run) -> None:
    found = run(spec(), blank(spec()))
    for worker in ("w1", "w2"):
        order = before(found, f"metal-{worker}-node")
        assert "metal-membership" in order
        assert not any(name.startswith("metal-cp2-node") for name in order)


def test_new_workers_wait_for_control_planes_that_stand(run: Run) -> None:
    """Their kubelet may not be newer than an API server."""
    found = run(spec(), standing(spec(), new=["w2"]))
    assert "metal-cp3-node" in before(found, "metal-w2-node")
    # And for no other worker.
    assert "metal-w1-node" not in before(found, "metal-w2-node")


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_as_many_lanes_as_workers_may_be_unavailable(run: Run, lanes: int) -> None:
    made = spec(hosts(1, 6), max_unavailable=lanes)
    found = run(made, standing(made))
    for number in range(1, 7):
        order = before(found, f"metal-w{number}-node")
        earlier = {f"w{n}" for n in range(1, 7) if f"metal-w{n}-node" in order}
        assert earlier == {f"w{n}" for n in range(number - lanes, 0, -lanes)}
        assert "metal-cp1-node" in order


def test_everything_is_got_ready_at_once(run: Run) -> None:
    found = run(spec(), blank(spec()))
    for machine in ("cp1", "cp3", "w2"):
        assert before(found, f"metal-{machine}-prepare") == {
            "metal-teardown",
            f"metal-{machine}-scripts",
            f"metal-{machine}-bundle",
        }


def test_nobody_joins_before_membership(run: Run) -> None:
    found = run(spec(), standing(spec(), new=["cp3", "w2"]))
    for machine in ("cp3", "w2"):
        assert "metal-membership" in before(found, f"metal-{machine}-node")


def test_a_cluster_is_founded_on_one_host_only(run: Run) -> None:
    found = run(spec(), blank(spec()))
    founders = [r for r in steps(found) if "run bootstrap" in r.inputs["create"]]
    assert [r.name for r in founders] == ["metal-bootstrap"]
    assert founders[0].connection["host"] == "192.0.2.11"


def test_edges_grow_with_the_hosts_and_no_faster(run: Run) -> None:
    edges = []
    for workers in (3, 6, 12):
        made = spec(hosts(3, workers))
        edges.append(sum(len(r.after) for r in run(made, blank(made)).values()))
    assert edges[2] - edges[1] == 2 * (edges[1] - edges[0])


# ---- taking away -----------------------------------------------------------------------------


def test_in_a_whole_destroy_one_delete_speaks_to_hosts(there: dict[str, Resource]) -> None:
    for resource in there.values():
        if "delete" in resource.inputs and resource.name != "metal-teardown":
            assert resource.deleted_with == "metal-teardown", resource.name


def test_nothing_that_founds_or_asks_has_a_delete(there: dict[str, Resource]) -> None:
    found = there
    for name in ("bootstrap", "membership", "kubeconfig", "nodes"):
        assert "delete" not in found[f"metal-{name}"].inputs


@pytest.mark.parametrize("protect", [True, False])
def test_protection(run: Run, protect: bool) -> None:
    found = run(spec(protect=protect), standing(spec()))
    assert {r.name for r in found.values() if r.protect} == (
        {"metal-teardown", "metal-nodes"} if protect else set()
    )


def test_what_is_protected_is_the_first_that_a_destroy_meets(there: dict[str, Resource]) -> None:
    """A destroy without a preview begins with what nothing depends on."""
    assert before(there, "metal-nodes") == there.keys() - {"metal-nodes"}


def test_a_host_that_leaves_takes_its_own_resources_and_no_others(run: Run) -> None:
    whole, less = spec(), spec(hosts(3, 1))
    seen = standing(whole)
    there, left = run(whole, seen), run(less, Observation("metal", {**seen.hosts}))
    assert there.keys() - left.keys() == of(there, "w2")
    changes = differing(there, left) - of(there, "w2")
    # Who is in the cluster is known by these alone.
    assert changes == {"metal-teardown", "metal-membership", "metal-nodes"}


# ---- noticing --------------------------------------------------------------------------------


def test_tokens_are_kept_while_a_host_is_as_it_was_left(there: dict[str, Resource]) -> None:
    found = there
    assert found["metal-w1-node"].data["token"] == "token-w1-node"
    assert found["metal-membership"].data["token"] == "token-cp1-membership"


@pytest.mark.parametrize(
    "machine, step, touched",
    [
        ("w1", "prepare", {"metal-w1-prepare"}),
        ("w1", "bundle", {"metal-w1-scripts", "metal-w1-bundle"}),
        ("cp2", "secrets", {"metal-cp2-secrets"}),
        ("cp2", "node", {"metal-cp2-node"}),
        ("cp1", "nodes", {"metal-nodes"}),
    ],
)
def test_drift_shows_as_the_step_that_repairs_it(
    run: Run, there: dict[str, Resource], machine: str, step: str, touched: set[str]
) -> None:
    drift = drifted(standing(spec()), machine, step)
    assert differing(there, run(spec(), drift)) == touched


def test_a_wiped_worker_is_made_anew(run: Run, there: dict[str, Resource]) -> None:
    found = run(spec(), standing(spec(), new=["w1"]))
    assert differing(there, found) == of(found, "w1") | {"metal-membership"}


def test_a_wiped_control_plane_is_made_anew_and_founds_nothing(
    run: Run, there: dict[str, Resource]
) -> None:
    """The first one, which founded the cluster."""
    found = run(spec(), standing(spec(), new=["cp1"]))
    changes = differing(there, found)
    assert changes >= of(found, "cp1") | {"metal-membership"}
    assert changes <= of(found, "cp1") | {"metal-membership", "metal-nodes"}
    # Whoever lives acts for the cluster.
    assert found["metal-membership"].connection["host"] == "192.0.2.12"


def test_a_host_that_does_not_answer_keeps_its_steps(run: Run, there: dict[str, Resource]) -> None:
    found = run(spec(), standing(spec(), dead=["w1"]))
    for name in of(found, "w1"):
        assert found[name].ignores >= set(INPUTS)
    assert not any(found[name].ignores for name in of(found, "w2"))
    assert differing(there, found) == {"metal-unreachable"}


def test_an_update_fails_at_its_end_for_a_host_that_does_not_answer(run: Run) -> None:
    found = run(spec(), standing(spec(), dead=["w1"]))
    report = found["metal-unreachable"]
    assert "exit 1" in report.inputs["create"]
    assert report.inputs["stdin"] == "w1: no answer. Start it.\n"
    assert before(found, "metal-unreachable") == found.keys() - {"metal-unreachable"}


def test_a_dead_control_plane_holds_nothing_up(run: Run, there: dict[str, Resource]) -> None:
    found = run(spec(), standing(spec(), dead=["cp1"]))
    assert differing(there, found) <= {
        "metal-unreachable",
        "metal-membership",
    }


def lost(name: str) -> Spec:
    machines = [m if m.name != name else m.model_copy(update={"state": "lost"}) for m in hosts()]
    return spec(machines)


def test_a_lost_host_is_let_go_of_without_a_call(run: Run) -> None:
    made = lost("w2")
    found = run(made, standing(made))
    for name in of(found, "w2"):
        assert found[name].retain
        assert found[name].ignores >= set(INPUTS)
    assert "metal-unreachable" not in found
    assert found["metal-membership"].data["workers"] == ["w1"]
    assert "w2" not in found["metal-nodes"].data["nodes"]


def test_a_lost_control_plane_is_nobodys_peer(run: Run) -> None:
    made = lost("cp3")
    found = run(made, standing(made))
    assert found["metal-cp1-node"].data["endpoint"]["peers"].keys() == {"cp1", "cp2"}


def test_certificates_near_their_end_are_renewed(run: Run, there: dict[str, Resource]) -> None:
    seen = standing(spec())
    soon = datetime.now(UTC) + timedelta(days=80)
    ending = changed(
        seen, "cp2", certificates=(Certificate("/etc/kubernetes/pki/apiserver.crt", soon),)
    )
    assert differing(there, run(spec(), ending)) == {"metal-cp2-node"}


def test_a_kubeconfig_near_its_end_is_renewed(run: Run, there: dict[str, Resource]) -> None:
    seen = standing(spec())
    soon = datetime.now(UTC) + timedelta(days=80)
    path = "/var/lib/groundplane/kubeconfig.crt"
    ending = changed(seen, "cp1", certificates=(Certificate(path, soon),))
    assert differing(there, run(spec(), ending)) == {"metal-kubeconfig"}


# ---- a kubeconfig in wrong hands -------------------------------------------------------------


def made_by(seen: Observation, **generations: int) -> Observation:
    """Those hosts made the kubeconfig, each that generation, one after the other."""
    for name in [name for name in seen.hosts if seen.seen(name)]:
        ledger = dict(seen.hosts[name].ledger)
        ledger.pop("kubeconfig", None)
        if name in generations:
            at = datetime(2026, 1, 1 + list(generations).index(name), tzinfo=UTC)
            made = entry("metal", name, "kubeconfig")
            ledger["kubeconfig"] = replace(made, generation=generations[name], at=at)
        seen = changed(seen, name, ledger=ledger)
    return seen


def stays(found: dict[str, Resource]) -> bool:
    return found["metal-kubeconfig"].ignores >= set(INPUTS)


def test_a_kubeconfig_is_made_anew_on_purpose(run: Run, there: dict[str, Resource]) -> None:
    found = run(spec(kubeconfig_generation=2), standing(spec()))
    assert differing(there, found) == {"metal-kubeconfig"}
    given = found["metal-kubeconfig"].data
    assert given["generation"] == 2
    # A new token is a new user, and only the newest has rights.
    assert given["token"] != there["metal-kubeconfig"].data["token"]


def test_once_it_is_in_force_it_stays(run: Run) -> None:
    made = spec(kubeconfig_generation=2)
    assert stays(run(made, made_by(standing(made), cp1=2)))
    # The newest counts.
    assert stays(run(made, made_by(standing(made), cp2=1, cp1=2)))
    assert not stays(run(made, made_by(standing(made), cp1=2, cp2=1)))


def test_the_first_generation_goes_without_saying(there: dict[str, Resource]) -> None:
    assert "generation" not in there["metal-kubeconfig"].data


def test_a_kubeconfig_that_nobody_knows_to_have_made(run: Run) -> None:
    """A control plane that is gone made it; one that is only silent renews nothing."""
    first, second = spec(), spec(kubeconfig_generation=2)
    assert stays(run(first, made_by(standing(first, new=["cp1"]))))
    assert stays(run(second, made_by(standing(second, dead=["cp1"]))))
    assert not stays(run(second, made_by(standing(second, new=["cp1"]))))


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
@pytest.mark.parametrize("answer", ["", "null", '{"cluster": "never-in-plain-sight"}'])
def test_a_state_without_the_identity(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: str, preview: bool
) -> None:
    """Pulumi prints no traceback of a RunError."""
    monkeypatch.setattr("support.program.BOOTSTRAP", answer)
    with pytest.raises(pulumi.RunError) as refused:
        run(spec(), standing(spec()), preview=preview)
    assert isinstance(refused.value, GroundplaneError)
    finding = refused.value.finding
    assert finding.place == "metal-bootstrap"
    assert "holds no identity" in finding.what
    assert "pulumi up --replace '**::metal-bootstrap'" in finding.remedy
    assert "never-in-plain-sight" not in "".join(format_exception(refused.value))


# ---- a state that was lost -------------------------------------------------------------------


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(shared.pulumi.log, "warn", said.append)
    return said


def test_a_preview_says_that_a_cluster_is_adopted(run: Run, warnings: list[str]) -> None:
    run(spec(), standing(spec()), preview=True, blank=True)
    (said,) = warnings
    assert "the cluster 0123456789abcdef of this stack stands" in said
    assert "adopts it" in said


def test_it_names_who_is_missing(run: Run, warnings: list[str]) -> None:
    """Nothing can be created on a host that is silent, and who is not named is not kept."""
    left = spec([machine for machine in hosts() if machine.name != "w2"])
    seen = standing(spec(), dead=["w1"])
    seen = Observation(seen.stack, {k: v for k, v in seen.hosts.items() if k != "w2"})
    run(left, seen, preview=True, blank=True)
    assert [said.split(":")[0] for said in warnings[1:]] == ["w1", "w2"]


def test_of_what_is_new_or_known_nothing_is_said(run: Run, warnings: list[str]) -> None:
    run(spec(), blank(spec()), preview=True, blank=True)
    run(spec(), standing(spec()), preview=True)
    run(spec(), standing(spec()))
    assert warnings == []


def test_what_is_adopted_stays_as_it_is(run: Run, there: dict[str, Resource]) -> None:
    """Each step is told what it was told before, down to its token; but an administrator's access
    is made anew, and takes the rights from the one that went with the state."""
    adopted = run(spec(), standing(spec()))
    for resource in steps(there):
        again = adopted[resource.name].data
        if resource.name == "metal-kubeconfig":
            assert again["token"] != resource.data["token"]
        else:
            assert again == resource.data


# ---- changing --------------------------------------------------------------------------------

TOUCHED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "a flag of the API server": (
        {"api_server": ApiServer(extra_args={"v": "3"})},
        {"metal-cp1-node", "metal-cp2-node", "metal-cp3-node"},
    ),
    "a field of the kubelet": (
        {"kubelet": {"maxPods": 200}},
        {f"metal-{m}-node" for m in ("cp1", "cp2", "cp3", "w1", "w2")},
    ),
    "a field of kube-proxy": (
        {"kube_proxy": {"mode": "iptables"}},
        {"metal-cp1-node", "metal-cp2-node", "metal-cp3-node", "metal-nodes"},
    ),
    "the certificates": (
        {"certificates_generation": 2},
        {"metal-cp1-node", "metal-cp2-node", "metal-cp3-node"},
    ),
    "the encryption key": (
        {"encryption_generation": 2},
        {"metal-nodes"}
        | {f"metal-cp{n}-{step}" for n in (1, 2, 3) for step in ("secrets", "node")},
    ),
    "the runtime": (
        {"containerd": Containerd(version="2.3.3")},
        {f"metal-{m}-{s}" for m in ("cp1", "cp2", "cp3", "w1", "w2") for s in ("prepare", "node")},
    ),
    "a mirror of downloads": (
        {"mirrors": Mirrors(downloads="http://192.0.2.5:8080")},
        {f"metal-{m}-prepare" for m in ("cp1", "cp2", "cp3", "w1", "w2")},
    ),
    "the level of hardening": (
        {"hardening": Hardening(level="cis")},
        {
            f"metal-{m}-{s}"
            for m in ("cp1", "cp2", "cp3", "w1", "w2")
            for s in ("prepare", "secrets", "node")
        },
    ),
    "an exemption that is a host's": (
        {"hardening": Hardening(exempt={"cramfs": "old disks"})},
        {f"metal-{m}-{s}" for m in ("cp1", "cp2", "cp3", "w1", "w2") for s in ("prepare", "node")},
    ),
    "the protection": ({"protect": False}, set()),
}


@pytest.mark.parametrize("cluster, touched", TOUCHED.values(), ids=TOUCHED.keys())
def test_what_a_change_touches(
    run: Run, there: dict[str, Resource], cluster: dict[str, Any], touched: set[str]
) -> None:
    """And with it what it does not: the kubeconfig above all, and everything above the cluster."""
    now = run(spec(**cluster), standing(spec()), preview=True)
    assert differing(there, now) == touched


def test_the_first_control_plane_dead_and_replaced_in_one_edit(
    run: Run, there: dict[str, Resource]
) -> None:
    old = hosts()
    new = spec([*old[1:3], host("cp4", "192.0.2.14", "control-plane"), *old[3:]])
    found = run(new, standing(new, gone=[old[0]], new=["cp4"]), preview=True)
    gone = of(there, "cp1")
    # Kept for this one update, to be forgotten in the next without a call. An upload has no delete
    # that could fail, and made anew it would.
    kept = gone - {"metal-cp1-scripts"}
    assert gone & found.keys() == kept
    assert all(found[name].retain and found[name].ignores >= set(INPUTS) for name in kept)
    peers = {"metal-cp2-node", "metal-cp3-node"}
    whole = {"metal-membership", "metal-nodes", "metal-teardown"}
    assert differing(there, found) == of(found, "cp4") | peers | whole | gone - kept
    assert found["metal-membership"].connection["host"] == "192.0.2.12"


def test_a_new_release_changes_scripts_and_bundles_only(
    run: Run, there: dict[str, Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_step, "bundle", lambda: Bundle("of another release"))
    seen = standing(spec())
    found = run(spec(), seen)
    changes = differing(there, found)
    assert changes == {name for name in there if name.endswith(("-scripts", "-bundle"))}
    # What was uploaded before is not there any more: a release that did not get as far as the
    # ledger is uploaded once more, by the next update too.
    again = run(spec(), Observation(seen.stack, seen.hosts))
    for resource in again.values():
        if resource.name in changes:
            assert resource.inputs != found[resource.name].inputs, resource.name


def test_an_upload_arrives_where_its_installation_looks(there: dict[str, Resource]) -> None:
    for machine in ("cp1", "w2"):
        upload, bundle = there[f"metal-{machine}-scripts"], there[f"metal-{machine}-bundle"]
        digest, stack, token = bundle.inputs["stdin"].split()
        assert upload.inputs["remotePath"] == f"/tmp/groundplane-{token}.tar"
        content = Path(upload.inputs["source"]["path"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), stack) == (digest, "metal")


# ---- size and secrets ------------------------------------------------------------------------


def test_the_data_of_a_step_is_small(there: dict[str, Resource]) -> None:
    """A preview shows it field by field, and a state keeps it for each host."""
    for resource in steps(there):
        if "stdin" not in resource.secrets:
            assert len(resource.inputs["stdin"]) < 2048, resource.name


def test_the_data_of_a_step_stay_small_at_the_highest_level(run: Run) -> None:
    made = spec(hosts(5), hardening=Hardening(level="cis"))
    for resource in steps(run(made, standing(made))):
        if "stdin" not in resource.secrets:
            assert len(resource.inputs["stdin"]) < 2560, resource.name


def canary_spec(tmp_path: Path) -> Spec:
    key = tmp_path / "id_ed25519"
    key.write_text("never-in-plain-sight")
    recipient = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
    ssh = SshTarget(address="192.0.2.200", key=str(key), host_key=hosts()[0].host_key, path="/b")
    return spec(hosts(key=str(key)), backup=Backup(recipient=recipient, target=Target(ssh=ssh)))


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
def test_no_secret_is_kept_or_shown_in_plain_text(run: Run, tmp_path: Path, preview: bool) -> None:
    made = canary_spec(tmp_path)
    for seen in (blank(made), standing(made)):
        for resource in run(made, seen, preview=preview).values():
            for canary in CANARIES:
                assert canary not in resource.plain, resource.name


def test_secrets_do_reach_the_hosts(run: Run, tmp_path: Path) -> None:
    """The test above would pass if they went nowhere."""
    found = run(canary_spec(tmp_path), standing(canary_spec(tmp_path)))
    data = json.dumps(found["metal-cp1-secrets"].data)
    assert all(canary in data for canary in CANARIES)
    assert found["metal-w1-secrets"].data.keys() >= {"join_token", "ca"}
    assert "canary-secret" not in json.dumps(found["metal-w1-secrets"].data)


def test_what_is_secret_is_whole_inputs(run: Run, tmp_path: Path) -> None:
    """A secret inside of an input would hide nothing of what stands beside it."""
    made = canary_spec(tmp_path)
    for resource in run(made, standing(made)).values():
        text = json.dumps({k: v for k, v in resource.inputs.items() if k != "connection"})
        if "stdin" not in resource.secrets:
            assert SECRET not in text, resource.name


@pytest.fixture
def keyed(tmp_path: Path) -> Callable[..., Spec]:
    """Specifications with a key of the usual length: the state holds it with each step."""
    key = tmp_path / "id_ed25519"
    key.write_text("never-in-plain-sight" * 20)
    return lambda control_planes, workers: spec(hosts(control_planes, workers, key=str(key)))


def stored(found: dict[str, Resource]) -> int:
    return sum(r.stored for r in found.values())


def test_registrations_and_state_grow_with_the_hosts(run: Run, keyed: Callable[..., Spec]) -> None:
    count, bytes_ = {}, {}
    for number in (10, 100):
        made = keyed(3, number - 3)
        found = run(made, blank(made))
        count[number], bytes_[number] = len(found), stored(found)
    # What the cluster has once weighs less, the more hosts there are.
    assert count[100] / 100 < count[10] / 10
    assert bytes_[100] / 100 < 1.05 * bytes_[10] / 10


def test_what_a_host_costs(run: Run, keyed: Callable[..., Spec]) -> None:
    """Five steps, and 5 KB of the state for each."""
    few, more = keyed(3, 1), keyed(3, 2)
    one, two = run(few, blank(few)), run(more, blank(more))
    new = {name: two[name].stored for name in two.keys() - one.keys()}
    assert new.keys() == of(two, "w2")
    assert len(new) == 5
    assert sum(new.values()) < len(new) * 5 * 1024, new
    # Its place in what the whole cluster knows of its hosts.
    assert stored(two) - stored(one) - sum(new.values()) < 5 * 1024


def test_scripts_are_not_in_the_state(there: dict[str, Resource]) -> None:
    for resource in there.values():
        assert "put_file" not in json.dumps(resource.inputs), resource.name


def test_no_host_is_asked_before_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the look finds stops the program before anything is registered."""

    def refuse(_: Spec) -> Observation:
        raise RuntimeError("a finding")

    def program() -> None:
        with pytest.raises(RuntimeError):
            Platform("metal", spec())

    monkeypatch.setattr(shared, "survey", refuse)
    found = register(program)
    assert [r.type for r in found.values() if r.type.startswith("command")] == []


def test_a_host_behind_sudo_and_a_jump(run: Run) -> None:
    jump = Jump(address="192.0.2.1", host_key=hosts()[0].host_key)
    machine: Host = host("w9", "192.0.2.109", "worker", user="ops", jump=jump)
    made = spec([*hosts(), machine])
    found = run(made, blank(made))["metal-w9-prepare"]
    assert found.inputs["create"].startswith("sudo -n /usr/local/lib/groundplane/current/run ")
    assert found.connection["proxy"]["host"] == "192.0.2.1"
    # Unset would mean: not checked.
    for hop in (found.connection, found.connection["proxy"]):
        assert hop["hostKey"] == hosts()[0].host_key
