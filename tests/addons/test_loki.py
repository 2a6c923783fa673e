"""loki: where logs lie, and who may write and read them."""

from __future__ import annotations

import json
from typing import Any

from support.addons import STORE, Case, installed
from support.program import SECRET

from groundplane.spec.addons import Need

BUCKET = Case("loki", {"bucket": True})


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def one(case: Case, kind: str) -> dict[str, Any]:
    (found,) = [r.inputs for r in installed(case).values() if r.inputs.get("kind") == kind]
    return found


def test_a_volume_has_one_writer() -> None:
    """The chart refuses more without an object store."""
    for size in ("production", "lab"):
        given = values(Case("loki", size=size))
        assert given["loki"]["storage"] == {"type": "filesystem"}
        assert given["singleBinary"]["replicas"] == 1
        assert given["loki"]["commonConfig"]["replication_factor"] == 1
    given = values(BUCKET)
    assert given["singleBinary"]["replicas"] == 3
    assert given["loki"]["commonConfig"]["replication_factor"] == 3


def test_a_bucket_is_asked_for_and_used() -> None:
    assert (BUCKET.parsed.also_needs(), BUCKET.parsed.buckets()) == ([Need.OBJECT_STORE], ["loki"])
    given = values(BUCKET)
    storage = given["loki"]["storage"]
    assert (storage["s3"]["endpoint"], storage["s3"]["insecure"]) == (STORE, True)
    assert storage["bucketNames"]["chunks"] == "loki"
    secret = one(BUCKET, "Secret")
    assert given["singleBinary"]["extraEnvFrom"] == [
        {"secretRef": {"name": secret["metadata"]["name"]}}
    ]
    assert SECRET in json.dumps(secret["stringData"]["AWS_SECRET_ACCESS_KEY"])


def test_what_is_too_old_is_deleted() -> None:
    for case, store in ((Case("loki", {"retentionDays": 2}), "filesystem"), (BUCKET, "s3")):
        loki = values(case)["loki"]
        assert loki["compactor"] == {"retention_enabled": True, "delete_request_store": store}
        assert loki["schemaConfig"]["configs"][0]["object_store"] == store
    assert values(Case("loki", {"retentionDays": 2}))["loki"]["limits_config"] == {
        "retention_period": "48h"
    }


def test_only_add_ons_reach_it() -> None:
    _, rule = one(Case("loki"), "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "groundplane"}}}
    ]


def test_grafana_is_told_where_it_is() -> None:
    told = {
        label: r.inputs["data"]
        for r in installed(Case("loki", has=(Need.MONITORING,))).values()
        if r.inputs.get("kind") == "ConfigMap"
        for label in r.inputs["metadata"]["labels"]
    }
    assert told.keys() == {"grafana_datasource", "grafana_dashboard"}
    (source,) = json.loads(told["grafana_datasource"]["loki.yaml"])["datasources"]
    assert source["url"] == Case("loki").parsed.urls()[Need.LOGS] == "http://loki.loki.svc:3100"
    assert not [r for r in installed(Case("loki")).values() if r.inputs.get("kind") == "ConfigMap"]
