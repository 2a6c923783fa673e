"""The checks before anything is changed: all hosts, all findings, one table.

Pure functions from what was seen and what is wanted to findings. `groundplane preflight`, a
preview and an update run the same ones, and a program stops before it registers anything.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any

from groundplane.catalogue import minor, release
from groundplane.errors import Finding as Problem
from groundplane.errors import GroundplaneError
from groundplane.registry import distribution_of
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import Certificate, HostSeen, HostToCome, Interface
from groundplane.remote.observation import NODE_STEP, Observation
from groundplane.spec.models import Cluster, Host, immutable
from groundplane.spec.systems import SYSTEMS, supported
from groundplane.spec.values import is_output

__all__ = ["Finding", "PreflightError", "Severity", "check", "require", "table"]

# The ports of a node and of a control plane, and who holds them once they are ours.
NODE_PORTS = {10250: "kubelet", 10256: "kube-proxy"}
CONTROL_PLANE_PORTS = {
    6443: "kube-apiserver",
    2379: "etcd",
    2380: "etcd",
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}
# What kubeadm's own preflight asks of a control plane.
CONTROL_PLANE_MEMORY = 1700 * 10**6
CONTROL_PLANE_CPUS = 2
CONTROLLERS = {
    1: {"cpu", "cpuacct", "cpuset", "devices", "freezer", "memory"},
    2: {"cpu", "cpuset", "memory", "pids"},
}
MODULES = ("overlay", "nf_conntrack")
OLDEST_KERNEL = (5, 4)  # kubeadm's list of supported long-term kernels begins there
NFTABLES_KERNEL = (5, 13)  # kube-proxy's nftables mode refuses older ones
CONTAINERS = {"docker", "lxc", "lxc-libvirt", "openvz", "podman", "proot", "systemd-nspawn", "wsl"}
RENEW = timedelta(days=90)
# The kubelet renews its own when 10 to 30 % of a year are left.
KUBELET_RENEW = timedelta(days=30)
KUBELET_PKI = "/var/lib/kubelet/pki/"


class Severity(StrEnum):
    """error: nothing is changed. warning: look at it. note: for the record."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@dataclass(frozen=True)
class Finding:
    """What a check found on a host ("" where it is about all of them)."""

    host: str
    check: str
    severity: Severity
    cause: str
    remedy: str


