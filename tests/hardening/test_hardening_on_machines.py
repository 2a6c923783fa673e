"""Hardening on a bare machine of the lab: before and after, taken back, and a lock-out that heals.

The machine is a container of this computer: whose kernel must be after it as it was before.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support.specs import on_the_wire, spec

from groundplane import hardening
from groundplane.hardening import Evidence, Result, Status
from groundplane.remote.bundle import LIBRARY, bundle, installer
from groundplane.remote.connect import Done, HostUnreachable, run_all
from groundplane.remote.observation import Expect, look
from groundplane.remote.step import canonical
from groundplane.spec import Hardening, Host
from groundplane.spec.hardening import checks
from lab import machines
from lab.machines import Lab, Machine

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

W1 = Machine("w1", "198.18.0.21")
CIS = Hardening(level="cis")
# What such a machine cannot be asked, exempt as its owner would do it.
LAB = Hardening(
    level="cis",
    exempt={
        "security-updates": "no source of packages is reached",
        "ssh-starts": "the lab's own setting lets a hundred in, and sshd takes the last",
    },
)
MINUTES, SECONDS = 600, 20  # how long new settings of SSH are on trial, and how long here
T = TypeVar("T")


def shared() -> dict[str, str]:
    """The settings of this computer's own kernel that a level asks for."""
    keys = [str(check.key) for check in checks() if check.kind == "sysctl" and check.cannot]
    paths = [Path("/proc/sys") / key.replace(".", "/") for key in keys]
    return {str(path): path.read_text() for path in paths if path.exists()}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    machines.make_rootfs(print)
    made = Lab(f"gphard{os.getpid()}", tmp_path_factory.mktemp("lab"))
    before = shared()
    try:
        machines.network_up(made)
        machines.boot_all(made, [W1])
        scripts = bundle()
        given = f"{scripts.digest} metal 0\n{scripts.archive}"
        machines.exec(made, "w1", ["sh", "-c", installer()], given, check=True)
        # A member: nothing is founded here.
        shell(made, "mkdir -p /var/lib/groundplane && touch /var/lib/groundplane/joined")
        yield made
    finally:
        machines.destroy_all(made)
        assert shared() == before


def shell(lab: Lab, script: str, check: bool = True) -> str:
    return machines.exec(lab, "w1", ["bash", "-c", script], check=check).stdout


def trial(lab: Lab, was: int, now: int) -> None:
    """New settings of SSH are on trial for so many seconds."""
    shell(lab, f"sed -i 's/echo {was};/echo {now};/' {LIBRARY}/current/lib/hardening.sh")


