"""A cluster on guests, through what befalls guests and the hypervisor that runs them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml
from harness import Guests, Stack, assert_pods_reach_each_other, until, versions

from groundplane.begin import write_stack
from groundplane.errors import SpecError
from lab import machines, mirror
from lab import stack as lab_stack
from lab.config import CHECKOUT, VM
from lab.guests.image import NAME as IMAGE
from lab.parts import recipes
from lab.parts.recipes import ARCH
from lab.parts.store import sha256

ALL = ("vcp1", "vw1")
HV = "hv1"
SETTLED = 600  # seconds for emulated guests to be Ready after they were started


def found(guests: Guests) -> set[tuple[str, str]]:
    """What keeps an update from beginning: (host, check)."""
    return {(host, check) for severity, host, check in guests.preflight() if severity == "error"}


def all_ready(guests: Guests, *names: str) -> None:
    wanted = dict.fromkeys(names or ALL, True)

    def ready() -> bool:
        try:
            return guests.nodes() == wanted
        except (AssertionError, subprocess.TimeoutExpired):  # the API is not there yet
            return False

    until(ready, f"{sorted(wanted)} are Ready", SETTLED, 5)


@contextmanager
def broken(guests: Guests, name: str, begin: str, end: str) -> Iterator[None]:
    """Something is wrong in a guest, for a while."""
    guests.shell(name, begin)
    try:
        yield
    finally:
        guests.shell(name, end, check=False)


# ---- before there is anything ----------------------------------------------------------------


def test_guests_that_are_too_large(stack: Stack, guests: Guests) -> None:
    guests.fresh()
    vcp1, vw1 = guests.hosts(*ALL)
    vcp1["guest"]["memoryMib"] = 16_000_000
    guests.configure([vcp1, vw1])
    guests.refused("hv1 memory its guests have", "nothing was changed")
    assert guests.virsh("list", "--all", "--name") == ""


def test_two_control_planes_on_one_hypervisor(guests: Guests) -> None:
    """Refused, unless the site says that it may be."""
    site = lab_stack.site(guests.lab, guests.hosts("vcp1", "vcp2", "vcp3"), VM)
    site["hypervisors"][0]["allowTogether"] = False
    with pytest.raises(SpecError, match="hv1 runs the control plane vcp1 already"):
        write_stack(CHECKOUT / "stacks", guests.name, site, force=True)


def test_a_hypervisor_that_is_down_is_one_failure(guests: Guests) -> None:
    guests.configure(guests.hosts(*ALL))
    machines.stop(guests.lab, HV)
    try:
        assert found(guests) == {(HV, "hypervisor")}
        guests.refused("with it vcp1, vw1", "nothing was changed")
    finally:
        guests.boot()


def test_a_hypervisor_that_shows_another_key(guests: Guests) -> None:
    site = lab_stack.site(guests.lab, guests.hosts(*ALL), VM)
    site["hypervisors"][0]["hostKey"] = " ".join(machines.ssh_key(guests.lab).split()[:2])
    write_stack(CHECKOUT / "stacks", guests.name, site, force=True)
    assert found(guests) == {(HV, "hypervisor")}
    guests.refused("someone may be posing as this host", "with it vcp1, vw1")


def test_a_key_that_the_hypervisor_does_not_know(guests: Guests) -> None:
    """One try: no storm that would lock the account."""
    stranger = guests.lab.folder / "e2e-stranger"
    stranger.unlink(missing_ok=True)
    machines.inside(
        guests.lab, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)]
    )
    site = lab_stack.site(guests.lab, guests.hosts(*ALL), VM)
    site["hypervisors"][0]["key"] = str(stranger)
    write_stack(CHECKOUT / "stacks", guests.name, site, force=True)
    before = tries(guests)
    assert found(guests) == {(HV, "hypervisor")}
    assert tries(guests) - before == 1


def tries(guests: Guests) -> int:
    """How many connections ended before anybody was let in."""
    return guests.shell(HV, "journalctl --no-pager -o cat -t sshd").count(
        "authenticating user root"
    )


# ---- while it is being made ------------------------------------------------------------------


def test_killed_while_guests_are_installed(guests: Guests) -> None:
    guests.configure(guests.hosts(*ALL))
    first = guests.start_up()
    until(lambda: guests.state("vcp1") == "running" or first.ended, "a guest that starts", 300, 1)
    assert not first.ended, first.text
    first.kill()
    guests.refused("locked")
    guests.cancel()


def test_ctrl_c_while_it_is_founded(guests: Guests) -> None:
    """The step that runs goes to its end, and no other begins."""
    second = guests.start_up()
    until(lambda: founding(guests) or second.ended, "the bootstrap step", 1200, 5)
    assert not second.ended, second.text
    second.interrupt()
    assert second.wait(1200).status != 0
    assert not founding(guests)


def founding(guests: Guests) -> bool:
    try:
        return guests.runs("vcp1", "bootstrap")
    except (AssertionError, subprocess.TimeoutExpired):  # not installed yet, or no answer
        return False


def test_the_same_command_converges(guests: Guests) -> None:
    guests.up()
    all_ready(guests)
    assert guests.members("vcp1") == {"vcp1": True}
    assert guests.preview() == {}
    assert_pods_reach_each_other(guests, SETTLED)
    assert guests.virsh("list", "--all", "--name").split() == [guests.domain(n) for n in ALL]


def test_the_stack_tells_the_keys_of_its_guests(guests: Guests) -> None:
    told = json.loads(guests.pulumi("stack", "output", "hostKeys", "--json").text)
    assert told == {name: guests.host_key(name) for name in ALL}


def test_the_seed_is_gone(guests: Guests) -> None:
    """It held the guest's private host key."""
    for name in ALL:
        assert "vdzz" not in guests.virsh("domblklist", guests.domain(name))
    assert guests.shell(HV, "ls /run/groundplane-seeds").strip() == ""


