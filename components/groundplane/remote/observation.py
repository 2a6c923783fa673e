"""One read-only look at every host, before anything is registered.

    seen = observe(hosts, Expect(stack="lab-metal"))
    seen.token("cp1", "node")   # the recorded token while the step holds, else a fresh one

All hosts at once, one connection each; the same look serves the whole program run.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from groundplane.remote import ledger
from groundplane.remote.connect import (
    Dial,
    Host,
    HostError,
    HostUnreachable,
    Kind,
    address_of,
    as_root,
    attempt,
    dialler,
    exit_status,
    finish,
    last_line,
    sudo_refused,
)
from groundplane.remote.facts import Certificate, HostSeen, HostToCome, Member, Node, parse
from groundplane.remote.guests import Guest
from groundplane.remote.ledger import Drift

__all__ = ["Expect", "HostSeen", "HostUnreachable", "Observation", "observe"]

# A look takes a fraction of a second; at an emulated control plane that is busy, half a minute.
LOOK_SECONDS = 60
NODE_STEP = "node"  # the step that makes a host a node of the cluster


@dataclass(frozen=True)
class Expect:
    """What a look is for: whose ledger counts as ours, and what to try from each host.

    `node_addresses` (host name -> address) is where the API server of a control plane
    is asked; `mirrors` are URLs tried from the host, with `proxy` (http_proxy, https_proxy and
    no_proxy) in the environment; `ports` are TCP ports whose owners are looked up, `features`
    kernel modules and `commands` programs that are looked for. `pools` (host name -> folder) are
    where hypervisors hold their guests; `shared`, see `Observation`. `patches`: which updates of
    packages are counted (security | all); none unless given.
    """

    stack: str
    node_addresses: Mapping[str, str] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()
    proxy: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = (6443, 2379, 2380, 10250, 10256, 10257, 10259)
    pools: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ("overlay", "nf_conntrack")
    commands: tuple[str, ...] = ("jq", "curl", "conntrack", "ip", "openssl", "tar")
    shared: bool = False
    patches: str = ""


@dataclass(frozen=True)
class Observation:
    """All hosts as they were at one moment, by name, each seen or unreachable and why.

    `shared`: they serve several stacks, as hypervisors do, and each has its own ledger there.
    """

    stack: str
    hosts: Mapping[str, HostSeen | HostUnreachable]
    shared: bool = False
    guests: Mapping[str, Guest] = field(default_factory=dict)
    """Of those hosts that are made on hypervisors: what each is now, and what becomes of it."""
    _fresh: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    def called(self, step: str, instance: str = "") -> str:
        """A step's name on a host: in the ledger, as a unit, as a log. `instance`: of a step that
        is done for several, for whom."""
        words = [step, self.stack if self.shared else "", instance]
        return ".".join(word for word in words if word)

    def seen(self, host: str) -> HostSeen | None:
        """What the host showed; None when it did not answer."""
        found = self.hosts[host]
        return found if isinstance(found, HostSeen) else None

    def to_come(self, host: str) -> bool:
        """True for a host that is not there yet, or whose address is not known yet."""
        return isinstance(self.hosts[host], HostToCome)

    def unreachable(self, host: str) -> bool:
        """True: its steps keep their old inputs, since nothing can be said of them."""
        return self.seen(host) is None

    def applied(self, host: str, step: str) -> bool:
        """True when this stack applied the step there, whatever became of it since."""
        seen = self.seen(host)
        entry = seen.ledger.get(step) if seen else None
        return entry is not None and entry.stack == self.stack

    def conforms(self, host: str, step: str) -> bool:
        """True when this stack applied the step there and all that it rests on still holds."""
        return self.applied(host, step) and not any(d.step == step for d in self.drift(host))

    def generation(self, step: str) -> int | None:
        """Of a step that one host does for all: the generation that was applied last, on whatever
        host. None when no host that answers has done it."""
        seen = [self.seen(host) for host in self.hosts if self.applied(host, step)]
        entries = [found.ledger[step] for found in seen if found is not None]
        if not entries:
            return None
        return max(entries, key=lambda e: e.at or datetime.min.replace(tzinfo=UTC)).generation

    def token(self, host: str, step: str, digest: str = "") -> str:
        """The recorded token while the step conforms, else a fresh one: the step runs again.

        `digest`: the step conforms only if it was applied with this one.

        Random, since one derived from facts misses a wiped host. Within one observation the same
        question has the same answer.
        """
        seen = self.seen(host)
        if seen is not None and self.conforms(host, step):
            entry = seen.ledger[step]
            if digest in ("", entry.digest):
                return entry.token
        return self._fresh.setdefault((host, step), secrets.token_hex(8))

    def drift(self, host: str) -> list[Drift]:
        """The facts that no longer hold, of steps of this stack."""
        seen = self.seen(host)
        if seen is None:
            return []
        return [drift for drift in seen.drift if self.applied(host, drift.step)]

    def ours(self, host: str) -> bool:
        """True when this stack applied anything there."""
        seen = self.seen(host)
        return seen is not None and any(e.stack == self.stack for e in seen.ledger.values())

    def joined(self, host: str) -> bool:
        """True when the host is a node of this stack's cluster, or was half made one."""
        seen = self.seen(host)
        if seen is None or not self.ours(host):
            return False
        return self.applied(host, NODE_STEP) or bool(seen.cluster_data)

    def stopped(self, host: str) -> bool:
        """True for a guest that its hypervisor does not run now."""
        found = self.hosts[host]
        return isinstance(found, HostUnreachable) and found.kind is Kind.STOPPED

    def blank(self, host: str) -> bool:
        """True when the host answers and carries no cluster's data and nobody's ledger."""
        seen = self.seen(host)
        return seen is not None and not (seen.ledger or seen.cluster_data or seen.record)

    def foreign(self, host: str) -> bool:
        """True when it belongs to another stack, or carries cluster data that nobody recorded."""
        seen = self.seen(host)
        if seen is None:
            return False
        return bool(self.owners(host) - {self.stack}) or (
            bool(seen.cluster_data) and not self.owners(host)
        )

    def owners(self, host: str) -> set[str]:
        """The stacks that the host's ledger and cluster record name."""
        seen = self.seen(host)
        if seen is None:
            return set()
        recorded = {str(seen.record.get("stack", ""))} if seen.record else set()
        return recorded | {entry.stack for entry in seen.ledger.values()}

    def living(self, control_planes: Iterable[str]) -> list[str]:
        """Those of the given control planes that serve: they answer, and so does their etcd."""
        return [
            name
            for name in control_planes
            if (seen := self.seen(name)) is not None
            and self.joined(name)
            and seen.etcd is not None
            and seen.etcd.healthy
        ]

    @property
    def members(self) -> tuple[Member, ...]:
        """The etcd members as a control plane with a quorum lists them; else any; else none."""
        views = [s.etcd for s in self._ours() if s.etcd is not None and s.etcd.members]
        views.sort(key=lambda etcd: not etcd.healthy)
        return views[0].members if views else ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The Nodes as the first control plane that answers lists them."""
        return next((s.nodes for s in self._ours() if s.nodes is not None), ())

    @property
    def alarms(self) -> tuple[str, ...]:
        """etcd's alarms (NOSPACE, CORRUPT), from all members that answered."""
        return tuple(sorted({a for s in self._ours() if s.etcd for a in s.etcd.alarms}))

    def expiring(self, host: str, within: timedelta) -> list[Certificate]:
        """Certificates on the host that end within this time, soonest first."""
        seen = self.seen(host)
        limit = datetime.now(UTC) + within
        found = [c for c in seen.certificates if c.not_after < limit] if seen else []
        return sorted(found, key=lambda certificate: certificate.not_after)

    def _ours(self) -> list[HostSeen]:
        return [s for s in map(self.seen, self.hosts) if s is not None and self.joined(s.name)]


