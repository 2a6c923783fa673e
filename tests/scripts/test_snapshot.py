"""A guest's disks are copied before its Kubernetes becomes another version."""

from __future__ import annotations

from typing import Any

import pytest
from support import guests
from support.host import Done, Host
from test_machine import FOLDER, POOL
from test_machine import apply as install
from test_machine import hypervisor as hypervisor  # a fixture

from groundplane.hosts import libvirt

COPIES = f"{FOLDER}/before-upgrade"
DISKS = [{"name": "osd0", "size_gib": 100}]
ROOM = "df() { echo avail; echo 4000000; }"
# Asks once.
QUICK = """within() { shift; "$@" >/dev/null 2>&1; }"""


@pytest.fixture
def installed(hypervisor: Host) -> Host:
    done = install(hypervisor, disks=DISKS)
    assert done.status == 0, done.err
    return hypervisor


def snapshot(host: Host, kubernetes: str, before: str = "", verb: str = "apply") -> Done:
    made = guests.virtual(guests.guest("cp1"))
    data: dict[str, Any] = {**libvirt.snapshot(made, made.hosts[0], kubernetes), "stack": "metal"}
    script = f"STEP=snapshot.metal.cp1\n{before}\n{verb}"
    return host.bash(script, data, step="snapshot")


def files(host: Host) -> set[str]:
    folder = host.path(COPIES)
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def begun(host: Host) -> int:
    return sum(call.startswith("virsh backup-begin") for call in host.calls)


def test_a_guest_that_runs_is_copied_with_all_its_disks(installed: Host) -> None:
    done = snapshot(installed, "1.36.3")
    assert done.status == 0, done.err
    assert done.changes == ["cp1 copied, as it is before 1.36.3"]
    assert files(installed) == {"disk.qcow2", "data-osd0.qcow2", "kubernetes"}
    xml = (installed.root / "run/backup.xml").read_text()
    assert f"<disk name='vda' type='file'><driver type='qcow2'/><target file='{COPIES}.new/" in xml


def test_the_same_version_copies_nothing(installed: Host) -> None:
    snapshot(installed, "1.36.3")
    assert snapshot(installed, "1.36.3") == Done(0, "", "")
    assert begun(installed) == 1


def test_the_next_version_replaces_the_copy(installed: Host) -> None:
    snapshot(installed, "1.36.3")
    assert snapshot(installed, "1.36.4").status == 0
    assert installed.read(f"{COPIES}/kubernetes") == "1.36.4\n"
    assert begun(installed) == 2


def test_a_guest_that_is_off_is_copied_too(installed: Host) -> None:
    installed.path("/run/domains/metal.cp1").unlink()
    assert snapshot(installed, "1.36.3").status == 0
    assert files(installed) == {"disk.qcow2", "data-osd0.qcow2", "kubernetes"}
    assert begun(installed) == 0


def test_a_copy_that_breaks_off_is_none(installed: Host) -> None:
    """The older one is still there; the update ends before the guest is touched."""
    snapshot(installed, "1.36.3")
    installed.write("/run/job", "Failed")
    done = snapshot(installed, "1.36.4")
    assert done.status == 1
    assert "the copy of metal.cp1 did not get to its end" in done.err
    assert installed.read(f"{COPIES}/kubernetes") == "1.36.3\n"
    installed.write("/run/job", "Completed")
    assert snapshot(installed, "1.36.4").status == 0


def test_one_that_does_not_end_is_ended(installed: Host) -> None:
    done = snapshot(installed, "1.36.3", f"{QUICK}\nno_job() {{ false; }}")
    assert done.status == 1
    assert "waited an hour in vain for the copy of cp1" in done.err
    assert "virsh domjobabort metal.cp1" in installed.calls


def test_without_room_nothing_is_begun(installed: Host) -> None:
    done = snapshot(installed, "1.36.3", ROOM)
    assert done.status == 1
    assert f"a copy of cp1 takes 4 MiB, and {POOL} has 3 MiB free" in done.err
    assert begun(installed) == 0


def test_its_end(installed: Host) -> None:
    snapshot(installed, "1.36.3")
    done = snapshot(installed, "1.36.3", verb="destroy")
    assert done.changes == [f"{COPIES} removed"]
