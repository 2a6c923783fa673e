"""Virtual machines on hypervisors with libvirt, made by steps on the hypervisors."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from groundplane.catalogue import with_mirror
from groundplane.errors import GroundplaneError
from groundplane.preflight import ERROR, NOTE, WARNING, Finding, gib, known
from groundplane.registry import host_source
from groundplane.remote import guests
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import HostSeen
from groundplane.remote.guests import State
from groundplane.remote.observation import Expect, Observation, observe
from groundplane.remote.step import INPUTS, canonical, install, step
from groundplane.spec import Guest, Host, Hypervisor, Spec, Tuning
from groundplane.spec.guests import mac_address
from groundplane.survey import survey

__all__ = ["LibvirtHosts"]

KIND = "libvirt"
# Where there is nothing to try it with, a guest's own start will tell.
KVM = ("works", "untried")
PACKAGES = {
    "apt": ["genisoimage", "openssh-client", "qemu-utils"],
    "dnf": ["genisoimage", "openssh-clients", "qemu-img"],
}
OLDEST_LIBVIRT = (8, 0)
# What a guest's first disk grows to while it becomes a node: packages, binaries, images.
FIRST_GROWTH = 6 * 2**30
MIB = 2**20


@host_source(KIND)
class LibvirtHosts(pulumi.ComponentResource):
    """Hosts that are virtual machines on hypervisors with libvirt.

    Looks at all hypervisors and hosts first and raises GroundplaneError, with every finding, before
    anything is registered. Makes what all guests of one hypervisor need; a guest itself is made
    when its turn has come, by `machine`.
    """

    hosts: dict[str, Host]
    """The guests as hosts, by name, each once it was made."""

    def __init__(self, name: str, spec: Spec, opts: pulumi.ResourceOptions | None = None):
        super().__init__("groundplane:index:LibvirtHosts", name, None, opts)
        # Of all hosts: what stands in the way is known before anything is registered.
        survey(spec)
        self._name, self._spec = name, spec
        self._seen = look(spec)
        self._plan = self.plan(spec)
        self._ready = {host.name: self._prepare(host) for host in _hypervisors(spec)}
        self.hosts = {}
        self.register_outputs({})

    # ---- before anything is registered -----------------------------------------------------------

    @staticmethod
    def plan(spec: Spec) -> dict[str, guests.Guest]:
        """What each guest is, and what becomes of it; by name."""
        seen = look(spec)
        return {host.name: _planned(spec, host, seen) for host in _guests(spec)}

    @staticmethod
    def check(spec: Spec, seen: Observation) -> list[Finding]:
        """What stands in the way on the hypervisors; errors keep everything from beginning."""
        return list(_findings(spec, look(spec), known(seen)))

    # ---- resources -------------------------------------------------------------------------------

    def _prepare(self, hypervisor: Hypervisor) -> remote.Command:
        """What all guests on a hypervisor need."""
        own = pulumi.ResourceOptions(parent=self)
        scripts = install(f"{self._name}-{hypervisor.name}", hypervisor, self._seen, own)
        found = self._seen.seen(hypervisor.name)
        return step(
            f"{self._name}-{hypervisor.name}-pool",
            hypervisor,
            "pool",
            pool(self._spec, hypervisor, found),
            self._seen,
            pulumi.ResourceOptions(parent=self, depends_on=[scripts]),
            deletes=True,
        )

    def makes(self, host: Host) -> bool:
        """Whether this host is one of its guests."""
        return host.name in self._plan

    def machine(
        self, host: Host, after: Sequence[pulumi.Resource] = ()
    ) -> tuple[Host, pulumi.Resource]:
        """The host as others reach it, and the resource that makes its machine, once `after` is
        there. The host's key is plain where the machine is there already."""
        planned, hypervisor = self._plan[host.name], _hypervisor(self._spec, host)
        made = step(
            f"{self._name}-{host.name}-machine",
            hypervisor,
            "machine",
            machine(self._spec, host, planned),
            self._seen,
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[self._ready[hypervisor.name], *after],
                # One that was let go of is not made again.
                ignore_changes=INPUTS if host.state == "lost" else None,
            ),
            instance=host.name,
            deletes=True,
        )
        key = planned.host_key if planned.key_is_known else made.stdout.apply(_key_told)
        found = host.model_copy(update={"host_key": key})
        self.hosts[host.name] = found
        return found, made

    def snapshot(
        self, host: Host, kubernetes: str, after: Sequence[pulumi.Resource]
    ) -> remote.Command:
        """A copy of the host's disks, once `after` is there, before its Kubernetes becomes this
        version."""
        return step(
            f"{self._name}-{host.name}-snapshot",
            _hypervisor(self._spec, host),
            "snapshot",
            snapshot(self._spec, host, kubernetes),
            self._seen,
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[*after],
                ignore_changes=INPUTS if host.state == "lost" else None,
            ),
            instance=host.name,
            deletes=True,
        )


