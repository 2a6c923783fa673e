"""Hosts as an observation shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from groundplane.remote.bundle import bundle
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import Etcd, HostSeen, Member, Node
from groundplane.remote.ledger import Drift, Entry
from groundplane.remote.observation import Observation
from groundplane.spec import Host, Spec

ROAMING = ("membership", "kubeconfig", "nodes", "bootstrap")


def blank(spec: Spec) -> Observation:
    """All hosts answer and none has anything of ours."""
    return Observation(
        spec.stack, {h.name: HostSeen(h.name, arch="amd64", packager="apt") for h in spec.hosts}
    )


def entry(stack: str, host: str, step: str) -> Entry:
    digest = bundle().digest if step == "bundle" else ""
    return Entry(stack, "0123456789abcdef", step, 1, f"token-{host}-{step}", digest, None)


def standing(
    spec: Spec, *, dead: Iterable[str] = (), gone: Iterable[Host] = (), new: Iterable[str] = ()
) -> Observation:
    """The cluster stands as the specification says.

    `dead` hosts do not answer, `new` ones are blank, `gone` ones are members that the specification
    names no more and that do not answer.
    """
    dead, new, gone = set(dead), set(new), list(gone)
    inside = [host for host in [*gone, *spec.hosts] if host.name not in new]
    lost = dead | {host.name for host in gone}
    nodes = tuple(_node(host, host.name not in lost) for host in inside)
    members = tuple(
        _member(number, host, host.name not in lost)
        for number, host in enumerate(inside)
        if host.role == "control-plane"
    )
    first = next(h.name for h in spec.control_planes if h.name not in dead | new)
    hosts: dict[str, HostSeen | HostUnreachable] = {}
    for host in spec.hosts:
        if host.state == "lost":
            hosts[host.name] = HostUnreachable(host.name, Kind.LOST, "marked as lost", "")
        elif host.name in dead:
            hosts[host.name] = HostUnreachable(
                host.name, Kind.UNREACHABLE, "no answer", "Start it."
            )
        elif host.name in new:
            hosts[host.name] = HostSeen(host.name, arch="amd64", packager="apt")
        else:
            steps = [
                "bundle",
                "prepare",
                "secrets",
                "node",
                *(ROAMING if host.name == first else ()),
            ]
            control_plane = host.role == "control-plane"
            hosts[host.name] = HostSeen(
                host.name,
                arch="amd64",
                packager="apt",
                cluster_data=("/etc/kubernetes/kubelet.conf",),
                ledger={step: entry(spec.stack, host.name, step) for step in steps},
                record={"stack": spec.stack, "cluster": "0123456789abcdef"},
                nodes=nodes if control_plane else None,
                etcd=Etcd(True, members) if control_plane else None,
            )
    return Observation(spec.stack, hosts)


def _node(host: Host, ready: bool) -> Node:
    return Node(host.name, (host.node_address,), ready, "1.36.4", False, (), host.role != "worker")


def _member(number: int, host: Host, healthy: bool) -> Member:
    address = host.node_address
    return Member(
        f"{number:x}", host.name, (f"https://{address}:2380",), (f"https://{address}:2379",), False,
        healthy,
    )  # fmt: skip


def changed(seen: Observation, host: str, **fields: Any) -> Observation:
    """The same, with one host otherwise."""
    found = seen.hosts[host]
    assert isinstance(found, HostSeen)
    return Observation(seen.stack, {**seen.hosts, host: dataclasses.replace(found, **fields)})


def drifted(seen: Observation, host: str, step: str) -> Observation:
    """The same, where a fact of that step no longer holds."""
    return changed(seen, host, drift=(Drift(step, "file /etc/x", "a", "b"),))
