"""external-secrets: Secrets that are fetched from a store of secrets, and kept up to date."""

from __future__ import annotations

from typing import Any

import pulumi

from groundplane.ground import Ground, chart, namespace, network_policy, spread
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["ExternalSecrets", "ExternalSecretsArgs"]

NAME = "external-secrets"
WEBHOOK, METRICS = 10250, 8080


class ExternalSecretsArgs(AddonArgs):
    """It has nothing to be told: stores and what is fetched are written by those who need them."""


@addon(
    NAME,
    args=ExternalSecretsArgs,
    namespace=NAME,
    sources=[NAME],
    uses=[Need.MONITOR_CRDS],
    provides=[Need.EXTERNAL_SECRETS],
    profile="full",
)
class ExternalSecrets(pulumi.ComponentResource):
    """Secrets that are fetched from a store of secrets, such as OpenBao, and kept up to date.

    Source: https://github.com/external-secrets/external-secrets/tree/v2.9.0/deploy/charts
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: ExternalSecretsArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:ExternalSecrets", name, None, opts)
        space = namespace(self, ground)
        ports = [{"port": port, "protocol": "TCP"} for port in (WEBHOOK, METRICS)]
        policy = network_policy(self, ground, ingress=[{"ports": ports}], after=[space])
        self.ready: pulumi.Resource = chart(
            self, ground, NAME, values(ground), after=[space, policy]
        )
        """Once it is there ExternalSecrets are taken."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The chart's values."""

    def part(name: str, cpu: str, memory: str) -> dict[str, Any]:
        return {
            "replicaCount": ground.replicas,
            # A single one that may not go would hold up every drain.
            "podDisruptionBudget": {"enabled": not ground.lab, "minAvailable": 1},
            "topologySpreadConstraints": [spread({"app.kubernetes.io/name": name})],
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"}
                if ground.lab
                else {"cpu": cpu, "memory": memory}
            },
        }

    monitored = ground.has(Need.MONITOR_CRDS)
    return {
        **part(NAME, "50m", "128Mi"),
        "leaderElect": not ground.lab,
        "webhook": part(f"{NAME}-webhook", "20m", "64Mi"),
        # Its work waits well for another one: it renews the webhook's certificate.
        "certController": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}},
        "serviceMonitor": {
            "enabled": monitored,
            # The chart is rendered without asking the cluster what kinds it has.
            "renderMode": "alwaysRender" if monitored else "skipIfMissing",
        },
    }
