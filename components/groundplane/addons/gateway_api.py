"""gateway-api: the kinds of the Gateway API, which gateways of several makers share."""

from __future__ import annotations

import pulumi

from groundplane.ground import Ground, manifests
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["GatewayApi", "GatewayApiArgs"]


class GatewayApiArgs(AddonArgs):
    """The Gateway API has nothing to be told: its standard channel is installed."""


@addon(
    "gateway-api",
    args=GatewayApiArgs,
    namespace="",
    sources=["gateway-api"],
    provides=[Need.GATEWAY_CRDS],
    profile="standard",
)
class GatewayApi(pulumi.ComponentResource):
    """The kinds of the Gateway API (Gateway, HTTPRoute, ...) of its standard channel, and the
    policy that refuses an older version or another channel in their place. What serves them is an
    add-on of its own.

    Source: https://github.com/kubernetes-sigs/gateway-api/tree/v1.6.1/config/crd/standard
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: GatewayApiArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:GatewayApi", name, None, opts)
        self.ready: pulumi.Resource = manifests(self, ground, "gateway-api")
        """Once it is there Gateways can be written."""
        self.register_outputs({})
