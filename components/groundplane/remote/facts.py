"""What one look at a host tells, typed; and how scripts/observe.sh's output becomes it.

The output is a line a fact, `KEY<tab>FIELD<tab>FIELD...`; JSON travels as base64. It begins with
`groundplane 1` and ends with `end`, so that a cut one is never taken for a whole.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from groundplane.remote.ledger import Drift, Entry, entry
from groundplane.spec.systems import architecture

FIRST = "groundplane\t1"
LAST = "end"
LAST_SECOND = 253402300799  # of the year 9999, where datetime ends


@dataclass(frozen=True)
class Clock:
    """Seconds by which the host's clock is ahead of this computer's, give or take `error`."""

    ahead: float
    error: float


@dataclass(frozen=True)
class Disk:
    """A file system by the path it was asked for; bytes."""

    path: str
    free: int
    size: int


@dataclass(frozen=True)
class Listener:
    """A TCP port in use. `process` is "" where it cannot be told."""

    port: int
    process: str


@dataclass(frozen=True)
class Interface:
    """A network interface; addresses as `192.0.2.7/24`."""

    name: str
    mac: str
    mtu: int
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """Where a range of addresses goes: `10.0.0.0/8` or `default`."""

    to: str
    interface: str


@dataclass(frozen=True)
class Lock:
    """A package manager's lock and the process that holds it."""

    path: str
    process: str


@dataclass(frozen=True)
class Session:
    """The SSH connection of the look as the host has it: who came, and to which of its ports."""

    client: str
    port: int


@dataclass(frozen=True)
class Mirror:
    """A URL tried from the host: HTTP status (0: no answer) and what went wrong."""

    url: str
    status: int
    error: str


@dataclass(frozen=True)
class Certificate:
    """A certificate on the host, and the last moment it is valid."""

    path: str
    not_after: datetime


@dataclass(frozen=True)
class Node:
    """A Node object as the cluster shows it."""

    name: str
    addresses: tuple[str, ...]
    ready: bool
    version: str
    unschedulable: bool
    pod_cidrs: tuple[str, ...]
    control_plane: bool


