"""Calico: the network that the cluster is told of, BGP, and what is closed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from support.addons import Case, before, installed
from support.program import Resource
from support.specs import hosts, spec

from groundplane.addons.calico import CalicoArgs, _data_plane
from groundplane.registry import addon_names, addon_of
from groundplane.spec import Cluster, SpecError
from groundplane.spec.addons import Chosen, Need, bgp_session

BGP = {"bgp": {"mesh": False, "peers": {"tor": {"address": "192.0.2.1", "asn": 64513}}}}


def of_kind(found: dict[str, Resource], kind: str) -> list[dict[str, Any]]:
    return [r.inputs for r in found.values() if r.inputs.get("kind") == kind]


def installation(args: dict[str, Any]) -> dict[str, Any]:
    (found,) = of_kind(installed(Case("calico", args)), "Installation")
    return dict(found["spec"]["calicoNetwork"])


def test_the_networks_of_a_cluster_are_plain_none_and_the_addons_that_bring_one() -> None:
    known = set(get_args(Cluster.model_fields["network"].annotation)) - {"plain", "none"}
    assert known == {n for n in addon_names() if Need.POD_NETWORK in addon_of(n).provides}


def test_a_program_names_it_where_the_cluster_is_told_of_it() -> None:
    made = spec()
    calico = made.cluster.model_copy(update={"network": "calico"})
    again = type(made)(made.stack, made.hosts, calico, addons=[Chosen("calico", CalicoArgs())])
    assert [one.name for one in again.addons] == ["calico"]
    with pytest.raises(SpecError, match="the add-on calico is left out"):
        type(made)(made.stack, made.hosts, calico)
    with pytest.raises(SpecError, match="brings a pod network, and the cluster's is plain"):
        type(made)(made.stack, made.hosts, made.cluster, addons=[Chosen("calico", CalicoArgs())])


def test_pods_have_the_clusters_ranges() -> None:
    network = installation({})
    assert [(p["name"], p["cidr"], p["blockSize"]) for p in network["ipPools"]] == [
        ("default-ipv4-ippool", "10.244.0.0/16", 26)
    ]
    assert network["nodeAddressAutodetectionV4"] == {"kubernetes": "NodeInternalIP"}
    assert network["bgp"] == "Disabled"


@pytest.mark.parametrize(
    ("kube_proxy", "ebpf", "data_plane"),
    [
        ({}, False, "Nftables"),
        ({"mode": "nftables"}, False, "Nftables"),
        ({"mode": "iptables"}, False, "Iptables"),
        ({"mode": "ipvs"}, False, "Iptables"),
        ({"mode": "iptables"}, True, "BPF"),
    ],
)
def test_it_writes_rules_as_kube_proxy_does(
    kube_proxy: dict[str, Any], ebpf: bool, data_plane: str
) -> None:
    cluster = spec(kube_proxy=kube_proxy).cluster
    assert _data_plane(CalicoArgs(ebpf=ebpf), cluster) == data_plane


def test_with_ebpf_the_operator_takes_kube_proxy_away() -> None:
    network = installation({"ebpf": True})
    assert (network["linuxDataplane"], network["kubeProxyManagement"]) == ("BPF", "Enabled")
    assert "kubeProxyManagement" not in installation({})


def test_sessions_with_routers_are_claimed() -> None:
    assert Case("calico", BGP).parsed.claims() == [bgp_session("192.0.2.1")]
    assert Case("calico").parsed.claims() == []


def test_what_of_services_is_told_to_routers() -> None:
    bgp = {
        "asn": 64520,
        "advertiseLoadBalancers": ["198.51.100.0/24"],
        "advertiseClusterIps": True,
        "advertiseExternalIps": ["203.0.113.0/24"],
        "communities": {"198.51.100.0/24": ["64520:100"]},
    }
    (found,) = of_kind(installed(Case("calico", {"bgp": bgp})), "BGPConfiguration")
    assert found["spec"] == {
        "asNumber": 64520,
        "nodeToNodeMeshEnabled": True,
        "serviceLoadBalancerAggregation": "Disabled",
        "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}],
        "serviceExternalIPs": [{"cidr": "203.0.113.0/24"}],
        "serviceClusterIPs": [{"cidr": "10.96.0.0/16"}],
        "prefixAdvertisements": [{"cidr": "198.51.100.0/24", "communities": ["64520:100"]}],
    }
    (found,) = of_kind(installed(Case("calico", {"bgp": {}})), "BGPConfiguration")
    assert not [key for key in found["spec"] if key.endswith("IPs")]


def test_each_comes_after_what_it_needs() -> None:
    found = installed(Case("calico", BGP))
    order = [
        "metal-calico-crd.projectcalico.org.v1",
        "metal-calico-tigera-operator",
        "metal-calico-installation-default",
        "metal-calico-apiserver-default",
        "metal-calico-bgppeer-tor",
    ]
    for earlier, later in pairwise(order):
        assert earlier in before(found, later)
    for name in order[2:4]:
        annotations = found[name].inputs["metadata"]["annotations"]
        assert annotations == {"pulumi.com/waitFor": "condition=Ready"}


def test_route_reflectors_are_marked_when_their_nodes_are_there() -> None:
    found = installed(Case("calico", {"bgp": {"mesh": False, "routeReflectors": ["cp1", "cp2"]}}))
    nodes = [r for r in found.values() if r.inputs.get("kind") == "Node"]
    assert [n.inputs["metadata"]["name"] for n in nodes] == ["cp1", "cp2"]
    assert {n.type for n in nodes} == {"kubernetes:core/v1:NodePatch"}
    assert all("nodes-ready" in before(found, node.name) for node in nodes)
    (peer,) = of_kind(found, "BGPPeer")
    (label,) = nodes[0].inputs["metadata"]["labels"]
    assert peer["spec"] == {"nodeSelector": "all()", "peerSelector": f"has({label})"}


def test_only_passwords_of_sessions_can_be_read() -> None:
    assert of_kind(installed(Case("calico", BGP)), "Role") == []
    peers = {"tor": {"address": "192.0.2.1", "asn": 64513, "passwordSecret": "tor"}}
    (role,) = of_kind(installed(Case("calico", {"bgp": {"peers": peers}})), "Role")
    (rule,) = role["rules"]
    assert (role["metadata"]["namespace"], rule["resourceNames"]) == ("calico-system", ["tor"])


def test_closed_namespaces_are_those_of_nobody_here() -> None:
    (policy,) = of_kind(installed(Case("calico", {"defaultDeny": True})), "GlobalNetworkPolicy")
    chosen = policy["spec"]["namespaceSelector"]
    for space in ("kube-system", "calico-system", "tigera-operator", "others"):
        assert f"'{space}'" in chosen
    assert policy["spec"]["types"] == ["Ingress", "Egress"]
    assert {rule["protocol"] for rule in policy["spec"]["egress"]} == {"UDP", "TCP"}
    assert of_kind(installed(Case("calico")), "GlobalNetworkPolicy") == []


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "IPIP without BGP": ({"encapsulation": "ipip"}, {}, ["encapsulation: ipip without bgp"]),
    "routes that nobody tells": (
        {"encapsulation": "none"},
        {},
        ["encapsulation: none without bgp"],
    ),
    "IPIP for IPv6": (
        {"encapsulation": "ipip-cross-subnet", "bgp": {}},
        {"pod_cidrs": ["10.244.0.0/16", "fd00:10::/56"], "service_cidrs": ["10.96.0.0/16"]},
        ["encapsulation: ipip-cross-subnet with a range of IPv6 pods"],
    ),
    "a route reflector that is no host": (
        {"bgp": {"mesh": False, "routeReflectors": ["cp1", "cp9"]}},
        {},
        ["bgp.routeReflectors.1: there is no host cp9"],
    ),
    "a mesh beside them": (
        {"bgp": {"routeReflectors": ["cp1"]}},
        {},
        ["bgp.mesh: a mesh beside route reflectors"],
    ),
    "nothing wrong": ({"encapsulation": "none", "bgp": {}}, {}, []),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    args, cluster, says = REFUSED[case]
    made = spec(hosts())
    wanted = made.cluster.model_copy(update=cluster)
    found = Case("calico", args).parsed.clashes(wanted, made.hosts)
    assert [f"{'.'.join(map(str, p.at))}: {p.what}" for p in found] == says
    assert all(p.why and p.remedy for p in Case("calico", args).parsed.clashes(wanted, made.hosts))
