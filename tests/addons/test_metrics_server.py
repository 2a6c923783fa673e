"""metrics-server: how it asks the kubelets, and what watches it."""

from __future__ import annotations

from typing import Any

from support.addons import Case, installed

from groundplane.spec.addons import Need


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_kubelets_that_sign_their_own_certificates_are_asked_all_the_same() -> None:
    assert "--kubelet-insecure-tls" in values(Case("metrics-server"))["args"]
    verified = values(Case("metrics-server", {"verifyKubelets": True}))
    assert verified["args"] == ["--metric-resolution=15s"]


def test_it_is_watched_where_something_watches() -> None:
    assert values(Case("metrics-server"))["serviceMonitor"] == {"enabled": False}
    watched = values(Case("metrics-server", has=(Need.MONITOR_CRDS,)))
    assert watched["serviceMonitor"] == watched["metrics"] == {"enabled": True}


def test_a_lab_has_one_that_needs_no_budget() -> None:
    production, lab = (values(Case("metrics-server", size=s)) for s in ("production", "lab"))
    assert (production["replicas"], production["podDisruptionBudget"]["enabled"]) == (2, True)
    assert (lab["replicas"], lab["podDisruptionBudget"]["enabled"]) == (1, False)
