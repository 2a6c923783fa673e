"""Envoy Gateway: its class, and that the Gateway API stays another's."""

from __future__ import annotations

from typing import Any

from support.addons import Case, before, installed

from groundplane.addons.envoy_gateway import own_kinds


def one(case: Case, kind: str) -> dict[str, Any]:
    (found,) = [r.inputs for r in installed(case).values() if r.inputs.get("kind") == kind]
    return found


def values(case: Case, source: str) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if r.inputs.get("name") == source]
    return dict(chart.inputs["values"])


def test_the_gateway_api_stays_anothers() -> None:
    assert own_kinds()["crds"]["gatewayAPI"] == {"enabled": False}
    assert values(Case("envoy-gateway"), "gateway-helm")["crds"] == {"enabled": False}
    found = installed(Case("envoy-gateway"))
    assert "metal-envoy-gateway-gateway-crds-helm" in before(
        found, "metal-envoy-gateway-gateway-helm"
    )


def test_the_class_names_what_proxies_are_like() -> None:
    case = Case("envoy-gateway", {"gatewayClass": "public", "shared": True})
    proxy, of_gateways = one(case, "EnvoyProxy"), one(case, "GatewayClass")
    named = of_gateways["spec"]["parametersRef"]
    assert (named["namespace"], named["name"]) == (
        proxy["metadata"]["namespace"],
        proxy["metadata"]["name"],
    )
    assert proxy["spec"]["mergeGateways"] is True


def test_clients_addresses_are_kept_unless_told_otherwise() -> None:
    for args, policy in (({}, "Local"), ({"keepClientAddress": False}, "Cluster")):
        proxy = one(Case("envoy-gateway", args), "EnvoyProxy")["spec"]["provider"]["kubernetes"]
        assert proxy["envoyService"]["externalTrafficPolicy"] == policy


def test_the_proxy_is_the_catalogues() -> None:
    proxy = one(Case("envoy-gateway"), "EnvoyProxy")["spec"]["provider"]["kubernetes"]
    image = proxy["envoyDeployment"]["container"]["image"]
    assert image == "docker.io/envoyproxy/envoy:distroless-v1.39.0"


def test_a_lab_has_one_that_needs_no_budget() -> None:
    for size, replicas in (("production", 2), ("lab", 1)):
        case = Case("envoy-gateway", size=size)
        proxy = one(case, "EnvoyProxy")["spec"]["provider"]["kubernetes"]
        assert proxy["envoyDeployment"]["replicas"] == replicas
        assert ("envoyPDB" in proxy) == (size == "production")
        budget = values(case, "gateway-helm")["podDisruptionBudget"]["minAvailable"]
        assert budget == replicas - 1
