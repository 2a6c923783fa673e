"""tempo: where traces lie, and where they are asked for."""

from __future__ import annotations

import json
from typing import Any

from support.addons import Case, installed
from support.program import SECRET

from groundplane.spec.addons import Need

BUCKET = Case("tempo", {"bucket": True})


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def one(case: Case, kind: str) -> dict[str, Any]:
    (found,) = [r.inputs for r in installed(case).values() if r.inputs.get("kind") == kind]
    return found


def test_traces_survive_a_restart() -> None:
    given = values(Case("tempo", {"retentionDays": 2}))
    assert given["persistence"] == {"enabled": True, "size": "20Gi"}
    assert given["tempo"]["storage"]["trace"] == {"backend": "local"}
    assert given["tempo"]["retention"] == "48h"


def test_a_bucket_is_asked_for_and_used() -> None:
    assert (BUCKET.parsed.also_needs(), BUCKET.parsed.buckets()) == ([Need.OBJECT_STORE], ["tempo"])
    tempo = values(BUCKET)["tempo"]
    s3 = tempo["storage"]["trace"]["s3"]
    assert (s3["endpoint"], s3["insecure"], s3["bucket"]) == (
        "store.example.svc:8333",
        True,
        "tempo",
    )
    secret = one(BUCKET, "Secret")
    assert tempo["extraEnvFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
    assert SECRET in json.dumps(secret["stringData"]["AWS_SECRET_ACCESS_KEY"])


def test_it_is_reached_where_its_policy_lets_add_ons_in() -> None:
    case = Case("tempo", has=(Need.MONITORING,))
    _, rule = one(case, "NetworkPolicy")["spec"]["ingress"]
    (source,) = json.loads(one(case, "ConfigMap")["data"]["tempo.yaml"])["datasources"]
    urls = [source["url"], case.parsed.urls()[Need.TRACES]]
    assert [int(url.rpartition(":")[2]) for url in urls] == [p["port"] for p in rule["ports"]]
