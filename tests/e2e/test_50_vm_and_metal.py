"""Both twins at once, on machines and on guests: neither knows of the other."""

from __future__ import annotations

from harness import VM_UP, Guests, Stack, assert_pods_reach_each_other

from lab import mirror

MACHINES = ("cp1", "w1")
GUESTS = ("vcp1", "vw1")


def test_both_come_up_at_once(stack: Stack, guests: Guests) -> None:
    stack.fresh(*MACHINES)
    guests.fresh()
    stack.configure(stack.hosts(*MACHINES))
    guests.configure(guests.hosts(*GUESTS))
    both = [guests.start_up(), stack.start_up()]
    for process in both:
        done = process.wait(VM_UP)
        assert done.status == 0, done.text
    assert stack.nodes() == dict.fromkeys(MACHINES, True)
    assert guests.nodes() == dict.fromkeys(GUESTS, True)


def test_they_are_two_clusters(stack: Stack, guests: Guests) -> None:
    for one in (stack, guests):
        assert_pods_reach_each_other(one, 600)
    authorities = {one.shell(name, FINGERPRINT) for one, name in ((stack, "cp1"), (guests, "vcp1"))}
    assert len(authorities) == 2
    assert stack.output("endpoint") != guests.output("endpoint")


FINGERPRINT = "openssl x509 -noout -fingerprint -in /etc/kubernetes/pki/ca.crt"


def test_the_guests_have_a_kernel_of_their_own(stack: Stack, guests: Guests) -> None:
    boots = {
        one.shell(name, "uname -r")
        for one, name in ((stack, "cp1"), (guests, "vcp1"), (guests, "vw1"))
    }
    assert len(boots) == 2
    assert guests.shell("vw1", "stat -fc %T /sys/fs/cgroup").strip() == "cgroup2fs"


def test_nothing_was_downloaded_by_guests(stack: Stack, guests: Guests) -> None:
    """The image holds each part with the digest that it must have."""
    seen = {access.client for access in mirror.accesses(stack.lab.folder) if access.size}
    addresses = {host["address"] for host in guests.hosts(*GUESTS)}
    assert not seen & addresses


def test_again_changes_nothing_on_either(stack: Stack, guests: Guests) -> None:
    before = stack.processes(*MACHINES), guests.processes(*GUESTS)
    for one in (stack, guests):
        assert one.preview() == {}
        one.up()
    assert (stack.processes(*MACHINES), guests.processes(*GUESTS)) == before


def test_destroying_one_leaves_the_other_alone(stack: Stack, guests: Guests) -> None:
    before = guests.processes(*GUESTS)
    stack.destroy()
    assert stack.resources() == []
    assert guests.processes(*GUESTS) == before
    assert guests.preview() == {}
    assert_pods_reach_each_other(guests, 600)


def test_destroying_the_other(stack: Stack, guests: Guests) -> None:
    """The guests go, and what the hypervisor held of them; nothing else of it."""
    guests.destroy()
    assert guests.resources() == []
    assert guests.virsh("list", "--all", "--name") == ""
    left = guests.shell("hv1", "find /var/lib/groundplane/guests -name '*.qcow2'")
    assert left == ""
