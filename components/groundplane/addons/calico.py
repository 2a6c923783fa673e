"""Calico: the pod network of a cluster whose `network` is `calico`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace, objects
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Claim, Need, bgp_session
from groundplane.spec.checks import Problem
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Host

__all__ = ["Calico", "CalicoArgs"]

SYSTEM = "calico-system"
"""Where the operator puts Calico itself; it makes the namespace."""
KUBERNETES = ("kube-system", "kube-public", "kube-node-lease", SYSTEM, "calico-apiserver")
"""Namespaces that no policy of ours cuts off."""
REFLECTOR = "groundplane.dev/route-reflector"
"""The label of the nodes that are route reflectors."""
ENCAPSULATION = {
    "vxlan": "VXLAN",
    "vxlan-cross-subnet": "VXLANCrossSubnet",
    "ipip": "IPIP",
    "ipip-cross-subnet": "IPIPCrossSubnet",
    "none": "None",
}


class CalicoPeer(Model):
    """A router that nodes speak BGP with."""

    address: v.NodeAddress = Field(examples=["192.0.2.1"])
    """The router's address."""
    asn: v.Asn = Field(examples=[64513])
    """The router's AS number."""
    nodes: v.Text = Field(default="all()", examples=["rack == 'a'"])
    """Which nodes speak with it: a selector of Calico's over the nodes' labels."""
    password_secret: v.Name | None = None
    """A Secret in the namespace `calico-system` whose key `password` holds the session's password.
    You make it, once Calico is there; the session comes up with it."""


class CalicoBgp(Model):
    """How routes to pods and services are told to each other, and to routers."""

    asn: v.Asn = 64512
    """The nodes' AS number."""
    peers: dict[v.Name, CalicoPeer] = Field(default={})
    """Routers, by a name of yours."""
    mesh: bool = True
    """Whether each node speaks with each other one. Not beside route reflectors, or where the
    routers hand on all routes; above a hundred nodes it is too much."""
    route_reflectors: list[v.Name] = Field(default=[], examples=[["rack1-n1", "rack2-n1"]])
    """Hosts that hand on routes between all others: two or more, in different failure domains. One
    that is installed anew is one again after `pulumi up --refresh`."""
    advertise_load_balancers: list[v.Cidr] = Field(default=[], examples=[["192.0.2.64/26"]])
    """Ranges of services' addresses of type LoadBalancer that are told to the peers."""
    advertise_cluster_ips: bool = False
    """Whether the addresses inside the cluster of its services are told to the peers."""
    advertise_external_ips: list[v.Cidr] = Field(default=[])
    """Ranges of services' `externalIPs` that are told to the peers."""
    communities: dict[v.Cidr, list[v.Community]] = Field(
        default={}, examples=[{"192.0.2.64/26": ["64512:100"]}]
    )
    """BGP communities of what is told, by range."""


