"""A cluster's plan: what policies are told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pulumi
import pytest
from support.guests import guest, hypervisor, virtual
from support.seen import blank, standing
from support.specs import host, hosts, spec

from groundplane.clusters.plan import beside, observed, wanted
from groundplane.spec import Audit, Backup, Overcommit, SshTarget, Target, load
from rules import all_rules
from rules.control_planes import KEYS
from rules.rule import Resource, View, judge

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJf6nD1a9m8hS7YJxkqo1x0B0E4g0m8w7i8Wm3k5y2V"
RULES = {rule.name: rule for rule in all_rules()}


def test_what_is_wanted(snapshot: Any) -> None:
    assert json.dumps(wanted(spec(hosts(1, 1))), indent=2) == snapshot


def test_it_has_what_the_pack_asks_for() -> None:
    assert wanted(spec()).keys() >= set(KEYS)


def test_it_holds_no_secret_and_no_login() -> None:
    target = SshTarget(
        address="192.0.2.7", user="someone", key="/secret/key", host_key=KEY, path="/b"
    )
    made = spec(
        hosts(key="/secret/own"),
        backup=Backup(recipient=PEM, target=Target(ssh=target)),
    )
    text = json.dumps(wanted(made))
    assert '"target": "ssh"' in text
    assert not [
        word for word in ("someone", "/secret", "AAAA", "MIIB", '192.0.2.7"') if word in text
    ]


def test_an_address_may_be_an_output() -> None:
    """As of a machine that is yet to be made."""
    address = pulumi.Output.from_input("192.0.2.99")
    machine = host("cp1", "192.0.2.11", "control-plane").model_copy(
        update={"node_address": address}
    )
    assert wanted(spec([machine]))["hosts"]["cp1"]["address"] is address


LOGS = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}


@pytest.mark.parametrize(
    ("audit", "level"),
    [
        (Audit(), "metadata"),
        (Audit(level="none"), "none"),
        (Audit(policy={**LOGS, "rules": [{"level": "None"}, {"level": "Request"}]}), "request"),
        (Audit(policy={**LOGS, "rules": [{"level": "None"}]}), "none"),
    ],
)
def test_audit(audit: Audit, level: str) -> None:
    assert wanted(spec(audit=audit))["audit"] == level


def test_settings_are_compared_by_digests() -> None:
    one, other = (wanted(spec(kubelet=k))["settings"] for k in ({}, {"maxPods": 200}))
    assert {name for name in one if one[name] != other[name]} == {"kubelet"}


def test_what_was_observed() -> None:
    assert observed(blank(spec())) == {"members": {}, "nodes": {}, "silent": []}
    seen = observed(standing(spec(), dead=["cp3"]))
    assert seen["members"]["cp1"] == {"healthy": True, "learner": False}
    assert seen["members"]["cp3"] == {"healthy": False, "learner": False}
    assert seen["nodes"]["w1"] == {"version": "1.36.4", "ready": True, "controlPlane": False}
    assert seen["silent"] == ["cp3"]


def test_rules_read_it() -> None:
    """The product's plan, as it is: a dead member is replaced, and then a second one goes."""

    def found(machines: Any, **how: Any) -> list[str]:
        made = spec(machines)
        plan = {**wanted(made), "observed": observed(standing(made, **how))}
        cluster = Resource("groundplane:index:KubeadmCluster", "metal", "urn", View({"plan": plan}))
        return [
            m
            for name in ("quorum-kept", "version-skew")
            for _, m in judge(RULES[name], [cluster]).violations
        ]

    one, two, three, four, five = hosts(5, 0)
    assert found([one, two, three]) == []
    assert found([one, two, four], new=["cp4"], gone=[three]) == []
    (message,) = found([one, four, five], new=["cp4", "cp5"], gone=[two, three])
    assert "1 of 3 members of etcd serve" in message
    assert "cp2 and cp3 would leave in one change" in message


def test_siblings_are_told_as_far_as_they_matter(tmp_path: Path) -> None:
    """Both halves of the rule about ranges, and what twins differ in; of another network only that.
    Nothing of a sibling is secret or a login."""

    def write(stack: str, number: int, place: str, **cluster: Any) -> None:
        site = {
            "place": place,
            "hosts": [
                {
                    "name": "n1",
                    "address": f"192.0.{number}.11",
                    "user": "someone",
                    "hostKey": KEY,
                    "role": "control-plane",
                }
            ],
            "cluster": {
                "name": stack,
                "kubernetes": {"version": "1.36.4"},
                "podCidrs": [f"10.{number}.0.0/16"],
                "serviceCidrs": ["10.96.0.0/16"],
                "endpoint": {"address": f"192.0.{number}.10", "routerId": 51},
                **cluster,
            },
        }
        text = json.dumps({"config": {"groundplane:site": site}})
        (tmp_path / f"Pulumi.{stack}.yaml").write_text(text)

    def found(rule: str) -> list[str]:
        made = load("metal", tmp_path)
        plan = {**wanted(made), "siblings": beside(made.siblings)}
        cluster = Resource("groundplane:index:KubeadmCluster", "metal", "urn", View({"plan": plan}))
        return [message.split("\n")[0] for _, message in judge(RULES[rule], [cluster]).violations]

    write("metal", 1, "here")
    assert load("metal", tmp_path).siblings == ()
    assert found("ranges-apart") == found("twins-equal") == []

    write("vm", 2, "here", serviceCidrs=["10.97.0.0/16"])
    assert found("ranges-apart") == found("twins-equal") == []
    text = json.dumps(beside(load("metal", tmp_path).siblings))
    assert not [word for word in ("someone", "AAAA") if word in text]

    write("vm", 2, "here", kubelet={"maxPods": 200})
    (message,) = found("ranges-apart")
    assert "the service range 10.96.0.0/16 overlaps with the service range of vm" in message
    assert found("twins-equal") == ["KubeadmCluster metal: not as on vm: kubelet."]

    write("vm", 2, "there", kubelet={"maxPods": 200})
    assert found("ranges-apart") == []
    assert found("twins-equal") == ["KubeadmCluster metal: not as on vm: kubelet."]
    # What is wrong in the sibling's file is for its own preview to say.
    write("vm", 2, "there", kubelet=7, endpoint=7, podCidrs=["x"])
    assert found("ranges-apart") == found("twins-equal") == []


def test_rules_see_what_guests_run_on() -> None:
    machines = [guest("cp1"), guest("cp2"), guest("cp3", "hv2")]
    made = virtual(
        *machines,
        hypervisors=[
            hypervisor(allow_together=True, overcommit=Overcommit(cpu=9)),
            hypervisor("hv2"),
        ],
    )
    view = View({"plan": {**wanted(made), "observed": observed(blank(made))}})
    cluster = Resource("groundplane:index:KubeadmCluster", "vm", "urn", view)
    names = ("control-planes-on-hypervisors", "overcommit-limited")
    together, overcommit = (
        [message for _, message in judge(RULES[name], [cluster]).violations] for name in names
    )
    assert len(together) == 1 and "cp1 and cp2" in together[0] and "hv1" in together[0]
    assert len(overcommit) == 1 and "hv1" in overcommit[0] and "9" in overcommit[0]
