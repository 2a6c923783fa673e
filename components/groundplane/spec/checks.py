"""What only shows when hosts, cluster and catalogue are seen together.

Each check yields `Problem`s, whose location is a path through the YAML keys. A field that is wrong
in itself is None here, and a check passes over what it does not have: so one bad value hides none
of the other errors.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from groundplane.catalogue import Catalogue, minor, release
from groundplane.errors import Finding, GroundplaneError
from groundplane.spec.models import Cluster, Host
from groundplane.spec.systems import KUBERNETES_MINORS
from groundplane.spec.values import HOSTNAME, QUALIFIED, is_output, show

Location = tuple[str | int, ...]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Problem:
    """A finding whose place is still a path: ("hosts", 3, "hostKey")."""

    at: Location
    what: str
    why: str = ""
    remedy: str = ""


@cache
def known_settings() -> dict[str, dict[str, Any]]:
    """kubernetes.yaml beside this file: `owned` and `known` settings."""
    import yaml

    text = Path(__file__).with_name("kubernetes.yaml").read_text(encoding="utf-8")
    data: dict[str, dict[str, Any]] = yaml.safe_load(text)
    data["known"] = {kind: fields.split() for kind, fields in data["known"].items()}
    return data


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names the likeliest of the known words, or nothing."""
    by_lower = {name.lower().replace("_", ""): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("_", ""), by_lower, 1, 0.75)
    return f"Did you mean {by_lower[close[0]]}?" if close else ""


