"""A round of patches on a machine of the lab: from a package source of its own, over a restart."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.bare import Bare, put
from support.inside import inside
from support.packages import SECURITY, package, publish
from support.specs import host

from groundplane.remote.observation import Expect, look
from groundplane.spec import Patching
from lab import machines
from lab.machines import Lab, Machine

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

W1 = Machine("w1", "198.18.0.21")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    machines.make_rootfs(print)
    made = Lab(f"gppt{os.getpid()}", tmp_path_factory.mktemp("lab"))
    try:
        machines.network_up(made)
        machines.boot(made, W1)
        yield made
    finally:
        machines.destroy_all(made)


@pytest.fixture(scope="module")
def w1(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """With two sources: security updates, and others. A package of each is installed, and a newer
    one is there."""
    bare, folder = Bare(lab, W1), tmp_path_factory.mktemp("packages")
    bare.shell("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
    names = (
        ("gp-fix", "/srv/security", SECURITY),
        ("gp-more", "/srv/more", "Origin: x\nLabel: x\n"),
        ("kubelet", "/srv/security", SECURITY),
    )
    for name, _, _ in names:
        put(lab, "w1", f"/srv/{name}.deb", package(folder, name, "1.0").read_bytes())
        bare.shell(f"dpkg -i /srv/{name}.deb")
    newer = {name: package(folder, name, "1.1") for name, _, _ in names}
    publish(lab, "w1", "/srv/security", SECURITY, newer["gp-fix"], newer["kubelet"])
    publish(lab, "w1", "/srv/more", "Origin: x\nLabel: x\n", newer["gp-more"])
    sources = "deb [trusted=yes] file:/srv/security ./\ndeb [trusted=yes] file:/srv/more ./\n"
    put(lab, "w1", "/etc/apt/sources.list", sources.encode())
    bare.shell("apt-get -qq update")
    return bare


def data(**given: Any) -> dict[str, Any]:
    patching = Patching(**{"round": "november", **given})
    return {"name": "w1", "role": "worker", "patching": patching.model_dump()}


def versions(w1: Bare) -> dict[str, str]:
    text = w1.shell("cd /usr/share; for p in gp-fix gp-more kubelet; do cat $p/version; done")
    return dict(zip(("gp-fix", "gp-more", "kubelet"), text.split(), strict=True))


def test_a_look_counts_what_could_be_newer(lab: Lab, w1: Bare) -> None:
    key = " ".join(machines.host_key(lab, "w1").split()[:2])
    there = host("w1", W1.address, "worker", key=str(lab.key), host_key=key)
    for packages, count in (("security", 2), ("all", 3)):
        found = inside(lab, lambda: look([there], Expect("metal", patches=packages))).seen("w1")  # noqa: B023
        assert found is not None
        assert (found.pending, found.wants_restart) == (count, False)


def test_security_alone(w1: Bare) -> None:
    done = w1.step("patch", data())
    assert done.returncode == 0, done.stderr
    assert "changed upgraded gp-fix=1.1\n" in done.stderr
    assert versions(w1) == {"gp-fix": "1.1", "gp-more": "1.0", "kubelet": "1.0"}
    # What came with the system stays marked as it was.
    assert w1.step("patch", data()).stderr == ""


def test_a_source_that_is_silent_is_no_round(w1: Bare) -> None:
    """apt-get calls it a success to know nothing new."""
    w1.shell("mv /srv/security /srv/away")
    done = w1.step("patch", data(round="silent"))
    assert done.returncode != 0
    assert "the package lists cannot be had" in done.stderr
    w1.shell("mv /srv/away /srv/security")
    assert w1.step("patch", data(round="silent")).returncode == 0


HOLD = """
open(F, '>>', '/var/lib/dpkg/lock-frontend');
my $lock = pack('s s x4 q q i x4', 1, 0, 0, 0, 0);
fcntl(F, 6, $lock) or die;
sleep 8
"""


def test_an_interrupted_dpkg_and_a_lock(w1: Bare) -> None:
    """Another one is at work for some seconds, and one before was cut off."""
    w1.shell("dpkg --unpack /srv/gp-fix.deb; dpkg -s gp-fix | grep 'install ok unpacked'")
    put(w1.lab, "w1", "/run/hold", HOLD.encode())
    w1.shell("systemd-run -q -u hold perl /run/hold")
    began = time.monotonic()
    done = w1.step("patch", data(round="repaired", packages="all"))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began > 6
    assert versions(w1) == {"gp-fix": "1.1", "gp-more": "1.1", "kubelet": "1.0"}
    assert w1.shell("dpkg --audit") == ""


def test_nobody_comes_in_before_it_has_restarted(w1: Bare) -> None:
    """So the engine's next step, which is called at once, finds another boot."""
    before = w1.shell("cat /proc/sys/kernel/random/boot_id")
    w1.shell("touch /run/reboot-required")
    done = w1.step("patch", data(round="restart"))
    assert done.returncode == 0, done.stderr
    assert "changed w1 restarts" in done.stderr
    deadline = time.monotonic() + 120
    while (answer := w1.ssh("cat", "/proc/sys/kernel/random/boot_id")).returncode != 0:
        assert time.monotonic() < deadline, answer.stderr
    assert answer.stdout not in ("", before)
    assert w1.shell("nft list tables") == ""
    # As the node step begins.
    script = """
    for l in /usr/local/lib/groundplane/current/lib.sh /usr/local/lib/groundplane/current/lib/*.sh
    do . "$l"; done
    reboot_done && echo back; reboot_done || echo once
    """
    assert w1.shell(script).split("\n")[-3:] == ["back", "once", ""]
    # And not again for this round.
    assert w1.step("patch", data(round="restart")).stderr == ""
