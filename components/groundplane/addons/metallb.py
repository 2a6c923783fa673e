"""MetalLB: addresses for services of type LoadBalancer, announced to the site's network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pulumi
from pydantic import AfterValidator, Field

from groundplane.ground import Ground, chart, finish, namespace
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Claim, Need, bgp_session
from groundplane.spec.checks import Problem
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Host

__all__ = ["MetalLB", "MetalLBArgs"]

Milliseconds = Annotated[int, Field(ge=10, le=60000)]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _span(text: str) -> tuple[Address, Address]:
    """The first and the last address of a range."""
    first, dash, last = text.partition("-")
    if not dash:
        network = ipaddress.ip_network(text)
        return network[0], network[-1]
    return ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())


def _range(text: str) -> str:
    """A range of addresses, as CIDR or from one to another."""
    remedy = "Write one such as 192.0.2.64/26 or 192.0.2.64-192.0.2.127."
    try:
        first, last = _span(text)
    except ValueError:
        raise v.BadValueError(f"{v.show(text)} is not a range of addresses", remedy) from None
    if first.version != last.version or int(first) > int(last):
        raise v.BadValueError(f"{v.show(text)} ends before it begins", remedy)
    return text


Range = Annotated[str, AfterValidator(_range)]


class MetalLBPool(Model):
    """Addresses for services, and how the network learns where they are."""

    addresses: Annotated[list[Range], Field(min_length=1)] = Field(
        examples=[["192.0.2.64/26", "2001:db8::100-2001:db8::1ff"]]
    )
    """The addresses, which nobody else may have."""
    announce: Literal["layer2", "bgp", "elsewhere"] = "layer2"
    """`layer2`: one node answers for an address by ARP or NDP; nodes and clients share a segment.
    `bgp`: all nodes tell the routers of `peers`. `elsewhere`: something else tells them, such as
    Calico."""
    auto_assign: bool = True
    """Whether services get addresses of it that do not ask for this pool."""
    namespaces: list[v.Name] = Field(default=[])
    """The only namespaces whose services get addresses of it; all, where there are none."""
    communities: list[v.Name] = Field(default=[], examples=[["no-export"]])
    """BGP communities of its routes, by their names in `communities`."""
    local_preference: Annotated[int, Field(ge=0, le=4294967295)] | None = None
    """LOCAL_PREF of its routes, towards routers of the same AS."""
    aggregation_length: Annotated[int, Field(ge=1, le=32)] = 32
    """The prefix length of its IPv4 routes."""
    peers: list[v.Name] = Field(default=[])
    """The only ones of `peers` that are told; all, where there are none."""


class MetalLBBfd(Model):
    """How the loss of a neighbour is noticed, faster than by BGP."""

    receive_interval: Milliseconds = 300
    """The least time between packets that a node can receive, in milliseconds."""
    transmit_interval: Milliseconds = 300
    """The least time between packets that a node sends, in milliseconds."""
    detect_multiplier: Annotated[int, Field(ge=2, le=255)] = 3
    """How many packets in a row are missing from a neighbour that is lost."""
    minimum_ttl: Annotated[int, Field(ge=1, le=254)] | None = None
    """The least TTL of what comes in, where routers are several hops away."""


class MetalLBPeer(Model):
    """A router that nodes speak BGP with."""

    address: v.NodeAddress = Field(examples=["192.0.2.1"])
    """The router's address."""
    asn: v.Asn = Field(examples=[64513])
    """The router's AS number."""
    my_asn: v.Asn = Field(examples=[64512])
    """The nodes' AS number."""
    port: Annotated[int, Field(ge=1, le=16384)] = 179
    """The router's port."""
    hold_seconds: Annotated[int, Field(ge=3, le=65535)] = 90
    """After how long a silence the session is over, in seconds."""
    multi_hop: bool = False
    """Whether the router is more than one hop away."""
    bfd: v.Name | None = None
    """One of `bfd`, where the router speaks it, too."""
    nodes: dict[v.LabelKey, v.LabelValue] = Field(default={}, examples=[{"rack": "a"}])
    """Labels of the only nodes that speak with it; all, where there are none."""
    password_secret: v.Name | None = None
    """A Secret of type kubernetes.io/basic-auth in the namespace `metallb-system` whose key
    `password` holds the session's password. You make it; the session comes up with it."""