def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address, or None for what is no literal one: a name, an Output, a missing value."""
    try:
        return ipaddress.ip_address(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _whose(host: Host) -> str:
    return host.name or str(host.address or "a host")


def names(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """No two hosts share a name or an address."""
    seen: dict[tuple[str, object], tuple[int, str]] = {}
    for index, host in enumerate(hosts):
        through = host.jump.address if host.jump else None
        own: dict[str, object] = {"name": host.name}
        if host.address and not is_output(host.address):
            own["address"] = (host.address, host.port, through)
        if not is_output(host.node_address):
            own["nodeAddress"] = host.node_address
        own["secondNodeAddress"] = host.second_node_address
        clashes = {}
        for field, value in own.items():
            first = seen.setdefault((field, value), (index, _whose(host)))
            if value and first[0] != index:
                clashes[field] = first
        if "address" in clashes:
            clashes.pop("nodeAddress", None)  # one mistake, one finding
        for field, (other, whose) in clashes.items():
            yield Problem(
                ("hosts", index, field),
                f"{getattr(host, _SNAKE[field])} is taken by hosts.{other} ({whose})",
                "Two hosts of one name or address are one node to the cluster",
                "Give each its own, or remove one of the two.",
            )


_SNAKE = {
    "name": "name",
    "address": "address",
    "nodeAddress": "node_address",
    "secondNodeAddress": "second_node_address",
}


def control_planes(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """1, 3 or 5 control planes, counted with or without those that are lost."""
    if any(host.role is None for host in hosts):
        return
    listed = [host for host in hosts if host.role == "control-plane"]
    alive = [host for host in listed if host.state != "lost"]
    odd = (1, 3, 5)
    if not alive or (len(alive) not in odd and len(listed) not in odd):
        lost = len(listed) - len(alive)
        yield Problem(
            ("hosts",),
            f"{len(alive)} control planes" + (f" besides {lost} lost" if lost else ""),
            "etcd keeps a majority alive through one loss of 3 or two of 5; an even number "
            "survives no more than the odd one below it",
            "List 1, 3 or 5 hosts with role: control-plane. To replace one, exchange it in one "
            "edit.",
        )
    paused = [i for i, host in enumerate(hosts) if host in listed and host.state == "maintenance"]
    for index in paused[1:]:
        yield Problem(
            ("hosts", index, "state"),
            f"a second control plane in maintenance, besides {_whose(hosts[paused[0]])}",
            "Never are two control planes taken out at once, or etcd may lose its majority",
            "Bring the first one back before.",
        )


def families(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """One or two address families, in one order, and nodes that have them."""
    pods = [_network(text).version for text in cluster.pod_cidrs or ()]
    services = [_network(text).version for text in cluster.service_cidrs or ()]
    for field, versions in (("podCidrs", pods), ("serviceCidrs", services)):
        if len(versions) == 2 and versions[0] == versions[1]:
            yield Problem(
                ("cluster", field),
                f"two ranges of IPv{versions[0]}",
                "Two ranges serve two families of addresses",
                "Leave one, or make the other one of the other family.",
            )
    if pods and services and pods != services:
        yield Problem(
            ("cluster", "serviceCidrs"),
            f"{_list_families(services)}, but podCidrs is {_list_families(pods)}",
            "The first family is the one that services get when they do not ask",
            "Name the same families in the same order in both.",
        )
    if not pods:
        return
    for index, host in enumerate(hosts):
        address = _address(host.node_address)
        if isinstance(host.node_address, str) and (address is None or address.is_loopback):
            yield Problem(
                ("hosts", index, "nodeAddress"),
                f"missing, and address is {host.node_address}",
                "kubelet and etcd are bound to an IP address by which all nodes reach this one",
                "Add nodeAddress: the host's IP address.",
            )
        elif address is not None and address.version != pods[0]:
            yield Problem(
                ("hosts", index, "nodeAddress"),
                f"{address} is not IPv{pods[0]}, the first family of podCidrs",
                "Nodes reach each other in the cluster's first family",
                "Write the host's address of that family, or change the order of podCidrs.",
            )
        second = _address(host.second_node_address)
        other = pods[1] if len(set(pods)) == 2 else None
        if second is None and other and not is_output(host.second_node_address):
            yield Problem(
                ("hosts", index, "secondNodeAddress"),
                "missing",
                f"The cluster has ranges of two families, so the node needs an IPv{other} address",
                f"Add secondNodeAddress: the host's IPv{other} address.",
            )
        elif second is not None and second.version != other:
            yield Problem(
                ("hosts", index, "secondNodeAddress"),
                f"{second} is of no second family of podCidrs",
                "Addresses that the cluster does not use are not written to nodes",
                "Remove it, or give podCidrs and serviceCidrs a second range.",
            )


def _list_families(versions: Sequence[int]) -> str:
    return " and ".join(f"IPv{version}" for version in versions)


def ranges(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """Ranges that overlap with nothing, and are as large as they must be."""
    found: list[tuple[Location, Network]] = [
        (("cluster", field, index), _network(text))
        for field, texts in (
            ("podCidrs", cluster.pod_cidrs),
            ("serviceCidrs", cluster.service_cidrs),
        )
        for index, text in enumerate(texts or ())
    ]
    for (at, one), (other_at, other) in combinations(found, 2):
        if one.version == other.version and one.overlaps(other):
            yield Problem(
                other_at,
                f"{other} overlaps with {_path(at)}, {one}",
                "An address in both would be reached by chance",
                "Choose ranges apart from each other and from the networks of the site.",
            )
    addresses: list[tuple[Location, str, Any]] = []
    for index, host in enumerate(hosts):
        addresses.append((("hosts", index, "address"), _whose(host), host.address))
        if host.node_address != host.address or is_output(host.node_address):
            addresses.append((("hosts", index, "nodeAddress"), _whose(host), host.node_address))
        second = host.second_node_address
        addresses.append((("hosts", index, "secondNodeAddress"), _whose(host), second))
    if cluster.endpoint:
        addresses.append(
            (("cluster", "endpoint", "address"), "the endpoint", cluster.endpoint.address)
        )
    for at, whose, text in addresses:
        address = _address(text)
        for range_at, network in found:
            if address is not None and address in network:
                yield Problem(
                    at,
                    f"{address} ({whose}) lies in {_path(range_at)}, {network}",
                    "Once the cluster routes the range, this machine cannot be reached",
                    "Choose a range apart from the networks of the site.",
                )


def sizes(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """Ranges with room for all nodes, pods and services, within the limits of kubeadm."""
    nodes = sum(host.state != "lost" for host in hosts)
    for index, text in enumerate(cluster.service_cidrs or ()):
        network = _network(text)
        bits = network.max_prefixlen - network.prefixlen
        if not 4 <= bits <= 20:
            most, least = network.max_prefixlen - 20, network.max_prefixlen - 4
            yield Problem(
                ("cluster", "serviceCidrs", index),
                f"{network} is too {'small' if bits < 4 else 'large'}",
                "kubeadm takes no other range of services",
                f"Choose one from /{most} to /{least}.",
            )
    masks = {4: cluster.node_cidr_mask_ipv4, 6: cluster.node_cidr_mask_ipv6}
    for index, text in enumerate(cluster.pod_cidrs or ()):
        network = _network(text)
        mask, field = masks[network.version], f"nodeCidrMaskIpv{network.version}"
        if mask is None:
            continue
        spare = mask - network.prefixlen
        if spare < 0 or 2 ** min(spare, 64) < nodes:
            yield Problem(
                ("cluster", "podCidrs", index),
                f"{network} holds {2**spare if spare >= 0 else 0} ranges of /{mask}, "
                f"for {nodes} nodes",
                "Each node gets such a range for its pods",
                f"Choose a larger range, or a longer {field}; neither can change later.",
            )
        elif spare > 16:
            yield Problem(
                ("cluster", field),
                f"/{mask} is {spare} bits longer than {network}",
                "Kubernetes hands out no more than 2^16 node ranges",
                f"Write a value up to {network.prefixlen + 16}, or choose a smaller range of pods.",
            )
        pods = (cluster.kubelet or {}).get("maxPods", 110)
        # Network, broadcast and the bridge's own address are no pod's.
        room = 2 ** (network.max_prefixlen - mask) - 3
        if isinstance(pods, int) and pods > room:
            asked = "maxPods" in (cluster.kubelet or {})
            yield Problem(
                ("cluster", "kubelet", "maxPods") if asked else ("cluster", field),
                f"{pods} pods on a node{'' if asked else ' (the default of maxPods)'}, but /{mask} "
                f"has room for {max(room, 0)}",
                "Pods beyond that would stay without an address",
                f"Lower kubelet.maxPods, or write a shorter {field}.",
            )


def endpoint(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """An endpoint that can be held by whichever control plane is alive."""
    given = cluster.endpoint
    if not given:
        return
    at: Location = ("cluster", "endpoint")
    address = _address(given.address)
    if given.mode == "external":
        for field, value in (("routerId", given.router_id), ("interface", given.interface)):
            if value is not None:
                yield Problem(
                    (*at, field),
                    "given for an external endpoint",
                    "Only keepalived, which a managed endpoint has, would use it",
                    "Remove it, or write mode: managed.",
                )
    else:
        if given.router_id is None:
            yield Problem(
                (*at, "routerId"),
                "missing",
                "Two clusters in one network segment with the same id would take the address from "
                "each other",
                "Write a number from 1 to 255 that no other VRRP router in the segment has.",
            )
        if given.port == 6443:
            yield Problem(
                (*at, "port"),
                "6443 is the API servers' own port",
                "HAProxy stands on the same hosts and could not listen there",
                "Leave it out for 8443, or write another port.",
            )
        elif given.port in _HOST_PORTS:
            yield Problem(
                (*at, "port"),
                f"{given.port} is taken on every control plane by {_HOST_PORTS[given.port]}",
                "HAProxy stands on the same hosts and could not listen there",
                "Leave it out for 8443, or write another port.",
            )
        if address is None and isinstance(given.address, str):
            yield Problem(
                (*at, "address"),
                f"{given.address} is a name",
                "keepalived moves an IP address from host to host",
                "Write a free IP address in the hosts' network segment.",
            )
        first = _network(cluster.pod_cidrs[0]).version if cluster.pod_cidrs else None
        if address is not None and first and address.version != first:
            yield Problem(
                (*at, "address"),
                f"{address} is not IPv{first}, the first family of podCidrs",
                "The API servers answer at the nodes' first address",
                "Write an address of that family.",
            )
    single = [h for h in hosts if h.role == "control-plane" and h.state != "lost"]
    for index, host in enumerate(hosts):
        taken = (host.address, host.node_address, host.second_node_address)
        if given.address not in [text for text in taken if isinstance(text, str)]:
            continue
        if given.mode == "external" and len(single) == 1 and host is single[0]:
            continue  # one control plane, whose own address is the endpoint for good
        yield Problem(
            (*at, "address"),
            f"{given.address} belongs to hosts.{index} ({_whose(host)})",
            "An endpoint on a host's own address is lost with this host",
            "Write a free address in the hosts' network segment.",
        )


_HOST_PORTS = {
    22: "sshd",
    2379: "etcd",
    2380: "etcd",
    2381: "etcd",
    10248: "the kubelet",
    10249: "kube-proxy",
    10250: "the kubelet",
    10256: "kube-proxy",
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}


def k3s(hosts: Sequence[Host], cluster: Cluster) -> Iterator[Problem]:
    """What K3s has of its own, and what the others have that it has not."""
    version = cluster.kubernetes and cluster.kubernetes.version
    if cluster.distribution != "k3s":
        if version and "+" in version:
            yield Problem(
                ("cluster", "kubernetes", "version"),
                f"{version} is a release of K3s",
                "It holds other programs than those that this cluster is made of",
                f"Write {version.partition('+')[0]}, or distribution: k3s.",
            )
        return
    if version and "+" not in version:
        yield Problem(
            ("cluster", "kubernetes", "version"),
            f"{version} names no release of K3s",
            "There can be several of one version of Kubernetes, and their files differ",
            f"Write it in full, such as {version}+k3s1.",
        )
    if cluster.containerd and cluster.containerd.version:
        yield Problem(
            ("cluster", "containerd", "version"),
            f"{cluster.containerd.version} for K3s",
            "K3s brings its own containerd",
            "Leave it out.",
        )
    for flag in ("anonymous-auth", "authentication-config"):
        if cluster.api_server and flag in cluster.api_server.extra_args:
            yield Problem(
                ("cluster", "apiServer", "extraArgs", flag),
                "set for K3s",
                "K3s lets nobody in who has no name; who asks whether an API server is ready has "
                "none, and groundplane lets those in and no others",
                "Leave it out.",
            )
    controls = {host.name for host in hosts if host.role == "control-plane"}
    for index, host in enumerate(hosts):
        short = (host.name or "").rpartition("-")[0]
        if host.name in controls and short in controls:
            yield Problem(
                ("hosts", index, "name"),
                f"{host.name} is {short} with an ending",
                f"K3s takes what stands behind the last dash for its own, and lets {short} not "
                f"join beside it",
                "Call it otherwise.",
            )


def versions(cluster: Cluster, catalogue: Catalogue) -> Iterator[Problem]:
    """Versions that are supported, known to the catalogue, and go together."""
    at: Location = ("cluster", "kubernetes")
    wanted: list[tuple[Location, str, str]] = []
    made_by = "k3s" if cluster.distribution == "k3s" else "kubernetes"
    if cluster.kubernetes:
        control, workers = cluster.kubernetes.version, cluster.kubernetes.workers
        wanted.append(((*at, "version"), made_by, control))
        if workers != control:
            wanted.append(((*at, "workers"), made_by, workers))
            behind = release(control)[1] - release(workers)[1]
            if release(workers) > release(control) or release(workers)[0] != release(control)[0]:
                yield Problem(
                    (*at, "workers"),
                    f"{workers} is newer than the control planes' {control}",
                    "A kubelet may not be newer than the API server it talks to",
                    f"Write {control} or older, or raise version first.",
                )
            elif behind > 3:
                yield Problem(
                    (*at, "workers"),
                    f"{workers} is {behind} minors older than the control planes' {control}",
                    "Kubernetes supports kubelets at most three minors older",
                    "Raise workers first.",
                )
        for where, _, version in wanted:
            if minor(version) not in KUBERNETES_MINORS:
                yield Problem(
                    where,
                    f"Kubernetes {version} is not supported",
                    "Each minor differs in its flags and files; groundplane is tested with some",
                    f"Write a version of {', '.join(KUBERNETES_MINORS)}.",
                )
    if cluster.containerd and cluster.containerd.version:
        at = ("cluster", "containerd", "version")
        wanted.append((at, "containerd", cluster.containerd.version))
    for where, part, version in wanted:
        if part == made_by and minor(version) not in KUBERNETES_MINORS:
            continue
        if part == made_by and ("+" in version) != (made_by == "k3s"):
            continue
        try:
            if version not in catalogue.versions(part):
                known = ", ".join(catalogue.versions(part)) or "none"
                yield Problem(
                    where,
                    f"the catalogue has no {part} {version}",
                    "Nothing is installed whose digest is not known",
                    f"It has {known}. Others can be added by a catalogue of the stack's own.",
                )
            elif part == "kubernetes":
                catalogue.image("pause", version)
        except GroundplaneError as error:
            found = error.finding
            yield Problem(where, f"{found.place}: {found.what}", found.why, found.remedy)


def settings(cluster: Cluster) -> Iterator[Problem]:
    """Settings of Kubernetes' components that exist, and that groundplane does not write itself."""
    owned, known = known_settings()["owned"], known_settings()["known"]
    for field, given in (("kubelet", cluster.kubelet), ("kubeProxy", cluster.kube_proxy)):
        for key, value in (given or {}).items():
            at: Location = ("cluster", field, key)
            if key in owned[field]:
                yield _owned(at, key, owned[field][key])
            elif key not in known[field]:
                yield Problem(
                    at,
                    f"no field of {field[0].upper()}{field[1:]}Configuration",
                    "It would fail, or be passed over, on the hosts",
                    did_you_mean(key, known[field]) or "Look it up in Kubernetes' reference.",
                )
            else:
                yield from _plain(at, value)
    if cluster.audit and cluster.audit.policy is not None:
        yield from _plain(("cluster", "audit", "policy"), cluster.audit.policy)
        yield from _audit_policy(cluster.audit.policy)
    for field, component in (
        ("apiServer", cluster.api_server),
        ("controllerManager", cluster.controller_manager),
        ("scheduler", cluster.scheduler),
    ):
        for flag in component.extra_args if component else ():
            at = ("cluster", field, "extraArgs", flag)
            hit = next((p for p in owned[field] if fnmatch.fnmatchcase(flag, p)), None)
            if hit:
                yield _owned(at, flag, owned[field][hit])
            elif not QUALIFIED.fullmatch(flag):
                bare = flag.strip("-")
                yield Problem(
                    at,
                    f"{show(flag)} is not the name of a flag",
                    "It is written after two dashes",
                    f"Did you mean {bare}?" if QUALIFIED.fullmatch(bare) else "Correct it.",
                )
    plugins = (cluster.api_server.extra_args if cluster.api_server else {}).get(
        "disable-admission-plugins", ""
    )
    if "NodeRestriction" in plugins.split(","):
        yield Problem(
            ("cluster", "apiServer", "extraArgs", "disable-admission-plugins"),
            "NodeRestriction is disabled",
            "Without it each node may change every other",
            "Remove it from the list.",
        )


