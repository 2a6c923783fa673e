"""node-feature-discovery: every node has features."""

from __future__ import annotations

from support.addons import Case, installed


def test_nodes_that_keep_pods_away_are_labelled_too() -> None:
    found = installed(Case("node-feature-discovery")).values()
    (chart,) = [r for r in found if "chart" in r.inputs]
    assert chart.inputs["values"]["worker"]["tolerations"] == [{"operator": "Exists"}]