# ---- while it is being changed ---------------------------------------------------------------


def test_too_many_handshakes(guests: Guests) -> None:
    """sshd drops handshakes beyond MaxStartups: that is waited out, not given up on."""
    limit = "/etc/ssh/sshd_config.d/a.conf"  # of several, sshd takes the first
    dropped = "journalctl --no-pager -o cat -t sshd | grep -c 'past MaxStartups'"
    address = guests.hosts("vw1")[0]["address"]
    hold = (
        "import socket, sys; "
        f"held = [socket.create_connection(('{address}', 22)) for _ in range(2)]; "
        "print(flush=True); sys.stdin.read()"
    )
    with broken(
        guests,
        "vw1",
        f"echo MaxStartups 3:100:3 >{limit} && systemctl restart ssh",
        f"rm {limit} && systemctl restart ssh",
    ):
        argv = ["nsenter", f"--net={guests.lab.netns}", sys.executable, "-c", hold]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            # It takes the last place, and counts.
            counting = f"for _ in $(seq 60); do {dropped} | grep -qv '^0' && break; sleep 1; done"
            looking = guests.start("groundplane", "preflight", "--stack", guests.name)
            guests.shell("vw1", counting, check=False)
        assert "2 of 2 hosts answer" in looking.wait().text


def test_cloned_guests(guests: Guests) -> None:
    clone = f"echo {guests.shell('vcp1', 'cat /etc/machine-id').strip()} >/run/id; "
    with broken(
        guests, "vw1", f"{clone} mount --bind /run/id /etc/machine-id", "umount /etc/machine-id"
    ):
        assert found(guests) == {("vw1", "identity")}
    assert found(guests) == set()


def test_a_connection_that_is_cut(guests: Guests) -> None:
    guests.configure(guests.hosts(*ALL), kubelet={"maxPods": 99})
    cut = guests.start_up()
    until(lambda: guests.runs("vw1", "node") or cut.ended, "vw1's node step", 600, 1)
    guests.shell("vw1", "pkill -KILL -f '^sshd: root@notty'", check=False)
    assert cut.wait(900).status != 0, cut.text
    guests.up()
    assert guests.preview() == {}
    assert pods_allowed(guests) == dict.fromkeys(ALL, "99")


def test_a_cable_that_is_pulled_for_a_while(guests: Guests) -> None:
    """No packet in or out of a guest in the middle of a step."""
    guests.configure(guests.hosts(*ALL), kubelet={"maxPods": 98})
    process = guests.start_up()
    until(lambda: guests.runs("vw1", "node") or process.ended, "vw1's node step", 600, 1)
    link = guests.virsh("domiflist", guests.domain("vw1")).split()[0]
    guests.virsh("domif-setlink", guests.domain("vw1"), link, "down")
    time.sleep(8)
    guests.virsh("domif-setlink", guests.domain("vw1"), link, "up")
    process.wait(1200)
    guests.up()
    assert guests.preview() == {}
    assert pods_allowed(guests) == dict.fromkeys(ALL, "98")


def test_a_guest_that_is_paused_in_the_middle_of_a_step(guests: Guests) -> None:
    """It is waited for, and nobody else is disturbed meanwhile."""
    before = guests.processes("vcp1")
    vcp1, vw1 = guests.hosts(*ALL)
    vw1["labels"] = {"example.com/paused": "yes"}
    guests.configure([vcp1, vw1], kubelet={"maxPods": 98})
    guests.virsh("suspend", guests.domain("vw1"))
    assert guests.preview()["vw1-machine"] == "update"
    guests.up()
    all_ready(guests)
    assert guests.state("vw1") == "running"
    assert guests.preview() == {}
    assert guests.processes("vcp1") == before


def pods_allowed(guests: Guests) -> dict[str, str]:
    return {n["metadata"]["name"]: n["status"]["capacity"]["pods"] for n in guests.get("nodes")}


# ---- guests that go, and come back -----------------------------------------------------------


def test_a_guest_that_is_killed(guests: Guests) -> None:
    before = guests.processes("vcp1")
    guests.virsh("destroy", guests.domain("vw1"))
    assert guests.preview() == {"vw1-machine": "update"}
    guests.up()
    all_ready(guests)
    assert guests.preview() == {}
    assert guests.processes("vcp1") == before