class MetalLBArgs(AddonArgs):
    """Which addresses services get, and who is told."""

    pools: Annotated[dict[v.Name, MetalLBPool], Field(min_length=1)] = Field(
        examples=[{"public": {"addresses": ["192.0.2.64/26"]}}]
    )
    """Pools of addresses, by a name of yours."""
    interfaces: list[v.InterfaceName] = Field(default=[], examples=[["bond0"]])
    """The only interfaces that addresses are announced on by layer 2; all, where there are none."""
    peers: dict[v.Name, MetalLBPeer] = Field(default={})
    """Routers, by a name of yours."""
    bfd: dict[v.Name, MetalLBBfd] = Field(default={})
    """BFD profiles, by a name of yours."""
    communities: dict[v.Name, v.Community] = Field(
        default={}, examples=[{"no-export": "65535:65281"}]
    )
    """Names for BGP communities."""
    control_planes: bool = False
    """Whether addresses are announced from control planes, too, which kubeadm excludes."""

    def announces(self, how: str) -> list[str]:
        """The names of the pools that are announced so."""
        return sorted(name for name, pool in self.pools.items() if pool.announce == how)

    def claims(self) -> list[Claim]:
        """Its sessions with routers."""
        return [bgp_session(peer.address) for peer in self.peers.values()]

    def clashes(self, cluster: Cluster, hosts: Sequence[Host]) -> Iterator[Problem]:
        """Addresses that others have, and names that nothing has."""
        taken = {host.address: host.name for host in hosts}
        taken |= {host.node_address: host.name for host in hosts}
        if cluster.endpoint:
            taken[cluster.endpoint.address] = "the cluster's endpoint"
        ranges = [*(cluster.pod_cidrs or ()), *(cluster.service_cidrs or ())]
        for name, pool in sorted(self.pools.items()):
            for index, text in enumerate(pool.addresses):
                whose = [f"{_show(a)} ({who})" for a, who in taken.items() if _in(a, text)]
                whose += [other for other in ranges if _meet(_span(other), _span(text))]
                if whose:
                    yield Problem(
                        ("pools", name, "addresses", index),
                        f"{text} has {', '.join(sorted(whose))} in it",
                        "A service could get that address, and take it from whoever has it",
                        "Choose a range that nobody else has addresses of.",
                    )
            yield from _unknown(("pools", name, "peers"), pool.peers, self.peers)
            yield from _unknown(("pools", name, "communities"), pool.communities, self.communities)
        for name, peer in sorted(self.peers.items()):
            named = [peer.bfd] if peer.bfd else []
            yield from _unknown(("peers", name, "bfd"), named, self.bfd)
        if self.announces("bgp") and not self.peers:
            yield Problem(
                ("peers",),
                f"none, and the pool {self.announces('bgp')[0]} is announced by bgp",
                "Nobody would learn where its addresses are",
                "Name the routers below peers, or let the pool be announced by layer2.",
            )


def _show(address: Any) -> str:
    return str(address)