def _owned(at: Location, key: str, instead: str) -> Problem:
    setting, _, reason = instead.partition("; ")
    return Problem(
        at,
        f"{key} is written by groundplane itself",
        reason[:1].upper() + reason[1:] or "Two writers of one setting would undo each other",
        f"Remove it; there is nothing to set{'' if reason else ' here'}."
        if setting == "nothing"
        else f"Use {setting}.",
    )


def _plain(at: Location, value: Any) -> Iterator[Problem]:
    """What is passed on as it stands must be plain JSON."""
    if isinstance(value, dict):
        for key, below in value.items():
            if not isinstance(key, str):
                yield Problem(
                    at, f"the key {show(key)} is not text", "JSON knows no other keys", "Quote it."
                )
            else:
                yield from _plain((*at, key), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _plain((*at, index), below)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(at, f"{value} is not a number", "JSON has no such value", "Write a number.")
    elif not isinstance(value, str | int | float | None):
        yield Problem(
            at,
            f"{show(value)} is neither text, number, boolean, list nor mapping",
            "It is passed on as JSON",
            "Write one of these.",
        )


def _audit_policy(policy: dict[str, Any]) -> Iterator[Problem]:
    at: Location = ("cluster", "audit", "policy")
    if policy.get("kind") != "Policy" or policy.get("apiVersion") != "audit.k8s.io/v1":
        yield Problem(
            at,
            "not an audit.k8s.io/v1 Policy",
            "The API server would not start with it",
            "Begin it with apiVersion: audit.k8s.io/v1 and kind: Policy.",
        )
    if not isinstance(policy.get("rules"), list) or not policy["rules"]:
        yield Problem(
            (*at, "rules"),
            "missing or empty",
            "The API server would not start with it",
            "Write at least one rule, such as {level: Metadata}.",
        )


def labels(hosts: Sequence[Host]) -> Iterator[Problem]:
    """Labels that groundplane or the kubelet does not write itself; no taint twice."""
    owned = known_settings()["owned"]["labels"]
    for index, host in enumerate(hosts):
        for key in host.labels or {}:
            if key in owned:
                yield _owned(("hosts", index, "labels", key), key, owned[key])
        seen = set()
        for number, taint in enumerate(host.taints or ()):
            if (taint.key, taint.effect) in seen:
                yield Problem(
                    ("hosts", index, "taints", number),
                    f"a second taint {taint.key} with the effect {taint.effect}",
                    "A node can have only one",
                    "Remove one of the two.",
                )
            seen.add((taint.key, taint.effect))


def surroundings(cluster: Cluster) -> Iterator[Problem]:
    """Mirrors, proxy, registry and backup that make sense."""
    if cluster.proxy and cluster.proxy.http is None and cluster.proxy.https is None:
        yield Problem(
            ("cluster", "proxy"),
            "names no proxy",
            "It would change nothing",
            "Add http: or https:, or remove proxy.",
        )
    registry = cluster.registry
    if registry and registry.username is None and registry.ca is None:
        yield Problem(
            ("cluster", "registry"),
            "has neither username nor ca",
            "A registry without both needs no entry",
            "Add what it wants, or remove registry.",
        )
    if cluster.audit and cluster.audit.policy is not None and cluster.audit.level != "metadata":
        yield Problem(
            ("cluster", "audit", "level"),
            "given beside a whole policy",
            "The policy alone decides what is logged",
            "Remove one of the two.",
        )
    for gate in cluster.api_server.feature_gates if cluster.api_server else ():
        if not gate.isalnum():
            yield Problem(
                ("cluster", "apiServer", "featureGates", gate),
                f"{show(gate)} is not the name of a feature gate",
                "The API server would not start with it",
                "Write it as in Kubernetes' reference, such as MutatingAdmissionPolicy.",
            )


HOST_CHECKS: tuple[Callable[[Sequence[Host], Cluster], Iterator[Problem]], ...] = (
    names,
    control_planes,
    families,
    ranges,
    sizes,
    endpoint,
    k3s,
)


def problems(hosts: Sequence[Host], cluster: Cluster, catalogue: Catalogue) -> list[Problem]:
    """All problems, those of hosts first."""
    found = [problem for check in HOST_CHECKS for problem in check(hosts, cluster)]
    found += labels(hosts)
    found += [*versions(cluster, catalogue), *settings(cluster), *surroundings(cluster)]
    return found


def _path(at: Location) -> str:
    return ".".join(map(str, at))


def place(at: Location, hosts: Sequence[Any]) -> str:
    """A location as text, with the host's name where it is inside one: hosts.3.hostKey (n4)."""
    text = _path(at)
    if len(at) > 1 and at[0] == "hosts" and isinstance(at[1], int) and at[1] < len(hosts):
        host = hosts[at[1]]
        name = host.get("name") if isinstance(host, dict) else getattr(host, "name", None)
        if isinstance(name, str) and HOSTNAME.fullmatch(name):
            text += f" ({name})"
    return text


def check(hosts: Sequence[Host], cluster: Cluster, catalogue: Catalogue) -> list[Finding]:
    """All findings of hosts and a cluster that were made in a program."""
    return [
        Finding(place(problem.at, hosts), problem.what, problem.why, problem.remedy)
        for problem in problems(hosts, cluster, catalogue)
    ]
