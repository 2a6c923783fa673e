"""Envoy Gateway: serves the Gateway API with Envoy."""

from __future__ import annotations

from typing import Any

import pulumi

from groundplane.ground import Ground, chart, finish, namespace, spread
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["EnvoyGateway", "EnvoyGatewayArgs"]

SPACE = "envoy-gateway-system"


class EnvoyGatewayArgs(AddonArgs):
    """How the proxies run. Gateways and routes are written by those who need them."""

    gateway_class: v.Name = "envoy"
    """The class by which Gateways call it."""
    shared: bool = False
    """Whether all Gateways of the class share one set of proxies, and so one address. Otherwise
    each has its own."""
    keep_client_address: bool = True
    """Whether a service sees its clients' addresses. Then only nodes with a proxy take what comes
    in."""


@addon(
    "envoy-gateway",
    args=EnvoyGatewayArgs,
    namespace=SPACE,
    sources=["gateway-crds-helm", "gateway-helm"],
    needs=[Need.GATEWAY_CRDS],
    # Its proxies wait for an address.
    uses=[Need.LOAD_BALANCER, Need.MONITOR_CRDS],
    provides=[Need.GATEWAY],
    profile="standard",
)
class EnvoyGateway(pulumi.ComponentResource):
    """Serves the Gateway API: Gateways of its class become sets of Envoy proxies.

    Source: https://gateway.envoyproxy.io/docs/api/extension_types/
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: EnvoyGatewayArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:EnvoyGateway", name, None, opts)
        space = namespace(self, ground)
        # The other chart would bring the Gateway API, too, of the experimental channel.
        kinds = chart(self, ground, "gateway-crds-helm", own_kinds(), after=[space])
        runs = chart(self, ground, "gateway-helm", values(ground), after=[space, kinds])
        made = [proxy(args, ground), gateway_class(args)]
        self.ready: pulumi.Resource = finish(self, ground, made, runs)
        """Once it is there Gateways of its class are served."""
        self.register_outputs({})


def own_kinds() -> dict[str, Any]:
    """The values of the chart of kinds: Envoy Gateway's own, and not the Gateway API's."""
    return {"crds": {"gatewayAPI": {"enabled": False}, "envoyGateway": {"enabled": True}}}


def values(ground: Ground) -> dict[str, Any]:
    """The values of the controller's chart."""
    small, usual = {"cpu": "20m", "memory": "64Mi"}, {"cpu": "100m", "memory": "256Mi"}
    return {
        "crds": {"enabled": False},
        "deployment": {
            "replicas": ground.replicas,
            "priorityClassName": "system-cluster-critical",
            "envoyGateway": {"resources": {"requests": small if ground.lab else usual}},
            "pod": {"topologySpreadConstraints": [spread({"control-plane": "envoy-gateway"})]},
        },
        # A single one that may not go would hold up every drain.
        "podDisruptionBudget": {"minAvailable": 0 if ground.lab else 1},
    }


def proxy(args: EnvoyGatewayArgs, ground: Ground) -> dict[str, Any]:
    """What proxies are like."""
    small, usual = {"cpu": "20m", "memory": "64Mi"}, {"cpu": "200m", "memory": "256Mi"}
    labels = {"app.kubernetes.io/component": "proxy"}
    kubernetes: dict[str, Any] = {
        "envoyDeployment": {
            "replicas": ground.replicas,
            "container": {
                "image": ground.image("gateway-helm", "envoy"),
                "resources": {"requests": small if ground.lab else usual},
            },
            "pod": {"topologySpreadConstraints": [spread(labels)]},
        },
        "envoyService": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local" if args.keep_client_address else "Cluster",
        },
    }
    if not ground.lab:
        kubernetes["envoyPDB"] = {"maxUnavailable": 1}
    return {
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": {"name": args.gateway_class, "namespace": SPACE},
        "spec": {
            "mergeGateways": args.shared,
            "provider": {"type": "Kubernetes", "kubernetes": kubernetes},
        },
    }


def gateway_class(args: EnvoyGatewayArgs) -> dict[str, Any]:
    """The class by which Gateways call it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {
            "name": args.gateway_class,
            "annotations": {"pulumi.com/waitFor": "condition=Accepted"},
        },
        "spec": {
            "controllerName": "gateway.envoyproxy.io/gatewayclass-controller",
            "parametersRef": {
                "group": "gateway.envoyproxy.io",
                "kind": "EnvoyProxy",
                "namespace": SPACE,
                "name": args.gateway_class,
            },
        },
    }
