"""Specifications with hypervisors and guests, and what a look at the hypervisors shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from groundplane.hosts import libvirt
from groundplane.remote import guests
from groundplane.remote.bundle import bundle
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.facts import Disk, Domain, HostSeen, Hypervisor, Interface
from groundplane.remote.guests import State
from groundplane.remote.ledger import Drift
from groundplane.remote.observation import Observation
from groundplane.spec import Guest, Host, Spec
from groundplane.spec import Hypervisor as Machine
from support.program import HOST_KEY
from support.seen import entry
from support.specs import KEY, spec

PUBLIC = HOST_KEY
GUEST: dict[str, Any] = {"vcpus": 2, "memory_mib": 4096, "disk_gib": 20, "prefix": 24}


def hypervisor(name: str = "hv1", **fields: Any) -> Machine:
    """A hypervisor, at 192.0.2.31 and on."""
    given = {"name": name, "address": f"192.0.2.3{name[-1]}", "host_key": KEY, "bridge": "br0"}
    if "macvtap" in fields:
        del given["bridge"]
    return Machine(**{**given, **fields})


def guest(name: str, hypervisor: str = "hv1", **fields: Any) -> Host:
    """A guest: cp1 at 192.0.2.61 and on, w1 at 192.0.2.71 and on."""
    control = name.startswith("cp")
    own = {key: fields.pop(key) for key in list(fields) if key not in Host.model_fields}
    return Host(
        **{
            "name": name,
            "address": f"192.0.2.{'6' if control else '7'}{name[-1]}",
            "role": "control-plane" if control else "worker",
            "key": "key",
            "guest": Guest(**{**GUEST, "hypervisor": hypervisor, **own}),
            **fields,
        }
    )


def virtual(*machines: Host, hypervisors: Iterable[Machine] = (), **cluster: Any) -> Spec:
    """A stack of guests: one control plane and one worker unless given."""
    return spec(
        list(machines) or [guest("cp1"), guest("w1")],
        hypervisors=list(hypervisors) or [hypervisor()],
        **cluster,
    )


def key_file(folder: Path) -> None:
    """The key by which guests are reached, where paths begin."""
    (folder / "key").write_text("private\n")
    (folder / "key.pub").write_text(f"{PUBLIC} me@here\n")


def look(
    made: Spec,
    states: Mapping[str, str] | None = None,
    *,
    silent: Iterable[str] = (),
    old: Mapping[str, Mapping[str, str]] | None = None,
    **fields: Any,
) -> Observation:
    """The hypervisors as they are once all guests run.

    `states`: of a guest, another; "" for one that is not there. `silent`: hypervisors that do not
    answer. `old`: what a guest was installed with, where it is another. `fields` of all of them.
    """
    states = {host.name: "running" for host in made.guests} | dict(states or {})
    hosts: dict[str, HostSeen | HostUnreachable] = {}
    for machine in made.hypervisors:
        if machine.state == "lost":
            hosts[machine.name] = HostUnreachable(machine.name, Kind.LOST, "marked as lost", "")
            continue
        if machine.name in silent:
            hosts[machine.name] = HostUnreachable(
                machine.name, Kind.UNREACHABLE, "no answer", "Start it."
            )
            continue
        ours = [h for h in made.guests if h.guest and h.guest.hypervisor == machine.name]
        there = [host for host in ours if states[host.name]]
        steps = [f"{step}.{made.stack}" for step in ("bundle", "pool")]
        steps += [f"machine.{made.stack}.{host.name}" for host in there]
        steps += [
            f"snapshot.{made.stack}.{host.name}"
            for host in there
            if host.guest and host.guest.snapshot_before_upgrade
        ]
        hosts[machine.name] = HostSeen(
            machine.name,
            root=True,
            arch="amd64",
            packager="apt",
            cpus=16,
            memory=64 << 30,
            disks=(Disk(machine.pool, 500 << 30, 900 << 30),),
            interfaces=(Interface("eno1", "52:54:00:00:00:01", 1500),),
            ledger={
                step: dataclasses.replace(
                    entry(made.stack, machine.name, step),
                    digest=bundle().digest if step.startswith("bundle.") else "",
                )
                for step in steps
            },
            drift=tuple(
                Drift(
                    f"machine.{made.stack}.{host.name}",
                    f"domain {made.stack}.{host.name}",
                    "running",
                    states[host.name],
                )
                for host in there
                if states[host.name] != "running"
            ),
            hypervisor=dataclasses.replace(
                Hypervisor(
                    libvirt="9.0.0",
                    kvm="works",
                    nested=True,
                    available=60 << 30,
                    bridges=("br0",),
                    domains={
                        f"{made.stack}.{h.name}": Domain(states[h.name], 2, 4 << 30) for h in there
                    },
                    guests={
                        f"{made.stack}.{h.name}": {
                            **record(made, h),
                            **((old or {}).get(h.name, {})),
                        }
                        for h in there
                    },
                ),
                **fields,
            ),
        )
    return Observation(made.stack, hosts, shared=True)


def record(made: Spec, host: Host) -> dict[str, str]:
    """What the step `machine` leaves."""
    planned = guests.Guest("", State.RUNNING, own={"accelerator": "kvm"})
    data = libvirt.machine(made, host, planned)
    definition = libvirt.digest(data["definition"])
    return {"image": data["image"], "key": PUBLIC, "definition": definition, "accelerator": "kvm"}
