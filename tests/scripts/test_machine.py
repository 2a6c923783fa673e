"""A guest on its hypervisor: installed, changed, started again, removed; and what it rests on."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

import pytest
from support import guests
from support.host import Done, Host

from groundplane.hosts import libvirt
from groundplane.remote import guests as sightings
from groundplane.remote.step import canonical
from lab.mirror.server import Running, running

POOL = "/var/lib/groundplane/guests"
FOLDER = f"{POOL}/metal.cp1"
# Asks once.
QUICK = """within() { shift; "$@" >/dev/null 2>&1; }"""
IMAGE = b"what guests begin with"


@pytest.fixture
def hypervisor(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.chdir(tmp_path)
    guests.key_file(tmp_path)
    for name in ("virsh", "qemu-img", "genisoimage", "ssh-keyscan"):
        host.fake(name)
    host.write(f"{POOL}/images/{wanted()['image']}.qcow2", "")
    return host


def machine(**fields: Any) -> dict[str, Any]:
    """What one guest is to be."""
    made = guests.virtual(guests.guest("cp1", **fields))
    planned = sightings.Guest("hv1", sightings.State.ABSENT, own={"accelerator": "kvm"})
    return libvirt.machine(made, made.hosts[0], planned)


def wanted(**fields: Any) -> dict[str, Any]:
    """The same as the step is given it."""
    head = {"stack": "metal", "step": "machine.metal.cp1", "token": "0123456789abcdef"}
    return dict(json.loads(canonical({**head, **machine(**fields)})))


def apply(host: Host, before: str = "", **fields: Any) -> Done:
    data = {key: fields.pop(key) for key in ("image",) if key in fields}
    return host.bash(f"VERB=apply\n{before}\napply", {**wanted(**fields), **data}, step="machine")


def verbs(host: Host) -> list[str]:
    """What libvirt was told to do, and what with disks was done."""
    return [
        " ".join(call.split()[:2]) for call in host.calls if not call.startswith("qemu-img info")
    ]


def seed(host: Host) -> dict[str, str]:
    """What the last guest was told; the copy that the fake keeps."""
    raw = (host.root / "run/seed.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        files = {name: tar.extractfile(f"./{name}") for name in ("user-data", "meta-data")}
        return {name: file.read().decode() for name, file in files.items() if file}


# ---- installing --------------------------------------------------------------------------------


def test_a_guest_is_installed(hypervisor: Host) -> None:
    done = apply(hypervisor)
    assert done.status == 0, done.err
    assert done.changes == [
        f"{FOLDER}/disk.qcow2",
        f"metal.cp1 started, from {wanted()['image'][:16]}",
        "seed detached and wiped",
        "cp1 installed",
    ]
    assert verbs(hypervisor) == [
        "qemu-img create", "virsh create", "virsh define", "virsh autostart", "virsh detach-disk",
    ]  # fmt: skip
    record = json.loads(hypervisor.read(f"{FOLDER}/guest.json"))
    public = json.loads(seed(hypervisor)["user-data"].partition("\n")[2])["ssh_keys"]
    assert record["key"] == " ".join(public["ed25519_public"].split()[:2])
    assert record["image"] == wanted()["image"]
    assert record["definition"] == libvirt.digest(machine()["definition"])
    assert hypervisor.read("/run/groundplane/result") == f"{record['key']}\n"


def test_the_private_half_of_its_key_is_nowhere_afterwards(hypervisor: Host) -> None:
    assert apply(hypervisor).status == 0
    private = json.loads(seed(hypervisor)["user-data"].partition("\n")[2])
    line = private["ssh_keys"]["ed25519_private"].splitlines()[1]
    (hypervisor.root / "run/seed.tar").unlink()
    kept = [
        path for path in hypervisor.root.rglob("*") if path.is_file() and "work" not in path.parts
    ]
    assert kept
    assert [path for path in kept if line in path.read_text(errors="replace")] == []
    assert not any(line in call for call in hypervisor.calls)


def test_the_definition_knows_no_seed(hypervisor: Host) -> None:
    apply(hypervisor)
    assert "groundplane-seeds" in (hypervisor.root / "run/created.xml").read_text()
    assert "groundplane-seeds" not in hypervisor.read("/etc/libvirt/qemu/metal.cp1.xml")


def test_a_seed_that_is_held_fast_is_wiped_all_the_same(hypervisor: Host) -> None:
    """The guest reads zeros from it, and has none from its next start on."""
    held = """
