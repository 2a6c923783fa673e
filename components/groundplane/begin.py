"""To begin: the files of a new stack, with host keys that a person has compared.

Host keys are gathered from the network, where anyone may answer: none is written before its
fingerprint was confirmed, or given beforehand.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.catalogue import product
from groundplane.errors import Finding, GroundplaneError, SpecError
from groundplane.remote.connect import HOST_KEY_ALGORITHMS, HostError, dialler
from groundplane.spec import Host, Jump
from groundplane.spec.documents import REAL, parse, read, shown
from groundplane.spec.load import PLATFORM, SITE, load, read_config, site_of, stack_file
from groundplane.spec.schema import FOLDER as SCHEMAS
from groundplane.spec.schema import text as schema_text
from groundplane.spec.spec import Spec

PATIENCE = 15.0
"""Seconds for which a host may take to show its key."""


@dataclass(frozen=True)
class Shown:
    """The key that a host showed: in authorized_keys form, and its fingerprint as `ssh-keygen -l`
    prints it."""

    host: str
    address: str
    key: str
    fingerprint: str


def gather(hosts: Mapping[str, tuple[str, int]], jump: Jump | None = None) -> list[Shown]:
    """The keys that hosts show now, all asked at once. `hosts`: name -> (address, port).

    Through `jump` if given, whose own key is known already. Raises SpecError that names every host
    that showed none.
    """
    return asyncio.run(_gather(hosts, jump))


async def _gather(hosts: Mapping[str, tuple[str, int]], jump: Jump | None) -> list[Shown]:
    async with dialler() as dial:
        tunnel = None
        if jump is not None:
            hop = Host(name="jump", role="worker", **dict(jump))
            try:
                tunnel = await dial(hop)
            except HostError as error:
                finding = Finding(f"the jump host {jump.address}", error.cause, "", error.remedy)
                raise SpecError([finding]) from None
        answers = await asyncio.gather(
            *(_ask(name, address, port, tunnel) for name, (address, port) in hosts.items())
        )
    silent = [answer for answer in answers if isinstance(answer, Finding)]
    if silent:
        raise SpecError(silent)
    return [answer for answer in answers if isinstance(answer, Shown)]


async def _ask(name: str, address: str, port: int, tunnel: Any) -> Shown | Finding:
    import asyncssh

    at = f"{name} ({address}, port {port})"
    why = "Without its key, later connections could not be told from an impostor's"
    algorithms = [kind for kinds in HOST_KEY_ALGORITHMS.values() for kind in kinds]
    try:
        async with asyncio.timeout(PATIENCE):
            key = await asyncssh.get_server_host_key(
                address, port, tunnel=tunnel or (), server_host_key_algs=algorithms, config=None
            )
    except (OSError, asyncssh.Error) as error:
        return Finding(
            at,
            f"showed no host key: {error or f'no answer in {PATIENCE:.0f} seconds'}",
            why,
            "See that the machine runs, that sshd listens there and that nothing filters the port.",
        )
    if key is None:
        remedy = "Make one with `ssh-keygen -A` on the host."
        return Finding(at, "has no host key of a known kind", why, remedy)
    line = " ".join(key.export_public_key("openssh").decode().split()[:2])
    return Shown(name, address, line, key.get_fingerprint("sha256"))


def read_fingerprints(path: Path) -> dict[str, set[str]]:
    """Name or address -> fingerprints, from a file of lines such as

    `n4 SHA256:...`, or of a known_hosts file (`192.0.2.14 ssh-ed25519 AAAA...`).
    """
    import asyncssh

    found: dict[str, set[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(("#", "@", "|")):
            continue
        try:
            if len(words) == 2 and words[1].startswith("SHA256:"):
                fingerprint = words[1]
            else:
                fingerprint = asyncssh.import_public_key(" ".join(words[1:3])).get_fingerprint()
        except (asyncssh.KeyImportError, ValueError):
            raise GroundplaneError(
                f"{shown(path)}:{number}",
                "neither a fingerprint nor a host key",
                "Each line names a host and what its key must be",
                "Write `NAME SHA256:...`, or lines as in ~/.ssh/known_hosts.",
            ) from None
        for name in words[0].split(","):
            address = name.partition("]")[0].removeprefix("[")
            found.setdefault(address, set()).add(fingerprint)
    return found


def compare(seen: Iterable[Shown], expected: Mapping[str, set[str]]) -> list[Shown]:
    """Those hosts whose key nothing was said about. Raises SpecError for any that differs."""
    unknown, wrong = [], []
    for host in seen:
        wanted = expected.get(host.host, set()) | expected.get(host.address, set())
        if not wanted:
            unknown.append(host)
        elif host.fingerprint not in wanted:
            wrong.append(
                Finding(
                    f"{host.host} ({host.address})",
                    f"its host key is {host.fingerprint}, not {' or '.join(sorted(wanted))}",
                    "Another machine answers there, or the key was made anew",
                    "Compare on the machine's console: ssh-keygen -lf "
                    "/etc/ssh/ssh_host_ed25519_key.pub",
                )
            )
    if wrong:
        raise SpecError(wrong)
    return unknown


def unconfirmed(hosts: Sequence[Shown]) -> SpecError:
    """What is said where nobody can be asked: each fingerprint seen, and how to confirm it."""
    return SpecError(
        Finding(
            f"{host.host} ({host.address})",
            f"its host key {host.fingerprint} is not confirmed",
            "Whoever sits between could show this key",
            f"Compare it on the machine's console, then add: "
            f"--fingerprint {host.host}={host.fingerprint}",
        )
        for host in hosts
    )


def refuse_site(folder: Path, stack: str) -> None:
    """Raises GroundplaneError when the stack has a site already."""
    path = stack_file(stack, folder)
    if path.is_file() and site_of(read_config(stack, folder)).data is not None:
        raise GroundplaneError(
            shown(path),
            "this stack has a site already",
            "Its hosts would be replaced by those given now",
            "Edit the file, or add --force to replace the site.",
        )


def write_stack(folder: Path, stack: str, site: Mapping[str, Any], *, force: bool = False) -> Spec:
    """Writes Pulumi.STACK.yaml with this site, and platform.yaml if there is none; checks both.

    `site` is as the file has it: hosts, cluster, catalogue. All else that the file holds stays.
    Raises GroundplaneError when the stack has a site and `force` is not set, SpecError with all
    that is wrong with what was written.
    """
    if not force:
        refuse_site(folder, stack)
    path = stack_file(stack, folder)
    before = path.read_text(encoding="utf-8") if path.is_file() else _header(folder, "site")
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, _with_site(before, site, shown(path)))
    platform = folder / PLATFORM
    if not platform.exists():
        _write(platform, platform_text(folder))
    return load(stack, folder)


def _write(path: Path, text: str) -> None:
    """All or nothing: a killed run leaves the old file whole."""
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _with_site(before: str, site: Mapping[str, Any], place: str) -> str:
    """The text of a stack's file with this site; every other line stays as it is."""
    import yaml

    block = _dump({SITE: site})
    indented = "".join(f"  {line}" for line in block.splitlines(keepends=True))
    root = yaml.compose(before, Loader=yaml.SafeLoader)
    lines = before.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    config = _entry(root, "config")
    if config is None:
        return f"{''.join(lines)}config:\n{indented}"
    _, value = config
    if not isinstance(value, yaml.MappingNode) or value.flow_style or not value.value:
        # `config: {}`, or an empty one: there is nothing else in it that could be lost.
        data = parse(before, place).data
        data["config"] = {**(data["config"] or {}), SITE: dict(site)}
        return _dump(data)
    indent = value.value[0][0].start_mark.column
    indented = "".join(f"{' ' * indent}{line}" for line in block.splitlines(keepends=True))
    old = _entry(value, SITE)
    if old is None:
        end = value.value[-1][1]
        at = _last_line(end) + 1
        return "".join([*lines[:at], indented, *lines[at:]])
    key, inner = old
    return "".join([*lines[: key.start_mark.line], indented, *lines[_last_line(inner) + 1 :]])