class PreflightError(GroundplaneError):
    """Hosts are not as they must be; its text is the whole table."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        first = next(f for f in self.findings if f.severity is ERROR)
        self.finding = Problem(first.host, first.cause, "", first.remedy)
        Exception.__init__(
            self,
            f"preflight: {summary(self.findings)}; nothing was changed.\n{table(self.findings)}",
        )


def require(
    cluster: Cluster, hosts: Sequence[Host], seen: Observation, others: Iterable[Finding] = ()
) -> list[Finding]:
    """The findings that are no errors; raises `PreflightError` with all of them when one is.

    `others`: what was found elsewhere, as on hypervisors.
    """
    findings = check(cluster, hosts, seen, others)
    if any(finding.severity is ERROR for finding in findings):
        raise PreflightError(findings)
    return findings


def check(
    cluster: Cluster, hosts: Sequence[Host], seen: Observation, others: Iterable[Finding] = ()
) -> list[Finding]:
    """All findings, errors first; of the same severity in the order of hosts and checks."""
    findings = list(others)
    for host in hosts:
        look = seen.hosts[host.name]
        if isinstance(look, HostUnreachable):
            # Of a hypervisor that is silent there is one finding, which names its guests.
            if look.kind is not Kind.HYPERVISOR:
                findings.append(unreachable(look, seen))
            continue
        if isinstance(look, HostToCome):
            continue
        on = On(cluster, host, look, seen)
        for name, answers in EACH_HOST.items():
            findings += [Finding(host.name, name, *answer) for answer in answers(on)]
    for name, of_all in ALL_HOSTS.items():
        findings += [
            Finding(on, name, severity, cause, remedy)
            for on, severity, cause, remedy in of_all(cluster, hosts, seen)
        ]
    return sorted(findings, key=lambda finding: list(Severity).index(finding.severity))


def summary(findings: Sequence[Finding]) -> str:
    """How many of each: "2 errors, 1 warning"; "nothing found" for none."""
    count = Counter(finding.severity for finding in findings)
    return (
        ", ".join(f"{count[s]} {s}{'s' * (count[s] > 1)}" for s in Severity if count[s])
        or "nothing found"
    )


def table(findings: Sequence[Finding]) -> str:
    """The findings as plain text: two lines each, what was found and what to do."""
    rows = [(f.severity.upper(), f.host or "-", f.check, f.cause, f.remedy) for f in findings]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "\n".join(
        f"{severity:{widths[0]}}  {host:{widths[1]}}  {name:{widths[2]}}  {cause}\n"
        f"{'':{sum(widths) + 6}}{remedy}"
        for severity, host, name, cause, remedy in rows
    )


# ---- hosts that cannot be worked with -----------------------------------------------------------

CHECK_OF_KIND = {
    Kind.LOST: "reachability",
    Kind.UNREACHABLE: "reachability",
    Kind.HOST_KEY_CHANGED: "host-key",
    Kind.AUTH_REFUSED: "ssh-key",
    Kind.SUDO_REFUSED: "sudo",
    Kind.COMMAND_FAILED: "look",
    Kind.STOPPED: "guest",
}


def unreachable(failure: HostUnreachable, seen: Observation) -> Finding:
    """A host that was not seen. A dead node holds up nothing; a stranger that is silent does."""
    severity, remedy = ERROR, failure.remedy
    if failure.kind is Kind.LOST:
        severity = NOTE
    elif failure.kind is Kind.STOPPED:
        severity = WARNING
        remedy += " Its other steps keep their old inputs until it was looked at."
    elif failure.kind is Kind.UNREACHABLE and failure.name in known(seen):
        severity = WARNING
        remedy += " Until then its steps keep their old inputs, and everything else goes on."
    return Finding(failure.name, CHECK_OF_KIND[failure.kind], severity, failure.cause, remedy)


def known(seen: Observation) -> set[str]:
    """The hosts that the cluster itself knows, as nodes or as etcd members."""
    return {node.name for node in seen.nodes} | {member.name for member in seen.members}


# ---- each host by itself ------------------------------------------------------------------------


@dataclass(frozen=True)
class On:
    """A host that answers, and what it is looked at with."""

    cluster: Cluster
    host: Host
    seen: HostSeen
    observation: Observation

    @property
    def controls(self) -> bool:
        return self.host.role == "control-plane"

    @property
    def joined(self) -> bool:
        return self.observation.joined(self.host.name)

    @property
    def facts(self) -> Any:
        """What is true of the cluster's distribution."""
        return distribution_of(self.cluster.distribution).facts

    @property
    def before_joining(self) -> Severity:
        """For what keeps a host from becoming a node, and is a nuisance on one that is."""
        return WARNING if self.joined else ERROR

    def ignored(self, *names: str) -> bool:
        """Whether the user told kubeadm to let this pass."""
        ignored = {name.lower() for name in self.cluster.ignore_preflight}
        return any(name.lower() in ignored for name in names)


Answers = Iterator[tuple[Severity, str, str]]


def root(on: On) -> Answers:
    if not on.seen.root:
        yield (
            ERROR,
            f"{on.host.user} is not root, and sudo is off",
            "Set sudo: true, or log in as root.",
        )


def system(on: On) -> Answers:
    seen = on.seen
    found = supported(seen.os_id, seen.os_version, seen.arch)
    name = f"{seen.os_id or 'an unknown system'} {seen.os_version} on {seen.arch}"
    if found is None:
        names = sorted({f"{s.os_id} {s.version}" for s in SYSTEMS})
        yield ERROR, f"{name} is not supported", f"Install one of {', '.join(names)}."
    elif not found.tested:
        yield NOTE, f"{name} is supported, and not yet tested", "Begin with a host of no worth."
    if not seen.systemd:
        yield ERROR, "systemd is not there", "Install a system that is run by systemd."