def _in(address: Any, text: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:  # a name, or an Output
        return False
    return _meet((found, found), _span(text))


def _meet(one: tuple[Address, Address], other: tuple[Address, Address]) -> bool:
    same = one[0].version == other[0].version
    return same and int(one[0]) <= int(other[1]) and int(other[0]) <= int(one[1])


def _unknown(at: tuple[str, ...], names: Sequence[str], known: dict[str, Any]) -> Iterator[Problem]:
    for name in names:
        if name not in known:
            yield Problem(
                at,
                f"there is no {name} below {at[-1]}",
                "MetalLB refuses its whole configuration with it",
                f"Write one of {', '.join(sorted(known))}." if known else f"Add it to {at[-1]}.",
            )


@addon(
    "metallb",
    args=MetalLBArgs,
    namespace="metallb-system",
    sources=["metallb"],
    # The speakers answer ARP and speak BGP in the nodes' network.
    pod_security="privileged",
    uses=[Need.MONITOR_CRDS],
    provides=[Need.LOAD_BALANCER],
)
class MetalLB(pulumi.ComponentResource):
    """Addresses for services of type LoadBalancer, announced by layer 2 or BGP.

    Source: https://metallb.io/configuration/
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: MetalLBArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:MetalLB", name, None, opts)
        space = namespace(self, ground)
        there = chart(self, ground, "metallb", values(args, ground), after=[space])
        # Its webhook refuses what names something that is not there yet.
        for documents in (named(args), [*pools(args), *peers(args)], announcements(args)):
            there = finish(self, ground, documents, there)
        self.ready: pulumi.Resource = there
        """Once it is there services get addresses."""
        self.register_outputs({})


def values(args: MetalLBArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    monitored = ground.has(Need.MONITOR_CRDS)
    small = {"cpu": "10m", "memory": "48Mi"}
    usual = {"cpu": "50m", "memory": "96Mi"}
    resources = {"requests": small if ground.lab else usual}
    return {
        "controller": {"priorityClassName": "system-cluster-critical", "resources": resources},
        "speaker": {
            "enabled": len(args.announces("elsewhere")) < len(args.pools),
            "priorityClassName": "system-node-critical",
            "resources": resources,
            "ignoreExcludeLB": args.control_planes,
            # An older way to run the same routing daemon, which is to go.
            "frr": {"enabled": False},
        },
        # A routing daemon on each node: only for BGP.
        "frrk8s": {"enabled": bool(args.announces("bgp"))},
        # The controller is Ready a minute or so before its webhook serves, and until then nothing
        # of ours would be taken. It refuses all the same what is wrong, where it serves.
        "crds": {"validationFailurePolicy": "Ignore"},
        "frr-k8s": {"prometheus": {"serviceMonitor": {"enabled": monitored}}},
        "prometheus": {
            # It would have to name Prometheus's account, which may read what it needs anyway.
            "rbacPrometheus": False,
            "serviceMonitor": {"enabled": monitored},
            "prometheusRule": {"enabled": monitored},
        },
        # For the controller; speakers are in the nodes' network, where none applies.
        "networkpolicies": {"enabled": True, "apiPort": 6443},
    }


def named(args: MetalLBArgs) -> list[dict[str, Any]]:
    """What others name: BFD profiles and communities."""
    made = [
        _metallb("BFDProfile", name, profile.model_dump(by_alias=True, exclude_none=True))
        for name, profile in sorted(args.bfd.items())
    ]
    if args.communities:
        known = [
            {"name": name, "value": f"large:{value}" if value.count(":") == 2 else value}
            for name, value in sorted(args.communities.items())
        ]
        made.append(_metallb("Community", "communities", {"communities": known}))
    return made


def pools(args: MetalLBArgs) -> list[dict[str, Any]]:
    """The addresses."""
    made = []
    for name, pool in sorted(args.pools.items()):
        spec: dict[str, Any] = {"addresses": pool.addresses, "autoAssign": pool.auto_assign}
        if pool.namespaces:
            spec["serviceAllocation"] = {"namespaces": pool.namespaces}
        made.append(_metallb("IPAddressPool", name, spec))
    return made


def peers(args: MetalLBArgs) -> list[dict[str, Any]]:
    """The routers."""
    made = []
    for name, peer in sorted(args.peers.items()):
        spec: dict[str, Any] = {
            "peerAddress": peer.address,
            "peerASN": peer.asn,
            "myASN": peer.my_asn,
            "peerPort": peer.port,
            "holdTime": f"{peer.hold_seconds}s",
            "ebgpMultiHop": peer.multi_hop,
        }
        if peer.bfd:
            spec["bfdProfile"] = peer.bfd
        if peer.nodes:
            spec["nodeSelectors"] = [{"matchLabels": peer.nodes}]
        if peer.password_secret:
            spec["passwordSecret"] = {"name": peer.password_secret}
        made.append(_metallb("BGPPeer", name, spec, "v1beta2"))
    return made


def announcements(args: MetalLBArgs) -> list[dict[str, Any]]:
    """Who is told of which pool."""
    made = []
    if args.announces("layer2"):
        spec: dict[str, Any] = {"ipAddressPools": args.announces("layer2")}
        if args.interfaces:
            spec["interfaces"] = args.interfaces
        made.append(_metallb("L2Advertisement", "layer2", spec))
    for name in args.announces("bgp"):
        pool = args.pools[name]
        spec = {"ipAddressPools": [name], "aggregationLength": pool.aggregation_length}
        if pool.local_preference is not None:
            spec["localPref"] = pool.local_preference
        if pool.communities:
            spec["communities"] = pool.communities
        if pool.peers:
            spec["peers"] = pool.peers
        made.append(_metallb("BGPAdvertisement", name, spec))
    return made


def _metallb(
    kind: str, name: str, spec: dict[str, Any], version: str = "v1beta1"
) -> dict[str, Any]:
    return {
        "apiVersion": f"metallb.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": "metallb-system"},
        "spec": spec,
    }