def test_a_hypervisor_that_reboots(guests: Guests) -> None:
    """Its guests come back with it, and the cluster heals by itself."""
    machines.reboot(guests.lab, HV)
    until(lambda: [guests.state(n) for n in ALL] == ["running"] * 2, "guests that run", 120, 1)
    all_ready(guests)
    assert guests.preview() == {}
    assert_pods_reach_each_other(guests, SETTLED)


def test_a_hypervisor_whose_power_fails(guests: Guests) -> None:
    """One failure for all that it runs; what runs there is not written off."""
    machines.stop(guests.lab, HV)
    assert found(guests) == {(HV, "hypervisor")}
    guests.refused("with it vcp1, vw1", "nothing was changed")
    guests.boot()
    until(lambda: [guests.state(n) for n in ALL] == ["running"] * 2, "guests that run", 120, 1)
    all_ready(guests)
    assert guests.preview() == {}


def test_a_guest_of_another_size(guests: Guests) -> None:
    """An ordinary change; it passes the gate, and the disk keeps what is on it."""
    before = guests.processes("vcp1")
    guests.shell("vw1", "touch /root/kept")
    vcp1, vw1 = guests.hosts(*ALL)
    vw1["guest"] |= {"vcpus": 1, "memoryMib": guests.memory + 256, "diskGib": 14}
    guests.configure([vcp1, vw1], kubelet={"maxPods": 98})
    assert guests.preview()["vw1-machine"] == "update"
    guests.up()
    all_ready(guests)
    assert guests.shell("vw1", "ls /root/kept; nproc").split() == ["/root/kept", "1"]
    size = int(guests.shell("vw1", "lsblk -bdno SIZE /dev/vda"))
    assert size == 14 << 30
    assert guests.preview() == {}
    assert guests.processes("vcp1") == before


def test_a_guest_that_is_installed_anew(guests: Guests) -> None:
    """From another image: the Node leaves, and what joins is a new one of the same name."""
    other = another_image(guests)
    vcp1, vw1 = guests.hosts(*ALL)
    vw1["guest"] |= {"image": other, "diskGib": 14}
    guests.configure([vcp1, vw1], kubelet={"maxPods": 98})
    key = guests.host_key("vw1")
    assert guests.preview()["vw1-machine"] == "update"
    guests.up()
    all_ready(guests)
    assert guests.host_key("vw1") != key
    assert guests.shell("vw1", "ls /root/kept 2>/dev/null || echo new").strip() == "new"
    assert guests.preview() == {}


def another_image(guests: Guests) -> str:
    """The same system in another file: a hypervisor knows images by their digest."""
    file = mirror.catalogue_file(guests.lab.folder)
    document = yaml.safe_load(file.read_text())
    image = document["guestImages"][IMAGE]
    files = guests.lab.folder / "mirror" / "files"
    source = files / image["url"].removeprefix("https://")
    target = source.with_name("other.qcow2")
    shutil.copyfile(source, target)
    # What a qcow2 has behind its last cluster belongs to nobody.
    with target.open("ab") as copy:
        copy.write(bytes(1 << 16))
    url = image["url"].replace(source.name, target.name)
    document["guestImages"]["other"] = {**image, "url": url, "sha256": {ARCH: sha256(target)}}
    file.write_text(yaml.safe_dump(document))
    return "other"


def test_a_disk_that_vanished(guests: Guests) -> None:
    """Nobody said that the guest is to be another: its step shows, and makes it anew."""
    disk = f"/var/lib/groundplane/guests/{guests.domain('vw1')}/disk.qcow2"
    guests.virsh("destroy", guests.domain("vw1"))
    guests.shell(HV, f"rm {disk}")
    assert guests.preview()["vw1-machine"] == "update"
    guests.up()
    all_ready(guests)
    assert guests.preview() == {}


# ---- a neighbour -----------------------------------------------------------------------------


def test_two_versions_on_one_hypervisor(guests: Guests) -> None:
    before = guests.processes(*ALL)
    other = Guests(guests.lab, "lab-e2e-vm-2", memory=guests.memory)
    other.forget()
    hosts = other.hosts("vcp4")
    endpoint = {"address": "198.18.0.69", "routerId": 62}
    old = recipes.KUBERNETES[-1]
    try:
        other.configure(
            hosts,
            kubernetes={"version": old},
            endpoint=endpoint,
            name="lab-vm-2",
            podCidrs=["10.246.0.0/16"],
            serviceCidrs=["10.98.0.0/16"],
        )
        other.up()
        all_ready(other, "vcp4")
        assert versions(other) == {"vcp4": f"v{old}"}
        assert set(versions(guests).values()) == {f"v{guests.lab.size.kubernetes}"}
        assert other.preview() == {}
        other.destroy()
        assert guests.processes(*ALL) == before
        assert guests.preview() == {}
    finally:
        other.forget()
