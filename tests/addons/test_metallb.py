"""MetalLB: addresses that nobody else has, and who is told of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.addons import Case, before, installed
from support.program import Resource
from support.specs import spec

from groundplane.addons.calico import CalicoArgs
from groundplane.errors import SpecError
from groundplane.spec.addons import Chosen

POOL = {"pools": {"public": {"addresses": ["192.0.2.192/26"]}}}
TOR = {"tor": {"address": "192.0.2.1", "asn": 64513, "myAsn": 64512}}
BGP = {
    "pools": {"public": {"addresses": ["198.51.100.0/24"], "announce": "bgp"}},
    "peers": TOR,
}


def there(args: dict[str, Any]) -> dict[str, Resource]:
    return installed(Case("metallb", args))


def values(args: dict[str, Any]) -> dict[str, Any]:
    (chart,) = [r for r in there(args).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def of_kind(args: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [r.inputs for r in there(args).values() if r.inputs.get("kind") == kind]


def test_a_routing_daemon_runs_for_bgp_only() -> None:
    assert values(POOL)["frrk8s"] == {"enabled": False}
    assert values(BGP)["frrk8s"] == {"enabled": True}
    assert values(POOL)["speaker"]["enabled"] is True


def test_pools_that_something_else_announces_need_no_speakers() -> None:
    pool = {"addresses": ["198.51.100.0/24"], "announce": "elsewhere"}
    args = {"pools": {"public": pool}}
    assert values(args)["speaker"]["enabled"] is False
    kinds = {r.inputs.get("kind") for r in there(args).values()}
    assert "IPAddressPool" in kinds
    assert not kinds & {"L2Advertisement", "BGPAdvertisement"}


def test_each_pool_is_announced_as_it_says() -> None:
    pools = {
        "near": {"addresses": ["10.0.0.1/32"]},
        "next": {"addresses": ["192.0.2.64/26"]},
        "far": {"addresses": ["203.0.113.0/24"], "announce": "bgp"},
        "held": {"addresses": ["198.51.100.0/24"], "announce": "elsewhere"},
    }
    args = {"pools": pools, "peers": TOR}
    (by_arp,) = of_kind(args, "L2Advertisement")
    assert by_arp["spec"] == {"ipAddressPools": ["near", "next"]}
    (by_bgp,) = of_kind(args, "BGPAdvertisement")
    assert by_bgp["spec"] == {"ipAddressPools": ["far"], "aggregationLength": 32}
    assert len(of_kind(args, "IPAddressPool")) == 4


def test_what_names_something_comes_after_it() -> None:
    peers = {"tor": {**TOR["tor"], "bfd": "fast"}}
    found = there({**BGP, "peers": peers, "bfd": {"fast": {}}})
    order = ["bfdprofile-fast", "bgppeer-tor", "bgpadvertisement-public"]
    for earlier, later in pairwise(order):
        assert f"metal-metallb-{earlier}" in before(found, f"metal-metallb-{later}")
    assert "metal-metallb-ipaddresspool-public" in before(
        found, "metal-metallb-bgpadvertisement-public"
    )


def test_large_communities_are_called_so() -> None:
    (found,) = of_kind({**POOL, "communities": {"a": "64512:1", "b": "64512:1:2"}}, "Community")
    assert found["spec"]["communities"] == [
        {"name": "a", "value": "64512:1"},
        {"name": "b", "value": "large:64512:1:2"},
    ]


def test_a_second_speaker_to_a_router_is_refused_with_the_ways_out() -> None:
    made = spec()
    cluster = made.cluster.model_copy(update={"network": "calico"})
    bgp = {"peers": {"tor": {"address": "192.0.2.1", "asn": 64513}}}
    calico = Chosen("calico", CalicoArgs.model_validate({"bgp": bgp}))
    with pytest.raises(SpecError) as caught:
        type(made)(
            made.stack, made.hosts, cluster, addons=[calico, Chosen("metallb", _parsed(BGP))]
        )
    (finding,) = caught.value.findings
    assert finding.what == "calico and metallb both want the BGP session with 192.0.2.1"
    for way in ("Calico announce", "layer 2", "VXLAN without BGP", "another router"):
        assert way in finding.remedy


def _parsed(args: dict[str, Any]) -> Any:
    return Case("metallb", args).parsed


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a host's address": (
        {"pools": {"public": {"addresses": ["192.0.2.11-192.0.2.12"]}}},
        [
            "pools.public.addresses.0: 192.0.2.11-192.0.2.12 has 192.0.2.11 (cp1), "
            "192.0.2.12 (cp2) in it"
        ],
    ),
    "the endpoint's address": (
        {"pools": {"public": {"addresses": ["192.0.2.8/30"]}}},
        [
            "pools.public.addresses.0: 192.0.2.8/30 has 192.0.2.10 (the cluster's endpoint), "
            "192.0.2.11 (cp1) in it"
        ],
    ),
    "pods' addresses": (
        {"pools": {"public": {"addresses": ["10.244.3.0/24"]}}},
        ["pools.public.addresses.0: 10.244.3.0/24 has 10.244.0.0/16 in it"],
    ),
    "names that nothing has": (
        {
            "pools": {
                "public": {
                    "addresses": ["198.51.100.0/24"],
                    "announce": "bgp",
                    "peers": ["spine"],
                    "communities": ["far"],
                }
            },
            "peers": {"tor": {**TOR["tor"], "bfd": "fast"}},
        },
        [
            "pools.public.peers: there is no spine below peers",
            "pools.public.communities: there is no far below communities",
            "peers.tor.bfd: there is no fast below bfd",
        ],
    ),
    "BGP with nobody": (
        {"pools": {"public": {"addresses": ["198.51.100.0/24"], "announce": "bgp"}}},
        ["peers: none, and the pool public is announced by bgp"],
    ),
    "nothing wrong": (POOL, []),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    args, says = REFUSED[case]
    made = spec()
    found = list(_parsed(args).clashes(made.cluster, made.hosts))
    assert [f"{'.'.join(map(str, p.at))}: {p.what}" for p in found] == says
    assert all(problem.why and problem.remedy for problem in found)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("192.0.2.300/26", "is not a range of addresses"),
        ("192.0.2.64/24", "is not a range of addresses"),
        ("192.0.2.9-192.0.2.1", "ends before it begins"),
        ("192.0.2.9-2001:db8::1", "ends before it begins"),
    ],
)
def test_a_range_is_one(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        _parsed({"pools": {"public": {"addresses": [text]}}})
