"""metrics-server: what nodes and pods use now, for `kubectl top` and autoscaling."""

from __future__ import annotations

from typing import Annotated, Any

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace, spread
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["MetricsServer", "MetricsServerArgs"]


class MetricsServerArgs(AddonArgs):
    """How metrics-server asks the kubelets."""

    resolution_seconds: Annotated[int, Field(ge=10, le=300)] = 15
    """How often each kubelet is asked, in seconds."""
    verify_kubelets: bool = False
    """Whether a kubelet's certificate must be signed by the cluster's CA. kubeadm's kubelets sign
    their own, unless `serverTLSBootstrap` is set and something approves their requests."""


@addon(
    "metrics-server",
    args=MetricsServerArgs,
    namespace="metrics-server",
    sources=["metrics-server"],
    uses=[Need.MONITOR_CRDS],
    provides=[Need.METRICS],
    profile="minimal",
)
class MetricsServer(pulumi.ComponentResource):
    """The metrics API: what nodes and pods use now, for `kubectl top` and autoscaling."""

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: MetricsServerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:MetricsServer", name, None, opts)
        space = namespace(self, ground)
        self.ready: pulumi.Resource = chart(
            self, ground, "metrics-server", values(args, ground), after=[space]
        )
        """Once it is there the API serves."""
        self.register_outputs({})


def values(args: MetricsServerArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values.

    Source: https://github.com/kubernetes-sigs/metrics-server/tree/master/charts/metrics-server
    """
    monitored = ground.has(Need.MONITOR_CRDS)
    flags = [f"--metric-resolution={args.resolution_seconds}s"]
    if not args.verify_kubelets:
        flags.append("--kubelet-insecure-tls")
    return {
        # These come behind the chart's own, and the last of two flags counts.
        "args": flags,
        "replicas": ground.replicas,
        "podDisruptionBudget": {"enabled": not ground.lab, "minAvailable": 1},
        "topologySpreadConstraints": [spread({"app.kubernetes.io/name": "metrics-server"})],
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"}
            if ground.lab
            else {"cpu": "100m", "memory": "200Mi"}
        },
        "metrics": {"enabled": monitored},
        "serviceMonitor": {"enabled": monitored},
    }
