"""kube-prometheus-stack: what of the control plane is watched, and who gets in."""

from __future__ import annotations

from typing import Any

import pytest
from support.addons import Case, installed
from support.program import SECRET
from support.specs import spec

from groundplane.addons.kube_prometheus_stack import reachable

CASE = Case("kube-prometheus-stack")


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_what_listens_on_its_host_alone_is_not_waited_for() -> None:
    found = values(CASE)
    for part in ("kubeControllerManager", "kubeScheduler", "kubeProxy", "kubeEtcd"):
        assert found[part] == {"enabled": False}, part


@pytest.mark.parametrize(
    ("settings", "watched"),
    [
        ({"controller_manager": {"bind-address": "0.0.0.0"}}, {"kubeControllerManager"}),
        ({"controller_manager": {"bind-address": "127.0.0.1"}}, set()),
        ({"scheduler": {"bind-address": "::"}}, {"kubeScheduler"}),
        ({"scheduler": {"bind-address": "::1"}}, set()),
        ({"kube_proxy": {"metricsBindAddress": "0.0.0.0:10249"}}, {"kubeProxy"}),
        ({"kube_proxy": {"metricsBindAddress": "[::]:10249"}}, {"kubeProxy"}),
        ({"kube_proxy": {"metricsBindAddress": "127.0.0.1:10249"}}, set()),
    ],
)
def test_what_listens_for_others_is_watched(settings: dict[str, Any], watched: set[str]) -> None:
    cluster = spec().cluster
    for part, given in settings.items():
        at = getattr(cluster, part)
        (at if isinstance(at, dict) else at.extra_args).update(given)
    assert {part for part, there in reachable(cluster).items() if there} == watched
    assert not any(reachable(cluster.model_copy(update={"distribution": "k3s"})).values())


def test_the_volume_does_not_fill() -> None:
    given = values(Case("kube-prometheus-stack", {"volumeGib": 10, "storageClass": "fast"}))
    prometheus = given["prometheus"]["prometheusSpec"]
    claim = prometheus["storageSpec"]["volumeClaimTemplate"]["spec"]
    assert claim["resources"] == {"requests": {"storage": "10Gi"}}
    assert claim["storageClassName"] == "fast"
    assert prometheus["retentionSize"] == "8192MiB"


def test_grafana_takes_its_password_from_a_secret() -> None:
    (secret,) = [r for r in installed(CASE).values() if r.inputs.get("kind") == "Secret"]
    assert values(CASE)["grafana"]["admin"]["existingSecret"] == secret.inputs["metadata"]["name"]
    assert SECRET in str(secret.inputs["stringData"])


def test_only_addons_ask_prometheus_itself() -> None:
    (policy,) = [r for r in installed(CASE).values() if r.inputs.get("kind") == "NetworkPolicy"]
    (rule,) = [
        rule
        for rule in policy.inputs["spec"]["ingress"]
        if any(port["port"] == 9090 for port in rule.get("ports", []))
    ]
    (who,) = rule["from"]
    assert who["namespaceSelector"]["matchLabels"] == {
        "app.kubernetes.io/managed-by": "groundplane"
    }
