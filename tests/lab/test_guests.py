"""The machine that runs guests, and what runs on it: really booted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_machines import left_of, shell

from lab import machines
from lab.guests import accelerator, hypervisor
from lab.guests.hypervisor import HYPERVISOR
from lab.guests.image import GUEST
from lab.machines import Lab, cgroups

pytestmark = [
    pytest.mark.lab,
    pytest.mark.long,  # two more root file systems, where the cache has none
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

# A guest without a disk: it runs, and finds nothing to boot.
DOMAIN = """
<domain type='qemu'>
  <name>guest</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices>
    <interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>
  </devices>
</domain>
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A hypervisor, and a guest on it."""
    machines.make_rootfs(print, HYPERVISOR)
    machines.make_rootfs(print, GUEST)
    made = Lab(f"gpguest{os.getpid()}", tmp_path_factory.mktemp("lab"))
    try:
        machines.network_up(made)
        machines.boot(made, hypervisor.machine(1024, kvm=False))
        shell(
            made,
            "hv1",
            f"cat >/root/guest.xml <<'END'\n{DOMAIN}\nEND\nvirsh -q create /root/guest.xml",
        )
        yield made
    finally:
        machines.destroy_all(made)
    assert left_of(made) == []


def test_the_system_is_whole(lab: Lab) -> None:
    assert shell(lab, "hv1", "systemctl is-system-running --wait") == "running"
    assert shell(lab, "hv1", "virsh -q -c qemu:///system list --name") == "guest"


def test_its_address_is_on_the_bridge_of_its_guests(lab: Lab) -> None:
    assert "198.18.0.31/24" in shell(lab, "hv1", "ip -br -4 address show br0")
    ports = shell(lab, "hv1", "ls /sys/class/net/br0/brif").split()
    assert len(ports) == 2 and "host0" in ports
    assert shell(lab, "hv1", "cat /sys/class/net/br0/address") == shell(
        lab, "hv1", "cat /sys/class/net/host0/address"
    )


def test_what_makes_guests_is_there(lab: Lab) -> None:
    """Nothing else can be installed: no package source can be reached."""
    programs = "curl genisoimage jq qemu-img ssh-keygen ssh-keyscan virsh"
    assert shell(lab, "hv1", f"command -v {programs} | wc -l") == str(len(programs.split()))


def test_a_guest_ends_with_the_power(lab: Lab) -> None:
    assert emulators(lab)
    machines.stop(lab, "hv1")
    assert not emulators(lab)
    machines.boot(lab, hypervisor.machine(1024, kvm=False))
    assert shell(lab, "hv1", "virsh -q -c qemu:///system list --name") == ""


def emulators(lab: Lab) -> list[int]:
    return [
        pid
        for pid in cgroups.processes(lab, "hv1")
        if Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system")
    ]


# ---- what runs them --------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(accelerator, "cache", lambda: tmp_path)
    return tmp_path


def test_a_guests_kernel_starts(lab: Lab) -> None:
    """By emulation, wherever this is."""
    assert accelerator.starts("tcg", 120)


def test_an_accelerator_that_does_not_get_through_is_none(lab: Lab) -> None:
    assert not accelerator.starts("tcg", 0.2)
    assert not accelerator.starts("nothing")


def test_it_is_tried_once_a_start_of_this_computer(
    lab: Lab, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/dev/kvm").exists():
        pytest.skip("no /dev/kvm here: nothing is tried")
    tried = []
    monkeypatch.setattr(accelerator, "starts", lambda how: tried.append(how) or True)
    assert accelerator.kvm() and accelerator.kvm()
    assert tried == ["kvm"]
    noted = json.loads((cache / "kvm.json").read_text())
    (cache / "kvm.json").write_text(json.dumps([["another start"], noted[1]]))
    assert accelerator.kvm()
    assert tried == ["kvm", "kvm"]