def kernel(on: On) -> Answers:
    seen = on.seen
    version = tuple(int(n) for n in seen.kernel.split("-")[0].split(".")[:2] if n.isdigit())
    if version < OLDEST_KERNEL:
        yield ERROR, f"kernel {seen.kernel} is older than 5.4", "Upgrade the system."
    nftables = on.cluster.kube_proxy.get("mode") == "nftables"
    if nftables and version < NFTABLES_KERNEL:
        yield (
            ERROR,
            f"kube-proxy's nftables mode needs kernel 5.13; here is {seen.kernel}",
            "Upgrade the system, or take kubeProxy.mode: iptables.",
        )
    wanted = (*MODULES, *(("nf_tables",) if nftables else ()))
    if missing := [name for name in wanted if seen.features.get(name) == "missing"]:
        yield (
            ERROR,
            f"the kernel lacks {', '.join(missing)}",
            "Install the distribution's full kernel (not a minimal or cloud build); see "
            f"`modprobe {missing[0]}`.",
        )


def cgroup(on: On) -> Answers:
    seen = on.seen
    if seen.cgroup == 1:
        allowed = on.cluster.kubelet.get("failCgroupV1") is False
        yield (
            WARNING if allowed else ERROR,
            "the host runs cgroup v1, which Kubernetes is giving up",
            "Boot with systemd.unified_cgroup_hierarchy=1"
            + ("." if allowed else ", or set kubelet.failCgroupV1: false."),
        )
    if missing := sorted(CONTROLLERS.get(seen.cgroup, set()) - set(seen.controllers)):
        yield (
            ERROR,
            f"the cgroup controllers {', '.join(missing)} are off",
            "Turn them on on the kernel's command line (as cgroup_enable=memory), and reboot.",
        )


def swap(on: On) -> Answers:
    if on.seen.swap and on.cluster.kubelet.get("failSwapOn") is not False:
        yield (
            on.before_joining,
            f"{gib(on.seen.swap)} of swap are on; the kubelet will not start",
            "swapoff -a, and take it out of /etc/fstab; or set kubelet.failSwapOn: false.",
        )


def ports(on: On) -> Answers:
    wanted = dict(NODE_PORTS)
    if on.controls:
        wanted |= CONTROL_PLANE_PORTS
        if on.cluster.endpoint.mode == "managed":
            wanted[on.cluster.endpoint.port] = "haproxy"
    ours = on.observation.ours(on.host.name)
    for listener in on.seen.listeners:
        if (owner := wanted.get(listener.port)) is None:
            continue
        # The kernel keeps 15 letters of a process's name.
        holders = ("haproxy",) if owner == "haproxy" else on.facts.programs or (owner[:15],)
        if ours and listener.process in ("", *holders):
            continue
        yield (
            ERROR,
            f"port {listener.port}, for {owner}, is held by {listener.process or 'someone else'}",
            f"Stop it or move it: ss -ltnp 'sport = :{listener.port}'",
        )


def disk(on: On) -> Answers:
    least = on.cluster.preflight.min_disk_gib * 2**30
    for disk in on.seen.disks:
        if disk.path == "/var/lib" and not on.joined and disk.free < least:
            yield (
                ERROR,
                f"{gib(disk.free)} are free below {disk.path}, {gib(least)} are wanted",
                "Make room, or set preflight.minDiskGib.",
            )
        # The kubelet evicts pods below 10 %.
        elif on.joined and disk.size and disk.free < disk.size / 10:
            yield (
                WARNING,
                f"{gib(disk.free)} of {gib(disk.size)} are free below {disk.path}",
                "Make room: the kubelet evicts pods below 10 %.",
            )


