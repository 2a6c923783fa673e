"""Whether two clusters are twins: what differs between them, and what each difference means.

Pure functions from two portraits to a comparison. Which difference is of which class stands in
twins.yaml beside this file. Nodes are matched by their role: of each path, the values that the
nodes of a role have on one side are held against those of the other.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from groundplane.remote.portrait import Facts, Portrait
from groundplane.spec import Spec

__all__ = ["Arm", "Class", "Comparison", "Difference", "compare"]


class Class(StrEnum):
    """What a difference means for a comparison, the worst first."""

    BREAKING = "breaking"
    TOLERABLE = "tolerable"
    INTENDED = "intended"
    LEFT_OUT = "left-out"


@dataclass(frozen=True)
class Rule:
    """A line of twins.yaml, where its fields are described."""

    path: str
    cls: Class
    why: str
    alike: Class | None = None
    absent: Class | None = None
    within: float = 0


@dataclass(frozen=True)
class Rules:
    """twins.yaml."""

    rules: Sequence[Rule]
    hidden: Sequence[str]

    def of(self, path: str) -> Rule:
        """The rule for a path; breaking where nobody has said otherwise."""
        for rule in self.rules:
            if fnmatch.fnmatchcase(path, rule.path):
                return rule
        return UNKNOWN

    def hides(self, path: str) -> bool:
        """Whether values of this path may be secrets."""
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.hidden)


UNKNOWN = Rule("*", Class.BREAKING, "Nothing is known of it")
PLACE = "Bound to the place"


@cache
def known_rules() -> Rules:
    """The rules beside this file."""
    import yaml

    text = Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    return read_rules(yaml.safe_load(text))


def read_rules(data: Mapping[str, Any]) -> Rules:
    """Rules from data as in twins.yaml."""

    def rule(line: Mapping[str, Any]) -> Rule:
        classes = {name: Class(line[name]) for name in ("alike", "absent") if name in line}
        within = line.get("within", 0)
        return Rule(line["path"], Class(line["class"]), line["why"], within=within, **classes)

    return Rules([rule(line) for line in data["rules"]], data["hidden"])


# ---- one of the two ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """What a stack calls its own: what differs between twins because each has a place."""

    names: Sequence[str] = ()
    addresses: Sequence[str] = ()
    cluster: str = ""
    endpoint: str = ""
    pods: Sequence[str] = ()
    services: Sequence[str] = ()

    @classmethod
    def of(cls, spec: Spec) -> Own:
        """A stack's own, as its specification has it."""
        hosts = spec.hosts
        return cls(
            [host.name for host in hosts],
            [a for h in hosts for a in (h.node_address, h.second_node_address) if a],
            spec.cluster.name,
            spec.cluster.endpoint.address,
            spec.cluster.pod_cidrs,
            spec.cluster.service_cidrs,
        )


@dataclass(frozen=True)
class Arm:
    """One side of a comparison."""

    stack: str
    portrait: Portrait
    own: Own = field(default_factory=Own)

    def nodes(self, role: str) -> dict[str, Facts]:
        """The nodes of a role, in their order."""
        return {name: facts for name, (of, facts) in self.portrait.nodes.items() if of == role}


def substrate(facts: Facts) -> str:
    """What a node stands on, as it shows itself."""
    machine = facts.get("virtualization/machine", "none")
    container = facts.get("virtualization/container", "none")
    if container not in ("none", ""):
        return f"container ({container})"
    # Of QEMU without KVM systemd-detect-virt says `qemu`; its processor names itself too.
    if machine == "qemu" or facts.get("processor/model_name", "").startswith("QEMU TCG"):
        return "emulated (qemu)"
    if machine not in ("none", ""):
        return f"virtual machine ({machine})"
    return "virtual machine" if "processor/flags/hypervisor" in facts else "bare metal"


def substrates(arm: Arm) -> list[str]:
    """What its nodes stand on, each kind once."""
    return sorted({substrate(facts) for _, facts in arm.portrait.nodes.values()})


def doubts(arms: Sequence[Arm]) -> list[str]:
    """Why what is measured here is no evidence of how bare metal and virtual machines compare."""
    found = []
    for arm in arms:
        kinds = substrates(arm)
        if any(kind.startswith("emulated") for kind in kinds):
            found.append(
                f"{arm.stack} runs on emulated machines (QEMU without KVM): a functional twin, "
                "and no measure of performance"
            )
        if any(kind.startswith("container") for kind in kinds):
            found.append(f"{arm.stack} runs on containers, which share a kernel with their host")
        if any(facts.get("processor/steal") == "some" for _, facts in arm.portrait.nodes.values()):
            found.append(f"other guests take processor time from {arm.stack} (steal)")
    metal = [arm.stack for arm in arms if substrates(arm) == ["bare metal"]]
    if not metal:
        found.append("neither stands on bare metal")
    return found


# ---- values ------------------------------------------------------------------------------------

IP = re.compile(
    r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*)"
    r"(?:/[0-9]{1,3})?"
)


