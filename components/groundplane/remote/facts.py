"""What one look at a host tells, typed; and how scripts/observe.sh's output becomes it.

The output is a line a fact, `KEY<tab>FIELD<tab>FIELD...`; JSON travels as base64. It begins with
`groundplane 1` and ends with `end`, so that a cut one is never taken for a whole.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from groundplane.remote.ledger import Drift, Entry, entry

FIRST = "groundplane\t1"
LAST = "end"


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
    writable: bool


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
class Lock:
    """A package manager's lock and the process that holds it."""

    path: str
    process: str


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
    address: str
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
    """A host's own etcd: does it answer with a quorum, who are the members, which alarms."""

    healthy: bool
    members: tuple[Member, ...] = ()
    alarms: tuple[str, ...] = ()
    version: str = ""
    db_bytes: int = 0


@dataclass(frozen=True)
class HostSeen:
    """One host as it was at one moment. Memory and disk in bytes."""

    name: str
    root: bool = False
    system: str = ""  # os-release ID and VERSION_ID: "debian 12"
    like: str = ""  # os-release ID_LIKE
    arch: str = ""
    kernel: str = ""
    systemd: int = 0
    hostname: str = ""
    machine_id: str = ""
    product_uuid: str = ""
    boot_id: str = ""
    virtualization: str = ""
    cgroup: int = 0
    cpus: int = 0
    memory: int = 0
    swap: int = 0
    clock: Clock = Clock(0, 0)
    disks: tuple[Disk, ...] = ()
    listeners: tuple[Listener, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    default_interface: str = ""
    routes: tuple[str, ...] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    packager: str = ""
    locks: tuple[Lock, ...] = ()
    cluster_data: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ()
    nameservers: tuple[str, ...] = ()
    mirrors: tuple[Mirror, ...] = ()
    ledger: Mapping[str, Entry] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    drift: tuple[Drift, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    nodes: tuple[Node, ...] | None = None
    etcd: Etcd | None = None
