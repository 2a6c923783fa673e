"""What a comparison of clusters reads from their nodes: one read-only look at every host.

Facts are flat: a path such as `kubelet/config/maxPods`, and its value as text. What a node says of
itself and what the API says of it become one. All hosts of all stacks are asked at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundplane.remote.connect import (
    Dial,
    Done,
    HostUnreachable,
    Kind,
    dialler,
    finish,
    last_line,
    run,
)
from groundplane.spec.models import Host

__all__ = ["Answer", "Facts", "NotSeenError", "Portrait", "arguments", "ask", "flat", "portraits"]

SECONDS = 120  # an emulated machine takes a second for each start of kubectl
THERE = "there"
NAMED = ("name", "key", "type", "path", "mountPath", "containerPort", "topologyKey")
"""What tells the elements of a list of mappings from each other, in this order."""

Facts = Mapping[str, str]


class NotSeenError(ValueError):
    """A node's answer is no portrait, or only a part of one."""


@dataclass(frozen=True)
class Portrait:
    """A cluster as its nodes show it."""

    nodes: Mapping[str, tuple[str, Facts]]
    """Of each node, in the order of the hosts: its role, and its facts."""
    cluster: Facts
    """What is one for all nodes: add-ons, images in use, settings."""
    silent: tuple[HostUnreachable, ...] = ()
    """Hosts that could not be looked at, and why."""


@dataclass(frozen=True)
class Answer:
    """What the script printed on one host, taken apart and not yet understood."""

    facts: Facts
    documents: Mapping[str, str]
    problems: Sequence[str]


def portraits(stacks: Sequence[Sequence[Host]]) -> list[Portrait]:
    """The clusters on these hosts, all looked at at once; those that are lost are left out."""
    return finish(_portraits([[h for h in hosts if h.state != "lost"] for hosts in stacks]))


async def _portraits(stacks: Sequence[Sequence[Host]]) -> list[Portrait]:
    async with dialler() as dial:
        looks = [_looks(dial, hosts, "twins.sh", _words) for hosts in stacks]
        answers = await asyncio.gather(*looks)
    return [assemble(hosts, found) for hosts, found in zip(stacks, answers, strict=True)]


def _words(host: Host) -> str:
    control_plane = "1" if host.role == "control-plane" else ""
    words = {"NODE_ADDRESS": host.node_address, "API": control_plane}
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in words.items())


def ask(
    hosts: Sequence[Host], script: str, words: Callable[[Host], str]
) -> list[Answer | HostUnreachable]:
    """What a script that speaks as twins.sh does says on these hosts, all asked at once; `words`
    are the lines before it."""

    async def work() -> list[Answer | HostUnreachable]:
        async with dialler() as dial:
            return await _looks(dial, hosts, script, words)

    return finish(work())


async def _looks(
    dial: Dial, hosts: Sequence[Host], script: str, words: Callable[[Host], str]
) -> list[Answer | HostUnreachable]:
    text = (Path(__file__).parent / "scripts" / script).read_text()
    return await asyncio.gather(*(_look(dial, host, words(host) + text) for host in hosts))


async def _look(dial: Dial, host: Host, script: str) -> Answer | HostUnreachable:
    if host.host_key is None:
        return HostUnreachable(
            host.name, Kind.STOPPED, "its machine is not there", "`pulumi up` makes it."
        )
    done = await run(dial, host, ["bash", "-s"], script, SECONDS)
    if not isinstance(done, Done):
        return done
    try:
        return read(done.stdout)
    except NotSeenError as error:
        return HostUnreachable(
            host.name,
            Kind.COMMAND_FAILED,
            f"the look at the host failed: {last_line(done.stderr) or error}",
            f"Run `bash` on it as {host.user} and see what stops it.",
        )