class Words:
    """A value of one side in words that are the same on the other: <node>, <address>, <pods>..."""

    def __init__(self, own: Own) -> None:
        names = sorted((name for name in own.names if name), key=len, reverse=True)
        self._names = _any_of(names)
        self._cluster = _any_of([own.cluster] if own.cluster else [])
        self._endpoint = own.endpoint
        self._addresses = set(own.addresses)
        self._ranges = [
            (word, ipaddress.ip_network(text))
            for word, texts in (("<pods>", own.pods), ("<services>", own.services))
            for text in texts
        ]

    def nodes(self, value: str) -> str:
        """Without names and addresses of nodes, which differ between any two."""
        value = IP.sub(lambda m: "<address>" if m[0] in self._addresses else m[0], value)
        return self._names.sub("<node>", value)

    def place(self, value: str) -> str:
        """Without what binds the stack to its place either."""
        value = IP.sub(lambda m: self._address(m[0]), self.nodes(value))
        if self._endpoint:
            value = value.replace(self._endpoint, "<endpoint>")
        return self._cluster.sub("<cluster>", value)

    def _address(self, text: str) -> str:
        bare, slash, length = text.partition("/")
        if bare == self._endpoint:
            return f"<endpoint>{slash}{length}"
        try:
            address = ipaddress.ip_address(bare)
        except ValueError:
            return text
        for word, network in self._ranges:
            if address in network:
                # The tenth address is DNS in both: where in the range it is counts.
                offset = "" if slash else f"+{int(address) - int(network.network_address)}"
                return f"{word}{offset}{slash}{length}"
        return text


def _any_of(words: Sequence[str]) -> re.Pattern[str]:
    if not words:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(map(re.escape, words))})(?![A-Za-z0-9])")


def _number(text: str | None) -> tuple[float, str] | None:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text or "")
    return (float(match[1]), match[2]) if match else None


def near(values: Iterable[str | None], within: float) -> bool:
    """Whether all are numbers of one unit, and this close together."""
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not within or len(known) < len(numbers) or len({unit for _, unit in known}) != 1:
        return False
    amounts = [amount for amount, _ in known]
    return max(amounts) - min(amounts) <= within * max(amounts)


# ---- the comparison ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A path whose values are not the same on both sides."""

    scope: str
    """"cluster", "all nodes", or the role of the nodes that have it."""
    path: str
    cls: Class
    why: str
    values: tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]
    """Of each side: its values, and the nodes that have each; of a cluster no nodes."""

    @property
    def varies(self) -> tuple[bool, bool]:
        """Of each side, whether its own nodes differ from each other."""
        return (len(self.values[0]) > 1, len(self.values[1]) > 1)


@dataclass(frozen=True)
class Comparison:
    """What came out."""

    stacks: tuple[str, str]
    substrates: tuple[Sequence[str], Sequence[str]]
    nodes: tuple[Mapping[str, int], Mapping[str, int]]
    differences: Sequence[Difference]
    equal: int
    """How many paths are the same on both sides."""
    doubts: Sequence[str]
    """Why measuring on these two proves nothing; empty where it can."""

    @property
    def twins(self) -> bool:
        """True when nothing that differs breaks a comparison."""
        return not self.of(Class.BREAKING)

    def of(self, cls: Class) -> list[Difference]:
        """The differences of a class."""
        return [difference for difference in self.differences if difference.cls is cls]

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stacks": list(self.stacks),
            "verdict": "twins" if self.twins else "not comparable",
            "evidence": not self.doubts,
            "doubts": list(self.doubts),
            "substrates": dict(zip(self.stacks, self.substrates, strict=True)),
            "nodes": dict(zip(self.stacks, self.nodes, strict=True)),
            "counts": {
                "equal": self.equal,
                **{str(cls): len(self.of(cls)) for cls in Class if cls is not Class.LEFT_OUT},
            },
            "differences": [
                {
                    "class": str(each.cls),
                    "scope": each.scope,
                    "path": each.path,
                    "why": each.why,
                    "values": dict(zip(self.stacks, each.values, strict=True)),
                    "varies": [s for s, v in zip(self.stacks, each.varies, strict=True) if v],
                }
                for each in self.differences
            ],
        }


NONE = "-"
"""Shown for what one side does not have."""
CLUSTER = "cluster"
ALL_NODES = "all nodes"
Values = Mapping[str, str | None]


def compare(one: Arm, other: Arm, rules: Rules | None = None) -> Comparison:
    """Two clusters, held against each other."""
    look = _Look((one, other), rules or known_rules())
    differences = list(look.cluster())
    counts: tuple[dict[str, int], dict[str, int]] = ({}, {})
    for role in sorted({role for arm in (one, other) for role, _ in arm.portrait.nodes.values()}):
        sides = (one.nodes(role), other.nodes(role))
        for count, nodes in zip(counts, sides, strict=True):
            count[role] = len(nodes)
        differences += look.role(role, sides)
    order = list(Class)
    differences = sorted(
        _merged(differences, [role for role in counts[0] if counts[0][role] or counts[1][role]]),
        key=lambda d: (order.index(d.cls), d.path, d.scope),
    )
    return Comparison(
        (one.stack, other.stack),
        (substrates(one), substrates(other)),
        counts,
        differences,
        look.equal,
        doubts((one, other)),
    )


