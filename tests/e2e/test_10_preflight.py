"""Hosts that are not as they must be: all of them are named at once, and nothing is changed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from harness import Stack, flat, until

from lab import machines, mirror

Finding = tuple[str, str, str]


@contextmanager
def broken(stack: Stack, machine: str, begin: str, end: str) -> Iterator[None]:
    """Something is wrong on a machine, for a while."""
    stack.shell(machine, begin)
    try:
        yield
    finally:
        stack.shell(machine, end, check=False)


def errors(stack: Stack) -> set[Finding]:
    return {found for found in stack.preflight() if found[0] == "error"}


def untouched(stack: Stack, *names: str) -> bool:
    """Nothing was written on these machines since `mark`, but logs."""
    find = "find / -xdev -newer /run/mark -type f -not -path '/run/*' -not -path '/var/log/*'"
    return all(stack.shell(name, find) == "" for name in names)


def mark(stack: Stack, *names: str) -> None:
    for name in names:
        stack.shell(name, "sleep 0.02; touch /run/mark; sleep 0.02")


def test_all_findings_at_once(stack: Stack) -> None:
    """Two hosts down, one with another host key, one without sudo, one with three faults."""
    stack.fresh("cp1", "w1", "w2")
    dead = [host | {"hostKey": machines.host_key(stack.lab, "cp1")} for host in unbooted()]
    cp1, w1, w2 = stack.hosts("cp1", "w1", "w2")
    w1["hostKey"] = cp1["hostKey"]
    w2 |= {"user": "nosudo", "sudo": True}
    key = str(stack.lab.key)
    stack.configure([cp1, w1, w2, *({**host, "key": key} for host in dead)], kubelet=SWAP_MATTERS)
    mark(stack, "cp1", "w1", "w2")
    with (
        broken(stack, "cp1", SWAP, "umount /proc/swaps"),
        broken(stack, "cp1", PORT, "systemctl stop taken"),
        broken(stack, "cp1", READ_ONLY, "umount /usr/local"),
    ):
        done = stack.refused(
            "nothing was changed",
            "cp2 reachability 198.18.0.12:22: ",
            "cp3 reachability 198.18.0.13:22: ",
            "w1 host-key 198.18.0.21:22 shows ssh-ed25519 SHA256:",
            "w2 sudo nosudo may not become root",
            "cp1 swap 1.0 GiB of swap are on; the kubelet will not start",
            "cp1 ports port 6443, for kube-apiserver, is held by systemd-socket-",
            "cp1 read-only /usr/local cannot be written",
            # The remedies stand below them.
            "someone may be posing as this host",
            "NOPASSWD: ALL",
            "swapoff -a",
        )
        assert done.seconds < 60
        assert set(stack.preflight()) >= {
            ("error", "cp2", "reachability"),
            ("error", "cp3", "reachability"),
            ("error", "w1", "host-key"),
            ("error", "w2", "sudo"),
            ("error", "cp1", "swap"),
            ("error", "cp1", "ports"),
            ("error", "cp1", "read-only"),
        }
    assert untouched(stack, "cp1", "w1", "w2")
    # What groups resources is there, and nothing in it.
    assert set(stack.resources()) <= {f"groundplane-{stack.name}", stack.name}


def unbooted() -> list[dict[str, Any]]:
    return [
        {"name": f"cp{n}", "address": f"198.18.0.{10 + n}", "role": "control-plane"} for n in (2, 3)
    ]


SWAP_MATTERS = {"failSwapOn": True}
# A container shows the computer's list of swap areas, so it is shown another one.
SWAP = (
    "printf 'Filename Type Size Used Priority\\n/swap file 1048576 0 -2\\n' >/run/swaps"
    " && mount --bind /run/swaps /proc/swaps"
)
PORT = (
    "systemd-run -q -u taken systemd-socket-activate -l 6443 /bin/cat;"
    " until grep -qi ':192B ' /proc/net/tcp6; do sleep 0.1; done"
)
READ_ONLY = (
    "mount --bind /usr/local /usr/local && mount -o remount,bind,ro /usr/local; touch /run/mark"
)


def test_a_key_that_no_host_knows(stack: Stack) -> None:
    """One try a host: no storm that would lock the account."""
    cp1, w1 = stack.hosts("cp1", "w1")
    stranger = stack.lab.folder / "e2e-stranger"
    stranger.unlink(missing_ok=True)
    machines.inside(stack.lab, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)])
    w1["key"] = str(stranger)
    stack.configure([cp1, w1])
    before = tries(stack, "w1")
    assert errors(stack) == {("error", "w1", "ssh-key")}
    assert tries(stack, "w1") - before == 1


def tries(stack: Stack, machine: str) -> int:
    """How many connections ended before anybody was let in."""
    log = stack.shell(machine, "journalctl --no-pager -o cat -t sshd")
    return log.count("authenticating user root")


def test_cloned_machines(stack: Stack) -> None:
    stack.configure(stack.hosts("cp1", "w1"))
    clone = f"echo {stack.shell('cp1', 'cat /etc/machine-id').strip()} >/run/id; "
    with broken(
        stack, "w1", f"{clone} mount --bind /run/id /etc/machine-id", "umount /etc/machine-id"
    ):
        assert errors(stack) == {("error", "w1", "identity")}
    assert errors(stack) == set()


def test_a_clock_that_is_wrong(stack: Stack) -> None:
    """Containers share one clock, so on w1 sshd gives bash, which tells the time, another one."""
    skew = "unset EPOCHREALTIME; EPOCHREALTIME=$(($(date +%s) + 600)).0"
    with broken(
        stack,
        "w1",
        f"echo '{skew}' >/run/skew; echo 'SetEnv BASH_ENV=/run/skew'"
        " >/etc/ssh/sshd_config.d/skew.conf && systemctl reload ssh",
        "rm /etc/ssh/sshd_config.d/skew.conf; systemctl reload ssh",
    ):
        assert errors(stack) == {("error", "w1", "clock")}
        stack.refused("w1 clock its clock is")


def test_a_mirror_whose_name_nobody_knows(stack: Stack) -> None:
    stack.configure(stack.hosts("cp1", "w1"), mirrors={"downloads": "http://mirror.invalid:8080"})
    mark(stack, "cp1", "w1")
    stack.refused("w1 mirror http://mirror.invalid:8080: ", "mirror.invalid", "cp1 mirror")
    assert untouched(stack, "cp1", "w1")


@pytest.mark.parametrize("fault", [{"off": True}, {"status": 429}])
def test_a_mirror_that_is_down_or_busy(stack: Stack, fault: mirror.Fault) -> None:
    stack.configure(stack.hosts("cp1", "w1"))
    mirror.set_faults(stack.lab.folder, [{"path": "*", **fault}])
    assert errors(stack) == {("error", "cp1", "mirror"), ("error", "w1", "mirror")}


def test_too_many_handshakes(stack: Stack) -> None:
    """sshd drops handshakes beyond MaxStartups: that is waited out, not given up on."""
    limit = "/etc/ssh/sshd_config.d/z.conf"  # of several, sshd takes the last
    dropped = "journalctl --no-pager -o cat -t sshd | grep -c 'past MaxStartups'"
    # They say nothing, and so hold both places until they are closed.
    hold = (
        "import socket, sys; "
        "held = [socket.create_connection(('198.18.0.21', 22)) for _ in range(2)]; "
        "print(flush=True); sys.stdin.read()"
    )
    # Restarted, since a reload returns before it has happened.
    with broken(
        stack,
        "w1",
        f"echo MaxStartups 2:100:2 >{limit} && systemctl restart ssh",
        f"rm {limit} && systemctl restart ssh",
    ):
        argv = ["nsenter", f"--net={stack.lab.netns}", sys.executable, "-c", hold]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            looking = stack.start("groundplane", "preflight", "--stack", stack.name)
            until(lambda: int(stack.shell("w1", dropped, check=False)), "a dropped handshake", 30)
        assert "2 of 2 hosts answer" in looking.wait().text


def test_the_table_is_for_programs_too(stack: Stack) -> None:
    done = stack.run("groundplane", "preflight", "--stack", stack.name, "--json")
    document = json.loads(done.text[: done.text.rindex("}") + 1])
    assert document["hosts"] == {"cp1": "seen", "w1": "seen"}
    assert "2 of 2 hosts answer" in flat(done.text)
