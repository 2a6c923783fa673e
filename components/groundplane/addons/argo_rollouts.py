"""argo-rollouts: new versions step by step, and back by themselves."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pulumi
from pydantic import AfterValidator, Field

from groundplane.ground import Ground, chart, namespace, network_policy, spread
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need
from groundplane.spec.model import Model

__all__ = ["ArgoRollouts", "ArgoRolloutsArgs", "GatewayPlugin"]

NAME = "argo-rollouts"
METRICS = 8090

Sha256 = Annotated[
    str,
    AfterValidator(
        v.matches(
            re.compile(r"[0-9a-f]{64}"),
            "{} is not a SHA-256 checksum",
            "Write its 64 digits and letters, as the release lists them.",
        )
    ),
]


class GatewayPlugin(Model):
    """The plugin by which canaries go through the Gateway API, as its project releases it:
    https://github.com/argoproj-labs/rollouts-plugin-trafficrouter-gatewayapi."""

    url: v.Url
    """Where the controller gets it each time it starts."""
    sha256: Sha256
    """Its checksum. The controller runs it with all of its own rights."""


class ArgoRolloutsArgs(AddonArgs):
    """How canaries get their share of what comes in."""

    gateway_plugin: GatewayPlugin | None = Field(
        default=None,
        examples=[
            {"url": "https://mirror.example.org/gatewayapi-plugin-linux-amd64", "sha256": "0" * 64}
        ],
    )
    """Shares by the weights of HTTPRoutes. Without it a share is a number of pods. Whatever else
    writes those routes must leave weights alone."""

    def also_needs(self) -> list[Need]:
        """The routes that it writes."""
        return [Need.GATEWAY_CRDS] if self.gateway_plugin else []


@addon(
    NAME,
    args=ArgoRolloutsArgs,
    namespace=NAME,
    sources=[NAME],
    uses=[Need.MONITOR_CRDS],
    profile="full",
)
class ArgoRollouts(pulumi.ComponentResource):
    """New versions step by step (canaries, blue and green), and back by themselves where
    measurements say so.

    Source: https://github.com/argoproj/argo-helm/tree/main/charts/argo-rollouts
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: ArgoRolloutsArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:ArgoRollouts", name, None, opts)
        space = namespace(self, ground)
        ingress = [{"ports": [{"port": METRICS, "protocol": "TCP"}]}]
        policy = network_policy(self, ground, ingress=ingress, after=[space])
        self.ready: pulumi.Resource = chart(
            self, ground, NAME, values(args, ground), after=[space, policy]
        )
        """Once it is there Rollouts roll."""
        self.register_outputs({})


PROVIDERS = (
    "istio",
    "smi",
    "ambassador",
    "awsLoadBalancerController",
    "awsAppMesh",
    "traefik",
    "apisix",
    "contour",
    "glooPlatform",
)
"""Whose objects the chart would let it write without anybody's asking."""


def values(args: ArgoRolloutsArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    monitored = {"enabled": ground.has(Need.MONITOR_CRDS)}
    plugin = args.gateway_plugin
    return {
        "controller": {
            "replicas": ground.replicas,
            # A single one that may not go would hold up every drain.
            "pdb": {"enabled": not ground.lab, "maxUnavailable": 1},
            "topologySpreadConstraints": [spread({"app.kubernetes.io/name": NAME})],
            "resources": {
                "requests": {"cpu": "10m", "memory": "64Mi"}
                if ground.lab
                else {"cpu": "100m", "memory": "128Mi"}
            },
            "metrics": {**monitored, "serviceMonitor": monitored},
            "trafficRouterPlugins": [
                {
                    "name": "argoproj-labs/gatewayAPI",
                    "location": plugin.url,
                    "sha256": plugin.sha256,
                }
            ]
            if plugin
            else [],
        },
        "providerRBAC": {
            "enabled": bool(plugin),
            "providers": {**dict.fromkeys(PROVIDERS, False), "gatewayAPI": bool(plugin)},
        },
    }
