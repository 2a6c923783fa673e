"""Istio: in its order, and what leaves the mesh."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from support.addons import Case, before, installed


def values(args: dict[str, Any], source: str = "istiod") -> dict[str, Any]:
    found = installed(Case("istio", args)).values()
    (chart,) = [r for r in found if r.inputs.get("name") == source]
    return dict(chart.inputs["values"])


def test_the_mesh_lets_everything_out_unless_told_otherwise() -> None:
    for args, mode in (({}, "ALLOW_ANY"), ({"outbound": "known"}, "REGISTRY_ONLY")):
        assert values(args)["meshConfig"]["outboundTrafficPolicy"] == {"mode": mode}


def test_a_gateway_comes_after_what_fills_it_in() -> None:
    names = [f"metal-istio-{source}" for source in ("istio-base", "istiod", "istio-gateway")]
    assert names[2] not in installed(Case("istio"))
    found = installed(Case("istio", {"ingressGateway": True}))
    for earlier, later in pairwise(names):
        assert earlier in before(found, later)


def test_images_are_those_of_the_charts_version() -> None:
    whole = values({})["global"]
    assert (whole["hub"], whole["tag"]) == ("docker.io/istio", "1.30.3")


def test_both_charts_leave_the_webhooks_policy_alone() -> None:
    for source in ("istio-base", "istiod"):
        assert values({}, source)["base"] == {"validationFailurePolicy": "Fail"}


def test_its_pods_are_as_the_namespace_wants_them() -> None:
    profile = {"type": "RuntimeDefault"}
    assert values({})["seccompProfile"] == profile
    gateway = values({"ingressGateway": True}, "istio-gateway")
    assert gateway["securityContext"]["seccompProfile"] == profile
