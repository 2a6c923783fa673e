"""cert-manager: who signs, and what an issuer cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from support.addons import Case, before, installed
from support.specs import spec

from groundplane.addons.cert_manager import CertManagerArgs
from groundplane.spec.addons import Need

ACME = {"email": "platform@example.org"}


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def issuers(args: dict[str, Any]) -> dict[str, Any]:
    return {
        r.inputs["metadata"]["name"]: r.inputs["spec"]
        for r in installed(Case("cert-manager", {"issuers": args})).values()
        if r.inputs.get("kind") == "ClusterIssuer"
    }


def test_the_clusters_own_ca_is_there_unless_told_otherwise() -> None:
    found = installed(Case("cert-manager"))
    (ca,) = [r for r in found.values() if r.inputs.get("kind") == "Certificate"]
    assert ca.inputs["spec"]["secretName"] == "cluster-ca"
    assert ca.inputs["metadata"]["annotations"] == {"pulumi.com/waitFor": "condition=Ready"}
    issuer = found["metal-cert-manager-clusterissuer-cluster"]
    assert issuer.inputs["spec"] == {"ca": {"secretName": "cluster-ca"}}


def test_no_issuer_is_made_before_the_chart_is_there() -> None:
    found = installed(Case("cert-manager"))
    assert "metal-cert-manager-cert-manager" in before(
        found, "metal-cert-manager-clusterissuer-cluster-root"
    )


def test_each_kind_of_issuer() -> None:
    found = issuers(
        {
            "house": {"caSecret": "house-ca"},
            "web": {"acme": {**ACME, "ingressClass": "traefik"}},
            "gate": {"acme": {**ACME, "gateway": "web/public"}},
            "dns": {"acme": {**ACME, "dns": {"rfc2136": {"nameserver": "192.0.2.53"}}}},
        }
    )
    assert found["house"] == {"ca": {"secretName": "house-ca"}}
    assert found["web"]["acme"]["server"].startswith("https://acme-v02.api.letsencrypt.org/")
    solvers = {name: spec["acme"]["solvers"] for name, spec in found.items() if "acme" in spec}
    assert solvers == {
        "web": [{"http01": {"ingress": {"ingressClassName": "traefik"}}}],
        "gate": [
            {
                "http01": {
                    "gatewayHTTPRoute": {
                        "parentRefs": [{"kind": "Gateway", "namespace": "web", "name": "public"}]
                    }
                }
            }
        ],
        "dns": [{"dns01": {"rfc2136": {"nameserver": "192.0.2.53"}}}],
    }


def test_a_gateway_needs_the_gateway_api() -> None:
    for acme, needs in (("gateway", [Need.GATEWAY_CRDS]), ("ingressClass", [])):
        through = {"gateway": "web/public", "ingressClass": "traefik"}[acme]
        args = {"issuers": {"a": {"acme": {**ACME, acme: through}}}}
        assert Case("cert-manager", args).parsed.also_needs() == needs


def test_an_issuer_has_a_name_of_its_own() -> None:
    for own, refused in ((True, 1), (False, 0)):
        args = {"ownCa": own, "issuers": {"cluster": {"caSecret": "house-ca"}}}
        made = spec()
        found = list(Case("cert-manager", args).parsed.clashes(made.cluster, made.hosts))
        assert len(found) == refused


def test_gateways_are_looked_for_where_there_can_be_any() -> None:
    assert values(Case("cert-manager"))["config"]["gatewayAPI"] == {"enabled": False}
    with_them = Case("cert-manager", has=(Need.GATEWAY_CRDS,))
    assert values(with_them)["config"]["gatewayAPI"] == {"enabled": True}


@pytest.mark.parametrize(
    ("issuer", "what"),
    [
        ({}, "names both caSecret and acme, or neither"),
        ({"acme": ACME}, "names none or several of ingressClass, gateway and dns"),
        ({"acme": {**ACME, "gateway": "public"}}, "is not NAMESPACE/NAME"),
    ],
)
def test_an_issuer_signs_in_one_way(issuer: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        CertManagerArgs.model_validate({"issuers": {"a": issuer}})
