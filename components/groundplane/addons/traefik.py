"""Traefik: serves Ingresses, the Gateway API, and routes of its own kinds."""

from __future__ import annotations

from typing import Any

import pulumi
from pydantic import Field

from groundplane.ground import (
    Ground,
    chart,
    finish,
    namespace,
    network_policy,
    objects,
    spread,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Traefik", "TraefikArgs"]

WEB, WEBSECURE, METRICS = 8000, 8443, 9100
NGINX = "nginx"


class TraefikArgs(AddonArgs):
    """What Traefik serves, and where it is reached."""

    address: v.NodeAddress | None = Field(default=None, examples=["192.0.2.80"])
    """The address of its service, from a pool of MetalLB's. Without it, any is taken."""
    keep_client_address: bool = True
    """Whether what it serves sees its clients' addresses. Then only nodes with a Traefik take what
    comes in."""
    gateway: bool = True
    """Whether it serves the Gateway API, as the class `traefik`. A listener's port is 8000 or 8443
    in a Gateway, and 80 or 443 outside."""
    default_class: bool = True
    """Whether it serves Ingresses that name no class."""
    nginx_ingresses: bool = False
    """Whether it serves Ingresses of the class `nginx`, and most annotations of ingress-nginx: the
    way on from that project, which ended in March 2026 and mends nothing any more."""

    def also_needs(self) -> list[Need]:
        """The kinds that it serves."""
        return [Need.GATEWAY_CRDS] if self.gateway else []

    def also_provides(self) -> list[Need]:
        """A gateway class."""
        return [Need.GATEWAY] if self.gateway else []


@addon(
    "traefik",
    args=TraefikArgs,
    namespace="traefik",
    sources=["traefik"],
    # Its service waits for an address.
    uses=[Need.LOAD_BALANCER, Need.MONITOR_CRDS],
)
class Traefik(pulumi.ComponentResource):
    """Serves Ingresses, the Gateway API, and routes of its own kinds.

    Source: https://github.com/traefik/traefik-helm-chart/tree/v41.3.0/traefik
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: TraefikArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Traefik", name, None, opts)
        space = namespace(self, ground)
        ports = [{"port": port, "protocol": "TCP"} for port in (WEB, WEBSECURE, METRICS)]
        before = [space, network_policy(self, ground, ingress=[{"ports": ports}], after=[space])]
        if args.nginx_ingresses:
            # Where ingress-nginx is still there, it is the owner of its class.
            before += objects(self, ground, [nginx_class()], after=[space], patch=True)
        runs = chart(self, ground, "traefik", values(args, ground), after=before)
        made = [gateway_class()] if args.gateway else []
        self.ready: pulumi.Resource = finish(self, ground, made, runs)
        """Once it is there it serves."""
        self.register_outputs({})


def values(args: TraefikArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    monitored = ground.has(Need.MONITOR_CRDS)
    small, usual = {"cpu": "20m", "memory": "64Mi"}, {"cpu": "200m", "memory": "128Mi"}
    return {
        "deployment": {"replicas": ground.replicas},
        "podDisruptionBudget": {"enabled": not ground.lab, "maxUnavailable": 1},
        "topologySpreadConstraints": [spread({"app.kubernetes.io/name": "traefik"})],
        "priorityClassName": "system-cluster-critical",
        "resources": {"requests": small if ground.lab else usual},
        "ingressClass": {"enabled": True, "isDefaultClass": args.default_class},
        # Gateways are written by those who need them.
        "gateway": {"enabled": False},
        "gatewayClass": {"enabled": False},
        "providers": {
            "kubernetesGateway": {"enabled": args.gateway},
            "kubernetesIngressNGINX": {
                "enabled": args.nginx_ingresses,
                "publishService": {"enabled": args.nginx_ingresses},
            },
        },
        "service": {
            "annotations": {"metallb.io/loadBalancerIPs": args.address} if args.address else {},
            "spec": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local" if args.keep_client_address else "Cluster",
            },
        },
        "metrics": {
            "prometheus": {
                "service": {"enabled": monitored},
                "serviceMonitor": {"enabled": monitored},
                # The chart is rendered without asking the cluster what kinds it has.
                "disableAPICheck": monitored,
            }
        },
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
    }


def gateway_class() -> dict[str, Any]:
    """The class by which Gateways call it."""
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {
            "name": "traefik",
            "annotations": {"pulumi.com/waitFor": "condition=Accepted"},
        },
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }


def nginx_class() -> dict[str, Any]:
    """The class that Ingresses for ingress-nginx name."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": NGINX},
        "spec": {"controller": "k8s.io/ingress-nginx"},
    }
