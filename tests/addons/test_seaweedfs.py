"""seaweedfs: who may use which bucket, and where the data lies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.addons import BUCKETS, Case, installed
from support.program import Resource

from groundplane.addons.seaweedfs import SECRET, users


def values(found: dict[str, Resource]) -> dict[str, Any]:
    (chart,) = [r for r in found.values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_each_user_may_use_its_bucket_alone() -> None:
    made = {each["name"]: each for each in json.loads(users({"logs": "k1", "admin": "k0"}))[
        "identities"
    ]}  # fmt: skip
    assert made["logs"]["credentials"] == [{"accessKey": "logs", "secretKey": "k1"}]
    assert {action.partition(":")[2] for action in made["logs"]["actions"]} == {"logs"}
    assert "Admin" in made["admin"]["actions"]


def test_it_is_never_without_users() -> None:
    """It would let everybody do everything."""
    assert json.loads(users({"admin": "k0"}))["identities"]
    found = installed(Case("seaweedfs"))
    assert values(found)["s3"]["enableAuth"] is True
    assert values(found)["s3"]["existingConfigSecret"] == SECRET
    assert f"metal-seaweedfs-secret-{SECRET}" in found


def test_it_has_the_buckets_that_are_asked_for() -> None:
    given = values(installed(Case("seaweedfs")))["s3"]
    assert [each["name"] for each in given["createBuckets"]] == sorted(BUCKETS)
    # The gateway starts anew where there is another one.
    assert given["podAnnotations"] == {"groundplane.io/buckets": ".".join(sorted(BUCKETS))}


@pytest.mark.parametrize(
    "args, size, placement",
    [({}, "production", "001"), ({}, "lab", "000"), ({"copies": 3}, "production", "002")],
)
def test_copies_are_on_other_servers(args: dict[str, Any], size: str, placement: str) -> None:
    given = values(installed(Case("seaweedfs", args, size)))
    assert given["global"]["seaweedfs"]["replicationPlacement"] == placement
    assert given["master"]["defaultReplication"] == placement
    assert given["filer"]["defaultReplicaPlacement"] == placement


def test_nothing_lies_in_folders_of_the_nodes() -> None:
    """Data would not follow its pod, and the namespace would not let it in."""
    assert "hostPath" not in json.dumps(values(installed(Case("seaweedfs"))))


def test_only_the_gateway_is_reached_from_elsewhere() -> None:
    policy = values(installed(Case("seaweedfs")))["networkPolicy"]
    assert policy["enabled"] is True
    assert policy["extraIngress"] == []
    assert policy["components"] == {"s3": {"extraIngress": [{"ports": [{"port": 8333}]}]}}
