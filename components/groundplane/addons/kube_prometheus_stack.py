"""kube-prometheus-stack: Prometheus, Alertmanager and Grafana, and what they watch a cluster by."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

import pulumi
from pydantic import Field

from groundplane.ground import (
    ADDONS,
    Ground,
    chart,
    dashboard,
    finish,
    namespace,
    network_policy,
    password,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need
from groundplane.spec.models import Cluster

__all__ = ["KubePrometheusStack", "KubePrometheusStackArgs"]

NAME, SPACE = "kube-prometheus-stack", "monitoring"
ADMIN = "grafana-admin"
DASHBOARD = Path(__file__).with_name("kube_prometheus_stack.dashboard.json")
WEBHOOK, GRAFANA, PROMETHEUS = 10250, 3000, 9090


class KubePrometheusStackArgs(AddonArgs):
    """How much is kept, and on what."""

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 15
    """How long measurements are kept, if the volume does not fill before."""
    volume_gib: Annotated[int, Field(ge=1, le=65536)] = 50
    """The size of each Prometheus' volume, in GiB. The oldest measurements go when it fills."""
    storage_class: v.Text | None = Field(default=None, examples=["topolvm-large"])
    """The storage class of its volumes; the default one unless given."""


@addon(
    NAME,
    args=KubePrometheusStackArgs,
    namespace=SPACE,
    sources=[NAME],
    # The node exporter reads the hosts' own files, processes and network.
    pod_security="privileged",
    needs=[Need.MONITOR_CRDS, Need.BLOCK_STORAGE],
    provides=[Need.MONITORING],
    profile="standard",
)
class KubePrometheusStack(pulumi.ComponentResource):
    """Prometheus, Alertmanager and Grafana, with the rules and dashboards of the project.

    Monitors, rules and AlertmanagerConfigs of all namespaces are read; without one of the latter,
    alerts are sent nowhere. Those in the namespace `monitoring` get the alerts of all others.
    Grafana keeps nothing: dashboards are ConfigMaps with the label `grafana_dashboard`, data
    sources such with `grafana_datasource`. Its administrator's password is in the Secret
    `grafana-admin`.

    Of the control plane, that is watched which its settings let Prometheus reach: the controller
    manager and the scheduler where their `bind-address`, and kube-proxy where its
    `metricsBindAddress` is not the host's own. etcd's measurements are served to its host alone;
    the API server's tell how large and how fast it is.

    Source: https://github.com/prometheus-community/helm-charts
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: KubePrometheusStackArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:KubePrometheusStack", name, None, opts)
        space = namespace(self, ground)
        admin = {"admin-user": "admin", "admin-password": None}
        # Grafana's pod does not start without it.
        secret = password(self, ground, ADMIN, admin, after=[space])
        policy = network_policy(self, ground, ingress=let_in(), after=[space])
        runs = chart(self, ground, NAME, values(args, ground), after=[secret, policy])
        self.ready: pulumi.Resource = finish(self, ground, [dashboard(ground, DASHBOARD)], runs)
        """Once it is there monitors are read."""
        self.register_outputs({})


def let_in() -> list[dict[str, Any]]:
    """The API server to the operator's webhook, everybody to Grafana, which asks who they are; and
    add-ons to Prometheus, which does not."""
    return [
        {"ports": [{"port": port, "protocol": "TCP"} for port in (WEBHOOK, GRAFANA)]},
        {"from": [ADDONS], "ports": [{"port": PROMETHEUS, "protocol": "TCP"}]},
    ]


def reachable(cluster: Cluster) -> dict[str, bool]:
    """Which parts of the control plane serve their measurements to others than their own host.

    All parts of K3s are one program, and its kubelets' measurements are those of all.
    """
    apart = cluster.distribution == "kubeadm"
    addresses = {
        "kubeControllerManager": cluster.controller_manager.extra_args.get("bind-address"),
        "kubeScheduler": cluster.scheduler.extra_args.get("bind-address"),
        "kubeProxy": _host(cluster.kube_proxy.get("metricsBindAddress")),
    }
    return {
        **{part: apart and _open(address) for part, address in addresses.items()},
        "kubeEtcd": False,
    }


def _host(address: Any) -> str | None:
    """The host of HOST:PORT."""
    return str(address).rpartition(":")[0].strip("[]") if address else None


def _open(address: Any) -> bool:
    """Whether a program that listens here is reached from other hosts; on its host unless told."""
    return bool(address) and not ip_address(str(address)).is_loopback


def values(args: KubePrometheusStackArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    several = not ground.lab

    def budget(enabled: bool) -> dict[str, Any]:
        return {"podDisruptionBudget": {"enabled": enabled, "minAvailable": 1}}

    def requests(cpu: str, memory: str, little: str) -> dict[str, Any]:
        small, usual = {"cpu": "20m", "memory": little}, {"cpu": cpu, "memory": memory}
        return {"resources": {"requests": small if ground.lab else usual}}

    selectors = ("serviceMonitor", "podMonitor", "probe", "rule", "scrapeConfig")
    return {
        # prometheus-operator-crds is their owner.
        "crds": {"enabled": False},
        **{part: {"enabled": there} for part, there in reachable(ground.spec.cluster).items()},
        "prometheusOperator": requests("50m", "128Mi", "64Mi"),
        "prometheus": {
            **budget(several),
            "prometheusSpec": {
                "replicas": ground.replicas,
                "externalLabels": {"cluster": ground.spec.cluster.name},
                "retention": f"{args.retention_days}d",
                # What it has not yet written into blocks takes room, too.
                "retentionSize": f"{args.volume_gib * 1024 * 80 // 100}MiB",
                "storageSpec": _volume(f"{args.volume_gib}Gi", args),
                # All that there are, and not only those with the label of this release.
                **{f"{each}SelectorNilUsesHelmValues": False for each in selectors},
                **requests("500m", "2Gi", "256Mi"),
            },
        },
        "alertmanager": {
            **budget(several),
            "alertmanagerSpec": {
                "replicas": ground.replicas,
                "storage": _volume("2Gi", args),
                "alertmanagerConfigMatcherStrategy": {
                    "type": "OnNamespaceExceptForAlertmanagerNamespace"
                },
                **requests("20m", "64Mi", "32Mi"),
            },
        },
        "grafana": {
            "admin": {
                "existingSecret": ADMIN,
                "userKey": "admin-user",
                "passwordKey": "admin-password",
            },
            "testFramework": {"enabled": False},
            "sidecar": {
                # Without this it would read all Secrets of the cluster.
                "dashboards": {"searchNamespace": "ALL", "resource": "configmap"},
                "datasources": {"searchNamespace": "ALL", "resource": "configmap"},
            },
            **requests("100m", "256Mi", "128Mi"),
        },
    }


def _volume(size: str, args: KubePrometheusStackArgs) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if args.storage_class:
        spec["storageClassName"] = args.storage_class
    return {"volumeClaimTemplate": {"spec": spec}}
