"""An upgrade that meets every obstacle: it stops where it must, and the same command goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import PROBE, Recorder, Stack, assert_pods_reach_each_other, until, versions

from lab import machines

CONTROL_PLANES = ("cp1", "cp2", "cp3")
WORKERS = ("w1", "w2")
ALL = (*CONTROL_PLANES, *WORKERS)
OLD, NEW = "1.35.4", "1.36.3"


@pytest.fixture(scope="module")
def recorder(session_stack: Stack) -> Iterator[Recorder]:
    with Recorder(session_stack.lab) as recording:
        yield recording


def configure(stack: Stack, control_planes: str, workers: str) -> None:
    kubernetes = {"version": control_planes, "workers": workers}
    stack.configure(stack.hosts(*ALL), kubernetes=kubernetes)


def kubelet(stack: Stack, machine: str) -> str:
    """The version of the kubelet that will run on the machine, though it may not run now."""
    link = stack.shell(machine, "readlink /usr/local/bin/kubelet", check=False)
    return Path(link.strip()).parent.name


def test_from_nothing(stack: Stack) -> None:
    stack.fresh(*ALL)
    configure(stack, OLD, OLD)
    stack.up()
    assert versions(stack) == dict.fromkeys(ALL, f"v{OLD}")
    assert_pods_reach_each_other(stack)


def test_an_alarm_of_etcd_stops_it(stack: Stack) -> None:
    configure(stack, NEW, OLD)
    before = stack.processes()
    stack.shell("cp1", ALARM)
    try:
        stack.refused("etcd raised the alarm NOSPACE")
    finally:
        stack.shell("cp1", DISARM)
    assert stack.cordoned() == []
    assert stack.processes() == before


ETCD = "cd /etc/kubernetes/pki/etcd; tls='--cacert ca.crt --cert healthcheck-client.crt --key"
# etcdctl only disarms; over the API, an alarm can be raised without filling a disk.
ALARM = f"""
set -e
{ETCD} healthcheck-client.key'
member=$(etcdctl $tls -w json member list | jq -r .header.member_id)
curl -sf $tls -d '{{"action": "ACTIVATE", "alarm": "NOSPACE", "memberID": "'$member'"}}' \
  https://127.0.0.1:2379/v3/maintenance/alarm
"""
DISARM = f"{ETCD} healthcheck-client.key'; etcdctl $tls alarm disarm"


def test_the_power_fails_before_the_binaries_change(stack: Stack, recorder: Recorder) -> None:
    first = stack.start_up()
    until(lambda: recorder.count("kubeadm upgrade apply") or first.ended, "kubeadm upgrade", 300)
    assert not first.ended, first.text
    machines.stop(stack.lab, "cp1")
    assert first.wait().status != 0
    # Nobody else was begun with.
    assert kubelet(stack, "cp2") == kubelet(stack, "cp3") == OLD
    stack.boot("cp1")
    until(lambda: all(stack.nodes().values()), "all nodes are Ready again", 120, 1)


def test_the_power_fails_after_the_binaries_changed(stack: Stack) -> None:
    second = stack.start_up()
    until(lambda: kubelet(stack, "cp2") == NEW or second.ended, "cp2 has the new kubelet", 900)
    assert not second.ended, second.text
    machines.stop(stack.lab, "cp2")
    assert second.wait().status != 0
    assert kubelet(stack, "cp1") == NEW
    assert kubelet(stack, "cp3") == OLD
    stack.boot("cp2")
    until(lambda: all(stack.nodes().values()), "all nodes are Ready again", 120, 1)


def test_etcds_leader_is_killed_meanwhile(stack: Stack) -> None:
    third = stack.start_up()
    until(lambda: stack.runs("cp3", "node") or third.ended, "cp3's node step", 900)
    assert not third.ended, third.text
    stack.shell(leader(stack), "pkill -KILL -x etcd")
    done = third.wait(1200)
    assert done.status == 0, done.text
    assert versions(stack) == dict.fromkeys(CONTROL_PLANES, f"v{NEW}") | dict.fromkeys(
        WORKERS, f"v{OLD}"
    )
    assert stack.members() == dict.fromkeys(CONTROL_PLANES, True)
    assert stack.cordoned() == []
    assert stack.preview() == {}


def leader(stack: Stack) -> str:
    status = stack.shell(
        "cp1", f"{ETCD} healthcheck-client.key'; etcdctl $tls -w json endpoint status --cluster"
    )
    ids = {e["Status"]["header"]["member_id"]: e["Endpoint"] for e in json.loads(status)}
    address = ids[json.loads(status)[0]["Status"]["leader"]].removeprefix("https://").split(":")[0]
    known = {machine.address: machine.name for machine in machines.default_machines()}
    return known[address]


def quicker(script: str, old: str, new: str) -> Callable[[Path], None]:
    """A release that waits less long: a test has less patience than an operator."""

    def change(package: Path) -> None:
        path = package / "remote" / "scripts" / script
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


def test_a_disruption_budget_that_lets_nobody_go(stack: Stack) -> None:
    stack.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(STUBBORN))
    until(
        lambda: (
            [p["status"]["phase"] for p in stack.get("pods", "-l", "app=stubborn")] == ["Running"]
        ),
        "the pod runs on w1",
    )
    configure(stack, NEW, NEW)
    with stack.release(quicker("lib/gate.sh", "--timeout 300s", "--timeout 15s")):
        stack.refused("pods did not leave w1", "disruption budget")
    assert stack.cordoned() == []
    assert kubelet(stack, "w1") == kubelet(stack, "w2") == OLD
    stack.kubectl("delete", "poddisruptionbudget", "stubborn")


LABELS = {"app": "stubborn"}
STUBBORN = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "stubborn", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": LABELS},
                "template": {
                    "metadata": {"labels": LABELS},
                    "spec": {
                        "nodeSelector": {"kubernetes.io/hostname": "w1"},
                        "terminationGracePeriodSeconds": 1,
                        "containers": [
                            {
                                "name": "probe",
                                "image": PROBE,
                                "args": ["serve"],
                            }
                        ],
                    },
                },
            },
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "stubborn", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": LABELS}},
        },
    ],
}


def test_a_kubelet_that_fails_with_the_new_version(stack: Stack) -> None:
    """It stops at the first node, which gets its old one back."""
    drop_in = "/etc/systemd/system/kubelet.service.d/fails.conf"
    stack.shell(
        "w1",
        f"mkdir -p $(dirname {drop_in}) && cat >{drop_in} <<'END'\n[Service]\n"
        f"ExecStartPre=/bin/sh -c '! readlink /usr/local/bin/kubelet | grep -q {NEW}'\nEND\n"
        "systemctl daemon-reload",
    )
    before = stack.processes("w2")
    with stack.release(quicker("lib/kubernetes.sh", 'wait_until 180 "node', 'wait_until 20 "node')):
        stack.refused(f"the kubelet {NEW} is not healthy, {OLD} is back")
    assert versions(stack)["w1"] == versions(stack)["w2"] == f"v{OLD}"
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.cordoned() == []
    assert stack.processes("w2") == before
    stack.shell("w1", f"rm -r $(dirname {drop_in}); systemctl daemon-reload")


def test_the_same_command_ends_it(stack: Stack) -> None:
    stack.up()
    assert versions(stack) == dict.fromkeys(ALL, f"v{NEW}")
    assert stack.cordoned() == []
    assert stack.preview() == {}
    assert_pods_reach_each_other(stack)