class CalicoArgs(AddonArgs):
    """How pods reach each other across nodes."""

    encapsulation: Literal["vxlan", "vxlan-cross-subnet", "ipip", "ipip-cross-subnet", "none"] = (
        "vxlan"
    )
    """How packets between pods travel across nodes. `vxlan` goes through every network that lets
    UDP through; with `-cross-subnet` only between subnets, where within one no switch may mind
    pods' addresses. `none`: routers know the way. `ipip` and `none` need `bgp`."""
    bgp: CalicoBgp | None = None
    """BGP among the nodes and with routers. Without it, there is none."""
    ebpf: bool = False
    """Whether services and policies are eBPF programs, and kube-proxy is switched off: for kernel
    5.10 or newer. Otherwise Calico writes rules as kube-proxy does, in nftables or iptables."""
    mtu: Annotated[int, Field(ge=1280, le=9216)] | None = None
    """The MTU of pods. Without it, that of the nodes' network less what encapsulation takes."""
    block_size: Annotated[int, Field(ge=20, le=32)] = 26
    """The prefix length of the IPv4 blocks that nodes take their pods' addresses from. It cannot
    change later."""
    nat_outgoing: bool = True
    """Whether pods leave the cluster under their node's address. Not where routers know the way
    back to pods."""
    wireguard: bool = False
    """Whether pods' traffic between nodes is encrypted, by the kernel's WireGuard."""
    default_deny: bool = False
    """Whether pods may reach nothing but DNS, and be reached by nothing but add-ons, until a
    NetworkPolicy lets them; in all namespaces but those of Kubernetes and of add-ons."""

    def claims(self) -> list[Claim]:
        """Its sessions with routers."""
        peers = self.bgp.peers.values() if self.bgp else ()
        return [bgp_session(peer.address) for peer in peers]

    def clashes(self, cluster: Cluster, hosts: Sequence[Host]) -> Iterator[Problem]:
        """What needs BGP, or IPv4, or a host that is there."""
        inner = self.encapsulation.partition("-")[0]
        if inner in ("ipip", "none") and self.bgp is None:
            yield Problem(
                ("encapsulation",),
                f"{self.encapsulation} without bgp",
                "Nothing would tell a node where other nodes' pods are",
                "Write `bgp: {}` beside it, or vxlan.",
            )
        if inner == "ipip" and any(ipaddress.ip_network(r).version == 6 for r in _pods(cluster)):
            yield Problem(
                ("encapsulation",),
                f"{self.encapsulation} with a range of IPv6 pods",
                "Calico wraps IPv6 into VXLAN only",
                "Write vxlan.",
            )
        known = {host.name for host in hosts}
        for index, name in enumerate(self.bgp.route_reflectors if self.bgp else ()):
            if name not in known:
                yield Problem(
                    ("bgp", "routeReflectors", index),
                    f"there is no host {name}",
                    "Nodes would hand their routes to nobody",
                    f"Hosts are {', '.join(sorted(known))}.",
                )
        if self.bgp and self.bgp.mesh and self.bgp.route_reflectors:
            yield Problem(
                ("bgp", "mesh"),
                "a mesh beside route reflectors",
                "Each node would speak with each other one all the same",
                "Write `mesh: false`.",
            )


@addon(
    "calico",
    args=CalicoArgs,
    namespace="tigera-operator",
    sources=["crd.projectcalico.org.v1", "tigera-operator"],
    # The operator runs in the hosts' network: it starts before there is another.
    pod_security="privileged",
    provides=[Need.POD_NETWORK],
    starts="api_ready",
)
class Calico(pulumi.ComponentResource):
    """The pod network, with network policies, by Calico's operator. It is there where the cluster's
    `network` is `calico`.

    Source: https://docs.tigera.io/calico/latest/reference/installation/api
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: CalicoArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Calico", name, None, opts)
        space = namespace(self, ground)
        # The operator's chart has none of its kinds, and neither installs nor upgrades without.
        kinds = chart(self, ground, "crd.projectcalico.org.v1", {}, after=[space])
        operator = chart(self, ground, "tigera-operator", values(ground), after=[space, kinds])
        (runs,) = objects(self, ground, [installation(args, ground)], after=[operator])
        # It runs in pods that the network connects, and serves the kinds of projectcalico.org/v3.
        (serves,) = objects(self, ground, [api_server()], after=[runs])
        own = objects(self, ground, settings(args, ground), after=[serves], patch=True)
        # A patch of a Node that has not joined would make one.
        own += objects(self, ground, reflectors(args), after=[ground.joined], patch=True)
        own += objects(self, ground, [*peers(args), *policies(args, ground)], after=[serves])
        (ends,) = objects(self, ground, [by_request()], after=[serves, *own], patch=True)
        self.ready: pulumi.Resource = ends
        """Once it is there, nodes are Ready."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The values of the operator's chart: the operator, and none of what it installs."""
    return {
        # Those of the other chart, which come first.
        "manageCRDs": False,
        # As objects of our own they show in the preview, and are waited for.
        "installation": {"enabled": False},
        "apiServer": {"enabled": False},
        # A collector of flows and its web page.
        "goldmane": {"enabled": False},
        "whisker": {"enabled": False},
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"}
            if ground.lab
            else {"cpu": "100m", "memory": "128Mi"}
        },
        "priorityClassName": "system-cluster-critical",
    }