class RefusedError(GroundplaneError, pulumi.RunError):
    """A `GroundplaneError` that Pulumi shows as it is: of a RunError it prints no traceback."""


def _key_told(stdout: str) -> str:
    """A guest's key. Never none: a connection without one would be checked against nothing."""
    key = stdout.strip()
    if not key:
        raise RefusedError(
            "the step machine",
            "it told no host key",
            "Without it anyone on the network can pose as the guest",
            "Look at /var/log/groundplane on the hypervisor, then run the same again.",
        )
    return key


def _hypervisors(spec: Spec) -> list[Hypervisor]:
    return [hypervisor for hypervisor in spec.hypervisors if hypervisor.kind == KIND]


def _guests(spec: Spec) -> list[Host]:
    names = {hypervisor.name for hypervisor in _hypervisors(spec)}
    return [host for host in spec.guests if host.guest and host.guest.hypervisor in names]


def _hypervisor(spec: Spec, host: Host) -> Hypervisor:
    assert host.guest is not None
    return next(h for h in spec.hypervisors if h.name == host.guest.hypervisor)


# ---- the look -----------------------------------------------------------------------------------


def look(spec: Spec) -> Observation:
    """All hypervisors of the stack; the second time a program asks, the same look."""
    hypervisors = _hypervisors(spec)
    mirrors = spec.cluster.mirrors.downloads
    expect = Expect(
        stack=spec.stack,
        ports=(),
        features=(),
        commands=("jq",),
        mirrors=(mirrors,) if mirrors else (),
        pools={hypervisor.name: hypervisor.pool for hypervisor in hypervisors},
        shared=True,
    )
    return observe(hypervisors, expect)


def domain(stack: str, host: str) -> str:
    """A guest's name on its hypervisor, which may run guests of several stacks."""
    return f"{stack}.{host}"


def _planned(spec: Spec, host: Host, seen: Observation) -> guests.Guest:
    hypervisor = _hypervisor(spec, host)
    found = seen.hosts[hypervisor.name]
    if isinstance(found, HostUnreachable):
        cause = f"its hypervisor {hypervisor.name} cannot be looked at: {found.cause}"
        return guests.Guest(hypervisor.name, State.HIDDEN, said=cause)
    assert found.hypervisor is not None
    if not found.hypervisor.libvirt:
        cause = f"libvirt on its hypervisor {hypervisor.name} does not answer"
        return guests.Guest(hypervisor.name, State.HIDDEN, said=cause)
    assert host.guest is not None
    system = spec.catalogue.guest_images()[host.guest.image].system
    name = domain(spec.stack, host.name)
    there, record = found.hypervisor.domains.get(name), found.hypervisor.guests.get(name, {})
    # What it was made with it keeps: a look that goes wrong once must restart nobody.
    accelerator = record.get("accelerator") or ("kvm" if found.hypervisor.kvm in KVM else "qemu")
    planned = guests.Guest(
        hypervisor.name,
        State.ABSENT,
        arch=found.arch,
        packager="apt" if system.split()[0] in ("debian", "ubuntu") else "dnf",
        own={"accelerator": str(accelerator)},
    )
    wanted = machine(spec, host, planned)
    becomes = {"definition": digest(wanted["definition"]), "image": str(wanted["image"])}
    planned = replace(planned, machine=becomes)
    lost_disk = any(
        drift.step == seen.called("machine", host.name) and drift.fact.endswith("/disk.qcow2")
        for drift in seen.drift(hypervisor.name)
    )
    if there is None or not record.get("key") or lost_disk:
        return planned
    return replace(
        planned,
        state=State.RUNNING if there.state == "running" else State.STOPPED,
        host_key=str(record["key"]),
        said=there.state,
        anew=record.get("image") != becomes["image"],
        restarts=record.get("definition") != becomes["definition"],
    )