def inside(lab: Lab, work: Callable[[], T]) -> T:
    """Do it in the lab's network: a thread can enter it alone, and ends with it."""

    def entered() -> T:
        with lab.netns.open() as netns:
            if ctypes.CDLL(None, use_errno=True).setns(netns.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(entered).result()


def host(lab: Lab) -> Host:
    return Host(
        name="w1",
        address=W1.address,
        key=str(lab.key),
        host_key=" ".join(machines.host_key(lab, "w1").split()[:2]),
        role="worker",
    )


def checked(lab: Lab, made: Hardening = CIS) -> dict[str, Result]:
    seen = inside(lab, lambda: hardening.look([host(lab)]))["w1"]
    assert isinstance(seen, Evidence), seen
    return {result.check.id: result for result in hardening.judge("w1", seen, made)}


def failed(results: dict[str, Result]) -> set[str]:
    return {name for name, result in results.items() if result.status is Status.FAILED}


def step(lab: Lab, made: Hardening, token: str) -> Done | HostUnreachable:
    """The step `prepare`, by SSH, as the engine calls it; with nothing to install."""
    data: dict[str, Any] = on_the_wire(spec(hardening=made), "prepare", "w1")
    data |= {"packages": [], "parts": {}, "token": token}
    argv = [f"{LIBRARY}/current/run", "prepare", "apply"]
    return inside(lab, lambda: run_all([host(lab)], argv, canonical(data), 120))["w1"]


def prepare(lab: Lab, made: Hardening, token: str = "t") -> list[str]:
    done = step(lab, made, token)
    assert isinstance(done, Done) and done.status == 0, done
    return [line for line in done.stderr.splitlines() if line.startswith("changed ")]


def drift(lab: Lab) -> dict[str, str]:
    seen = inside(lab, lambda: look([host(lab)], Expect("metal"))).seen("w1")
    assert seen is not None
    return {each.fact: each.now for each in seen.drift}


def test_before_and_after(lab: Lab) -> None:
    before = checked(lab)
    prepare(lab, LAB)
    after = checked(lab, LAB)
    print(json.dumps({"before": tally(before), "after": tally(after)}))
    assert len(failed(before)) > 20
    assert {"redirects-accepted", "ssh-macs", "log-size", "shared-memory-programs"} <= failed(
        before
    )
    # A container has neither a clock nor modules of its own; the system's packages are its own.
    assert failed(after) == set()
    excused = {name for name, r in after.items() if "in a container: " in r.said}
    assert {"kernel-pointers", "cramfs", "audit", "confinement", "time"} <= excused
    assert after["security-updates"].status is Status.EXEMPT
    assert drift(lab) == {}


def tally(results: dict[str, Result]) -> dict[str, int]:
    return dict(Counter(str(result.status) for result in results.values()))


def test_again_it_changes_nothing(lab: Lab) -> None:
    assert prepare(lab, LAB) == []


def test_what_somebody_changed_shows_and_is_mended(lab: Lab) -> None:
    shell(lab, "sysctl -qw net.ipv4.conf.all.accept_redirects=1; mount -o remount,exec /dev/shm")
    shell(lab, "echo 'PermitRootLogin yes' >> /etc/ssh/sshd_config.d/00-groundplane.conf")
    shell(lab, "rm /etc/systemd/journald.conf.d/90-groundplane.conf")
    found = drift(lab)
    assert found.pop("mount /dev/shm").startswith("rw,nosuid,nodev")
    assert found.pop("file /etc/ssh/sshd_config.d/00-groundplane.conf").startswith("0644 ")
    assert found == {
        "sysctl net.ipv4.conf.all.accept_redirects": "1",
        "file /etc/systemd/journald.conf.d/90-groundplane.conf": "absent",
    }
    assert failed(checked(lab, LAB)) == {"redirects-accepted", "shared-memory-programs",
                                         "log-size", "log-size-memory", "log-kept"}  # fmt: skip
    prepare(lab, LAB)
    assert drift(lab) == {}
    assert failed(checked(lab, LAB)) == set()


def test_a_change_that_locks_us_out_heals_itself(lab: Lab) -> None:
    """The table asks for what shuts everybody out, as a release with a mistake in it would."""
    table = f"{LIBRARY}/current/lib/hardening.tsv"
    row = r"ssh-locked\tcis\tsshd\tAllowUsers\tnobody-at-all\t-\t-"
    good = shell(lab, "sshd -T")
    shell(lab, f"cp {table} /root/table; printf '{row}\\n' >> {table}")
    trial(lab, MINUTES, SECONDS)
    assert isinstance(step(lab, LAB, "locked"), Done)
    begun = time.monotonic()
    refused = step(lab, LAB, "refused")
    assert isinstance(refused, HostUnreachable), refused
    assert "lets nobody in" in refused.cause
    # Without a word from anybody: the timer puts back what was there.
    while isinstance(answer := inside(lab, lambda: run_all([host(lab)], ["true"]))["w1"],
                     HostUnreachable):  # fmt: skip
        assert time.monotonic() < begun + SECONDS + 30, answer
        time.sleep(0.5)
    healed = time.monotonic() - begun
    print(f"healed after {healed:.1f} s, of {SECONDS} s on trial")
    assert shell(lab, "sshd -T") == good
    assert "sshd_config.d" in str(drift(lab))
    # With the mistake gone it is mended like any other drift.
    shell(lab, f"cp /root/table {table}")
    trial(lab, SECONDS, MINUTES)
    prepare(lab, LAB)
    assert drift(lab) == {}


def test_settings_that_are_good_stay(lab: Lab) -> None:
    """The next connection proves them, and the timer goes."""
    shell(lab, "rm /etc/ssh/sshd_config.d/00-groundplane.conf")
    prepare(lab, LAB)
    timer = "systemctl is-active groundplane-ssh-rollback.timer"
    assert shell(lab, timer, check=False) == "active\n"
    prepare(lab, LAB)
    assert shell(lab, timer, check=False) == "inactive\n"
    assert drift(lab) == {}


def test_a_lower_level_takes_back(lab: Lab) -> None:
    none = Hardening(level="none")
    prepare(lab, none)
    assert drift(lab) == {}
    ours = shell(lab, "find /etc -name '*groundplane*' ! -path '*/ledger/*'")
    assert ours == ""
    assert "noexec" not in shell(lab, "findmnt -no OPTIONS /dev/shm")
    assert shell(lab, "sysctl -n net.ipv4.conf.all.accept_redirects") == "1\n"
    assert {"redirects-accepted", "ssh-macs", "shared-memory-programs"} <= failed(checked(lab))
