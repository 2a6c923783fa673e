"""`groundplane init`: a stack from a list of addresses, by flags or by questions."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from groundplane import begin
from groundplane.begin import Shown
from groundplane.errors import GroundplaneError
from groundplane.spec import Jump, Spec, stack_folder
from groundplane.spec.documents import shown
from groundplane.spec.load import stack_file

HOSTS = "[NAME=]ADDRESS[:PORT]"


@click.command()
@click.option("--stack", help="The stack's name; the cluster gets the same.")
@click.option("--control-plane", multiple=True, metavar=HOSTS, help="1, 3 or 5 control planes.")
@click.option("--worker", multiple=True, metavar=HOSTS, help="Any number of workers.")
@click.option("--user", help="The user to log in as; root unless given.")
@click.option("--key", metavar="PATH", help="The private key; the SSH agent's unless given.")
@click.option("--jump", metavar="[USER@]ADDRESS[:PORT]", help="A jump host before all hosts.")
@click.option("--endpoint", metavar="ADDRESS", help="A free address, for the cluster's API.")
@click.option("--external", is_flag=True, help="A load balancer of yours holds the endpoint.")
@click.option("--router-id", type=click.IntRange(1, 255), help="VRRP's id, unique in the segment.")
@click.option("--pod-cidr", multiple=True, metavar="RANGE", help="The pods' range, or two.")
@click.option("--service-cidr", multiple=True, metavar="RANGE", help="The services' range, or two.")
@click.option(
    "--site",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file with hosts:, cluster: or catalogue: that go into the stack's site as well.",
)
@click.option(
    "--fingerprint",
    multiple=True,
    metavar="HOST=SHA256:...",
    help="What a host's key must be, by the host's name or address.",
)
@click.option(
    "--accept-fingerprints",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The same from a file: lines HOST SHA256:..., or a known_hosts file.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the stack's file goes; where Pulumi.yaml says unless given.",
)
@click.option("--force", is_flag=True, help="Replace the site that the stack has.")
def init(
    stack: str | None,
    control_plane: tuple[str, ...],
    worker: tuple[str, ...],
    user: str | None,
    key: str | None,
    jump: str | None,
    endpoint: str | None,
    external: bool,
    router_id: int | None,
    pod_cidr: tuple[str, ...],
    service_cidr: tuple[str, ...],
    site: Path | None,
    fingerprint: tuple[str, ...],
    accept_fingerprints: Path | None,
    folder: Path | None,
    force: bool,
) -> None:
    """Write a stack: its hosts with their keys, and the cluster's place.

    Without flags it asks. Every host's key is gathered, and written only when you say that its
    fingerprint is right, or when --fingerprint or --accept-fingerprints said so beforehand.
    """
    folder = stack_folder() if folder is None else folder
    given = begin.read_site(site) if site else {}
    stack = stack or _ask("Name of the stack", "metal")
    path = stack_file(stack, folder)
    if not force:
        begin.refuse_site(folder, stack)
    listed: list[dict[str, Any]] = [*given.get("hosts", [])]
    roles = (("control-plane", "cp", control_plane), ("worker", "w", worker))
    for role, prefix, values in roles:
        if not values and not listed and (role == "worker" or not control_plane):
            values = _ask_list(f"Addresses of the {role}s, separated by spaces", role == "worker")
        for number, value in enumerate(values, 1):
            listed.append({**_host(value, f"{prefix}{number}"), "role": role})
    expected = _expected(fingerprint, accept_fingerprints)
    hop = _jump(jump, key, expected) if jump else None
    common: dict[str, Any] = {"user": user, "key": _from_folder(key, folder)}
    common["jump"] = {**hop, "key": common["key"]} if hop else None
    hosts = [
        {**host, **{k: v for k, v in common.items() if v is not None and k not in host}}
        for host in listed
    ]
    cluster = _cluster(
        given.get("cluster") or {}, stack, endpoint, external, router_id, pod_cidr, service_cidr
    )
    without = {
        host["name"]: (host["address"], host.get("port", 22))
        for host in hosts
        if "hostKey" not in host and {"name", "address"} <= host.keys()
    }
    keys = _confirmed(without, _jump_model(hop, key), expected)
    whole = {**given, "hosts": hosts, "cluster": cluster}
    spec = begin.write_stack(folder, stack, begin.complete(whole, keys), force=force)
    click.echo(_told(spec, path))


def at_terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def _ask(question: str, default: str | None = None) -> str:
    """An answer from the person at the terminal; where there is none, an error that says so."""
    if not at_terminal():
        if default is not None:
            return default
        raise GroundplaneError(
            "groundplane init",
            f"not given, and nobody to ask: {question}",
            "",
            "Give it as an option; `groundplane init --help` lists them.",
        )
    return str(click.prompt(question, default=default))


def _ask_list(question: str, optional: bool) -> tuple[str, ...]:
    return tuple(_ask(question, "" if optional else None).replace(",", " ").split())


def _host(value: str, name: str) -> dict[str, Any]:
    """A host from [NAME=]ADDRESS[:PORT]; an IPv6 address with a port stands in brackets."""
    given, equals, rest = value.partition("=")
    address, port = _address(rest if equals else value)
    host: dict[str, Any] = {"name": given if equals else name, "address": address}
    return host | ({"port": port} if port != 22 else {})


def _address(text: str) -> tuple[str, int]:
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    else:
        address, port = text, ""
    if port and not port.isdigit():
        raise GroundplaneError(
            text, f"{port!r} is no port", "", f"Write it as {HOSTS}, an IPv6 address in brackets."
        )
    return address, int(port or 22)


def _from_folder(key: str | None, folder: Path) -> str | None:
    """A path from here as one from the stack's folder, from which paths in its file begin."""
    if key is None or key.startswith("~") or os.path.isabs(key):
        return key
    return os.path.relpath(key, folder)