def _entry(node: Any, key: str) -> tuple[Any, Any] | None:
    return next(((k, v) for k, v in getattr(node, "value", ()) if k.value == key), None)


def _last_line(node: Any) -> int:
    """The line, from 0, on which a node's last value ends (its end mark may lie far below)."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end = node.end_mark
    return int(end.line if end.column or end.line == node.start_mark.line else end.line - 1)


def _dump(data: Any) -> str:
    """YAML as a person would write it: blocks, and short lists of plain values on one line."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def sequence(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
        plain = all(isinstance(item, str | int | float | bool) for item in value)
        return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)

    def string(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    # What either version of YAML would take for a number is quoted.
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", REAL, list("-+0123456789."))
    Dumper.add_representer(list, sequence)
    Dumper.add_representer(str, string)
    text = yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return str(text)


def _header(folder: Path, kind: str) -> str:
    """The line by which editors find the schema of a file in this folder.

    A checkout names the package's own file. Elsewhere the package lies in a virtual environment,
    whose path is no other computer's, so a copy is laid beside the files.
    """
    name = f"{kind}.schema.json"
    if "site-packages" in SCHEMAS.parts:
        copies = folder / ".schema"
        copies.mkdir(parents=True, exist_ok=True)
        _write(copies / name, schema_text(kind))
        near = f".schema/{name}"
    else:
        near = os.path.relpath(SCHEMAS / name, folder)
    return f"# yaml-language-server: $schema={near}\n"


def platform_text(folder: Path) -> str:
    """A platform.yaml to begin with, for this folder."""
    catalogue = product()
    return _header(folder, "platform") + PLATFORM_TEMPLATE.format(
        kubernetes=catalogue.default("kubernetes"), containerd=catalogue.default("containerd")
    )


PLATFORM_TEMPLATE = """\
# What is equal wherever the platform stands. What is bound to a place, such as hosts, addresses and
# ranges, stands in Pulumi.STACK.yaml. All keys: docs/reference/configuration.md

cluster:
  # Versions are written down, so that a new release of groundplane alone changes none.
  kubernetes:
    version: {kubernetes}
  containerd:
    version: {containerd}

  # plain: the reference plugins and a route to each node's pods. none: you bring the pod network.
  network: plain

  # How many workers may be disturbed at once. Control planes: always one.
  maxUnavailable: 1

  # Fields of KubeletConfiguration, as they stand there, such as maxPods: 200.
  kubelet: {{}}

  audit:
    level: metadata

  # Whether destroy refuses to take a cluster down.
  protect: true
"""


def complete(site: Mapping[str, Any], keys: Iterable[Shown]) -> dict[str, Any]:
    """The site with these host keys in its hosts."""
    known = {seen.host: seen.key for seen in keys}
    hosts = [
        {**host, "hostKey": known[host["name"]]} if host.get("name") in known else host
        for host in site.get("hosts", [])
    ]
    return {**site, "hosts": hosts}


def read_site(path: Path) -> dict[str, Any]:
    """A file with a site, or a part of one: hosts, cluster, catalogue."""
    data = read(path).data
    if not isinstance(data, dict):
        raise GroundplaneError(
            shown(path), "not a mapping", "It holds hosts:, cluster: or catalogue:", "Correct it."
        )
    return data
