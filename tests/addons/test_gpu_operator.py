"""gpu-operator: whose driver it is, and who labels nodes."""

from __future__ import annotations

from typing import Any

from support.addons import Case, installed


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_nodes_are_labelled_by_one() -> None:
    assert values(Case("gpu-operator"))["nfd"] == {"enabled": False}


def test_the_driver_is_the_operators_unless_told_otherwise() -> None:
    assert values(Case("gpu-operator"))["driver"] == {"enabled": True, "kernelModuleType": "auto"}
    own = {"driverRepository": "registry.example.org/nvidia", "licenseSecret": "vgpu-license"}
    assert values(Case("gpu-operator", own))["driver"] == {
        "enabled": True,
        "kernelModuleType": "auto",
        "repository": "registry.example.org/nvidia",
        "licensingConfig": {"secretName": "vgpu-license"},
    }


def test_monitors_are_made_only_where_there_is_such_a_kind() -> None:
    """The chart would make one, and the operator would wait for its kind."""
    given = values(Case("gpu-operator"))
    assert given["dcgmExporter"]["serviceMonitor"] == {"enabled": False}