def digest(definition: Mapping[str, Any]) -> str:
    """Of what libvirt is told, as the step `machine` works it out."""
    return hashlib.sha256(f"{canonical(definition)}\n".encode()).hexdigest()


# ---- the data of the steps ----------------------------------------------------------------------


def pool(spec: Spec, hypervisor: Hypervisor, found: HostSeen | None) -> dict[str, Any]:
    """What all guests of this stack on a hypervisor need."""
    arch, packager = (found.arch, found.packager) if found else ("amd64", "apt")
    names = {
        host.guest.image
        for host in _guests(spec)
        if host.guest and host.guest.hypervisor == hypervisor.name
    }
    files = [spec.catalogue.guest_image(name, arch) for name in sorted(names)]
    proxy = spec.cluster.proxy
    return {
        "pool": hypervisor.pool,
        "packages": PACKAGES.get(packager, PACKAGES["apt"]),
        "images": [[with_mirror(f.url, spec.cluster.mirrors), f.digest] for f in files],
        "proxy": proxy
        and {"http": proxy.http, "https": proxy.https, "no_proxy": ",".join(spec.cluster.direct)},
    }


def machine(spec: Spec, host: Host, planned: guests.Guest) -> dict[str, Any]:
    """All that a guest is to be."""
    guest, hypervisor = host.guest, _hypervisor(spec, host)
    assert guest is not None
    return {
        "name": host.name,
        "domain": domain(spec.stack, host.name),
        "pool": hypervisor.pool,
        "address": host.address,
        "image": spec.catalogue.guest_image(guest.image, planned.arch).digest,
        "disk_gib": guest.disk_gib,
        "disks": [{"name": disk.name, "size_gib": disk.size_gib} for disk in guest.disks],
        "definition": _definition(spec.stack, host, guest, hypervisor, planned),
        "seed": {
            "user": host.user,
            "keys": [public_key(host)],
            "prefix": guest.prefix,
            "gateway": guest.gateway,
            "dns": guest.dns,
        },
    }


def snapshot(spec: Spec, host: Host, kubernetes: str) -> dict[str, Any]:
    """Which guest is copied, and before what."""
    return {
        "name": host.name,
        "domain": domain(spec.stack, host.name),
        "pool": _hypervisor(spec, host).pool,
        "kubernetes": kubernetes,
    }


def _definition(
    stack: str, host: Host, guest: Guest, hypervisor: Hypervisor, planned: guests.Guest
) -> dict[str, Any]:
    """What libvirt is told of a guest. Another one restarts it."""
    accelerator = planned.own.get("accelerator", "kvm")
    usual = "host-passthrough" if accelerator == "kvm" else "maximum"
    limit = guest.cpu.limit
    return {
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"groundplane:{stack}/{host.name}")),
        "mac": mac_address(stack, host),
        "arch": planned.arch,
        "accelerator": accelerator,
        "vcpus": guest.vcpus,
        "memory_mib": guest.memory_mib,
        "cpu": {
            "mode": guest.cpu.mode or usual,
            "shares": guest.cpu.shares,
            # Microseconds of processor time in each tenth of a second.
            "quota": None if limit is None else round(limit * 100_000),
            "pin": guest.cpu.pin,
        },
        "memory": guest.memory.model_dump(),
        "iothreads": guest.iothreads or None,
        "bridge": hypervisor.bridge,
        "macvtap": hypervisor.macvtap,
        "disk": _driver(guest.disk),
        "disks": [{"name": disk.name, **_driver(disk)} for disk in guest.disks],
        "devices": [device.model_dump() for device in guest.devices],
    }