def _expected(fingerprints: Sequence[str], file: Path | None) -> dict[str, set[str]]:
    expected = begin.read_fingerprints(file) if file else {}
    for value in fingerprints:
        host, _, fingerprint = value.partition("=")
        if not fingerprint.startswith("SHA256:"):
            raise GroundplaneError(
                "--fingerprint",
                f"{value!r} is not HOST=SHA256:...",
                "",
                "Write what `ssh-keygen -lf` prints on the host, from SHA256: on.",
            )
        expected.setdefault(host, set()).add(fingerprint)
    return expected


def _jump(value: str, key: str | None, expected: Mapping[str, set[str]]) -> dict[str, Any]:
    """The jump host with its confirmed key, as the site has it."""
    user, at, rest = value.rpartition("@")
    address, port = _address(rest)
    (seen,) = _confirmed({"jump": (address, port)}, None, expected)
    hop: dict[str, Any] = {"address": address, "hostKey": seen.key}
    return hop | ({"user": user} if at else {}) | ({"port": port} if port != 22 else {})


def _jump_model(hop: dict[str, Any] | None, key: str | None) -> Jump | None:
    if hop is None:
        return None
    return Jump.model_validate({**hop, "key": key})


def _confirmed(
    hosts: Mapping[str, tuple[str, int]], jump: Jump | None, expected: Mapping[str, set[str]]
) -> list[Shown]:
    """The keys of hosts, each known beforehand or confirmed now."""
    if not hosts:
        return []
    seen = begin.gather(hosts, jump)
    unknown = begin.compare(seen, expected)
    if unknown and not at_terminal():
        raise begin.unconfirmed(unknown)
    if unknown:
        click.echo("Compare each fingerprint with what the machine's own console says:")
        click.echo("  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    for host in unknown:
        kind = host.key.split()[0]
        question = f"{host.host} ({host.address}) {kind} {host.fingerprint}: the same there?"
        if not click.confirm(question):
            raise GroundplaneError(
                f"{host.host} ({host.address})",
                "its host key was not confirmed, so nothing was written",
                "Another machine may have answered",
                "Find out which machine has this address, then run the same again.",
            )
    return seen


def _cluster(
    given: Mapping[str, Any],
    stack: str,
    endpoint: str | None,
    external: bool,
    router_id: int | None,
    pod_cidr: Sequence[str],
    service_cidr: Sequence[str],
) -> dict[str, Any]:
    """The cluster's part of the site: flags over what --site gives, questions for the rest."""
    cluster: dict[str, Any] = {"name": stack, **given}
    for key, flags, question, default in (
        ("podCidrs", pod_cidr, "Range of the pods' addresses", "10.244.0.0/16"),
        ("serviceCidrs", service_cidr, "Range of the services' addresses", "10.96.0.0/16"),
    ):
        if flags or key not in cluster:
            cluster[key] = list(flags) or _ask(question, default).replace(",", " ").split()
    there = dict(cluster.get("endpoint") or {})
    if endpoint or "address" not in there:
        there["address"] = endpoint or _ask("Free address for the cluster's API")
    if external:
        there["mode"] = "external"
    if there.get("mode") != "external" and (router_id or "routerId" not in there):
        # Drawn, so that two clusters in one segment rarely need to know of each other.
        there["routerId"] = router_id or random.randint(1, 255)
    return cluster | {"endpoint": there}


def _told(spec: Spec, path: Path) -> str:
    control = ", ".join(host.name for host in spec.control_planes)
    workers = ", ".join(host.name for host in spec.workers) or "none"
    return (
        f"wrote {shown(path)}: cluster {spec.cluster.name}, Kubernetes "
        f"{spec.cluster.kubernetes.version}\n"
        f"  control planes: {control}\n  workers: {workers}\n"
        f"  endpoint: {spec.cluster.endpoint.url}\n"
        f"next: pulumi stack init {spec.stack}; groundplane preflight; pulumi up"
    )