def readonly(on: On) -> Answers:
    if on.seen.readonly and on.seen.root:
        yield (
            ERROR,
            f"{', '.join(on.seen.readonly)} cannot be written: a read-only file system",
            "Look for disk errors (dmesg), then mount -o remount,rw.",
        )


def memory(on: On) -> Answers:
    seen = on.seen
    if not on.controls or on.joined:
        return
    if seen.memory < CONTROL_PLANE_MEMORY and not on.ignored("Mem"):
        yield (
            ERROR,
            f"{gib(seen.memory)} of memory; a control plane wants {gib(CONTROL_PLANE_MEMORY)}",
            "Give it more, or name Mem in ignorePreflight.",
        )
    if seen.cpus < CONTROL_PLANE_CPUS and not on.ignored("NumCPU"):
        yield (
            ERROR,
            f"{seen.cpus} CPU; a control plane wants {CONTROL_PLANE_CPUS}",
            "Give it more, or name NumCPU in ignorePreflight.",
        )


def hostname(on: On) -> Answers:
    if on.seen.hostname.split(".")[0] != on.host.name:
        yield (
            NOTE,
            f"it calls itself {on.seen.hostname}; its node is {on.host.name}",
            f"For clearer logs: hostnamectl set-hostname {on.host.name}",
        )


def address(on: On) -> Answers:
    """The node's address is on the host, and on the interface that the user named."""
    wanted = on.host.node_address
    if is_output(wanted) or not any(nic.addresses for nic in on.seen.interfaces):
        return
    nic = interface(on.host, on.seen)
    named = on.host.interface
    if nic is None:
        yield (
            ERROR,
            f"no interface has the node's address {wanted}",
            "Set nodeAddress to one that the host has: "
            + (", ".join(a for i in on.seen.interfaces for a in i.addresses) or "it has none"),
        )
    elif named is not None and named not in (nic.name, nic.mac):
        yield (
            ERROR,
            f"the node's address {wanted} is on {nic.name} ({nic.mac}), not on {named}",
            "Correct interface or nodeAddress.",
        )


def interface(host: Host, seen: HostSeen) -> Interface | None:
    """The interface that holds the node's address."""
    for nic in seen.interfaces:
        if any(address.split("/")[0] == host.node_address for address in nic.addresses):
            return nic
    return None


def ranges(on: On) -> Answers:
    """What the host reaches by itself must lie outside the cluster's ranges."""
    if on.joined:
        return  # its pods' routes are there now, and rightly so
    cidrs = {
        **{ipaddress.ip_network(cidr): "pod" for cidr in on.cluster.pod_cidrs},
        **{ipaddress.ip_network(cidr): "service" for cidr in on.cluster.service_cidrs},
    }
    used = {a: f"an address of {nic.name}" for nic in on.seen.interfaces for a in nic.addresses} | {
        r.to: f"a route over {r.interface}" for r in on.seen.routes if r.to != "default"
    }
    used |= dict.fromkeys(on.seen.nameservers, "its nameserver")
    for text, what in used.items():
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
        for cidr, kind in cidrs.items():
            if cidr.version == network.version and cidr.overlaps(network):
                yield (
                    ERROR,
                    f"{text} ({what}) overlaps with the {kind} range {cidr}",
                    f"Choose another {kind} range; what is there would become unreachable.",
                )


def dns(on: On) -> Answers:
    if on.joined:
        return
    if not on.seen.nameservers:
        yield WARNING, "no nameserver is set", "Write one into /etc/resolv.conf."
    for server in on.seen.nameservers:
        # systemd-resolved's stub is known to kubelet, which takes the list behind it.
        if server.startswith("127.") and server != "127.0.0.53":
            yield (
                WARNING,
                f"the nameserver {server} is the host itself; CoreDNS would ask itself in a loop",
                "Give the kubelet another list: kubelet.resolvConf.",
            )


def mirror(on: On) -> Answers:
    for tried in on.seen.mirrors:
        if tried.status == 0:
            what = tried.error or "no answer"
        elif tried.status == 429 or tried.status >= 500:
            what = f"it answers {tried.status}"
        else:
            continue
        yield (
            on.before_joining,
            f"{tried.url}: {what}",
            "Try it from the host: curl -I; look at the mirror, DNS and the proxy.",
        )