def installation(args: CalicoArgs, ground: Ground) -> dict[str, Any]:
    """What the operator is to install."""
    cluster = ground.spec.cluster
    network: dict[str, Any] = {
        "bgp": "Enabled" if args.bgp else "Disabled",
        "linuxDataplane": _data_plane(args, cluster),
        "ipPools": [_pool(args, ipaddress.ip_network(text)) for text in cluster.pod_cidrs],
        **{
            # The address that the kubelet was given, and not the first that is found.
            f"nodeAddressAutodetectionV{version}": {"kubernetes": "NodeInternalIP"}
            for version in sorted({ipaddress.ip_network(text).version for text in _pods(cluster)})
        },
    }
    if args.mtu is not None:
        network["mtu"] = args.mtu
    if args.ebpf:
        # The operator finds the API servers' addresses, and takes kube-proxy off the nodes.
        network |= {"bpfNetworkBootstrap": "Enabled", "kubeProxyManagement": "Enabled"}
    small = {"cpu": "50m", "memory": "96Mi"} if ground.lab else {"cpu": "250m", "memory": "256Mi"}
    return {
        "apiVersion": "operator.tigera.io/v1",
        "kind": "Installation",
        "metadata": {
            "name": "default",
            "annotations": {"pulumi.com/waitFor": "condition=Ready"},
        },
        "spec": {
            "variant": "Calico",
            "calicoNetwork": network,
            "controlPlaneReplicas": ground.replicas,
            # A CSI driver for sockets of policies over HTTP, which are not set up here.
            "kubeletVolumePluginPath": "None",
            "calicoNodeDaemonSet": {
                "spec": {
                    "template": {
                        "spec": {
                            "containers": [
                                {"name": "calico-node", "resources": {"requests": small}}
                            ]
                        }
                    }
                }
            },
        },
    }


def _pods(cluster: Cluster) -> list[str]:
    return cluster.pod_cidrs or []


def _data_plane(args: CalicoArgs, cluster: Cluster) -> str:
    """Where kube-proxy writes nftables, so must Calico; hosts have nftables unless they are told
    otherwise."""
    if args.ebpf:
        return "BPF"
    return "Nftables" if cluster.kube_proxy.get("mode", "nftables") == "nftables" else "Iptables"


def _pool(args: CalicoArgs, pods: ipaddress.IPv4Network | ipaddress.IPv6Network) -> dict[str, Any]:
    return {
        "name": f"default-ipv{pods.version}-ippool",
        "cidr": str(pods),
        "encapsulation": ENCAPSULATION[args.encapsulation],
        "natOutgoing": "Enabled" if args.nat_outgoing else "Disabled",
        # A range of IPv6 has room for blocks of 64 addresses, whatever those of IPv4 are.
        "blockSize": args.block_size if pods.version == 4 else 122,
        "nodeSelector": "all()",
    }


def api_server() -> dict[str, Any]:
    """What serves the kinds of projectcalico.org/v3, and checks them."""
    return {
        "apiVersion": "operator.tigera.io/v1",
        "kind": "APIServer",
        "metadata": {
            "name": "default",
            "annotations": {"pulumi.com/waitFor": "condition=Ready"},
        },
        "spec": {},
    }


def by_request() -> dict[str, Any]:
    """Calico gives addresses to those services of type LoadBalancer that ask for it. Otherwise it
    would race MetalLB for all of them, as soon as it has a pool for them."""
    controllers = {"loadBalancer": {"assignIPs": "RequestedServicesOnly"}}
    return _v3("KubeControllersConfiguration", "default", {"controllers": controllers})


def settings(args: CalicoArgs, ground: Ground) -> list[dict[str, Any]]:
    """Settings that Calico, too, makes objects for."""
    made = []
    if args.wireguard:
        made.append(_v3("FelixConfiguration", "default", {"wireguardEnabled": True}))
    if args.bgp:
        made.append(_v3("BGPConfiguration", "default", _bgp(args.bgp, ground.spec.cluster)))
    return made


