"""What differs and what that means: made-up clusters, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import pytest
from twins_support import cases, classes, compared

from groundplane.remote.portrait import Portrait
from groundplane.twins import (
    PLACE,
    Arm,
    Class,
    Own,
    Words,
    compare,
    known_rules,
    near,
    read_rules,
    substrate,
)


@pytest.mark.parametrize("case", cases("differences"))
def test_differences(case: dict[str, Any]) -> None:
    found = compared(case)
    assert classes(found) == case["finds"]
    assert found.twins == ("breaking" not in case["finds"].values())


def test_the_place_is_intended() -> None:
    (dns,) = compared({}).differences
    assert (dns.path, dns.cls, dns.why) == ("kubelet/config/clusterDNS", Class.INTENDED, PLACE)


def test_a_difference_is_the_same_from_the_other_side() -> None:
    for case in cases("differences"):
        (given,) = case.values
        turned = {
            key: {"a": value.get("b"), "b": value.get("a")} if key in ("on", "without") else value
            for key, value in given.items()
        }
        turned |= {"a": given.get("b"), "b": given.get("a")}
        for key in ("on", "without"):
            turned[key] = {k: v for k, v in turned.get(key, {}).items() if v}
        assert classes(compared(turned)) == given["finds"], given["name"]


def test_whose_nodes_vary_and_which() -> None:
    (found,) = compared({"b": {"cp2": {"sysctl/vm.swappiness": 10}}}).of(Class.BREAKING)
    assert found.scope == "control-plane"
    assert found.varies == (False, True)
    assert found.values[1] == {"60": ["vm-cp1", "vm-cp3"], "10": ["vm-cp2"]}


def test_what_all_nodes_have_is_said_once() -> None:
    (found,) = compared({"b": {"all": {"nic/mtu": 1500}}}).of(Class.BREAKING)
    assert found.scope == "all nodes"
    assert found.values[1] == {"1500": ["vm-cp1", "vm-cp2", "vm-cp3", "vm-w1", "vm-w2"]}


def test_the_worst_comes_first() -> None:
    changes = {
        "sysctl/fs.file-max": 1,
        "kernel/release": "6.12",
        "registry/x": "1",
        "cgroup/version": 1,
    }
    found = compared({"b": {"all": changes}})
    assert [each.path for each in found.differences] == [
        "cgroup/version",
        "kernel/release",
        "sysctl/fs.file-max",
        "kubelet/config/clusterDNS",
        "registry/x",
    ]


# ---- evidence -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "doubts"),
    [
        ({}, []),
        ({"b": "virtual"}, []),
        ({"a": "virtual", "b": "virtual"}, ["neither stands on bare metal"]),
        ({"b": "emulated"}, ["vm runs on emulated machines"]),
        ({"b": "container"}, ["vm runs on containers"]),
        (
            {"a": "container", "b": "emulated"},
            ["metal runs on cont", "vm runs on emul", "neither stands on bare"],
        ),
    ],
)
def test_what_is_no_evidence(on: dict[str, str], doubts: list[str]) -> None:
    found = compared({"on": on})
    assert len(found.doubts) == len(doubts)
    assert all(said.startswith(d) for said, d in zip(found.doubts, doubts, strict=True))
    assert found.document()["evidence"] == (not doubts)


def test_steal_is_a_doubt_even_where_both_have_it() -> None:
    steal = {"all": {"processor/steal": "some"}}
    assert len(compared({"a": steal, "b": steal}).doubts) == 2


@pytest.mark.parametrize(
    ("facts", "is_a"),
    [
        ({}, "bare metal"),
        ({"virtualization/machine": "none", "virtualization/container": "none"}, "bare metal"),
        ({"virtualization/machine": "kvm"}, "virtual machine (kvm)"),
        ({"virtualization/machine": "vmware"}, "virtual machine (vmware)"),
        ({"virtualization/machine": "qemu"}, "emulated (qemu)"),
        (
            {"virtualization/machine": "kvm", "processor/model_name": "QEMU TCG CPU version 2.5+"},
            "emulated (qemu)",
        ),
        ({"processor/flags/hypervisor": "yes"}, "virtual machine"),
        (
            {"virtualization/machine": "kvm", "virtualization/container": "systemd-nspawn"},
            "container (systemd-nspawn)",
        ),
    ],
)
def test_what_a_node_stands_on(facts: Mapping[str, str], is_a: str) -> None:
    assert substrate(facts) == is_a


# ---- values -------------------------------------------------------------------------------------

OWN = Own(
    ["cp1", "cp10", "w1"],
    ["192.0.2.11", "192.0.2.1", "2001:db8::11"],
    "metal",
    "192.0.2.10",
    ["10.244.0.0/16", "fd00:10::/56"],
    ["10.96.0.0/16"],
)


@pytest.mark.parametrize(
    ("value", "without_nodes", "without_place"),
    [
        ("cp1", "<node>", "<node>"),
        ("cp10=https://192.0.2.11:2380", "<node>=https://<address>:2380", "<node>=https://<address>:2380"),
        ("xcp1 cp12 cp1x", "xcp1 cp12 cp1x", "xcp1 cp12 cp1x"),
        ("192.0.2.110 1192.0.2.11", "192.0.2.110 1192.0.2.11", "192.0.2.110 1192.0.2.11"),
        ("[2001:db8::11]:2379", "[<address>]:2379", "[<address>]:2379"),
        ("https://192.0.2.10:8443", "https://192.0.2.10:8443", "https://<endpoint>:8443"),
        ("10.96.0.10", "10.96.0.10", "<services>+10"),
        ("10.96.0.0/16", "10.96.0.0/16", "<services>/16"),
        ("10.244.3.0/24", "10.244.3.0/24", "<pods>/24"),
        ("fd00:10:0:1::/64", "fd00:10:0:1::/64", "<pods>/64"),
        ("metal/x", "metal/x", "<cluster>/x"),
        ("12:34:56 v1.36.4 1.2.3.4.5 ::x", "12:34:56 v1.36.4 1.2.3.4.5 ::x", None),
    ],
)  # fmt: skip
def test_words(value: str, without_nodes: str, without_place: str | None) -> None:
    words = Words(OWN)
    assert words.nodes(value) == without_nodes
    assert words.place(value) == (value if without_place is None else without_place)


def test_an_address_of_the_range_that_has_another_place_in_it_is_no_twin() -> None:
    sides = [
        Arm(stack, Portrait({}, {"x/dns": dns}), Own(services=[services]))
        for stack, dns, services in (
            ("a", "10.96.0.10", "10.96.0.0/16"),
            ("b", "10.97.0.11", "10.97.0.0/16"),
        )
    ]
    assert not compare(sides[0], sides[1]).twins


@pytest.mark.parametrize(
    ("values", "within", "is_near"),
    [
        (["100", "96"], 0.05, True),
        (["100", "94"], 0.05, False),
        (["62.71 GiB", "61.90 GiB"], 0.05, True),
        (["62.71 GiB", "62.71 MiB"], 0.05, False),
        (["100", None], 0.05, False),
        (["100", "x"], 0.05, False),
        (["100", "100"], 0, False),
        (["0", "0.0"], 0.05, True),
    ],
)
def test_near(values: list[str | None], within: float, is_near: bool) -> None:
    assert near(values, within) is is_near


def test_what_may_be_secret_is_not_shown() -> None:
    path = "workload/x/Deployment/y/template/spec/containers/c/env/PASSWORD/value"
    found = compared({"a": {"cluster": {path: "geheim"}}, "b": {"cluster": {path: "auch"}}})
    (hidden,) = found.of(Class.BREAKING)
    text = str(found.document())
    assert hidden.path == path
    assert "geheim" not in text
    assert "auch" not in text
    assert set(map(tuple, hidden.values)) != {("-",)}
    again = compared({"a": {"cluster": {path: "geheim"}}, "b": {"cluster": {path: "auch"}}})
    assert again.of(Class.BREAKING)[0].values != hidden.values, "it could be found by trying"


# ---- the rules ----------------------------------------------------------------------------------


def test_every_rule_can_be_met() -> None:
    """None stands behind a broader one that would take everything from it."""
    rules = known_rules().rules
    dead = [
        (rule.path, earlier.path)
        for index, rule in enumerate(rules)
        for earlier in rules[:index]
        if fnmatchcase(rule.path, earlier.path)
    ]
    assert dead == []


def test_every_rule_says_why() -> None:
    assert all(rule.why and len(rule.why) < 70 for rule in known_rules().rules)


def test_what_is_intended_on_unlike_machines_is_looked_at_again_on_alike_ones() -> None:
    """But for what a place brings with it."""
    bound = {"endpoint", "kernel", "node", "kube-*", "kubelet", "registry"}
    free = {
        rule.path
        for rule in known_rules().rules
        if rule.cls is Class.INTENDED and rule.alike is None
    }
    assert {path.partition("/")[0] for path in free} == bound


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="no matter"):
        read_rules({"rules": [{"path": "*", "class": "no matter", "why": "x"}], "hidden": []})
