"""node-feature-discovery: labels on nodes for what their hardware and kernel can do."""

from __future__ import annotations

from typing import Any

import pulumi

from groundplane.ground import Ground, chart, namespace
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["NodeFeatureDiscovery", "NodeFeatureDiscoveryArgs"]

NAME = "node-feature-discovery"


class NodeFeatureDiscoveryArgs(AddonArgs):
    """It has nothing to be told: rules for further labels are objects (NodeFeatureRule)."""


@addon(
    NAME,
    args=NodeFeatureDiscoveryArgs,
    namespace=NAME,
    sources=[NAME],
    # Its workers read the hosts' files.
    pod_security="privileged",
    uses=[Need.MONITOR_CRDS],
    provides=[Need.NODE_FEATURES],
    profile="full",
)
class NodeFeatureDiscovery(pulumi.ComponentResource):
    """Labels on nodes, below `feature.node.kubernetes.io/`, for what their hardware and kernel can
    do.

    Source: https://github.com/kubernetes-sigs/node-feature-discovery/tree/v0.19.0/deployment/helm
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: NodeFeatureDiscoveryArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:NodeFeatureDiscovery", name, None, opts)
        space = namespace(self, ground)
        self.ready: pulumi.Resource = chart(self, ground, NAME, values(ground), after=[space])
        """Once it is there nodes are being labelled."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The chart's values. One of each is enough: labels stay while it is away."""
    small = {"requests": {"cpu": "5m", "memory": "32Mi"}}
    return {
        "worker": {
            # A node that keeps pods away has features, too.
            "tolerations": [{"operator": "Exists"}],
            **({"resources": small} if ground.lab else {}),
        },
        **({part: {"resources": small} for part in ("master", "gc")} if ground.lab else {}),
        "prometheus": {"enable": ground.has(Need.MONITOR_CRDS)},
    }