def foreign(on: On) -> Answers:
    name = on.host.name
    if not on.observation.foreign(name):
        return
    others = on.observation.owners(name) - {on.observation.stack}
    if others:
        yield (
            ERROR,
            f"it belongs to the stack {', '.join(sorted(others))}",
            f"Take it out there first, or choose another host. Ours is {on.observation.stack}.",
        )
    else:
        data = on.seen.cluster_data
        yield (
            ERROR,
            f"it carries a cluster that nobody here made: {', '.join(data[:3])}"
            + (f" and {len(data) - 3} more" if len(data) > 3 else ""),
            "If it may go: kubeadm reset (or the uninstaller of what made it), then wipe its data.",
        )


def runtime(on: On) -> Answers:
    if on.seen.runtimes and not on.observation.ours(on.host.name):
        running = any(path.endswith(".sock") for path in on.seen.runtimes)
        yield (
            ERROR if running else WARNING,
            f"a container runtime is there already: {', '.join(on.seen.runtimes)}",
            "Remove it; two cannot share /run/containerd and /etc/containerd.",
        )


def locks(on: On) -> Answers:
    for lock in on.seen.locks:
        yield (
            WARNING,
            f"{lock.process or 'another process'} holds {lock.path}",
            "Steps wait for it, for some minutes. If it hangs, look at the process.",
        )


def packages(on: On) -> Answers:
    if not on.seen.packager:
        yield ERROR, "neither apt nor dnf is there", "Install a supported system."
    elif on.seen.missing:
        yield (
            NOTE,
            f"{', '.join(on.seen.missing)} will be installed by {on.seen.packager}",
            "Nothing, if the host's package sources can be reached.",
        )


def certificates(on: On) -> Answers:
    now = datetime.now(UTC)
    ending = [
        c
        for c in on.observation.expiring(on.host.name, RENEW)
        if not c.path.startswith(KUBELET_PKI) or c.not_after < now + KUBELET_RENEW
    ]
    alike: dict[str, list[Certificate]] = {}
    for certificate in ending:
        alike.setdefault(renewal(certificate, now), []).append(certificate)
    for remedy, these in alike.items():
        first = these[0]
        yield (
            WARNING,
            f"{first.path} {'ended' if first.not_after < now else 'ends'} {first.not_after:%F}"
            + (f", and {len(these) - 1} more" if len(these) > 1 else ""),
            remedy,
        )


def renewal(certificate: Certificate, now: datetime) -> str:
    """Who renews a certificate near its end."""
    path = certificate.path
    if path.startswith(KUBELET_PKI) and path.endswith("/kubelet.crt"):
        return (
            "The kubelet makes it only where there is none. On it: rm "
            f"{KUBELET_PKI}kubelet.{{crt,key}} && systemctl restart kubelet"
        )
    if path.startswith(KUBELET_PKI):
        return "The kubelet should have renewed it by now. On it: journalctl -u kubelet"
    if path.endswith("ca.crt"):
        return "CAs are not rotated by groundplane: move to a new cluster before that day."
    if certificate.not_after < now and path.startswith("/etc/kubernetes/"):
        # A step needs these itself, to ask etcd and the API server.
        return (
            "On it: kubeadm certs renew all --config /var/lib/groundplane/kubeadm.json, then "
            "reboot; after that, up works again."
        )
    return "The next up renews it."


def encryption(on: On) -> Answers:
    """Keys are worked out up to the generation that is asked for; a control plane that joined with
    fewer could not read what was written with a later one, and would never become ready."""
    wanted, there = on.cluster.encryption_generation, on.seen.encryption
    if on.joined and there > wanted:
        yield (
            ERROR,
            f"it writes Secrets with the key of generation {there}; {wanted} would be a step back",
            f"Set cluster.encryptionGeneration to {there}, or higher for a new key.",
        )