_looks: dict[object, Observation] = {}


def observe(hosts: Sequence[Host], expect: Expect) -> Observation:
    """Look at all hosts; the second time a program asks the same, the same observation."""
    key = (repr(expect), *((h.name, address_of(h), h.sudo) for h in hosts))
    if key not in _looks:
        _looks[key] = look(hosts, expect)
    return _looks[key]


def look(hosts: Sequence[Host], expect: Expect) -> Observation:
    """Look at all hosts now, all at once; bounded by LOOK_SECONDS."""
    found = {found.name: found for found in finish(_look(hosts, expect))}
    return Observation(expect.stack, found, expect.shared)


async def _look(hosts: Sequence[Host], expect: Expect) -> list[HostSeen | HostUnreachable]:
    script = (Path(__file__).parent / "scripts" / "observe.sh").read_text()
    async with dialler() as dial:
        return await asyncio.gather(*(_look_at(dial, h, expect, script) for h in hosts))


async def _look_at(
    dial: Dial, host: Host, expect: Expect, script: str
) -> HostSeen | HostUnreachable:
    if host.state == "lost":
        return HostUnreachable(
            host.name, Kind.LOST, "marked as lost: not tried", "Take it out of the list when done."
        )

    async def work() -> HostSeen:
        connection = await dial(host)
        sent = time.time()
        process = await connection.create_process(as_root(host, ["bash", "-s"]))
        process.stdin.write(parameters(expect, host.name) + script)
        process.stdin.write_eof()
        # Read beside stdout: a chatty stderr would fill its window and stop both.
        errors = asyncio.create_task(process.stderr.read())
        first = await process.stdout.readline()
        received = time.time()
        output = first + await process.stdout.read()
        stderr = await errors
        await process.wait_closed()
        exit_status(process)
        if host.sudo and not first:
            raise sudo_refused(host, stderr)
        try:
            return parse(host.name, output, sent, received)
        except ValueError as error:
            raise HostError(
                Kind.COMMAND_FAILED,
                f"the look at the host failed: {last_line(stderr) or error}",
                f"Run `bash` on it as {host.user} and see what stops it.",
            ) from None

    return await attempt(host, LOOK_SECONDS, work)


def parameters(expect: Expect, host: str) -> str:
    """What `observe.sh` is told, as shell assignments for the lines before it."""
    proxy = [f"{name}={value}" for name, value in sorted(expect.proxy.items())]
    arrays = {
        "PORTS": [str(port) for port in expect.ports],
        "FEATURES": expect.features,
        "COMMANDS": expect.commands,
        "MIRRORS": expect.mirrors,
        **({"PROXY": proxy} if proxy else {}),
    }
    words = {
        "LEDGER": ledger.LEDGER,
        "RECORD": ledger.RECORD,
        **({"PATCHES": expect.patches} if expect.patches else {}),
        "NODE_ADDRESS": expect.node_addresses.get(host, ""),
        **({"POOL": expect.pools[host], "STACK": expect.stack} if host in expect.pools else {}),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
    lines += [f"{name}=({shlex.join(values)})" for name, values in arrays.items()]
    return "\n".join(lines) + "\n"