def read(text: str) -> Answer:
    """What twins.sh printed. Raises NotSeenError when it is not all of it."""
    lines = text.splitlines()
    if lines[:1] != ["portrait 1"] or lines[-1:] != ["end"]:
        raise NotSeenError("it was cut off" if lines[:1] == ["portrait 1"] else "it said nothing")
    facts: dict[str, str] = {}
    documents: dict[str, str] = {}
    problems = []
    for line in lines[1:-1]:
        kind, _, rest = line.partition(" ")
        path, _, value = rest.partition("\t")
        if kind == "fact":
            # What may stand in one of two places is told twice: the first one counts.
            facts.setdefault(path, " ".join(value.split()))
        elif kind == "doc":
            try:
                documents[path] = base64.b64decode(value).decode(errors="replace")
            except binascii.Error:
                raise NotSeenError(f"{path} is damaged") from None
        elif kind == "problem":
            problems.append(rest)
    return Answer(facts, documents, problems)


def assemble(hosts: Sequence[Host], answers: Sequence[Answer | HostUnreachable]) -> Portrait:
    """One cluster from what its hosts answered. The API is what the first control plane says that
    reached it; a cluster where none did is not seen."""
    silent = [answer for answer in answers if isinstance(answer, HostUnreachable)]
    seen = {
        host.name: answer
        for host, answer in zip(hosts, answers, strict=True)
        if isinstance(answer, Answer)
    }
    documents = [a.documents for a in seen.values() if "api/nodes" in a.documents]
    if not documents:
        problems = [p for answer in seen.values() for p in answer.problems]
        controls = [host.name for host in hosts if host.role == "control-plane"]
        silent += [
            HostUnreachable(
                name,
                Kind.COMMAND_FAILED,
                problems[0] if problems else "no cluster is to be seen here",
                "Bring the cluster up, or repair it, before it is compared.",
            )
            for name in controls or seen
            if name in seen
        ]
        return Portrait({}, {}, tuple(silent))
    said = {path: json.loads(text) for path, text in documents[0].items() if path[:4] == "api/"}
    known = {node["name"]: node for node in said["api/nodes"]}
    cluster = dict(_of_cluster(said))
    for path, names in (
        ("nodes/without a host", set(known) - set(seen)),
        ("nodes/not joined", set(seen) - set(known)),
    ):
        if names:
            cluster[path] = str(len(names))
    nodes = {}
    for host in hosts:
        name = host.name
        if name not in known or name not in seen:
            continue
        facts = dict(_of_host(seen[name])) | dict(_of_node(known[name]))
        facts |= flat(said.get(f"api/kubelet/{name}", {}), "kubelet/config")
        for pod in said.get("api/workloads", {}).get("specs", []):
            if pod["static"] and pod["node"] == name:
                facts |= dict(_of_static_pod(pod))
        nodes[name] = (host.role, facts)
    return Portrait(nodes, cluster, tuple(silent))


# ---- from documents to facts ------------------------------------------------------------------


def flat(value: Any, path: str) -> Facts:
    """Data as facts: a path for each leaf. Lists of plain values are one leaf."""
    return dict(_flat(value, path))


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _flat(below, f"{path}/{key}")
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for index, each in enumerate(value):
            yield from _flat(each, f"{path}/{_name(each, index)}")
    elif isinstance(value, list):
        if value:
            yield path, ", ".join(_text(each) for each in value)
    elif value is not None and value != "":
        yield path, _text(value)


def _name(element: Any, index: int) -> str:
    if isinstance(element, Mapping):
        for key in NAMED:
            if isinstance(element.get(key), str | int):
                return str(element[key])
    return str(index)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, Mapping | list | bool) else str(value)


def arguments(command: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The flags of a command line, whose own name comes first."""
    flag = ""
    for word in list(command)[1:]:
        if flag and not word.startswith("-"):
            yield flag, word
            flag = ""
            continue
        if flag:
            yield flag, "true"
        name, given, value = word.partition("=")
        flag = "" if given or not word.startswith("-") else name
        if not flag:
            yield name, value if given else THERE
    if flag:
        yield flag, "true"


GIB = 1 << 30
UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": GIB, "Ti": 1 << 40, "k": 10**3, "M": 10**6}


def size(value: str) -> str:
    """A number of bytes, or a quantity of Kubernetes, for people; other text as it is."""
    match = re.fullmatch(r"([0-9]+)(Ki|Mi|Gi|Ti|k|M|)", value)
    if not match:
        return value
    number = int(match[1]) * UNITS[match[2]]
    return "none" if number >= 1 << 60 else f"{number / GIB:.2f} GiB"


def _of_host(answer: Answer) -> Iterator[tuple[str, str]]:
    for path, value in answer.facts.items():
        if path in ("memory/size", "memory/limit") or path.endswith("/size"):
            yield path, size("9" * 19 if value == "max" else value)
        elif path == "processor/limit":
            yield path, "none" if value.split()[0] in ("max", "-1") else value
        elif path == "kernel/command_line":
            for word in value.split():
                name, _, given = word.partition("=")
                yield f"{path}/{name}", given or THERE
        elif path.startswith("kernel/transparent_hugepage/"):
            chosen = re.search(r"\[(\w+)]", value)
            yield path, chosen[1] if chosen else value
        else:
            yield path, value
    for path, text in answer.documents.items():
        if path.startswith("cni/"):
            yield from _flat(_json(text), path)
        elif path == "containerd":
            yield from _flat(_toml(text), "containerd")
        elif path.startswith("process/"):
            for flag, value in arguments(text.splitlines()):
                yield f"{path.replace('process/', '')}/{flag}", value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return text


def _of_node(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _flat(node["info"], "node/info")
    yield "node/ready", _text(node["ready"])
    for key, value in (node.get("labels") or {}).items():
        yield f"node/labels/{key}", value or THERE
    for taint in node["spec"].get("taints") or []:
        path = f"node/taints/{taint['key']}:{taint['effect']}"
        yield path, taint.get("value") or THERE
    if node["spec"].get("unschedulable"):
        yield "node/unschedulable", "true"
    for kind in ("capacity", "allocatable"):
        for key, value in (node.get(kind) or {}).items():
            sized = key in ("memory", "ephemeral-storage") or key.startswith("hugepages-")
            yield f"node/{kind}/{key}", size(value) if sized else value


def _of_static_pod(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for container in pod["spec"]["containers"]:
        name = container["name"]
        yield f"{name}/image", container["image"]
        command = [*(container.get("command") or []), *(container.get("args") or [])]
        for flag, value in arguments(command):
            # Each gate by its own name: their order in the list means nothing.
            gates = value.split(",") if flag == "--feature-gates" else []
            for gate in gates:
                one, _, state = gate.partition("=")
                yield f"{name}/{flag}/{one}", state
            if not gates:
                yield f"{name}/{flag}", value
        for part in ("env", "resources"):
            yield from _flat(container.get(part), f"{name}/{part}")


def _of_cluster(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "api/version" in said:
        yield "version/kubernetes", said["api/version"]["gitVersion"]
    workloads = said.get("api/workloads", {"specs": [], "running": []})
    for owner in workloads["specs"]:
        if owner["static"]:
            continue
        path = f"workload/{owner['namespace']}/{owner['kind']}/{owner['name']}"
        yield path, THERE
        if owner["ready"] is not None:
            yield f"{path}/ready", _text(owner["ready"])
        yield from _flat(owner["spec"], path)
    digests: dict[str, set[str]] = {}
    for image, digest in workloads["running"]:
        digests.setdefault(image, set()).add(digest.rpartition("@")[2])
    for image, found in digests.items():
        yield f"image/{image}", ", ".join(sorted(found))
    for kind, name in said.get("api/objects", []):
        yield f"object/{kind}/{name}", THERE
    for settings in said.get("api/settings", []):
        data = settings["data"] or {}
        if settings["name"] == "kube-proxy":
            import yaml

            yield from _flat(yaml.safe_load(data.get("config.conf") or "{}"), "kube-proxy/config")
        else:
            for key, text in data.items():
                yield f"{settings['name']}/{key}", " ".join(text.split())