def firewall(on: On) -> Answers:
    """Rules that shut out this computer would be loaded, be of no use, and be taken back."""
    given, session = on.cluster.firewall, on.seen.session
    if given is None or session is None or is_unknown(session.client):
        return
    if not given.lets_in(session.client):
        yield (
            ERROR,
            f"firewall.ssh does not let in {session.client}, where this look came from",
            "Add its range, or leave firewall.ssh out.",
        )


def is_unknown(address: str) -> bool:
    """sshd says UNKNOWN of what is no IP connection."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return True
    return False


def patches(on: On) -> Answers:
    if on.seen.wants_restart:
        yield (
            NOTE,
            "it wants a restart, for a new kernel or because its system says so",
            "A round of patching restarts it in its turn: another patching.round.",
        )
    if on.seen.pending:
        yield (
            NOTE,
            f"{on.seen.pending} packages could be newer, as far as its package lists know",
            "For a round: another patching.round.",
        )


def drift(on: On) -> Answers:
    facts: dict[str, list[str]] = {}
    for found in on.observation.drift(on.host.name):
        was, now = short(found.was), short(found.now)
        facts.setdefault(found.step, []).append(f"{found.fact} was {was}, is {now}")
    for step, texts in facts.items():
        yield (
            WARNING,
            "; ".join(texts[:3]) + (f"; and {len(texts) - 3} more" if len(texts) > 3 else ""),
            f"The next up repairs it, by the step {step}.",
        )


def problems(on: On) -> Answers:
    for text in on.seen.problems:
        yield WARNING, text, "Look at the host; what depends on it was not checked."


EACH_HOST: dict[str, Callable[[On], Answers]] = {
    "sudo": root,
    "system": system,
    "kernel": kernel,
    "cgroup": cgroup,
    "swap": swap,
    "ports": ports,
    "disk": disk,
    "read-only": readonly,
    "size": memory,
    "hostname": hostname,
    "address": address,
    "ranges": ranges,
    "dns": dns,
    "mirror": mirror,
    "foreign": foreign,
    "runtime": runtime,
    "locks": locks,
    "packages": packages,
    "certificates": certificates,
    "encryption": encryption,
    "firewall": firewall,
    "patches": patches,
    "drift": drift,
    "look": problems,
}


# ---- hosts beside each other --------------------------------------------------------------------

# As above, with the host's name first: "" where it is about all.
AnswersOnAll = Iterator[tuple[str, Severity, str, str]]


def answering(hosts: Sequence[Host], seen: Observation) -> list[HostSeen]:
    return [
        found
        for host in hosts
        if (found := seen.seen(host.name)) is not None and not seen.to_come(host.name)
    ]


def clock(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """Against the middle of all clocks; where there is one host only, against this computer's."""
    looks = answering(hosts, seen)
    limit = cluster.preflight.max_clock_skew_seconds
    middle = median([0.0, *(look.clock.ahead for look in looks)]) if len(looks) > 1 else 0.0
    for look in looks:
        if abs(ahead := look.clock.ahead - middle) - look.clock.error > limit:
            yield (
                look.name,
                ERROR,
                f"its clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}",
                "Synchronise it (chrony or systemd-timesyncd), then run the same again.",
            )
    if abs(middle) > limit + max((look.clock.error for look in looks), default=0):
        yield (
            "",
            WARNING,
            f"this computer's clock is {abs(middle):.0f} s {'behind' if middle > 0 else 'ahead'} "
            "of the hosts'",
            "Synchronise it.",
        )