def _bgp(bgp: CalicoBgp, cluster: Cluster) -> dict[str, Any]:
    told = {
        "serviceLoadBalancerIPs": bgp.advertise_load_balancers,
        "serviceExternalIPs": bgp.advertise_external_ips,
        "serviceClusterIPs": cluster.service_cidrs if bgp.advertise_cluster_ips else [],
    }
    spec: dict[str, Any] = {
        "asNumber": bgp.asn,
        "nodeToNodeMeshEnabled": bgp.mesh,
        # One route for each service: a service whose pods are on some nodes only is announced by
        # those, and goes on when one of them is away.
        "serviceLoadBalancerAggregation": "Disabled",
        **{key: [{"cidr": text} for text in ranges] for key, ranges in told.items() if ranges},
    }
    if bgp.communities:
        spec["prefixAdvertisements"] = [
            {"cidr": text, "communities": words} for text, words in sorted(bgp.communities.items())
        ]
    return spec


def reflectors(args: CalicoArgs) -> list[dict[str, Any]]:
    """What makes nodes route reflectors. All have one cluster id: each holds all routes."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {REFLECTOR: "true"},
                "annotations": {"projectcalico.org/RouteReflectorClusterID": "244.0.0.1"},
            },
        }
        for name in (args.bgp.route_reflectors if args.bgp else ())
    ]


def peers(args: CalicoArgs) -> list[dict[str, Any]]:
    """Who speaks BGP with whom, and what lets them read their passwords."""
    if args.bgp is None:
        return []
    made = []
    if args.bgp.route_reflectors:
        label = f"has({REFLECTOR})"
        made.append(
            _v3("BGPPeer", "route-reflectors", {"nodeSelector": "all()", "peerSelector": label})
        )
    for name, peer in sorted(args.bgp.peers.items()):
        spec = {"peerIP": peer.address, "asNumber": peer.asn, "nodeSelector": peer.nodes}
        if peer.password_secret:
            key = {"name": peer.password_secret, "key": "password"}
            spec["password"] = {"secretKeyRef": key}
        made.append(_v3("BGPPeer", name, spec))
    secrets = {peer.password_secret for peer in args.bgp.peers.values()} - {None}
    return [*made, *(_reads(sorted(filter(None, secrets))) if secrets else [])]


def _reads(secrets: list[str]) -> list[dict[str, Any]]:
    """calico-node may read these Secrets, and no others."""
    group = "rbac.authorization.k8s.io"
    here = {"name": "calico-node-bgp-passwords", "namespace": SYSTEM}
    rule = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": secrets,
        "verbs": ["get", "list", "watch"],
    }
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": here, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": here,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": here["name"]},
            "subjects": [{"kind": "ServiceAccount", "name": "calico-node", "namespace": SYSTEM}],
        },
    ]


def policies(args: CalicoArgs, ground: Ground) -> list[dict[str, Any]]:
    """What pods may do that no policy of their own speaks of."""
    if not args.default_deny:
        return []
    addons = sorted({one.entry.namespace for one in ground.spec.addons})
    name = "projectcalico.org/name"

    def among(names: Sequence[str]) -> str:
        return f"{{{', '.join(map(repr, names))}}}"

    dns = {
        "action": "Allow",
        "destination": {
            "namespaceSelector": f"{name} == 'kube-system'",
            "selector": "k8s-app == 'kube-dns'",
            "ports": [53],
        },
    }
    return [
        _v3(
            "GlobalNetworkPolicy",
            "default-deny",
            {
                # Behind those of networking.k8s.io, which have 1000.
                "order": 10000,
                "namespaceSelector": f"{name} not in {among([*KUBERNETES, *addons])}",
                "types": ["Ingress", "Egress"],
                # Gateways and Prometheus are among them.
                "ingress": [
                    {
                        "action": "Allow",
                        "source": {"namespaceSelector": f"{name} in {among(addons)}"},
                    }
                ],
                "egress": [{**dns, "protocol": protocol} for protocol in ("UDP", "TCP")],
            },
        )
    ]


def _v3(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }
