"""What an update would disturb, read from `pulumi preview --json`.

A policy sees a resource as it is to be; what goes, what is replaced and who is disturbed shows only
beside what was there before. Pure functions over the preview: nothing is asked, nothing is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from groundplane.errors import GroundplaneError

__all__ = ["Change", "Host", "Review", "review", "table"]

STEP = re.compile(r"/current/run (\w+) apply$")
REPLACES = ("replace", "create-replacement", "delete-replaced")

HOLDS = {
    "kubernetes:core/v1:Namespace": "everything in the namespace goes with it",
    "kubernetes:core/v1:PersistentVolume": "its data may go with it",
    "kubernetes:core/v1:PersistentVolumeClaim": "its data may go with it",
    "kubernetes:apps/v1:StatefulSet": "its pods end",
    "kubernetes:apps/v1:DaemonSet": "its pods end on every node",
    "kubernetes:apps/v1:Deployment": "its pods end",
    "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition": (
        "all objects of its kind go with it"
    ),
    "kubernetes:ceph.rook.io/v1:CephBlockPool": "its data go with it",
    "kubernetes:ceph.rook.io/v1:CephCluster": "its data may go with it",
    "kubernetes:ceph.rook.io/v1:CephFilesystem": "its data go with it",
    "kubernetes:ceph.rook.io/v1:CephObjectStore": "its data go with it",
    "kubernetes:helm.sh/v3:Release": "all that it installed goes with it",
}
"""Types of resources -> what else is lost with one."""

RESTARTED = ("DaemonSet", "Deployment", "StatefulSet")


@dataclass(frozen=True)
class Host:
    """A host that is disturbed. `what`: changes, is repaired, joins, leaves; or is forgotten, when
    it is gone for good."""

    cluster: str
    name: str
    role: str
    what: str
    fields: tuple[str, ...] = ()
    """Which of its settings change."""


@dataclass(frozen=True)
class Change:
    """A resource that goes, or is replaced, or whose pods restart. `because`: the properties that
    cause it; `loses`: what goes with it."""

    type: str
    name: str
    urn: str
    because: tuple[str, ...] = ()
    loses: str = ""


@dataclass
class Review:
    """All of a preview that disturbs anything."""

    hosts: list[Host] = field(default_factory=list)
    """In the order in which it happens: control planes one at a time, then workers, then those that
    leave."""
    at_once: dict[str, int] = field(default_factory=dict)
    """Cluster -> how many of its workers are disturbed at once."""
    taken_down: dict[str, list[str]] = field(default_factory=dict)
    """Cluster that goes as a whole -> its hosts, which are reset all at once."""
    removed: list[Change] = field(default_factory=list)
    replaced: list[Change] = field(default_factory=list)
    restarted: list[Change] = field(default_factory=list)
    others: int = 0
    """How many further changes there are, which disturb nobody."""

    @property
    def disturbs(self) -> bool:
        """Whether there is anything to look at before it is done."""
        return bool(
            self.hosts or self.taken_down or self.removed or self.replaced or self.restarted
        )


def review(text: str) -> Review:
    """What a preview would disturb. `text` is what `pulumi preview --json` printed.

    Raises GroundplaneError when that is no preview, or one that failed: it is not the whole then.
    """
    steps = _steps(text)
    found = Review()
    hosts: dict[str, Host] = {}
    gone = {urn for urn, step in steps.items() if step["op"] == "delete"}
    for urn, step in steps.items():
        op, state = step["op"], _state(step)
        cluster = _cluster(state)
        undone = op == "delete" and state.get("deletedWith") in gone
        if cluster and _name(urn) == f"{cluster}-teardown" and op == "delete":
            found.taken_down.setdefault(cluster, [])
        elif cluster and _step(state) == "node":
            host = _host(cluster, urn, step)
            if undone:
                found.taken_down.setdefault(cluster, []).append(host.name)
            else:
                hosts[urn] = host
            found.at_once[cluster] = _data(state).get("max_unavailable", 1)
        elif cluster and op not in REPLACES:
            found.others += 1
        elif op == "delete" and state.get("custom"):
            found.removed.append(_change(urn, step))
        elif op in REPLACES:
            found.replaced.append(_change(urn, step))
        elif op == "update" and _kind(state["type"]) in RESTARTED and _template(step):
            found.restarted.append(_change(urn, step))
        else:
            found.others += 1
    found.hosts = _in_order(hosts, steps)
    return found


def _in_order(hosts: Mapping[str, Host], steps: Mapping[str, Mapping[str, Any]]) -> list[Host]:
    """In the order of docs/architecture.md: control planes before workers, members before who
    joins, and last those that leave. Among these as the steps depend on each other; of steps in
    between that do not change, a preview does not tell."""

    def depth(urn: str) -> int:
        before = _state(steps[urn]).get("dependencies") or ()
        return 1 + max((depth(other) for other in before if other in hosts), default=0)

    def place(urn: str) -> tuple[bool, bool, bool, int, str]:
        host = hosts[urn]
        leaves = steps[urn]["op"] == "delete"
        joins = host.what == "joins"
        return leaves, host.role == "worker", joins, 0 if leaves else depth(urn), host.name

    return [hosts[urn] for urn in sorted(hosts, key=place)]


def _steps(text: str) -> dict[str, dict[str, Any]]:
    """URN -> what changes; of a replacement, which may be several steps, the first."""
    where, again = "the preview", "Make it by `pulumi preview --json`."
    try:
        preview = json.loads(text)
        steps = preview["steps"]
    except (ValueError, TypeError, KeyError):
        raise GroundplaneError(where, "is not what pulumi prints", "", again) from None
    errors = [d["message"] for d in preview.get("diagnostics") or () if d["severity"] == "error"]
    if errors:
        raise GroundplaneError(
            where,
            f"failed: {errors[0].strip().removeprefix('error: ')}",
            "What it would have shown after that is not in it",
            again,
        )
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        if step["op"] in ("create", "update", "delete", *REPLACES):
            found.setdefault(step["urn"], step)
    # Those that are independent of each other come in any order.
    return dict(sorted(found.items(), key=lambda entry: _name(entry[0])))


def _state(step: Mapping[str, Any]) -> dict[str, Any]:
    """The resource as it is to be; of one that goes, as it was."""
    return step.get("newState") or step.get("oldState") or {"type": "", "inputs": {}}


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _cluster(state: Mapping[str, Any]) -> str:
    """The name of the cluster of ours that a resource is a part of; "" for others."""
    parent = state.get("parent", "")
    kind = parent.rpartition("::")[0].rpartition("$")[2].rpartition("::")[2]
    return _name(parent) if re.fullmatch(r"groundplane:index:\w+Cluster", kind) else ""


def _step(state: Mapping[str, Any]) -> str:
    """The step that a command runs on its host; "" for other resources."""
    found = STEP.search(str((state.get("inputs") or {}).get("create", "")))
    return found[1] if found else ""


def _data(state: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a step is given; empty where that is not known, or not there."""
    try:
        data = json.loads(((state or {}).get("inputs") or {}).get("stdin", ""))
    except (ValueError, TypeError):
        return {}
    return data if isinstance(data, dict) else {}


