"""The disturbance gate: whose turn it is, and what the cluster can bear."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster, fake_etcdctl
from support.host import Host

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "quorum.yaml").read_text())
MEMBERS = [f"cp{n} 192.0.2.1{n} voter healthy" for n in (1, 2, 3)]
PEERS = {f"cp{n}": f"192.0.2.1{n}" for n in (1, 2, 3)}


def member(line: str) -> str:
    """As etcd_members prints it."""
    name, kind, health = line.split()
    return f"1a2b {name} https://192.0.2.1:2379 {kind} {health}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_quorum(host: Host, case: dict[str, Any]) -> None:
    members = "\n".join(map(member, case["members"]))
    host.write("/run/members", members)
    done = host.bash(f'quorum_allows {case["action"]} {case["self"]} "$(cat /run/members)"')
    if "refused" in case:
        assert (done.status, done.out[:-1] or None) != (0, None)
        assert case["refused"] in done.out
    else:
        assert (done.status, done.out) == (0, "")


def test_quorum_against_its_definition(host: Host) -> None:
    """Every cluster of up to five members: whoever may be disturbed leaves a majority behind."""
    lines, wanted = [], []
    for size, action in itertools.product((1, 2, 3, 4, 5), ("disturb", "leave")):
        for health in itertools.product(("healthy", "unhealthy"), repeat=size):
            names = [member(f"cp{n} voter {h}") for n, h in enumerate(health, 1)]
            lines.append(f"{action};{'|'.join(names)}")
            remaining = size - (action == "leave")
            left = sum(h == "healthy" for h in health[1:])
            alone = size == 1
            majority = left >= remaining // 2 + 1
            wanted.append((action == "disturb") if alone else health[0] == "unhealthy" or majority)
    host.write("/run/cases", "\n".join(lines) + "\n")
    done = host.bash("""
      while IFS=';' read -r action members; do
        if quorum_allows "$action" cp1 "${members//|/$'\\n'}" >/dev/null; then echo yes
        else echo no; fi
      done </run/cases""")
    assert [answer == "yes" for answer in done.out.split()] == wanted


# ---- whose turn ------------------------------------------------------------------------------


def data(name: str, role: str = "control-plane", slots: int = 1) -> dict[str, Any]:
    address = PEERS.get(name, "192.0.2.99")
    endpoint = {"peers": PEERS}
    return {
        "name": name, "address": address, "role": role, "max_unavailable": slots,
        "endpoint": endpoint,
    }  # fmt: skip


@pytest.fixture
def cluster(host: Host) -> Cluster:
    cluster = Cluster(host)
    cluster.nodes("cp1", "cp2", "cp3", "w1", "w2", "w3")
    return cluster


def take(host: Host, name: str, role: str = "control-plane", slots: int = 1) -> bool:
    return host.bash("gate_take", data(name, role, slots)).status == 0


def test_a_free_turn_is_taken(host: Host, cluster: Cluster) -> None:
    assert take(host, "cp1")
    assert cluster.holders == {"control-plane": "cp1"}


def test_what_is_ours_already_is_ours(host: Host, cluster: Cluster) -> None:
    """A step that was cut off goes on where it was."""
    cluster.hold("control-plane", "cp1")
    assert take(host, "cp1")
    assert host.calls == []


def test_another_control_planes_turn_is_respected(host: Host, cluster: Cluster) -> None:
    cluster.hold("control-plane", "cp2")
    assert not take(host, "cp1")
    assert cluster.holders == {"control-plane": "cp2"}


def test_control_planes_and_workers_do_not_wait_for_each_other(
    host: Host, cluster: Cluster
) -> None:
    assert take(host, "cp1")
    assert take(host, "w1", "worker")
    assert cluster.holders == {"control-plane": "cp1", "worker-1": "w1"}


def test_as_many_workers_as_may_be_unavailable(host: Host, cluster: Cluster) -> None:
    assert [take(host, name, "worker", 2) for name in ("w1", "w2", "w3")] == [True, True, False]
    assert cluster.holders == {"worker-1": "w1", "worker-2": "w2"}


def test_control_planes_are_always_one_at_a_time(host: Host, cluster: Cluster) -> None:
    assert [take(host, name, slots=3) for name in ("cp1", "cp2")] == [True, False]


def test_the_turn_of_a_node_that_is_gone_is_taken_over(host: Host, cluster: Cluster) -> None:
    cluster.hold("control-plane", "cp0")
    assert take(host, "cp1")
    assert cluster.holders == {"control-plane": "cp1"}


def test_an_api_server_that_does_not_answer_gives_no_turn(host: Host) -> None:
    host.fake("kubectl", "exit 1")
    assert not take(host, "cp1")


@pytest.mark.parametrize("left", [None, "cp0"], ids=["free", "of a node that is gone"])
def test_many_at_once(host: Host, cluster: Cluster, left: str | None) -> None:
    """All find it free before one takes it; the API server lets only one have it."""
    if left:
        cluster.hold("control-plane", left)
    done = host.bash(
        """
        # All ask first, and only then does any of them take.
        slot() {
          touch "/run/asked.$BASHPID"
          wait_until 20 "all asked" all_asked
          real_slot "$@"
        }
        all_asked() { [ "$(ls /run/asked.* | wc -l)" -eq 3 ]; }
        RENAME
        for name in cp1 cp2 cp3; do
          (
            jq -c --arg n $name '.name = $n' $DATA >/run/$name.json
            DATA=/run/$name.json
            read_data
            if gate_take; then echo $name; fi
          ) &
        done
        wait""".replace("RENAME", RENAME),
        data("cp1"),
    )
    assert done.status == 0, done.err
    (winner,) = done.out.split()
    assert cluster.holders == {"control-plane": winner}


# The product's `slot` under another name, so that one of ours can stand before it.
RENAME = 'source <(sed -n "/^slot() {/,/^}/p" "$2/lib/gate.sh" | sed "s/^slot/real_slot/")'


# ---- what the cluster can bear ---------------------------------------------------------------

ENTER = "gate_enter disturb; echo entered"


def test_a_healthy_cluster_lets_in(host: Host, cluster: Cluster) -> None:
    fake_etcdctl(host, MEMBERS)
    assert host.bash(ENTER, data("cp1")).out == "entered\n"
    assert cluster.holders == {"control-plane": "cp1"}


REFUSED = {
    "fewer than a quorum": (
        {"members": [*MEMBERS[:2], "cp3 192.0.2.13 voter unhealthy"]},
        "etcd would keep 1 of 3 members, fewer than its quorum; not healthy: cp3",
    ),
    "a learner": (
        {"members": [*MEMBERS, "cp4 192.0.2.14 learner healthy"]},
        "member cp4 is still a learner",
    ),
    "an alarm": ({"members": MEMBERS, "alarms": "memberID:1 alarm:NOSPACE"}, "alarm:NOSPACE"),
    "silence": ({"members": MEMBERS, "silent": True}, "no etcd member answers"),
}


@pytest.mark.parametrize("etcd, why", REFUSED.values(), ids=REFUSED.keys())
def test_who_is_refused_gives_the_turn_back(
    host: Host, cluster: Cluster, etcd: dict[str, Any], why: str
) -> None:
    fake_etcdctl(host, **etcd)
    done = host.bash(ENTER, data("cp1"))
    assert (done.status, done.out) == (1, "")
    assert "refused to disturb cp1" in done.err
    assert why in done.err
    assert cluster.holders == {}


def test_workers_ask_no_etcd(host: Host, cluster: Cluster) -> None:
    fake_etcdctl(host, MEMBERS, silent=True)
    assert host.bash(ENTER, data("w1", "worker")).out == "entered\n"


def test_a_check_of_an_add_on(host: Host, cluster: Cluster) -> None:
    fake_etcdctl(host, MEMBERS)
    check = "/etc/groundplane/gate.d/storage"
    host.write(check, '#!/bin/sh\necho "$1 $2: too few copies"\nexit 1\n', 0o755)
    done = host.bash(ENTER, data("cp1"))
    assert "refused to disturb cp1: disturb cp1: too few copies" in done.err
    assert cluster.holders == {}
    host.path(check).chmod(0o644)
    assert host.bash(ENTER, data("cp1")).out == "entered\n"


# The clock of a wait is bash's own; a quarter of an hour passes in one step.
LATE = "sleep() { SECONDS=$((SECONDS + 901)); }"


def asked(cluster: Cluster, health: str, **fields: str) -> None:
    """What an add-on wants to be asked, and the object that answers."""
    ask = {
        "namespace": "storage", "resource": "stores.example.org/disks",
        "jsonpath": "{.status.health}", "refuses": "DEGRADED|DOWN", "why": "copies are missing",
    }  # fmt: skip
    labels = {"groundplane.io/gate": "check"}
    cluster.add("ConfigMap", "storage", metadata={"labels": labels}, data={**ask, **fields})
    cluster.add("stores.example.org", "disks", status={"health": health})


@pytest.mark.parametrize("name, role", [("cp1", "control-plane"), ("w1", "worker")])
def test_an_add_on_is_asked(host: Host, cluster: Cluster, name: str, role: str) -> None:
    fake_etcdctl(host, MEMBERS)
    asked(cluster, "OK")
    assert host.bash(ENTER, data(name, role)).out == "entered\n"
    host.bash("gate_leave", data(name, role))
    asked(cluster, "DEGRADED by one")
    done = host.bash(f"{LATE}; {ENTER}", data(name, role))
    assert f"refused to disturb {name}: copies are missing" in done.err
    assert "DEGRADED by one" not in done.err
    assert cluster.holders == {}


def test_what_an_add_on_complains_of_may_mend_itself(host: Host, cluster: Cluster) -> None:
    asked(cluster, "DEGRADED", refuses="[D]EGRADED")
    mended = "sleep() { sed -i s/DEGRADED/OK/ /run/cluster.json; }"
    assert host.bash(f"{mended}; {ENTER}", data("w1", "worker")).out == "entered\n"


def test_who_is_disturbed_already_may_go_on(host: Host, cluster: Cluster) -> None:
    """That may be just what is to be mended."""
    asked(cluster, "DOWN")
    cluster.hold("worker-1", "w1")
    assert host.bash(f"{LATE}; {ENTER}", data("w1", "worker")).out == "entered\n"


def test_what_is_no_node_disturbs_none(host: Host, cluster: Cluster) -> None:
    asked(cluster, "DOWN")
    assert host.bash(f"{LATE}; {ENTER}", data("w9", "worker")).out == "entered\n"


def test_what_is_asked_for_is_gone(host: Host, cluster: Cluster) -> None:
    asked(cluster, "DOWN", resource="stores.example.org/others")
    assert host.bash(ENTER, data("w1", "worker")).out == "entered\n"


def test_a_check_is_an_object_and_no_option(host: Host, cluster: Cluster) -> None:
    asked(cluster, "OK", resource="--raw=/api/v1/secrets")
    done = host.bash(
        'kube() { case "$*" in *configmaps*-l*) command kubectl get configmaps -l'
        ' groundplane.io/gate=check -o json ;; *) printf "%s " "$@" >&2 ;; esac; }; gate_asks',
        data("w1", "worker"),
    )
    assert "-- --raw=/api/v1/secrets" in done.err


@pytest.mark.parametrize("name", ["cp3", "-"], ids=["started", "never started"])
def test_a_join_that_was_cut_off_does_not_lock_itself_out(
    host: Host, cluster: Cluster, name: str
) -> None:
    fake_etcdctl(host, [*MEMBERS[:2], f"{name} 192.0.2.13 learner unhealthy"])
    assert host.bash("gate_enter join; echo entered", data("cp3")).out == "entered\n"


def test_waiting_for_a_turn_names_whose_it_is(host: Host, cluster: Cluster) -> None:
    cluster.hold("control-plane", "cp2")
    done = host.bash(f"{LATE}; {ENTER}", data("cp1"))
    assert done.status == 1
    assert "waited 900 s for its turn; disturbed now: cp2 since then;" in done.err


def test_only_ones_own_turn_is_given_back(host: Host, cluster: Cluster) -> None:
    cluster.hold("worker-1", "w1")
    cluster.hold("worker-2", "w2")
    host.bash("gate_leave", data("w2", "worker", 2))
    assert cluster.holders == {"worker-1": "w1"}


def test_a_restored_cluster_has_nobody_disturbed(host: Host, cluster: Cluster) -> None:
    cluster.hold("control-plane", "cp2")
    cluster.hold("worker-1", "w1")
    assert host.bash("release", data("cp1"), step="restore").status == 0
    assert cluster.holders == {}


def test_a_slot_says_since_when(host: Host) -> None:
    slot = json.loads(host.bash("slot control-plane 7", data("cp1")).out)
    assert slot["metadata"] == {
        "name": "control-plane",
        "namespace": "groundplane",
        "resourceVersion": "7",
    }
    assert slot["data"]["holder"] == "cp1"
    assert datetime.now(UTC) - datetime.fromisoformat(slot["data"]["since"]) < timedelta(minutes=1)


@pytest.mark.parametrize("step", ["node", "release"])
def test_who_leaves_asks_the_others_for_it(host: Host, step: str) -> None:
    fake_etcdctl(host, MEMBERS)
    done = host.bash("etcd_remove_own", data("cp1"), step=step)
    assert done.changes == ["etcd member cp1 removed"]
    assert host.calls == ["etcdctl remove 1 at https://192.0.2.12:2379,https://192.0.2.13:2379"]


def test_a_removal_whose_answer_was_lost_is_seen_in_the_list(host: Host) -> None:
    host.fake(
        "etcdctl",
        """case "$*" in *remove*) echo 'server stopped' >&2; exit 1 ;; esac
        echo '{"members": [{"ID": "2"}]}'""",
    )
    assert host.bash("etcd_remove https://192.0.2.12:2379 1", data("cp1")).status == 0
    clock = "sleep() { SECONDS=$((SECONDS + 31)); }"
    done = host.bash(f"{clock}; etcd_remove https://192.0.2.12:2379 2", data("cp1"))
    assert "etcd does not let member 2 go: server stopped" in done.err


def test_a_right_that_is_missing_is_named_and_not_waited_for(host: Host) -> None:
    answer = "Error from server (Forbidden): configmaps is forbidden"
    host.fake("kubectl", f'case "$*" in *create*) echo "{answer}" >&2; exit 1 ;; esac')
    done = host.bash(ENTER, data("w1", "worker"))
    assert done.status == 1
    assert f"w1 may not take its turn: {answer}" in done.err


def test_an_api_server_that_has_just_started_is_asked_again(host: Host) -> None:
    forbidden = 'Error from server (Forbidden): nodes is forbidden: User "kubernetes-admin" cannot'
    host.fake(
        "kubectl",
        f"""[ -e /run/asked ] || {{ touch /run/asked; echo '{forbidden}' >&2; exit 1; }}
        cat; echo "${{@: -3}}"; exit 0""",
    )
    done = host.bash("echo body | kube apply -f -", data("cp1"))
    assert (done.status, done.out) == (0, "body\napply -f -\n")
    assert forbidden not in done.err


def test_an_etcd_that_is_full_is_named_and_not_waited_for(host: Host) -> None:
    answer = "Error from server: etcdserver: mvcc: database space exceeded"
    host.fake("kubectl", f'case "$*" in *create*) echo "{answer}" >&2; exit 1 ;; esac')
    done = host.bash(ENTER, data("cp1"))
    assert done.status == 1
    assert f"etcd takes no writes: {answer}" in done.err


# ---- out of service and back -----------------------------------------------------------------


def unschedulable(cluster: Cluster, name: str) -> bool:
    return bool(cluster.objects[f"node/{name}"].get("spec", {}).get("unschedulable"))


def test_a_drained_node_comes_back(host: Host, cluster: Cluster) -> None:
    done = host.bash("node_drain", data("w1", "worker"))
    assert done.changes == ["w1 cordoned", "w1 drained"]
    assert unschedulable(cluster, "w1")
    assert host.bash("node_uncordon", data("w1", "worker")).changes == ["w1 uncordoned"]
    assert not unschedulable(cluster, "w1")
    assert host.bash("node_uncordon", data("w1", "worker")).changes == []


def test_an_administrators_cordon_stays(host: Host, cluster: Cluster) -> None:
    cluster.add("Node", "w1", spec={"unschedulable": True})
    host.bash("node_drain; node_uncordon", data("w1", "worker"))
    assert unschedulable(cluster, "w1")


def test_pods_that_do_not_leave(host: Host, cluster: Cluster) -> None:
    host.write("/run/drain-fails", "")
    done = host.bash("gate_take; node_drain", data("w1", "worker"))
    assert done.status == 1
    assert "pods did not leave w1: Cannot evict pod" in done.err
    assert not unschedulable(cluster, "w1")
    assert cluster.holders == {}


def test_a_host_that_is_no_node_needs_no_drain(host: Host, cluster: Cluster) -> None:
    assert host.bash("node_drain", data("w9", "worker")).out == ""
