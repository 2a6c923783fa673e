"""What only shows when hosts that are guests are seen together with their hypervisors.

As in `checks`: a field that is wrong in itself is None here, and a check passes over it.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from groundplane.catalogue import Catalogue
from groundplane.errors import Finding
from groundplane.registry import host_sources
from groundplane.spec.checks import Problem, did_you_mean, place
from groundplane.spec.models import Cluster, Guest, Host, Hypervisor
from groundplane.spec.values import is_output

__all__ = ["check", "mac_address", "problems"]


def mac_address(stack: str, host: Host) -> str:
    """The MAC address of a guest: its own, or one that stays the same for these two names.

    Locally administered, so that it is no maker's.
    """
    if host.guest is not None and host.guest.mac_address:
        return host.guest.mac_address
    digest = hashlib.sha256(f"mac:{stack}/{host.name}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x52, 0x54, *digest[:4]))


@dataclass(frozen=True)
class Site:
    """What the checks look at."""

    hosts: Sequence[Host]
    hypervisors: Sequence[Hypervisor]
    cluster: Cluster
    catalogue: Catalogue

    @property
    def guests(self) -> Iterator[tuple[int, Host, Guest]]:
        """The hosts that are guests, by their place in the list."""
        for index, host in enumerate(self.hosts):
            if host.guest is not None:
                yield index, host, host.guest

    def of(self, guest: Guest) -> Hypervisor | None:
        """The hypervisor that a guest names."""
        return next((h for h in self.hypervisors if h.name and h.name == guest.hypervisor), None)


def names(site: Site) -> Iterator[Problem]:
    """Hypervisors have names and addresses of their own, and kinds that exist."""
    seen: dict[tuple[str, object], str] = {}
    for index, host in enumerate(site.hosts):
        for field, value in (("name", host.name), ("address", host.address)):
            if value and not is_output(value):
                seen.setdefault((field, value), f"hosts.{index}")
    for index, hypervisor in enumerate(site.hypervisors):
        for field, value in (("name", hypervisor.name), ("address", hypervisor.address)):
            if not value or is_output(value):
                continue
            if (field, value) in seen:
                yield Problem(
                    ("hypervisors", index, field),
                    f"{value} is taken by {seen[field, value]}",
                    "A machine that runs guests is no node itself, and has one entry",
                    "Give it its own, or remove one of the two.",
                )
            seen[field, value] = f"hypervisors.{index}"
        if hypervisor.kind and hypervisor.kind not in host_sources():
            yield Problem(
                ("hypervisors", index, "kind"),
                f"{hypervisor.kind} is no kind of hypervisor",
                "It names what runs the guests",
                f"Known are {', '.join(host_sources())}.",
            )


def placement(site: Site) -> Iterator[Problem]:
    """Each guest has a hypervisor, which runs one control plane only."""
    known = [hypervisor.name for hypervisor in site.hypervisors if hypervisor.name]
    controls: dict[str, str] = {}
    for index, host, guest in site.guests:
        hypervisor = site.of(guest)
        if hypervisor is None:
            if guest.hypervisor:
                yield Problem(
                    ("hosts", index, "guest", "hypervisor"),
                    f"there is no hypervisor {guest.hypervisor}",
                    "It is where the guest is made",
                    did_you_mean(guest.hypervisor, known)
                    or (f"Known are {', '.join(known)}." if known else "List it: hypervisors."),
                )
            continue
        if hypervisor.state == "lost" and host.state != "lost":
            yield Problem(
                ("hosts", index, "state"),
                f"{host.state}, and its hypervisor {hypervisor.name} is lost",
                "The guest went with it",
                "Write state: lost, or name another hypervisor.",
            )
        if host.role != "control-plane" or host.state == "lost":
            continue
        other = controls.setdefault(hypervisor.name, host.name)
        if other != host.name and not hypervisor.allow_together:
            yield Problem(
                ("hosts", index, "guest", "hypervisor"),
                f"{hypervisor.name} runs the control plane {other} already",
                "Both are lost together with it, and etcd's majority with them",
                "Name another hypervisor; where that may happen, set allowTogether on this one.",
            )


def addresses(site: Site) -> Iterator[Problem]:
    """An address that can be written into the guest before it runs, and a key to get in by."""
    for index, host, guest in site.guests:
        at = ("hosts", index)
        address = _literal(host.address)
        if host.address is not None and address is None:
            yield Problem(
                (*at, "address"),
                f"{host.address} is no IP address",
                "It is written into the guest before anything could look a name up",
                "Write the address.",
            )
        if address is not None and _literal(host.node_address) != address:
            yield Problem(
                (*at, "nodeAddress"),
                f"{host.node_address} is not the guest's address",
                "A guest has one interface with one address",
                "Remove it.",
            )
        if host.second_node_address is not None:
            yield Problem(
                (*at, "secondNodeAddress"),
                "given for a guest",
                "A guest has one interface with one address",
                "Remove it; guests have one family of addresses.",
            )
        if host.key is None and host.address is not None:
            yield Problem(
                (*at, "key"),
                "missing",
                "Its public half is what lets you into the guest",
                "Add the path to a private key, such as ~/.ssh/id_ed25519.",
            )
        if host.port is not None and host.port != 22:
            yield Problem(
                (*at, "port"),
                f"{host.port}, and a guest's sshd listens on 22",
                "Nothing in the guest would listen there",
                "Remove it.",
            )
        if address is None or guest.prefix is None:
            continue
        if guest.prefix >= address.max_prefixlen:
            yield Problem(
                (*at, "guest", "prefix"),
                f"/{guest.prefix} holds no other address than {address}",
                "The guest could reach nobody",
                "Write the prefix length of its network.",
            )
            continue
        network = ipaddress.ip_network(f"{address}/{guest.prefix}", strict=False)
        gateway = _literal(guest.gateway)
        if gateway is not None and (gateway not in network or gateway == address):
            what = "the guest itself" if gateway == address else f"not in its network {network}"
            yield Problem(
                (*at, "guest", "gateway"),
                f"{gateway} is {what}",
                "It is the way out of the guest's network",
                "Correct it, or the prefix.",
            )


def _literal(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def images(site: Site) -> Iterator[Problem]:
    """Images that the catalogue knows."""
    known = site.catalogue.guest_images()
    for index, _, guest in site.guests:
        if guest.image and guest.image not in known:
            yield Problem(
                ("hosts", index, "guest", "image"),
                f"the catalogue has no guest image {guest.image}",
                "Nothing is installed whose digest is not known",
                did_you_mean(guest.image, known)
                or f"It has {', '.join(sorted(known)) or 'none'}. Others can be added by a "
                "catalogue of the stack's own: guestImages.",
            )


def unique(site: Site) -> Iterator[Problem]:
    """What two guests cannot share: MAC addresses, devices, names of disks."""
    macs: dict[str, str] = {}
    devices: dict[tuple[str, str], str] = {}
    for index, host, guest in site.guests:
        mac = guest.mac_address
        if mac and macs.setdefault(mac, host.name) != host.name:
            yield Problem(
                ("hosts", index, "guest", "macAddress"),
                f"{mac} is that of {macs[mac]}",
                "Two interfaces of one address in a segment take each other's packets",
                "Leave it out; each guest then has its own.",
            )
        for number, device in enumerate(guest.devices or ()):
            what = device.pci or device.mediated or ""
            owner = devices.setdefault((guest.hypervisor, what), host.name)
            if owner != host.name:
                yield Problem(
                    ("hosts", index, "guest", "devices", number),
                    f"{what} of {guest.hypervisor} belongs to {owner}",
                    "A guest holds a device alone",
                    "Give it another.",
                )
        disks = [disk.name for disk in guest.disks or ()]
        for number, name in enumerate(disks):
            if name in disks[:number]:
                yield Problem(
                    ("hosts", index, "guest", "disks", number, "name"),
                    f"a second disk {name}",
                    "The guest tells its disks apart by their names",
                    "Name it otherwise.",
                )


def sizes(site: Site) -> Iterator[Problem]:
    """A guest's own numbers go together."""
    for index, _, guest in site.guests:
        at = ("hosts", index, "guest")
        if guest.cpu and guest.vcpus and len(guest.cpu.pin) not in (0, 1, guest.vcpus):
            yield Problem(
                (*at, "cpu", "pin"),
                f"{len(guest.cpu.pin)} entries for {guest.vcpus} vcpus",
                "Each vCPU is bound to a set of processors, or all to one set",
                "Write one entry, or as many as vcpus.",
            )
        limit = guest.memory.hard_limit_mib if guest.memory else None
        if limit and guest.memory_mib and limit <= guest.memory_mib:
            yield Problem(
                (*at, "memory", "hardLimitMib"),
                f"{limit} MiB leave no room above memoryMib, {guest.memory_mib}",
                "The emulator counts too: the kernel would end the guest",
                "Write a third more than memoryMib, or remove it.",
            )
        drives = [("disk", guest.disk), *(("disks", disk) for disk in guest.disks or ())]
        for field, tuning in drives:
            if tuning and tuning.io == "native" and tuning.cache not in ("none", "directsync"):
                yield Problem(
                    (*at, field),
                    f"io: native with cache: {tuning.cache}",
                    "libvirt refuses it: native goes past the hypervisor's cache",
                    "Write cache: none, or io: threads.",
                )
        page = guest.memory.hugepages_kib if guest.memory else None
        if page and guest.memory_mib and guest.memory_mib * 1024 % page:
            yield Problem(
                (*at, "memoryMib"),
                f"{guest.memory_mib} MiB is no whole number of pages of {page} KiB",
                "Huge pages are not split",
                "Round it up.",
            )


CHECKS: tuple[Callable[[Site], Iterator[Problem]], ...] = (
    names,
    placement,
    addresses,
    images,
    unique,
    sizes,
)


def problems(
    hosts: Sequence[Host],
    hypervisors: Sequence[Hypervisor],
    cluster: Cluster,
    catalogue: Catalogue,
) -> list[Problem]:
    """All problems of hosts that are guests, and of their hypervisors."""
    site = Site(hosts, hypervisors, cluster, catalogue)
    return [problem for check in CHECKS for problem in check(site)]


def check(
    hosts: Sequence[Host],
    hypervisors: Sequence[Hypervisor],
    cluster: Cluster,
    catalogue: Catalogue,
) -> list[Finding]:
    """All findings of hosts and hypervisors that were made in a program."""
    return [
        Finding(place(problem.at, hosts), problem.what, problem.why, problem.remedy)
        for problem in problems(hosts, hypervisors, cluster, catalogue)
    ]
