"""argo-rollouts: what it may write, and what it runs."""

from __future__ import annotations

from typing import Any

import pytest
from support.addons import Case, installed

from groundplane.addons.argo_rollouts import ArgoRolloutsArgs
from groundplane.spec.addons import Need

PLUGIN = {"url": "https://mirror.example.org/plugin", "sha256": "a" * 64}


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_it_may_write_routes_only_where_it_is_told_to() -> None:
    without = values(Case("argo-rollouts"))
    assert without["controller"]["trafficRouterPlugins"] == []
    assert not without["providerRBAC"]["enabled"]
    case = Case("argo-rollouts", {"gatewayPlugin": PLUGIN})
    given = values(case)
    assert case.parsed.also_needs() == [Need.GATEWAY_CRDS]
    providers = given["providerRBAC"]["providers"]
    assert [name for name, on in providers.items() if on] == ["gatewayAPI"]


def test_the_plugin_is_what_it_is_said_to_be() -> None:
    given = values(Case("argo-rollouts", {"gatewayPlugin": PLUGIN}))
    (plugin,) = given["controller"]["trafficRouterPlugins"]
    assert plugin == {
        "name": "argoproj-labs/gatewayAPI",
        "location": PLUGIN["url"],
        "sha256": PLUGIN["sha256"],
    }
    with pytest.raises(ValueError, match="is not a SHA-256 checksum"):
        ArgoRolloutsArgs.model_validate({"gateway_plugin": {**PLUGIN, "sha256": "abc"}})
