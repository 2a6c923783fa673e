"""Control planes come, go, die and change, and never two of them are disturbed at once."""

from __future__ import annotations

from harness import Stack, assert_pods_reach_each_other, at_most_one_down, versions

from lab import machines

FIRST = ("cp1", "cp2", "cp3", "w1")
AFTER = ("cp2", "cp3", "cp4", "w1")
OLD, NEW = "1.35.4", "1.36.3"


def test_from_nothing(stack: Stack) -> None:
    stack.fresh(*FIRST)
    stack.configure(stack.hosts(*FIRST), kubernetes={"version": OLD})
    stack.up()
    assert versions(stack) == dict.fromkeys(FIRST, f"v{OLD}")


def test_a_dead_first_control_plane_is_replaced_in_one_update(stack: Stack) -> None:
    machines.stop(stack.lab, "cp1")
    stack.boot("cp4")
    stack.configure(stack.hosts(*AFTER), kubernetes={"version": OLD})
    before = stack.processes("w1")
    shown = stack.preview()
    assert "kubeconfig" not in shown and "w1-node" not in shown
    stack.up()
    assert stack.members("cp2") == dict.fromkeys(("cp2", "cp3", "cp4"), True)
    assert stack.nodes() == dict.fromkeys(AFTER, True)
    assert stack.processes("w1") == before
    # The state lets go of the dead host without trying to reach it.
    # Its upload went with this update: that needs no call.
    assert set(stack.preview()) == {f"cp1-{s}" for s in ("bundle", "prepare", "secrets", "node")}
    stack.up()
    assert stack.preview() == {}


def test_settings_roll(stack: Stack) -> None:
    settings = {
        "kubernetes": {"version": OLD},
        "kubelet": {"maxPods": 120},
        "apiServer": {"extraArgs": {"max-requests-inflight": 500}},
        "encryptionGeneration": 2,
    }
    stack.configure(stack.hosts(*AFTER), **settings)
    with at_most_one_down(stack, "cp2", "cp3", "cp4"):
        stack.up()
    assert stack.preview() == {}
    for name in ("cp2", "cp3", "cp4"):
        process = stack.shell(name, "tr '\\0' ' ' </proc/$(pgrep -o -x kube-apiserver)/cmdline")
        assert "--max-requests-inflight=500" in process
        assert "key2" in stack.shell(name, "cat /etc/kubernetes/groundplane/encryption.json")
    for node in stack.get("nodes"):
        assert node["status"]["capacity"]["pods"] == "120"
    assert stack.cordoned() == []


def test_the_next_minor(stack: Stack) -> None:
    settings = {
        "kubernetes": {"version": NEW},
        "kubelet": {"maxPods": 120},
        "apiServer": {"extraArgs": {"max-requests-inflight": 500}},
        "encryptionGeneration": 2,
    }
    stack.configure(stack.hosts(*AFTER), **settings)
    with at_most_one_down(stack, "cp2", "cp3", "cp4"):
        stack.up(timeout=840)
    assert versions(stack) == dict.fromkeys(AFTER, f"v{NEW}")
    assert stack.cordoned() == []
    assert stack.preview() == {}
    assert_pods_reach_each_other(stack)


def test_back_again_is_refused(stack: Stack) -> None:
    stack.configure(stack.hosts(*AFTER), kubernetes={"version": OLD})
    stack.refused("downgrade")
    assert versions(stack) == dict.fromkeys(AFTER, f"v{NEW}")


def test_a_living_control_plane_and_a_worker_leave(stack: Stack) -> None:
    """One in, one out: the new one joins before the old one leaves, through the gate."""
    stack.boot("cp5", "w2")
    machines.destroy(stack.lab, "cp1")
    stack.configure(
        stack.hosts("cp3", "cp4", "cp5", "w2"),
        kubernetes={"version": NEW},
        kubelet={"maxPods": 120},
        apiServer={"extraArgs": {"max-requests-inflight": 500}},
        encryptionGeneration=2,
    )
    stack.up()
    assert stack.members("cp3") == dict.fromkeys(("cp3", "cp4", "cp5"), True)
    assert stack.nodes() == dict.fromkeys(("cp3", "cp4", "cp5", "w2"), True)
    for gone in ("cp2", "w1"):
        left = stack.shell(
            gone, "ls -d /etc/kubernetes /var/lib/groundplane 2>/dev/null", check=False
        )
        assert left == ""
    # What joins after a change has the settings.
    process = stack.shell("cp5", "tr '\\0' ' ' </proc/$(pgrep -o -x kube-apiserver)/cmdline")
    assert "--max-requests-inflight=500" in process
    assert stack.preview() == {}


def test_destroy(stack: Stack) -> None:
    stack.destroy()
    for name in ("cp3", "cp4", "cp5", "w2"):
        assert stack.shell(name, "ls /etc/kubernetes 2>/dev/null", check=False) == ""