def _driver(tuning: Tuning) -> dict[str, Any]:
    throttle = tuning.throttle
    return {
        "cache": tuning.cache,
        "io": tuning.io,
        "discard": tuning.discard,
        "bytes": throttle and throttle.bytes_per_second,
        "iops": throttle and throttle.iops,
    }


def public_key(host: Host) -> str:
    """The public half of the key by which a host is reached, in authorized_keys form."""
    import asyncssh

    assert host.key is not None
    path = Path(host.key).expanduser()
    beside = path.with_name(f"{path.name}.pub")
    key = (
        asyncssh.read_public_key(str(beside))
        if beside.is_file()
        else asyncssh.read_private_key(str(path))
    )
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


# ---- the checks ---------------------------------------------------------------------------------


def _findings(spec: Spec, seen: Observation, nodes: set[str]) -> Iterator[Finding]:
    for hypervisor in _hypervisors(spec):
        found = seen.hosts[hypervisor.name]
        if isinstance(found, HostUnreachable):
            yield _silent(spec, hypervisor, found, nodes)
            continue
        for name, severity, cause, remedy in _on(spec, hypervisor, found):
            yield Finding(hypervisor.name, name, severity, cause, remedy)
    yield from _elsewhere(spec, seen)


def _elsewhere(spec: Spec, seen: Observation) -> Iterator[Finding]:
    """A guest is on one hypervisor: two of one address would take each other's packets."""
    for host in _guests(spec):
        for hypervisor in _hypervisors(spec):
            found = seen.seen(hypervisor.name)
            there = found.hypervisor.domains if found and found.hypervisor else {}
            if hypervisor is not _hypervisor(spec, host) and domain(spec.stack, host.name) in there:
                yield Finding(
                    hypervisor.name,
                    "moved",
                    ERROR,
                    f"{host.name} is here, and is to be on {_hypervisor(spec, host).name}",
                    "Take it out of hosts, update, and then list it with the other hypervisor.",
                )


def _silent(
    spec: Spec, hypervisor: Hypervisor, failure: HostUnreachable, nodes: set[str]
) -> Finding:
    """One finding for all that a hypervisor takes with it. Dead nodes hold up nothing."""
    names = [h.name for h in _guests(spec) if h.guest and h.guest.hypervisor == hypervisor.name]
    with_it = f"; with it {', '.join(names)}" if names else ""
    severity, remedy = ERROR, failure.remedy
    if failure.kind is Kind.LOST:
        severity = NOTE
    elif failure.kind is Kind.UNREACHABLE and set(names) <= nodes:
        severity = WARNING
        remedy += " Until then its guests keep their old inputs, and everything else goes on."
    return Finding(hypervisor.name, "hypervisor", severity, f"{failure.cause}{with_it}", remedy)