@dataclass(frozen=True)
class Member:
    """An etcd member. `name` is "" until it first started; `healthy` None: was not asked."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool
    healthy: bool | None


@dataclass(frozen=True)
class Etcd:
    """A host's own etcd: does it answer with a quorum, who are the members, which alarms.

    `cluster` is etcd's own id, another for every founding; "" when it did not answer.
    """

    healthy: bool
    members: tuple[Member, ...] = ()
    alarms: tuple[str, ...] = ()
    version: str = ""
    db_bytes: int = 0
    cluster: str = ""
    revision: int = 0


@dataclass(frozen=True)
class Domain:
    """A virtual machine as its hypervisor shows it, whosever it is. Memory in bytes."""

    state: str  # running | paused | shut off | crashed | suspended | unknown
    vcpus: int
    memory: int


@dataclass(frozen=True)
class Hypervisor:
    """What a machine tells that runs guests.

    `libvirt` is its version, "" where it does not answer. `kvm`: works, hangs, untried (where there
    is nothing to try it with), or "" where it is not there. `guests` is what the step `machine`
    left of this stack's, by the name of their domain.
    """

    libvirt: str = ""
    kvm: str = ""
    nested: bool = False
    cpu_model: str = ""
    available: int = 0
    bridges: tuple[str, ...] = ()
    domains: Mapping[str, Domain] = field(default_factory=dict)
    guests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class HostSeen:
    """One host as it was at one moment. Memory and disk in bytes."""

    name: str
    root: bool = False
    session: Session | None = None
    os_id: str = ""  # ID and VERSION_ID of os-release: "debian" and "12"
    os_version: str = ""
    arch: str = ""  # amd64 or arm64; anything else as `uname -m` says it
    kernel: str = ""
    systemd: int = 0
    hostname: str = ""
    machine_id: str = ""
    product_uuid: str = ""
    boot_id: str = ""
    virtualization: str = ""
    cgroup: int = 0
    controllers: tuple[str, ...] = ()
    cpus: int = 0
    memory: int = 0
    swap: int = 0
    clock: Clock = Clock(0, 0)
    disks: tuple[Disk, ...] = ()
    readonly: tuple[str, ...] = ()
    listeners: tuple[Listener, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    packager: str = ""
    locks: tuple[Lock, ...] = ()
    pending: int | None = None  # packages that could be newer, as far as its lists know
    wants_restart: bool = False
    cluster_data: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    ledger: Mapping[str, Entry] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    encryption: int = 0  # generation of the key that Secrets are written with; 0: none is
    drift: tuple[Drift, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    nodes: tuple[Node, ...] | None = None
    etcd: Etcd | None = None
    hypervisor: Hypervisor | None = None  # of one that was looked at as such
    problems: tuple[str, ...] = ()  # what the look itself could not find out


@dataclass(frozen=True)
class HostToCome(HostSeen):
    """A host that is not there yet, or that nobody can say where it is: what is known of it
    beforehand. It will be blank."""


T = TypeVar("T")


def parse(name: str, output: str, sent: float, received: float) -> HostSeen:
    """What `scripts/observe.sh` printed on a host, typed.

    `sent` and `received`: when it was started and when its first line came, in seconds of this
    computer's clock. Raises ValueError for output that is not whole.
    """
    lines = output.rstrip("\n").split("\n")
    if lines[0] != FIRST or lines[-1] != LAST:
        raise ValueError("the output is not whole")
    found: dict[str, list[list[str]]] = {}
    for line in lines[1:-1]:
        key, *fields = line.split("\t")
        found.setdefault(key, []).append(fields)

    def all_of(key: str, fields: int) -> list[list[str]]:
        """The lines of this key, each with that many fields."""
        return [(f + [""] * fields)[:fields] for f in found.get(key, [])]

    def one(key: str, field: int = 0) -> str:
        lines = all_of(key, field + 1)
        return lines[0][field].strip() if lines else ""

    def column(key: str) -> tuple[str, ...]:
        return tuple(value for (value,) in all_of(key, 1))

    certificates = _certificates(all_of("certificate", 2), all_of("client_certificate", 2))
    return HostSeen(
        name=name,
        root=one("root") == "1",
        session=Session(one("ssh"), _number(one("ssh", 1))) if "ssh" in found else None,
        os_id=one("system"),
        os_version=one("system", 1),
        arch=architecture(one("arch")) or one("arch"),
        kernel=one("kernel"),
        systemd=_number(one("systemd").split(".")[0]),
        hostname=one("hostname"),
        machine_id=one("machine_id"),
        product_uuid=one("product_uuid").lower(),
        boot_id=one("boot_id"),
        virtualization=one("virtualization"),
        cgroup=_number(one("cgroup")),
        controllers=tuple(one("cgroup", 1).split()),
        cpus=_number(one("cpus")),
        memory=_number(one("memory")),
        swap=_number(one("swap")),
        clock=_clock(one("clock"), sent, received),
        disks=tuple(Disk(p, _number(f), _number(s)) for p, f, s in all_of("disk", 3)),
        readonly=column("readonly"),
        listeners=tuple(Listener(_number(p), owner) for p, owner in all_of("listener", 2)),
        interfaces=tuple(
            Interface(nic, mac, _number(mtu), tuple(a for i, a in all_of("address", 2) if i == nic))
            for nic, mac, mtu in all_of("interface", 3)
        ),
        routes=tuple(Route(to, nic) for to, nic in all_of("route", 2)),
        features=dict(all_of("feature", 2)),
        missing=column("missing"),
        packager=one("packager"),
        pending=_number(one("pending")) if "pending" in found else None,
        wants_restart="restart" in found,
        locks=tuple(Lock(path, process) for path, process in all_of("lock", 2)),
        cluster_data=column("cluster_data"),
        runtimes=column("runtime"),
        nameservers=column("nameserver"),
        mirrors=tuple(Mirror(u, _number(c), e) for u, c, e in all_of("mirror", 3)),
        ledger={s: e for s, text in all_of("ledger", 2) if (e := entry(text)) is not None},
        record=_mapping(one("record")),
        encryption=_number(one("encryption")),
        drift=(
            *(Drift(step, fact, was, now) for step, fact, was, now in all_of("drift", 4)),
            *_shortened(all_of("cert_fact", 3), certificates),
        ),
        certificates=certificates,
        nodes=_nodes(one("nodes")) if "nodes" in found else None,
        etcd=_etcd(all_of("etcd", 4)[0], dict(all_of("member", 2))) if "etcd" in found else None,
        hypervisor=_hypervisor(found, all_of, one) if "available" in found else None,
        problems=column("problem"),
    )


def _hypervisor(
    found: Mapping[str, object],
    all_of: Callable[[str, int], list[list[str]]],
    one: Callable[[str], str],
) -> Hypervisor:
    return Hypervisor(
        libvirt=one("libvirt"),
        kvm=one("kvm"),
        nested=one("nested") in ("Y", "1"),
        cpu_model=one("cpu_model"),
        available=_number(one("available")),
        bridges=tuple(name for (name,) in all_of("bridge", 1)),
        domains={
            name: Domain(state, _number(vcpus), _number(memory))
            for name, state, vcpus, memory in all_of("domain", 4)
        },
        guests={name: _mapping(text) or {} for name, text in all_of("guest", 2)},
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _clock(text: str, sent: float, received: float) -> Clock:
    try:
        return Clock(float(text) - (sent + received) / 2, (received - sent) / 2)
    except ValueError:
        return Clock(0, 0)


def _mapping(text: str) -> Mapping[str, Any] | None:
    try:
        data = json.loads(text)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _certificates(
    certificates: list[list[str]], of_clients: list[list[str]]
) -> tuple[Certificate, ...]:
    """From PATH and base64: of the certificate itself, or of its PEM text as in a kubeconfig."""
    if not certificates and not of_clients:
        return ()
    from cryptography import x509  # 50 ms

    found = []
    for texts, load in (
        (certificates, x509.load_der_x509_certificate),
        (of_clients, x509.load_pem_x509_certificate),
    ):
        for path, text in texts:
            try:
                date = load(base64.b64decode(text, validate=True)).not_valid_after_utc
            except (ValueError, binascii.Error):
                continue  # a damaged one; where a step recorded it, it comes back as drift
            found.append(Certificate(path, date))
    return tuple(found)


def _shortened(facts: list[list[str]], certificates: tuple[Certificate, ...]) -> list[Drift]:
    """Recorded certificates that cannot be read or end earlier. A later end is a renewal."""
    ends = {c.path: c.not_after for c in certificates}
    found = []
    for step, path, recorded in facts:
        was = datetime.fromtimestamp(min(_number(recorded), LAST_SECOND), UTC)
        now = ends.get(path)
        if now is None or now < was:
            now_text = "unreadable" if now is None else f"{now:%F %T}"
            found.append(Drift(step, f"cert {path}", f"{was:%F %T}", now_text))
    return found


def _nodes(text: str) -> tuple[Node, ...] | None:
    try:
        return tuple(
            Node(
                name=node["name"],
                addresses=tuple(node["addresses"]),
                ready=bool(node["ready"]),
                version=str(node["version"]).removeprefix("v"),
                unschedulable=bool(node["unschedulable"]),
                pod_cidrs=tuple(node["pod_cidrs"]),
                control_plane=bool(node["control_plane"]),
            )
            for node in json.loads(text)
        )
    except (ValueError, TypeError, KeyError):
        return None


def _etcd(answers: list[str], answering: Mapping[str, str]) -> Etcd:
    """From the JSON gateway's answers: member list, status, alarms, health; "" where none came.

    The gateway writes 64-bit numbers as decimal text; etcdctl and people write ids in hex.
    """
    members, status, alarms, health = (_mapping(text) or {} for text in answers)
    header = status.get("header")
    header = header if isinstance(header, dict) else {}
    return Etcd(
        healthy=health.get("health") == "true",
        members=tuple(
            Member(
                id=f"{_number(str(member.get('ID', ''))):x}",
                name=str(member.get("name", "")),
                peer_urls=_texts(member.get("peerURLs")),
                client_urls=_texts(member.get("clientURLs")),
                learner=bool(member.get("isLearner", False)),
                healthy=_answers(_texts(member.get("clientURLs")), answering),
            )
            for member in _mappings(members.get("members"))
        ),
        alarms=tuple(str(alarm.get("alarm", "")) for alarm in _mappings(alarms.get("alarms"))),
        version=str(status.get("version", "")),
        db_bytes=_number(str(status.get("dbSize", ""))),
        cluster=f"{_number(str(header.get('cluster_id', ''))):x}" if header else "",
        revision=_number(str(header.get("revision", ""))),
    )


def _answers(urls: tuple[str, ...], answering: Mapping[str, str]) -> bool | None:
    """By the HTTP status of a member's /health, which is asked at its first address."""
    for url, status in answering.items():
        if urls and url.startswith(f"{urls[0]}/"):
            return status == "200"
    return None


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