def twins(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """Hosts that share what must be unique, as cloned machines do."""
    looks = answering(hosts, seen)
    for what, remedy in (
        ("hostname", "hostnamectl set-hostname NAME"),
        ("machine_id", "rm /etc/machine-id && systemd-machine-id-setup, then reboot"),
        ("product_uuid", "give the machine its own UUID in its firmware or hypervisor"),
    ):
        owners: dict[str, list[str]] = {}
        for look in looks:
            # Containers share what the firmware of the machine under them says.
            if what != "product_uuid" or look.virtualization not in CONTAINERS:
                owners.setdefault(getattr(look, what), []).append(look.name)
        for value, names in owners.items():
            if value and len(names) > 1:
                severity = WARNING if all(map(seen.joined, names)) else ERROR
                text = f"the {what.replace('_', '-')} {value} is that of {' and '.join(names)}"
                yield names[-1], severity, text, f"A cloned machine? On it: {remedy}"
    for look in looks:
        if not look.machine_id:
            yield look.name, ERROR, "no machine-id", "systemd-machine-id-setup, then reboot"


def mtu(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    nics = {
        host.name: nic
        for host in hosts
        if (look := seen.seen(host.name)) is not None
        and not is_output(host.node_address)
        and (nic := interface(host, look)) is not None
    }
    if not nics:
        return
    usual, _ = Counter(nic.mtu for nic in nics.values()).most_common(1)[0]
    for name, nic in nics.items():
        if nic.mtu != usual:
            yield (
                name,
                WARNING,
                f"{nic.name} has an MTU of {nic.mtu}, the others {usual}",
                "Give all the same, or large packets between them may vanish.",
            )


def quorum(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """A cluster that stands must be there to be changed."""
    names = [host.name for host in hosts]
    controls = [host.name for host in hosts if host.role == "control-plane"]
    # Not those half joined: what an interrupted founding left is no cluster yet.
    standing = [name for name in names if seen.joined(name) and seen.applied(name, NODE_STEP)]
    # Those that the update starts are no reason to begin nothing.
    if standing and not seen.living(controls) and not any(map(seen.stopped, controls)):
        holders = [n for n in controls if (look := seen.seen(n)) is not None and look.etcd]
        if holders:
            yield (
                "",
                WARNING,
                f"etcd has no quorum; its data are on {', '.join(holders)}",
                "Bring back the other control planes. If they are gone for good: "
                "groundplane restore.",
            )
        else:
            yield (
                "",
                ERROR,
                f"{', '.join(standing)} belong to a cluster, and no control plane with its data "
                "answers",
                "Bring one back, or rebuild the cluster from a snapshot: groundplane restore.",
            )
    for alarm in seen.alarms:
        yield (
            "",
            ERROR,
            f"etcd raised the alarm {alarm}",
            "Nothing is changed on an unsound store. NOSPACE: compact, defragment, then "
            "`etcdctl alarm disarm`. CORRUPT: replace the member that raised it.",
        )
    for member in seen.members:
        if member.healthy is False and seen.living(controls):
            wanted = member.name in controls
            yield (
                member.name if wanted else "",
                WARNING if wanted else NOTE,
                f"etcd member {member.name or member.id} does not answer",
                "Bring it back, or take the host out of the list."
                if wanted
                else "It is no longer wanted: the next up removes it.",
            )


def members(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """Control planes of the time before a restore, or that were let go of, and were never wiped:
    two of them would be a cluster of their own behind the same endpoint."""
    looks = {
        host.name: look
        for host in hosts
        if host.role == "control-plane" and (look := seen.seen(host.name)) and seen.ours(host.name)
    }
    answers = {name: look.etcd for name, look in looks.items() if look.etcd and look.etcd.cluster}
    if not answers:
        return
    data = distribution_of(cluster.distribution).facts.etcd
    # A restore lifts the revision far above all that the cluster had before.
    newest = max(answers, key=lambda name: answers[name].revision)
    there = answers[newest]
    known = {member.name for member in there.members} if there.healthy else set()
    for name, look in looks.items():
        # Not one that is about to join, or to join again.
        complete = look.record and seen.applied(name, NODE_STEP)
        if not complete or data not in look.cluster_data:
            continue
        own = look.etcd.cluster if look.etcd else ""
        if own and own != there.cluster:
            cause = f"its etcd is of the time before the cluster was founded anew, on {newest}"
        elif known and name not in known:
            cause = f"it holds etcd data, and is no member for the etcd on {newest}"
        else:
            continue
        yield (
            name,
            ERROR,
            cause,
            "Wipe it before it serves what is past; it then joins as a new one. On it: "
            f"/usr/local/lib/groundplane/current/reset {seen.stack}",
        )


def nodes(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    wanted = {host.name: host for host in hosts}
    for node in seen.nodes:
        host = wanted.get(node.name)
        # One that does not answer was reported already.
        if (
            host
            and host.state == "present"
            and not node.ready
            and seen.seen(node.name)
            and not seen.to_come(node.name)
        ):
            yield node.name, WARNING, "its node is not Ready", "On it: journalctl -u kubelet"


def versions(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """Kubernetes goes up, one minor at a time."""
    roles = {host.name: host.role for host in hosts}
    for node in seen.nodes:
        if (role := roles.get(node.name)) is None:
            continue
        controls = role == "control-plane"
        wanted = cluster.kubernetes.version if controls else cluster.kubernetes.workers
        if release(wanted) < release(node.version):
            yield (
                node.name,
                ERROR,
                f"it runs Kubernetes {node.version}; {wanted} would be a downgrade",
                f"Set {node.version} or newer. The way back is a restored snapshot.",
            )
        elif controls and release(wanted)[1] > release(node.version)[1] + 1:
            between = f"{release(node.version)[0]}.{release(node.version)[1] + 1}"
            yield (
                node.name,
                ERROR,
                f"it runs Kubernetes {node.version}; {wanted} would skip a minor",
                f"First up to {between}, then to {minor(wanted)}.",
            )


def unchangeable(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """What was recorded when the cluster was made, against what is wanted now."""
    records = {
        host.name: look.record
        for host in hosts
        if (look := seen.seen(host.name)) is not None and look.record and seen.joined(host.name)
    }
    clusters: dict[str, list[str]] = {}
    for name, record in records.items():
        clusters.setdefault(str(record.get("cluster", "")), []).append(name)
    if len(clusters) > 1:
        texts = [f"{', '.join(names)} to {uid}" for uid, names in clusters.items()]
        yield (
            "",
            ERROR,
            f"the hosts belong to {len(clusters)} clusters: {'; '.join(texts)}",
            "Reset those of the wrong one.",
        )
    wanted = immutable(cluster)
    told = set()
    for name, record in records.items():
        recorded = record.get("immutable")
        for key, was in recorded.items() if isinstance(recorded, dict) else ():
            if key in wanted and wanted[key] != was and key not in told:
                told.add(key)
                yield (
                    name,
                    ERROR,
                    f"cluster.{key} was {said(was)} when the cluster was made, and cannot become "
                    f"{said(wanted[key])}",
                    f"Set it back to {said(was)}; for another, build a second cluster and move, "
                    "or destroy this one first.",
                )


def anew(cluster: Cluster, hosts: Sequence[Host], seen: Observation) -> AnswersOnAll:
    """A control plane is installed anew only while another holds the cluster."""
    controls = [host.name for host in hosts if host.role == "control-plane"]
    going = [name for name in controls if name in seen.guests and seen.guests[name].anew]
    if going and any(map(seen.joined, going)) and not set(seen.living(controls)) - set(going):
        yield (
            going[0],
            ERROR,
            f"{' and '.join(going)} would be installed anew, and no other control plane lives",
            "Change one after the other; a single one is rebuilt from a snapshot: groundplane "
            "restore.",
        )


ALL_HOSTS: dict[str, Callable[[Cluster, Sequence[Host], Observation], AnswersOnAll]] = {
    "clock": clock,
    "identity": twins,
    "mtu": mtu,
    "quorum": quorum,
    "members": members,
    "nodes": nodes,
    "version": versions,
    "unchangeable": unchangeable,
    "anew": anew,
}


def said(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB"


def short(text: str) -> str:
    """A digest by its first letters; nobody reads all 64."""
    return " ".join(word[:8] if len(word) == 64 else word for word in text.split())