within() { shift; [ "$1" != seed_is_detached ] && "$@" >/dev/null 2>&1; }
rm() {
  [[ $* != *.iso || ! -e ${*: -1} ]] || od -An -v -tx1 "${*: -1}" >/run/wiped
  command rm "$@"
}
"""
    done = apply(hypervisor, held)
    assert done.status == 0, done.err
    assert "seed wiped" in done.changes
    assert set((hypervisor.root / "run/wiped").read_text().split()) == {"00"}


def test_a_guest_that_says_nothing_is_reported_with_its_console(hypervisor: Host) -> None:
    hypervisor.write("/run/silent", "")
    console = f"mkdir -p {FOLDER}; within() {{ echo stuck at 3 >{FOLDER}/console.log; false; }}"
    done = apply(hypervisor, console)
    assert done.status == 1
    assert "waited 900 s in vain for cp1 to be installed" in done.err
    assert "stuck at 3" in done.err and "KVM may not work" in done.err


def test_what_an_interrupted_run_left_is_begun_anew(hypervisor: Host) -> None:
    hypervisor.write("/run/silent", "")
    apply(hypervisor, "within() { false; }")
    assert not hypervisor.there(f"{FOLDER}/guest.json")
    hypervisor.path("/run/silent").unlink()
    done = apply(hypervisor, QUICK)
    assert done.status == 0, done.err
    assert f"{FOLDER}/disk.qcow2 removed" in done.changes
    assert "cp1 installed" in done.changes


def test_another_machine_at_its_address_is_refused(hypervisor: Host) -> None:
    hypervisor.write("/run/shown", "ssh-ed25519 AAAAother")
    network = "ip link add br0 type veth; ip address add 192.0.2.31/24 dev br0; ip link set br0 up"
    done = apply(hypervisor, network)
    assert done.status == 1
    assert "whose host key is not that of cp1" in done.err
    assert not hypervisor.there(f"{FOLDER}/guest.json")


def test_its_own_key_is_what_it_shows(hypervisor: Host) -> None:
    network = "ip link add br0 type veth; ip address add 192.0.2.31/24 dev br0; ip link set br0 up"
    done = apply(hypervisor, network)
    assert done.status == 0, done.err


def test_libvirt_says_why_it_starts_none(hypervisor: Host) -> None:
    hypervisor.write("/run/broken", "")
    done = apply(hypervisor)
    assert done.status == 1
    assert "libvirt does not start metal.cp1: error: it is broken" in done.err


# ---- changing ----------------------------------------------------------------------------------


def test_the_same_again_changes_nothing(hypervisor: Host) -> None:
    apply(hypervisor)
    before = hypervisor.calls
    done = apply(hypervisor)
    assert (done.status, done.out) == (0, "")
    assert verbs(hypervisor)[len(before) :] == ["virsh define", "virsh autostart"]


def test_another_size_restarts_it_and_keeps_its_disk(hypervisor: Host) -> None:
    apply(hypervisor)
    done = apply(hypervisor, memory_mib=8192, disk_gib=40)
    assert done.changes == [
        "metal.cp1 shut down",
        f"{FOLDER}/disk.qcow2 has 40 GiB",
        "metal.cp1 defined",
        "metal.cp1 started",
    ]
    assert json.loads(hypervisor.read(f"{FOLDER}/guest.json"))["definition"] == libvirt.digest(
        machine(memory_mib=8192)["definition"]
    )
    assert apply(hypervisor, memory_mib=8192, disk_gib=40).changes == []


def test_a_disk_grows_under_a_guest_that_runs(hypervisor: Host) -> None:
    apply(hypervisor)
    done = apply(hypervisor, disk_gib=40)
    assert done.changes == [f"{FOLDER}/disk.qcow2 has 40 GiB"]
    assert f"virsh blockresize metal.cp1 {FOLDER}/disk.qcow2 40GiB" in hypervisor.calls


def test_a_disk_does_not_shrink(hypervisor: Host) -> None:
    apply(hypervisor, disk_gib=40)
    done = apply(hypervisor, disk_gib=20)
    assert done.status == 1
    assert "does not shrink" in done.err


def test_another_image_keeps_the_disks_with_data(hypervisor: Host) -> None:
    disks = [{"name": "osd0", "size_gib": 100}]
    apply(hypervisor, disks=disks)
    hypervisor.write(f"{POOL}/images/{'b' * 64}.qcow2", "")
    before = hypervisor.read(f"{FOLDER}/guest.json")
    done = apply(hypervisor, disks=disks, image="b" * 64)
    assert done.status == 0, done.err
    assert "metal.cp1 shut down" in done.changes
    assert f"{FOLDER}/disk.qcow2 removed" in done.changes
    assert not any("osd0" in change for change in done.changes)
    assert json.loads(before)["key"] != json.loads(hypervisor.read(f"{FOLDER}/guest.json"))["key"]


@pytest.mark.parametrize(
    ("state", "change"),
    [("shut off", "started"), ("crashed", "started"), ("paused", "resumed")],
)
def test_one_that_does_not_run_comes_back(hypervisor: Host, state: str, change: str) -> None:
    apply(hypervisor)
    hypervisor.write("/run/domains/metal.cp1", state)
    assert apply(hypervisor).changes == [f"metal.cp1 {change}"]


def test_one_that_does_not_shut_down_is_cut_off(hypervisor: Host) -> None:
    apply(hypervisor)
    hypervisor.write("/run/deaf", "")
    done = apply(hypervisor, QUICK, memory_mib=8192)
    assert "metal.cp1 cut off, since it did not shut down within 180 s" in done.changes


def test_what_it_rests_on(hypervisor: Host) -> None:
    apply(hypervisor, disks=[{"name": "osd0", "size_gib": 100}])
    assert {(fact[0], fact[1]) for fact in hypervisor.facts()} == {
        ("file", f"{FOLDER}/guest.json"),
        ("exists", f"{FOLDER}/disk.qcow2"),
        ("exists", f"{FOLDER}/data-osd0.qcow2"),
        ("link", "/etc/libvirt/qemu/autostart/metal.cp1.xml"),
        ("file", "/etc/libvirt/qemu/metal.cp1.xml"),
        ("domain", "metal.cp1"),
    }


def test_its_end(hypervisor: Host) -> None:
    apply(hypervisor)
    hypervisor.write("/var/lib/groundplane/ledger/machine.metal.cp1.json", "{}")
    done = hypervisor.bash(
        "VERB=destroy\nSTEP=machine.metal.cp1\ndestroy", wanted(), step="machine"
    )
    assert done.status == 0, done.err
    assert done.changes == ["metal.cp1 removed", f"{FOLDER} removed"]
    assert not hypervisor.there("/etc/libvirt/qemu/metal.cp1.xml")
    assert not hypervisor.there("/var/lib/groundplane/ledger/machine.metal.cp1.json")


# ---- the pool ----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/image").write_bytes(IMAGE)
    with running(tmp_path / "files", tmp_path) as server:
        yield server


def pool(host: Host, images: list[list[str]], verb: str = "apply", stack: str = "metal") -> Done:
    data = {"stack": stack, "pool": POOL, "packages": [], "images": images}
    script = f"STEP=pool.{stack}\ninstall_packages() {{ :; }}\n{verb}"
    done = host.bash(script, data, step="pool", network=False)
    # As ledger_commit does.
    facts = host.root / "run/groundplane/facts"
    if verb == "apply" and done.status == 0:
        text = facts.read_text() if facts.exists() else ""
        host.write(f"/var/lib/groundplane/ledger/pool.{stack}.facts", text)
    return done


@pytest.mark.parametrize("sum", [sha256, sha512])
def test_an_image_is_fetched_once_and_never_changed(host: Host, server: Running, sum: Any) -> None:
    digest = sum(IMAGE).hexdigest()
    images = [[f"{server.url}/image", digest]]
    assert pool(host, images).changes[-1] == f"{digest}.qcow2 fetched"
    path = host.path(f"{POOL}/images/{digest}.qcow2")
    assert path.read_bytes() == IMAGE
    assert path.stat().st_mode & 0o777 == 0o444
    assert pool(host, images).out == ""
    path.chmod(0o644)
    path.write_bytes(b"another")
    done = pool(host, images)
    assert done.status == 1
    assert "no longer what was fetched" in done.err


def test_an_image_that_is_not_what_it_must_be(host: Host, server: Running) -> None:
    done = pool(host, [[f"{server.url}/image", "0" * 64]])
    assert done.status == 1
    assert "not to be had with the digest" in done.err
    assert not host.there(f"{POOL}/images/{'0' * 64}.qcow2")


def test_an_image_stays_while_somebody_needs_it(host: Host, server: Running) -> None:
    digest = sha256(IMAGE).hexdigest()
    path = f"{POOL}/images/{digest}.qcow2"
    images = [[f"{server.url}/image", digest]]
    pool(host, images)
    pool(host, images, stack="other")
    pool(host, [], "destroy")
    assert host.there(path)
    host.write(f"{POOL}/other.w1/guest.json", json.dumps({"image": digest}))
    pool(host, [], stack="other")
    assert host.there(path)
    host.path(f"{POOL}/other.w1/guest.json").unlink()
    done = pool(host, [], "destroy", stack="other")
    assert done.changes == [f"{path} removed"]
    assert not host.there(path)
