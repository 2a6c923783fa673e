"""A guest goes out of service before its machine changes, and comes back after it."""

from __future__ import annotations

from typing import Any

import pytest
from support.host import Done, Host

WAS = {"definition": "a" * 64, "image": "b" * 64}
# What the step calls, each of which has tests of its own.
CALLS = """
snapshot_before() { echo snapshot; }
gate_enter() { echo "gate $1"; }
node_drain() { echo drain; }
leave() { echo leave; }
"""


def release(host: Host, machine: dict[str, str], role: str = "worker") -> Done:
    data: dict[str, Any] = {"name": "w1", "role": role, "machine": machine}
    return host.bash(f"{CALLS}\napply", data, step="release")


@pytest.fixture
def member(host: Host) -> Host:
    """One whose machine is as it was when it was last brought into service."""
    host.write("/var/lib/groundplane/joined", "1.36.4")
    done = host.bash("machine_settled", {"machine": WAS}, step="node")
    assert done.status == 0
    return host


def test_a_machine_that_stays_disturbs_nobody(member: Host) -> None:
    assert release(member, WAS) == Done(0, "", "")


def test_one_that_is_no_member_yet_has_nothing_to_leave(host: Host) -> None:
    assert release(host, WAS) == Done(0, "", "")
    host.write("/var/lib/groundplane/joined", "1.36.4")
    # It came with this machine, and its node step has not ended yet.
    assert release(host, WAS) == Done(0, "", "")


@pytest.mark.parametrize(
    ("role", "calls"),
    [
        ("worker", ["gate disturb", "drain"]),
        ("control-plane", ["snapshot", "gate disturb", "drain"]),
    ],
)
def test_one_that_is_to_restart_is_drained_behind_the_gate(
    member: Host, role: str, calls: list[str]
) -> None:
    done = release(member, {**WAS, "definition": "c" * 64}, role)
    assert done.out.splitlines() == calls
    # This is what makes the node step wait for its health and give the slot back.
    assert member.read("/var/lib/groundplane/disturbing") == "machine\n"
    assert release(member, {**WAS, "definition": "c" * 64}, role).out == ""


def test_one_that_is_to_be_installed_anew_leaves(member: Host) -> None:
    assert release(member, {**WAS, "image": "c" * 64}).out.splitlines() == ["leave"]
    assert not member.there("/var/lib/groundplane/joined")


def test_a_worker_that_is_installed_anew_is_let_in(host: Host) -> None:
    """Its Node is alive while the membership step runs; all others alive are not let in."""
    script = """
    silent() { return 1; }
    token() { echo "$1"; }
    kube() { cat >>/run/let-in; }
    data_json .images | write_atomically "$STATE/images" 0600
    jq '.images.w1 = "new"' "$DATA" >"$DATA.new"
    mv "$DATA.new" "$DATA"
    admit_workers
    cat /run/let-in
    """
    data = {"workers": ["w1", "w2"], "images": {"w1": "old", "w2": "old"}}
    done = host.bash(script, data, step="membership")
    assert (done.status, done.out) == (0, "w1\n"), done.err
