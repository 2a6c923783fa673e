"""Istio: a service mesh of sidecars, and a gateway into it."""

from __future__ import annotations

from typing import Any, Literal

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace, spread
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Istio", "IstioArgs"]

DEFAULT_SECCOMP = {"type": "RuntimeDefault"}


class IstioArgs(AddonArgs):
    """What the mesh lets out, and how it is entered."""

    outbound: Literal["any", "known"] = "any"
    """Whether pods of the mesh reach what is outside of it: everything, or only what a
    ServiceEntry names."""
    access_log: bool = False
    """Whether sidecars write a line for each request to their logs."""
    ingress_gateway: bool = False
    """Whether there is a gateway for Istio's own Gateway and VirtualService. Those of the Gateway
    API need none: each gets one of its own."""
    ingress_address: v.NodeAddress | None = Field(default=None, examples=["192.0.2.81"])
    """The address of that gateway's service, from a pool of MetalLB's. Without it, any is taken."""


@addon(
    "istio",
    args=IstioArgs,
    namespace="istio-system",
    sources=["istio-base", "istiod", "istio-gateway"],
    # It serves the Gateway API where that is there when it starts.
    needs=[Need.GATEWAY_CRDS],
    uses=[Need.LOAD_BALANCER],
    provides=[Need.GATEWAY],
)
class Istio(pulumi.ComponentResource):
    """A service mesh: pods of namespaces with the label `istio-injection: enabled` get a sidecar,
    which encrypts, routes and measures; Gateways of the class `istio` lead into it. A container
    that sets up each pod's network needs rights that the Pod Security Standards `baseline` and
    `restricted` refuse: such namespaces are `privileged`.

    Source: https://github.com/istio/istio/tree/1.30.3/manifests/charts
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: IstioArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Istio", name, None, opts)
        space = namespace(self, ground)
        kinds = chart(self, ground, "istio-base", BASE, after=[space])
        self.ready: pulumi.Resource = chart(
            self, ground, "istiod", values(args, ground), after=[space, kinds]
        )
        """Once it is there pods get sidecars."""
        if args.ingress_gateway:
            # It is a pod whose only container istiod fills in.
            self.ready = chart(
                self, ground, "istio-gateway", gateway(args, ground), after=[space, self.ready]
            )
        self.register_outputs({})


# Otherwise istiod sets it once it is up, and the next version of the chart would set it back.
BASE = {"base": {"validationFailurePolicy": "Fail"}}


def values(args: IstioArgs, ground: Ground) -> dict[str, Any]:
    """The values of istiod's chart."""
    small, usual = {"cpu": "20m", "memory": "128Mi"}, {"cpu": "250m", "memory": "1Gi"}
    of_sidecar = (
        {"cpu": "10m", "memory": "48Mi"} if ground.lab else {"cpu": "50m", "memory": "96Mi"}
    )
    mesh = {
        "outboundTrafficPolicy": {
            "mode": "ALLOW_ANY" if args.outbound == "any" else "REGISTRY_ONLY"
        },
        "accessLogFile": "/dev/stdout" if args.access_log else "",
    }
    return {
        **BASE,
        # Where nothing gives metrics, it stays at its least.
        "autoscaleEnabled": not ground.lab,
        "autoscaleMin": ground.replicas,
        "resources": {"requests": small if ground.lab else usual},
        "topologySpreadConstraints": [spread({"app": "istiod"})],
        "seccompProfile": DEFAULT_SECCOMP,
        "gateways": {"seccompProfile": DEFAULT_SECCOMP},
        "meshConfig": mesh,
        "global": {
            # The project's own registry ends with this version; Docker Hub stays.
            "hub": "docker.io/istio",
            "tag": ground.spec.catalogue.addon("istiod").version,
            "priorityClassName": "system-cluster-critical",
            "defaultPodDisruptionBudget": {"enabled": not ground.lab},
            "networkPolicy": {"enabled": True},
            "proxy": {
                "clusterDomain": ground.spec.cluster.domain,
                "resources": {"requests": of_sidecar},
                "seccompProfile": DEFAULT_SECCOMP,
            },
        },
    }


def gateway(args: IstioArgs, ground: Ground) -> dict[str, Any]:
    """The values of the gateway's chart."""
    small, usual = {"cpu": "20m", "memory": "64Mi"}, {"cpu": "200m", "memory": "256Mi"}
    address = {"metallb.io/loadBalancerIPs": args.ingress_address}
    return {
        "autoscaling": {"enabled": not ground.lab, "minReplicas": ground.replicas},
        # A single one that may not go would hold up every drain.
        "podDisruptionBudget": {} if ground.lab else {"maxUnavailable": 1},
        "resources": {"requests": small if ground.lab else usual},
        "topologySpreadConstraints": [spread({"app": "istio-gateway"})],
        "priorityClassName": "system-cluster-critical",
        # In place of the chart's own, which says nothing of seccomp.
        "securityContext": {
            "seccompProfile": DEFAULT_SECCOMP,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "service": {"annotations": address if args.ingress_address else {}},
    }
