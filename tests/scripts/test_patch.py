"""Rounds of patches: what is upgraded, in which order, and how a host restarts in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.host import Done, Host

from groundplane.spec import Patching

# What apt says of a host, as Debian 12 and Ubuntu 22.04 do.
SIMULATED = """
Inst libssl3 [3.0.14-1~deb12u1] (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])
Inst bash [5.2.15-2+b7] (5.2.15-2+b8 Debian:12.9/stable [amd64])
Inst linux-image-6.1.0-31-amd64 (6.1.128-1 Debian-Security:12/stable-security [amd64])
Inst linux-image-amd64 [6.1.119-1] (6.1.128-1 Debian-Security:12/stable-security [amd64]) []
Inst libgcc-s1:i386 [12.3.0-1] (12.3.0-2 Ubuntu:22.04/jammy-updates, Ubuntu:22.04/jammy-security)
Inst containerd.io [1.7.1-1] (1.7.2-1 Docker CE:bookworm [amd64])
Inst kubelet [1.36.1-1.1] (1.36.2-1.1 obs://build.opensuse.org/security/deb [amd64])
Conf libssl3 (3.0.15-1~deb12u1 Debian-Security:12/stable-security [amd64])
"""
SECURITY = [
    "libssl3=3.0.15-1~deb12u1",
    "linux-image-amd64=6.1.128-1",
    "libgcc-s1:i386=12.3.0-2",
]
ALL = [SECURITY[0], "bash=5.2.15-2+b8", *SECURITY[1:]]

# What the step calls, each of which has tests of its own.
CALLS = """
snapshot_before() { echo snapshot; }
gate_enter() { echo "gate $1"; }
node_drain() { echo drain; }
connection_port() { echo 22; }
systemd-run() { while [ "$1" != -- ]; do shift; done; shift; echo "later: $*"; }
boot_id() { cat /run/boot; }
echo first >/run/boot
"""


def data(role: str = "worker", **given: Any) -> dict[str, Any]:
    patching = Patching(**{"round": "november", **given})
    return {"name": "w1", "role": role, "patching": patching.model_dump()}


@pytest.fixture
def host(host: Host) -> Host:
    """A member, with an apt that has something to upgrade."""
    host.write("/var/lib/groundplane/joined", "1.36.4")
    host.write("/run/simulated", SIMULATED)
    host.fake(
        "apt-get",
        """
        words="$*"
        case $words in
          *"-s "*) cat /run/simulated ;;
          *) echo "apt-get ${words#-qq -o DPkg::Lock::Timeout=300 }" >>"$CALLS"
             [ ! -e /run/broken ] ;;
        esac""",
    )
    host.fake("dpkg", 'echo "dpkg $*" >>"$CALLS"')
    return host


def patch(host: Host, given: dict[str, Any] | None = None, script: str = "apply") -> Done:
    return host.bash(f"{CALLS}\n{script}", given or data(), step="patch")


@pytest.mark.parametrize("packages, wanted", [("security", SECURITY), ("all", ALL)])
def test_what_is_upgraded(host: Host, packages: str, wanted: list[str]) -> None:
    """Never what Kubernetes stands on, and no package that was not there."""
    done = patch(host, data(packages=packages), "apt_patches")
    assert (done.out.split(), done.err) == (wanted, "")


def test_a_member_is_drained_behind_the_gate_when_all_is_here(host: Host) -> None:
    done = patch(host)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "gate disturb",
        "drain",
        f"changed upgraded {' '.join(SECURITY)}",
    ]
    words = "-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-remove"
    assert host.calls == [
        "dpkg --force-confdef --force-confold --configure -a",
        "apt-get -y --fix-broken install",
        "apt-get -o APT::Update::Error-Mode=any update",
        f"apt-get -y --download-only {words} --only-upgrade install {' '.join(SECURITY)}",
        f"apt-get -y {words} --only-upgrade install {' '.join(SECURITY)}",
    ]
    # This is what makes the node step wait for its health and give the slot back.
    assert host.read("/var/lib/groundplane/disturbing") == "patches\n"


def test_a_control_plane_takes_a_snapshot_before(host: Host) -> None:
    assert patch(host, data("control-plane")).out.splitlines()[:2] == ["snapshot", "gate disturb"]


def test_a_round_is_done_once(host: Host) -> None:
    patch(host)
    host.path("/run/calls").unlink()
    assert patch(host) == Done(0, "", "")
    assert host.calls == []
    assert "gate disturb" in patch(host, data(round="december")).out


def test_nothing_to_do_disturbs_nobody(host: Host) -> None:
    host.write("/run/simulated", "")
    assert patch(host) == Done(0, "", "")
    assert not host.there("/var/lib/groundplane/disturbing")
    # And the round counts as done.
    host.write("/run/simulated", SIMULATED)
    assert patch(host) == Done(0, "", "")


def test_a_host_that_is_no_member_yet_has_nothing_to_leave(host: Host) -> None:
    host.path("/var/lib/groundplane/joined").unlink()
    assert patch(host).out.splitlines() == [f"changed upgraded {' '.join(SECURITY)}"]


def test_sources_that_cannot_be_reached_disturb_nobody(host: Host) -> None:
    host.write("/run/broken", "")
    done = patch(host, script="apt_repair() { :; }; apply")
    assert done.status == 1
    assert "the package lists cannot be had" in done.err
    assert "gate" not in done.out


def test_what_fails_half_way_goes_on_in_its_turn(host: Host) -> None:
    """The node stays out of service, holds its slot, and the same command takes it up."""
    failing = 'patches_apt() { [ "${1:-}" = --download-only ] || false; }; apply'
    done = patch(host, script=failing)
    assert done.status == 1
    assert "packages are not upgraded" in done.err
    assert host.read("/var/lib/groundplane/disturbing") == "patches\n"
    again = patch(host, data("control-plane"))
    # With no second snapshot, of a cluster that is no longer whole.
    assert again.out.splitlines()[:2] == ["gate disturb", "drain"]
    assert again.status == 0


def test_another_program_that_holds_the_lock_is_waited_for(host: Host) -> None:
    host.fake(
        "dpkg",
        "[ ! -e /run/asked ] || exit 0; touch /run/asked; "
        "echo 'dpkg: error: dpkg frontend lock was locked by another process'; exit 2",
    )
    assert patch(host).status == 0


def test_a_dpkg_that_cannot_go_on_is_said(host: Host) -> None:
    host.fake("dpkg", "echo 'dpkg: error processing package x'; exit 1")
    done = patch(host)
    assert done.status == 1
    assert "dpkg was cut off here, and cannot go on: dpkg: error processing package x" in done.err


@pytest.mark.parametrize("packages, count", [("security", 3), ("all", 6)])
def test_a_look_counts_what_could_be_newer(host: Host, packages: str, count: int) -> None:
    """A hint: with those packages among them that the step does not touch."""
    host.write("/run/simulated", SIMULATED)
    # A look knows the system's own folders only.
    script = 'cp "$(type -P apt-get)" /usr/local/bin; env "PATCHES=$3" bash "$2/observe.sh"'
    done = patch(host, script=f'set -- "$1" "$2" {packages}; {script} | grep ^pending')
    assert done.out == f"pending\t{count}\n"


def test_a_look_tells_that_a_restart_is_wanted(host: Host) -> None:
    script = 'bash "$2/observe.sh" | grep ^restart || echo none'
    host.write("/run/reboot-required", "")
    assert patch(host, script=script).out == "restart\n"


# ---- restarts --------------------------------------------------------------------------------

RESTARTS = [
    "later: nft delete table inet groundplane-door",
    "later: systemctl reboot",
]


def restarts(done: Done) -> list[str]:
    return [line for line in done.out.splitlines() if line.startswith("later")]


@pytest.mark.parametrize(
    "reboot, needed, wanted",
    [
        ("if-needed", True, RESTARTS),
        ("if-needed", False, []),
        ("never", True, []),
        ("always", False, RESTARTS),
    ],
)
def test_when_it_restarts(host: Host, reboot: str, needed: bool, wanted: list[str]) -> None:
    if needed:
        host.write("/run/reboot-required", "")
    assert restarts(patch(host, data(reboot=reboot))) == wanted


def test_a_kernel_that_came_after_the_start(host: Host, tmp_path: Path) -> None:
    """/boot is this computer's here: so find is asked about another folder."""
    script = """
    find() { shift; command find /run/boot-folder "$@"; }
    mkdir -p /run/boot-folder
    reboot_needed || echo none
    touch /run/boot-folder/vmlinuz-9
    reboot_needed && echo needed
    """
    assert patch(host, script=script).out.split() == ["none", "needed"]


