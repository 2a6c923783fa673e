"""opentelemetry: takes traces and logs from programs, and brings them to their stores."""

from __future__ import annotations

from typing import Any

import pulumi

from groundplane.ground import Ground, chart, finish, namespace, network_policy
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Opentelemetry", "OpentelemetryArgs"]

NAME, OPERATOR, COLLECTOR = "opentelemetry", "opentelemetry-operator", "otel"
WEBHOOK, METRICS, GRPC, HTTP = 9443, 8443, 4317, 4318


class OpentelemetryArgs(AddonArgs):
    """It has nothing to be told: further collectors, and what they watch, are objects."""


@addon(
    NAME,
    args=OpentelemetryArgs,
    namespace=NAME,
    sources=[OPERATOR],
    needs=[Need.CERTIFICATES, Need.TRACES],
    uses=[Need.LOGS, Need.MONITOR_CRDS],
)
class Opentelemetry(pulumi.ComponentResource):
    """The operator of OpenTelemetry, and a collector that takes OTLP from all pods, at
    `otel-collector.opentelemetry.svc`, port 4317 (gRPC) or 4318 (HTTP), and brings traces to the
    store of traces and logs to that of logs.

    Source: https://github.com/open-telemetry/opentelemetry-helm-charts
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: OpentelemetryArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Opentelemetry", name, None, opts)
        space = namespace(self, ground)
        ports = [{"port": port, "protocol": "TCP"} for port in (WEBHOOK, METRICS, GRPC, HTTP)]
        policy = network_policy(self, ground, ingress=[{"ports": ports}], after=[space])
        # Its webhook must answer before a collector is taken.
        runs = chart(self, ground, OPERATOR, values(ground), after=[space, policy])
        self.ready: pulumi.Resource = finish(self, ground, [collector(ground)], runs)
        """Once it is there the collector is being started."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The operator's values."""
    return {
        "replicaCount": ground.replicas,
        # A single one that may not go would hold up every drain.
        "pdb": {"create": not ground.lab},
        "manager": {
            "serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)},
            "resources": {
                "requests": {"cpu": "10m", "memory": "64Mi"}
                if ground.lab
                else {"cpu": "50m", "memory": "128Mi"}
            },
        },
        "admissionWebhooks": {
            "certManager": {"enabled": True},
            "autoGenerateCert": {"enabled": False},
        },
    }


def collector(ground: Ground) -> dict[str, Any]:
    """The collector for all."""
    traces = (ground.url(Need.TRACES) or "").removeprefix("http://")
    exporters: dict[str, Any] = {"otlp/traces": {"endpoint": traces, "tls": {"insecure": True}}}
    steps = {"receivers": ["otlp"], "processors": ["memory_limiter", "batch"]}
    pipelines = {"traces": {**steps, "exporters": ["otlp/traces"]}}
    if logs := ground.url(Need.LOGS):
        exporters["otlphttp/logs"] = {"endpoint": f"{logs}/otlp"}
        pipelines["logs"] = {**steps, "exporters": ["otlphttp/logs"]}
    protocols = {"grpc": GRPC, "http": HTTP}
    return {
        "apiVersion": "opentelemetry.io/v1beta1",
        "kind": "OpenTelemetryCollector",
        "metadata": {"name": COLLECTOR, "namespace": NAME},
        "spec": {
            "mode": "deployment",
            "replicas": ground.replicas,
            "image": ground.image(OPERATOR, "collector"),
            "podSecurityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "resources": {
                "requests": {"cpu": "20m", "memory": "64Mi"}
                if ground.lab
                else {"cpu": "100m", "memory": "256Mi"},
                # What it may hold is counted from this.
                "limits": {"memory": "512Mi"},
            },
            "config": {
                "receivers": {
                    "otlp": {
                        "protocols": {
                            name: {"endpoint": f"0.0.0.0:{port}"}
                            for name, port in protocols.items()
                        }
                    }
                },
                "processors": {
                    "memory_limiter": {
                        "check_interval": "1s",
                        "limit_percentage": 80,
                        "spike_limit_percentage": 20,
                    },
                    "batch": {},
                },
                "exporters": exporters,
                "service": {"pipelines": pipelines},
            },
        },
    }
