"""The stack's state is lost: an ordinary update adopts the cluster, and nothing on it restarts."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

from harness import (
    Stack,
    assert_pods_reach_each_other,
    at_most_one_down,
    flat,
    secret_needles,
)

from lab import machines

CONTROLS = ("cp1", "cp2", "cp3")
ALL = (*CONTROLS, "w1")
WORD = "a29lcHQ="  # in base64, as the API gives it
OLD = "old.kubeconfig"


def cluster(stack: Stack) -> str:
    return str(json.loads(stack.output("identity"))["cluster"])


def members(stack: Stack, machine: str) -> str:
    """etcd's members with their ids."""
    pki = "/etc/kubernetes/pki/etcd"
    return stack.shell(
        machine,
        f"etcdctl --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt "
        f"--key {pki}/healthcheck-client.key member list",
    )


def assert_kept(stack: Stack) -> None:
    """The Secret can be read at each API server, not only at the one behind the endpoint."""
    ask = (
        "kubectl --kubeconfig /etc/kubernetes/admin.conf --server https://localhost:6443 "
        "--tls-server-name kubernetes get secret kept -o jsonpath={.data.word}"
    )
    assert {name: stack.shell(name, ask) for name in CONTROLS} == dict.fromkeys(CONTROLS, WORD)


def written_with(stack: Stack, machine: str) -> str:
    """The name of the key that the Secret in etcd was written with."""
    pki = "/etc/kubernetes/pki/etcd"
    return stack.shell(
        machine,
        f"etcdctl --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt "
        f"--key {pki}/healthcheck-client.key get --print-value-only /registry/secrets/default/kept "
        "| head -c 64 | cut -d: -f5 | head -n 1",
    ).strip()


def lose_the_state(stack: Stack, **settings: int) -> None:
    stack.forget()
    stack.configure(stack.hosts(*ALL), **settings)
    assert stack.resources() == []


def test_a_cluster(stack: Stack) -> None:
    stack.fresh(*ALL)
    stack.configure(stack.hosts(*ALL))
    stack.up()
    stack.kubectl("create", "secret", "generic", "kept", "--from-literal=word=koept")
    assert_kept(stack)
    assert written_with(stack, "cp1") == "key1"
    (stack.lab.folder / OLD).touch(0o600)
    (stack.lab.folder / OLD).write_text(stack.output("kubeconfig"))
    assert_pods_reach_each_other(stack)


def test_a_new_state_adopts_it(stack: Stack) -> None:
    before = stack.processes()
    identity, known, needles = cluster(stack), members(stack, "cp1"), secret_needles(stack)
    lose_the_state(stack)
    shown = stack.preview()
    assert set(shown.values()) == {"create"}
    text = flat(stack.pulumi("preview").text)
    assert f"the cluster {identity} of this stack stands" in text
    done = stack.up()
    changes = re.findall(r"\bchanged (.{0,60})", done.text)
    assert changes
    assert all(text.startswith(f"cluster {identity} adopted") for text in changes)
    assert cluster(stack) == identity
    assert members(stack, "cp1") == known
    assert stack.nodes() == dict.fromkeys(ALL, True)
    # Not even an API server.
    assert stack.processes() == before
    assert_kept(stack)
    # All secrets are what they were, but for the administrator's own.
    now = secret_needles(stack)
    assert {name for name in needles | now if needles.get(name) != now.get(name)} == {
        "kubeconfig key"
    }
    assert stack.preview() == {}
    assert "stands, and this state does not know it" not in flat(stack.pulumi("preview").text)
    stack.up()
    assert stack.processes() == before


def test_the_kubeconfig_of_the_lost_state_opens_nothing(stack: Stack) -> None:
    old: Path = stack.lab.folder / OLD
    done = stack.run("kubectl", "--kubeconfig", str(old), "get", "nodes", check=False)
    assert done.status != 0
    assert "forbidden" in done.text.lower(), done.text
    assert len(stack.get("nodes")) == len(ALL)


def test_the_key_is_rotated_by_the_new_state(stack: Stack) -> None:
    """Restarts each API server, one after the other, and nothing else."""
    before = stack.processes()
    stack.configure(stack.hosts(*ALL), encryptionGeneration=2)
    assert set(stack.preview()) == {
        *(f"{name}-{step}" for name in CONTROLS for step in ("secrets", "node")),
        "nodes",
    }
    with at_most_one_down(stack, *CONTROLS):
        stack.up()
    after = stack.processes()
    begun = {(name, p[0]) for name in ALL for p in set(after[name]) - set(before[name])}
    assert begun == {(name, "kube-apiserver") for name in CONTROLS}
    assert_kept(stack)
    assert written_with(stack, "cp1") == "key2"
    assert stack.preview() == {}


def test_a_file_that_was_lost_as_well_and_says_less(stack: Stack) -> None:
    before = stack.processes()
    lose_the_state(stack)
    stack.refused("key of generation 2; 1 would be a step back")
    assert stack.processes() == before


def test_hosts_that_were_installed_anew_come_back_with_the_new_state(stack: Stack) -> None:
    """The founder and a worker went with the state. What the others hold is enough for both, and
    the new control plane reads at once what was written long before it."""
    machines.wipe(stack.lab, "cp1")
    machines.wipe(stack.lab, "w1")
    others = stack.processes("cp2", "cp3")
    lose_the_state(stack, encryptionGeneration=2)
    stack.up()
    assert stack.processes("cp2", "cp3") == others
    assert stack.members("cp2") == dict.fromkeys(CONTROLS, True)
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert_kept(stack)
    assert_pods_reach_each_other(stack)
    assert stack.preview() == {}


def test_another_stack_is_refused(stack: Stack) -> None:
    before = stack.processes()
    other = Stack(stack.lab, "lab-other", count=900)  # whose logs do not go over ours
    with contextlib.ExitStack() as end:
        end.callback(other.stop_all)
        end.callback(other.forget)
        # Of the same place it is refused for its addresses, before any look.
        other.configure(other.hosts(*ALL), place="elsewhere")
        done = other.refused(f"it belongs to the stack {stack.name}")
        # The engine says everything twice.
        named = re.findall(r"(\w+) +[\w-]+ +it belongs to the stack", done.text)
        assert set(named) == set(ALL)
        assert "teardown" not in other.resources()
    assert stack.processes() == before
    assert stack.preview() == {}


def test_destroy(stack: Stack) -> None:
    """A state that never made them takes them down."""
    stack.destroy()
    left = "ls -d /etc/kubernetes /var/lib/groundplane /opt/groundplane 2>/dev/null"
    for name in ALL:
        assert stack.shell(name, left, check=False) == ""
        assert stack.processes(name) == {name: []}
    (stack.lab.folder / OLD).unlink()
