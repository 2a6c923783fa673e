"""Traefik: what it serves, and where it is reached."""

from __future__ import annotations

from typing import Any

from support.addons import Case, before, installed

from groundplane.spec.addons import Need


def values(args: dict[str, Any], *has: Need) -> dict[str, Any]:
    (chart,) = [
        r for r in installed(Case("traefik", args, has=has)).values() if "chart" in r.inputs
    ]
    return dict(chart.inputs["values"])


def test_it_serves_the_gateway_api_unless_told_otherwise() -> None:
    parsed = Case("traefik").parsed
    assert (parsed.also_needs(), parsed.also_provides()) == ([Need.GATEWAY_CRDS], [Need.GATEWAY])
    assert values({})["providers"]["kubernetesGateway"] == {"enabled": True}
    without = Case("traefik", {"gateway": False})
    assert (without.parsed.also_needs(), without.parsed.also_provides()) == ([], [])
    kinds = {r.inputs.get("kind") for r in installed(without).values()}
    assert "GatewayClass" not in kinds


def test_it_writes_no_gateway_of_its_own() -> None:
    assert values({})["gateway"] == {"enabled": False}


def test_ingresses_for_nginx_are_served_where_that_is_asked_for() -> None:
    assert values({})["providers"]["kubernetesIngressNGINX"]["enabled"] is False
    found = installed(Case("traefik", {"nginxIngresses": True}))
    (of_nginx,) = [r for r in found.values() if r.inputs.get("kind") == "IngressClass"]
    assert of_nginx.type == "kubernetes:networking.k8s.io/v1:IngressClassPatch"
    assert of_nginx.inputs["metadata"]["name"] == "nginx"
    assert of_nginx.name in before(found, "metal-traefik-traefik")


def test_its_address() -> None:
    assert values({})["service"]["annotations"] == {}
    annotations = values({"address": "192.0.2.80"})["service"]["annotations"]
    assert annotations == {"metallb.io/loadBalancerIPs": "192.0.2.80"}


def test_it_is_watched_where_something_watches() -> None:
    for has, watched in (((), False), ((Need.MONITOR_CRDS,), True)):
        prometheus = values({}, *has)["metrics"]["prometheus"]
        assert prometheus["serviceMonitor"] == {"enabled": watched}
        assert prometheus["disableAPICheck"] is watched