def _on(spec: Spec, hypervisor: Hypervisor, seen: HostSeen) -> Iterator[tuple[str, Any, str, str]]:
    found = seen.hypervisor
    assert found is not None
    if not seen.root:
        yield (
            "sudo",
            ERROR,
            f"{hypervisor.user} is not root, and sudo is off",
            "Set sudo: true, or log in as root.",
        )
    if not found.libvirt:
        yield (
            "libvirt",
            ERROR,
            "libvirt does not answer",
            "Install and start it: libvirt-daemon-system and qemu-system (Debian), or libvirt and "
            "qemu-kvm (RHEL). On it: virsh -c qemu:///system version",
        )
    elif tuple(int(n) for n in found.libvirt.split(".")[:2] if n.isdigit()) < OLDEST_LIBVIRT:
        yield (
            "libvirt",
            ERROR,
            f"libvirt {found.libvirt} is older than {'.'.join(map(str, OLDEST_LIBVIRT))}",
            "Upgrade the system.",
        )
    if found.kvm not in KVM:
        cause = "KVM is there, and gets no kernel through its start"
        remedy = "It may be a virtual machine itself: see whether its own host lets it run guests"
        if not found.kvm:
            cause = "KVM is not there"
            remedy = "Turn on virtualisation in its firmware, and load kvm_intel or kvm_amd"
        if hypervisor.emulation:
            cause, remedy = f"{cause}; guests are emulated, and ten times slower", f"{remedy}."
        else:
            cause, remedy = f"{cause}, and emulation is off", f"{remedy}; or set emulation: true."
        yield "kvm", WARNING if hypervisor.emulation else ERROR, cause, remedy
    nic = hypervisor.bridge or hypervisor.macvtap or ""
    if hypervisor.bridge and hypervisor.bridge not in found.bridges:
        yield (
            "bridge",
            ERROR,
            f"there is no bridge {nic}"
            + (f"; there are {', '.join(found.bridges)}" if found.bridges else ""),
            "Make it and attach the interface of the guests' network, or name another.",
        )
    elif hypervisor.macvtap and nic not in [interface.name for interface in seen.interfaces]:
        yield "bridge", ERROR, f"there is no interface {nic}", "Correct macvtap."
    yield from _room(spec, hypervisor, seen)


def _room(
    spec: Spec, hypervisor: Hypervisor, seen: HostSeen
) -> Iterator[tuple[str, Any, str, str]]:
    """What guests promise themselves against what there is."""
    found = seen.hypervisor
    assert found is not None
    ours = [h for h in _guests(spec) if h.guest and h.guest.hypervisor == hypervisor.name]
    wanted = [host.guest for host in ours if host.guest and host.state != "lost"]
    names = {domain(spec.stack, host.name) for host in ours}
    others = [there for name, there in found.domains.items() if name not in names]
    for name, unit, asked, there, ratio in (
        (
            "cpu",
            "processors",
            sum(g.vcpus for g in wanted) + sum(o.vcpus for o in others),
            seen.cpus,
            hypervisor.overcommit.cpu,
        ),
        (
            "memory",
            "MiB of memory",
            sum(g.memory_mib for g in wanted) + sum(o.memory for o in others) // MIB,
            seen.memory // MIB,
            hypervisor.overcommit.memory,
        ),
    ):
        if there and asked > there * ratio:
            yield (
                name,
                ERROR,
                f"its guests have {asked} {unit} in all, and it has {there}: {asked / there:.2f} "
                f"of it, above the limit {ratio:g}",
                f"Take guests to another hypervisor, make them smaller, or raise overcommit."
                f"{name}.",
            )
    new = [
        host.guest
        for host in ours
        if host.guest
        and host.state != "lost"
        and found.domains.get(domain(spec.stack, host.name)) is None
    ]
    needed = sum(guest.memory_mib for guest in new) * MIB
    if new and needed > found.available:
        yield (
            "memory",
            ERROR if hypervisor.overcommit.memory <= 1 else WARNING,
            f"{gib(found.available)} of memory are free, its new guests want {gib(needed)}",
            "Stop what else runs there, or make the guests smaller.",
        )
    free = next((disk.free for disk in seen.disks if disk.path == hypervisor.pool), 0)
    sizes = sum(g.disk_gib + sum(disk.size_gib for disk in g.disks) for g in new) * 2**30
    if new and free < FIRST_GROWTH * len(new):
        yield (
            "pool",
            ERROR,
            f"{gib(free)} are free below {hypervisor.pool}; {len(new)} new guests want "
            f"{gib(FIRST_GROWTH * len(new))} to begin with",
            "Make room, or name another pool.",
        )
    elif free < sizes:
        yield (
            "pool",
            WARNING,
            f"{gib(free)} are free below {hypervisor.pool}; new guests may grow to {gib(sizes)}",
            "Guests that find no room are paused. Make room in time.",
        )
