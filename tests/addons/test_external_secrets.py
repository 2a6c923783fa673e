"""external-secrets: one of several works, and monitors are not left out."""

from __future__ import annotations

from typing import Any

from support.addons import Case, installed

from groundplane.spec.addons import Need


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_several_agree_on_who_works() -> None:
    for size in ("production", "lab"):
        given = values(Case("external-secrets", size=size))
        assert given["leaderElect"] == (given["replicaCount"] > 1)
        assert given["podDisruptionBudget"]["enabled"] == (given["replicaCount"] > 1)


def test_its_monitor_is_rendered_without_a_cluster() -> None:
    watched = values(Case("external-secrets", has=(Need.MONITOR_CRDS,)))["serviceMonitor"]
    assert watched == {"enabled": True, "renderMode": "alwaysRender"}