def test_a_restart_alone_is_a_disturbance_too(host: Host) -> None:
    host.write("/run/simulated", "")
    host.write("/run/reboot-required", "")
    done = patch(host)
    assert done.out.splitlines()[:2] == ["gate disturb", "drain"]
    assert restarts(done) == RESTARTS


def test_nobody_comes_in_before_it_has_restarted(host: Host) -> None:
    """The engine's next step must not find the machine that is about to go."""
    host.write("/run/reboot-required", "")
    done = patch(host, script="apply; nft list table inet groundplane-door")
    assert "tcp dport 22 tcp flags syn / fin,syn,rst,ack drop" in done.out


def test_a_restart_that_was_cut_off_is_made_up_for(host: Host) -> None:
    host.write("/run/reboot-required", "")
    patch(host)
    assert restarts(patch(host)) == RESTARTS
    again = patch(host, script="boot_id() { echo second; }; apply")
    assert restarts(again) == []


def node(host: Host, boot: str) -> Done:
    quiet = (
        "wait_healthy() { echo healthy; }; host_apply() { echo host; }; change() { echo change; }"
    )
    quiet += "; machine_settled() { :; }; backup_apply() { :; }; record_facts() { :; }"
    return host.bash(f"{quiet}\nboot_id() {{ echo {boot}; }}\napply", data(), step="node")


def test_the_node_step_takes_it_back_when_it_has_restarted(host: Host) -> None:
    host.write("/run/reboot-required", "")
    patch(host)
    done = node(host, "second")
    assert [line for line in done.out.splitlines() if "restarted" not in line] == [
        "healthy",
        "host",
        "change",
    ]
    assert node(host, "second").out.split() == ["host", "change"]


def test_one_that_did_not_restart_is_named(host: Host) -> None:
    host.write("/run/reboot-required", "")
    patch(host)
    done = node(host, "first")
    assert (done.status, done.out) == (1, "")
    assert "it did not restart within 300 s" in done.err