def _host(cluster: str, urn: str, step: Mapping[str, Any]) -> Host:
    old, new = _data(step.get("oldState")), _data(step.get("newState"))
    name = _name(urn).removeprefix(f"{cluster}-").removesuffix("-node")
    role = (new or old).get("role", "")
    if step["op"] == "delete":
        forgotten = _state(step).get("retainOnDelete")
        return Host(cluster, name, role, "is forgotten" if forgotten else "leaves")
    if step["op"] == "create":
        return Host(cluster, name, role, "joins")
    fields = tuple(field for field in _differences(old, new) if field != "token")
    known = bool(old and new)
    return Host(cluster, name, role, "changes" if fields or not known else "is repaired", fields)


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    """The paths under which two values differ, as deep as both are mappings."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at


def _template(step: Mapping[str, Any]) -> bool:
    return any(path.startswith("spec.template") for path in step.get("detailedDiff") or {})


def _change(urn: str, step: Mapping[str, Any]) -> Change:
    kind = _state(step)["type"]
    reasons = step.get("replaceReasons") or sorted(step.get("detailedDiff") or {})
    loses = "" if step["op"] == "update" else HOLDS.get(kind, "")
    if not loses and step["op"] != "update" and (_state(step).get("inputs") or {}).get("delete"):
        loses = "its delete command runs"
    return Change(kind, _name(urn), urn, tuple(reasons), loses)


# ---- for people ----------------------------------------------------------------------------------


def table(found: Review) -> str:
    """The review as plain text."""
    return "\n".join(_lines(found))


def _lines(found: Review) -> Iterator[str]:
    for cluster, names in found.taken_down.items():
        yield f"{cluster}: the whole cluster is taken down; all hosts are reset at once:"
        yield f"  {', '.join(names) or 'those that it has'}"
    clusters = dict.fromkeys(host.cluster for host in found.hosts)
    for cluster in clusters:
        hosts = [host for host in found.hosts if host.cluster == cluster]
        lanes = found.at_once.get(cluster, 1)
        yield (
            f"{cluster}: {len(hosts)} {plural('host', len(hosts))} disturbed, in this order; "
            f"control planes one at a time, workers {lanes} at a time:"
        )
        width = max(len(host.name) for host in hosts)
        for number, host in enumerate(hosts, 1):
            yield f"  {number:>2}. {host.name:{width}}  {host.role:13}  {_told(host)}"
    for title, changes in (
        ("Removed", found.removed),
        ("Replaced", found.replaced),
        ("Pods restart", found.restarted),
    ):
        if changes:
            yield f"{title}:"
            yield from (f"  {_told_of(change)}" for change in changes)
    if not found.disturbs:
        yield "nothing is disturbed, removed or replaced"
    if found.others:
        yield f"{found.others} further {plural('change', found.others)} without disturbance"


def _kind(token: str) -> str:
    return token.rpartition(":")[2]


def plural(word: str, count: int) -> str:
    """The word for so many."""
    return word if count == 1 else f"{word}s"


def _told(host: Host) -> str:
    if host.what == "leaves":
        return "leaves the cluster and is reset"
    if host.what == "is forgotten":
        return "is forgotten, and not reset"
    if host.what == "is repaired":
        return "is repaired: it is no longer as it was left"
    return " ".join([host.what, ", ".join(host.fields)]).strip()


def _told_of(change: Change) -> str:
    why = f" ({', '.join(change.because)})" if change.because else ""
    return f"{_kind(change.type)} {change.name}{why}" + (
        f": {change.loses}" if change.loses else ""
    )


def document(found: Review) -> dict[str, Any]:
    """The review for programs."""
    return {
        "disturbs": found.disturbs,
        "takenDown": found.taken_down,
        "hosts": [
            {
                "cluster": h.cluster,
                "name": h.name,
                "role": h.role,
                "what": h.what,
                "fields": list(h.fields),
            }
            for h in found.hosts
        ],
        "workersAtOnce": found.at_once,
        **{
            name: [{**vars(change), "because": list(change.because)} for change in changes]
            for name, changes in _by_kind(found)
        },
        "others": found.others,
    }


def _by_kind(found: Review) -> Sequence[tuple[str, list[Change]]]:
    return (
        ("removed", found.removed),
        ("replaced", found.replaced),
        ("restarted", found.restarted),
    )