class _Look:
    """The walk over all paths; counts what is equal."""

    def __init__(self, arms: tuple[Arm, Arm], rules: Rules) -> None:
        self.arms = arms
        self.rules = rules
        self.equal = 0
        self.alike = substrates(arms[0]) == substrates(arms[1])
        self.words = (Words(arms[0].own), Words(arms[1].own))
        # Of this run alone: what is hidden cannot be found by trying.
        key = secrets.token_bytes(16)
        self.hide: Callable[[str], str] = lambda value: (
            f"hidden {hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:8]}"
        )

    def cluster(self) -> Iterator[Difference]:
        """What is one for all nodes."""
        sides = (self.arms[0].portrait.cluster, self.arms[1].portrait.cluster)
        for path in _paths([sides[0]], [sides[1]]):
            yield from self.path(
                CLUSTER, path, ({"": sides[0].get(path)}, {"": sides[1].get(path)})
            )

    def role(self, role: str, sides: Sequence[Mapping[str, Facts]]) -> Iterator[Difference]:
        """The nodes of one role."""
        numbers = [str(len(nodes)) for nodes in sides]
        yield from self.path(CLUSTER, f"nodes/{role}", ({"": numbers[0]}, {"": numbers[1]}))
        if not (sides[0] and sides[1]):
            return  # nothing to hold against each other
        for path in _paths(sides[0].values(), sides[1].values()):
            one, other = ({n: f.get(path) for n, f in nodes.items()} for nodes in sides)
            yield from self.path(role, path, (one, other))

    def path(self, scope: str, path: str, sides: tuple[Values, Values]) -> Iterator[Difference]:
        """One path: nothing, or the one difference that it makes."""
        rule = self.rules.of(path)
        if rule.cls is Class.LEFT_OUT:
            return
        if _same(*self._told(sides, Words.nodes)):
            self.equal += 1
            return
        placed = self._told(sides, Words.place)
        if _same(*placed):
            yield Difference(scope, path, Class.INTENDED, PLACE, self._shown(path, sides))
        else:
            cls = self._class(rule, placed)
            yield Difference(scope, path, cls, rule.why, self._shown(path, sides))

    def _told(
        self, sides: tuple[Values, Values], way: Callable[[Words, str], str]
    ) -> tuple[Values, Values]:
        one, other = (
            {node: None if value is None else way(words, value) for node, value in side.items()}
            for words, side in zip(self.words, sides, strict=True)
        )
        return one, other

    def _class(self, rule: Rule, sides: tuple[Values, Values]) -> Class:
        if rule.absent and any(set(side.values()) == {None} for side in sides):
            return rule.absent
        if near([value for side in sides for value in side.values()], rule.within):
            return Class.TOLERABLE
        return rule.alike if rule.alike and self.alike else rule.cls

    def _shown(
        self, path: str, sides: tuple[Values, Values]
    ) -> tuple[Mapping[str, Sequence[str]], Mapping[str, Sequence[str]]]:
        def of(side: Values) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for node, value in side.items():
                if value is not None and self.rules.hides(path):
                    value = self.hide(value)
                found.setdefault(NONE if value is None else value, []).extend(
                    [node] if node else []
                )
            return found

        return of(sides[0]), of(sides[1])


def _paths(*sides: Iterable[Facts]) -> list[str]:
    """All paths; of a thing that one side lacks altogether only its own, not what is below it."""
    one, other = ({path for facts in side for path in facts} for side in sides)
    lacking = one ^ other
    return sorted(
        path
        for path in one | other
        if not (path in lacking and any(parent in lacking for parent in _parents(path)))
    )


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _same(one: Values, other: Values) -> bool:
    """The same values as often; as often only counts where there are as many nodes."""
    if len(one) == len(other):
        return Counter(one.values()) == Counter(other.values())
    return len(set(one.values()) | set(other.values())) == 1


def _merged(found: Iterable[Difference], roles: Sequence[str]) -> list[Difference]:
    """What differs alike on the nodes of all roles is one difference."""
    groups: dict[tuple[Any, ...], list[Difference]] = {}
    for each in found:
        key = (each.path, each.cls, *(tuple(values) for values in each.values))
        groups.setdefault((*key, each.scope == CLUSTER), []).append(each)
    merged = []
    for group in groups.values():
        if len(group) > 1 and {each.scope for each in group} == set(roles):
            values = tuple(
                {v: [n for each in group for n in each.values[side][v]] for v in sides}
                for side, sides in enumerate(group[0].values)
            )
            merged.append(
                Difference(ALL_NODES, group[0].path, group[0].cls, group[0].why, values)  # type: ignore[arg-type]
            )
        else:
            merged += group
    return merged
