"""A cluster from nothing, and what its days are like: the same again, drift, hosts that die."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    Recorder,
    Stack,
    assert_pods_reach_each_other,
    haystacks,
    search,
    secret_needles,
    until,
)

from lab import machines, mirror

CONTROL_PLANES = ("cp1", "cp2", "cp3")
WORKERS = ("w1", "w2")
ALL = (*CONTROL_PLANES, *WORKERS)


@pytest.fixture(scope="module")
def recorder(session_stack: Stack) -> Iterator[Recorder]:
    with Recorder(session_stack.lab) as recording:
        yield recording


def test_from_nothing(stack: Stack, recorder: Recorder) -> None:
    stack.fresh(*ALL)
    stack.configure(stack.hosts(*ALL))
    stack.up()
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.members() == dict.fromkeys(CONTROL_PLANES, True)
    assert recorder.count("kubeadm init --config") == 1
    assert recorder.count("kubeadm join") == 4
    assert_pods_reach_each_other(stack)


def test_no_secret_is_to_be_seen(stack: Stack, recorder: Recorder) -> None:
    """Not in what the engine printed or keeps, nor in logs or process lists of any machine."""
    needles = secret_needles(stack)
    assert len(needles) >= 12
    planted = "found-if-it-is-there"
    stack.shell("w2", f"logger {planted}; echo {planted} >>/var/log/groundplane/node.log")
    (stack.logs / "planted.log").write_text(planted)
    stack.shell("cp1", f"sh -c 'sleep 0.5' {planted}")
    (stack.lab.folder / "state" / "planted").write_text(planted)
    needles["planted"] = planted
    found = search(needles, haystacks(stack, recorder))
    (stack.lab.folder / "state" / "planted").unlink()
    assert found == [
        "planted.log: planted",
        "state/planted: planted",
        "w2: logs and journal: planted",
        "process lists: planted",
    ]


def test_secrets_are_encrypted_at_rest(stack: Stack) -> None:
    value = "found-if-it-is-there"
    stack.kubectl("create", "secret", "generic", "canary", f"--from-literal=key={value}")
    database = "grep -c {} /var/lib/etcd/member/wal/* /var/lib/etcd/member/snap/db"
    raw, encoded = value, base64.b64encode(value.encode()).decode()
    for needle in (raw, encoded):
        counts = stack.shell("cp1", database.format(needle), check=False).split()
        assert counts and all(count.endswith(":0") for count in counts)
    # What is no secret is there to be read.
    stack.kubectl("create", "configmap", "canary", f"--from-literal=key={value}")
    counts = stack.shell("cp1", database.format(raw), check=False).split()
    assert not all(count.endswith(":0") for count in counts)


def test_again(stack: Stack) -> None:
    before = stack.processes()
    assert stack.preview() == {}
    stack.up()
    assert stack.processes() == before


def test_a_new_release_of_the_library(stack: Stack) -> None:
    """Other scripts alone change nothing that runs."""
    before = stack.processes()
    with stack.release(new_text):
        assert stack.preview() == {
            f"{name}-{step}": "update" for name in ALL for step in ("scripts", "bundle")
        }
        stack.up()
        assert stack.preview() == {}
    stack.up()
    assert stack.processes() == before


def new_text(package: Path) -> None:
    for script in ("lib.sh", "steps/node.sh"):
        with (package / "remote" / "scripts" / script).open("a") as file:
            file.write("# another release\n")


def test_drift(stack: Stack) -> None:
    """Each change by another hand shows as the step that repairs it, and is repaired by it."""
    before = stack.processes()
    stack.shell("cp2", "rm /etc/containerd/config.toml")
    stack.shell("cp3", "systemctl stop groundplane-keepalived")
    stack.shell("w1", "echo '# mine' >>/etc/systemd/system/kubelet.service")
    stack.shell("w2", "sysctl -qw net.ipv4.ip_forward=0")
    assert stack.preview() == {
        "cp2-node": "update",
        "cp3-node": "update",
        "w1-node": "update",
        "w2-node": "update",
        # A kernel that forwards no more takes redirects again.
        "w2-prepare": "update",
    }
    stack.up()
    assert stack.preview() == {}
    stack.shell("cp2", "test -s /etc/containerd/config.toml")
    assert "mine" not in stack.shell("w1", "cat /etc/systemd/system/kubelet.service")
    assert stack.shell("w2", "sysctl -n net.ipv4.ip_forward") == "1\n"
    after = stack.processes()
    assert {name: restarted(before[name], after[name]) for name in ALL} == {
        "cp1": [],
        "cp2": ["containerd"],
        "cp3": ["keepalived", "keepalived"],
        "w1": ["kubelet"],
        "w2": [],
    }


def restarted(before: list[tuple[str, int, str]], after: list[tuple[str, int, str]]) -> list[str]:
    return sorted(name for name, _, _ in set(after) - set(before))


@pytest.mark.parametrize("fault", [{"status": 429}, {"truncate": 1000}])
def test_a_mirror_that_fails_stops_before_any_drain(stack: Stack, fault: mirror.Fault) -> None:
    before = stack.processes()
    stack.configure(stack.hosts(*ALL), containerd={"version": "2.2.1"})
    mirror.set_faults(stack.lab.folder, [{"path": "*/containerd-2.2.1-*", **fault}])
    stack.refused("containerd-2.2.1-linux-amd64.tar.gz: not to be had")
    assert stack.cordoned() == []
    assert stack.processes() == before
    stack.configure(stack.hosts(*ALL))
    mirror.set_faults(stack.lab.folder, [])
    stack.up()
    assert stack.processes() == before


def test_a_dead_worker_and_one_cut_off_hold_up_nobody(stack: Stack) -> None:
    machines.stop(stack.lab, "w2")
    machines.partition(stack.lab, "w1")
    configure(stack)
    changes = stack.preview()
    assert changes == {f"{n}-node": "update" for n in CONTROL_PLANES} | {"unreachable": "create"}
    stack.refused("w1: 198.18.0.21:22", "w2: 198.18.0.22:22")
    assert pods_allowed(stack, CONTROL_PLANES) == {"99"}

    machines.heal(stack.lab, "w1")
    stack.boot("w2")
    until(lambda: all(stack.nodes().values()), "all nodes are Ready again", 90)
    assert stack.preview() == {f"{n}-node": "update" for n in WORKERS}
    stack.up()
    assert stack.preview() == {}
    assert pods_allowed(stack, ALL) == {"99"}
    assert_pods_reach_each_other(stack)


def pods_allowed(stack: Stack, names: tuple[str, ...]) -> set[str]:
    return {
        n["status"]["capacity"]["pods"]
        for n in stack.get("nodes")
        if n["metadata"]["name"] in names
    }


def configure(stack: Stack) -> None:
    stack.configure(stack.hosts(*ALL), kubelet={"maxPods": 99})


def test_a_worker_that_was_installed_anew(stack: Stack) -> None:
    """Under the same address it is another machine, until its new key is written down."""
    machines.wipe(stack.lab, "w2", new_host_key=True)
    others = stack.processes(*CONTROL_PLANES, "w1")
    stack.refused("w2 host-key 198.18.0.22:22 shows ssh-ed25519")
    configure(stack)
    assert stack.preview() == {
        "teardown": "update",
        "w2-scripts": "update",
        "w2-bundle": "update",
        "w2-prepare": "update",
        "w2-secrets": "update",
        "membership": "update",
        "w2-node": "update",
    }
    stack.up()
    assert stack.preview() == {}
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.processes(*CONTROL_PLANES, "w1") == others
    assert_pods_reach_each_other(stack)


def test_destroy_with_a_dead_host(stack: Stack) -> None:
    machines.stop(stack.lab, "w1")
    done = stack.destroy()
    assert "w1: not reset" in done.text
    assert stack.resources() == []
    for name in set(ALL) - {"w1"}:
        assert f"{name}: reset" in done.text
        assert stack.processes(name) == {name: []}
        left = "ls -d /etc/kubernetes /etc/cni/net.d/* /opt/groundplane /var/lib/etcd/* 2>/dev/null"
        assert stack.shell(name, left, check=False) == ""
        assert stack.shell(name, "ip route show proto 245; nft list tables") == ""
