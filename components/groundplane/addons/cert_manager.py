"""cert-manager: certificates for what runs on the cluster, asked for by name, renewed in time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import pulumi
from pydantic import AfterValidator, Field, model_validator

from groundplane.ground import Ground, chart, finish, namespace, network_policy, spread
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need
from groundplane.spec.checks import Problem
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Host

__all__ = ["CertManager", "CertManagerArgs"]

SPACE, OWN = "cert-manager", "cluster"
WEBHOOK, METRICS = 10250, 9402
LIFETIME = "87600h"
"""Of a CA that is made here: ten years, of which cert-manager renews it after two thirds."""
OfNamespace = Annotated[
    str,
    AfterValidator(
        v.matches(
            re.compile(rf"{v.LABEL.pattern}/{v.LABEL.pattern}"),
            "{} is not NAMESPACE/NAME",
            "Write one such as web/public.",
        )
    ),
]


class AcmeServer(Model):
    """An ACME server, such as Let's Encrypt, or one of your own."""

    email: v.Text = Field(examples=["platform@example.org"])
    """Where the server writes to about certificates that end."""
    server: v.Url = "https://acme-v02.api.letsencrypt.org/directory"
    """The server's directory."""
    ingress_class: v.Name | None = None
    """The ingress class through which the server finds an answer by HTTP, on port 80."""
    gateway: OfNamespace | None = Field(default=None, examples=["web/public"])
    """The Gateway, as NAMESPACE/NAME, through which it does; it listens on port 80."""
    dns: dict[str, Any] | None = Field(
        default=None,
        examples=[
            {
                "rfc2136": {
                    "nameserver": "192.0.2.53",
                    "tsigKeyName": "acme",
                    "tsigSecretSecretRef": {"name": "acme", "key": "secret"},
                }
            }
        ],
    )
    """A server of your domain that takes the answer: a `dns01` solver (acme.cert-manager.io) as it
    stands there, its Secrets in the namespace `cert-manager`. For names that are not reached from
    outside, and for wildcards."""

    @model_validator(mode="after")
    def _one(self) -> AcmeServer:
        if [self.ingress_class, self.gateway, self.dns].count(None) != 2:
            raise v.BadValueError(
                "names none or several of ingressClass, gateway and dns",
                "Write one of them.",
                "The server asks for a proof that the name is yours",
            )
        return self


class CertIssuer(Model):
    """Who signs: one of the two."""

    ca_secret: v.Name | None = None
    """A CA of yours: a Secret in the namespace `cert-manager` with `tls.crt` and `tls.key`."""
    acme: AcmeServer | None = None
    """An ACME server."""

    @model_validator(mode="after")
    def _one(self) -> CertIssuer:
        if (self.ca_secret is None) == (self.acme is None):
            raise v.BadValueError("names both caSecret and acme, or neither", "Write one of them.")
        return self


class CertManagerArgs(AddonArgs):
    """Who signs certificates."""

    own_ca: bool = True
    """Whether there is an issuer `cluster`, by a CA that cert-manager makes, and whose key lies in
    the cluster."""
    issuers: dict[v.Name, CertIssuer] = Field(
        default={},
        examples=[{"public": {"acme": {"email": "platform@example.org", "gateway": "web/public"}}}],
    )
    """Other issuers, by the name that a certificate calls them by: ClusterIssuers."""

    def also_needs(self) -> list[Need]:
        """The Gateway API, where an answer goes through a Gateway."""
        servers = [issuer.acme for issuer in self.issuers.values() if issuer.acme]
        return [Need.GATEWAY_CRDS] if any(acme.gateway for acme in servers) else []

    def clashes(self, cluster: Cluster, hosts: Sequence[Host]) -> Iterator[Problem]:
        """Two issuers of one name."""
        for name in sorted({OWN, f"{OWN}-root"} & self.issuers.keys() if self.own_ca else ()):
            yield Problem(
                ("issuers", name),
                "ownCa makes an issuer of this name",
                "One would sign in the other's place",
                "Choose another name, or write `ownCa: false`.",
            )


@addon(
    "cert-manager",
    args=CertManagerArgs,
    namespace=SPACE,
    sources=["cert-manager"],
    # It looks for Gateways when it starts, and not later.
    uses=[Need.GATEWAY_CRDS, Need.MONITOR_CRDS],
    provides=[Need.CERTIFICATES],
    profile="standard",
)
class CertManager(pulumi.ComponentResource):
    """Certificates for what runs on the cluster, asked for by name and renewed in time.

    Source: https://github.com/cert-manager/cert-manager/tree/v1.21.1/deploy/charts/cert-manager
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: CertManagerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:CertManager", name, None, opts)
        space = namespace(self, ground)
        ports = [{"port": port, "protocol": "TCP"} for port in (WEBHOOK, METRICS)]
        policy = network_policy(self, ground, ingress=[{"ports": ports}], after=[space])
        # One of its hooks waits until the webhook answers: before, no issuer is taken.
        runs = chart(self, ground, "cert-manager", values(ground), after=[space, policy])
        self.ready: pulumi.Resource = finish(self, ground, issuers(args), runs)
        """Once it is there certificates can be asked for."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The chart's values."""

    def part(cpu: str, memory: str, component: str) -> dict[str, Any]:
        return {
            "replicaCount": ground.replicas,
            # A single one that may not go would hold up every drain.
            "podDisruptionBudget": {"enabled": not ground.lab},
            "resources": {
                "requests": {"cpu": "10m", "memory": "32Mi"}
                if ground.lab
                else {"cpu": cpu, "memory": memory}
            },
            "topologySpreadConstraints": [spread({"app.kubernetes.io/component": component})],
        }

    return {
        **part("50m", "128Mi", "controller"),
        "webhook": part("20m", "64Mi", "webhook"),
        "cainjector": part("20m", "128Mi", "cainjector"),
        # Taken out with the chart, they would take all certificates with them.
        "crds": {"enabled": True, "keep": True},
        "global": {
            "priorityClassName": "system-cluster-critical",
            # In its own namespace it needs no rights in kube-system.
            "leaderElection": {"namespace": SPACE},
        },
        "config": {
            "apiVersion": "controller.config.cert-manager.io/v1alpha1",
            "kind": "ControllerConfiguration",
            "gatewayAPI": {"enabled": ground.has(Need.GATEWAY_CRDS)},
        },
        "prometheus": {"servicemonitor": {"enabled": ground.has(Need.MONITOR_CRDS)}},
    }


def issuers(args: CertManagerArgs) -> list[dict[str, Any]]:
    """The ClusterIssuers, and the CAs of those that have one of their own."""
    made = own_ca() if args.own_ca else []
    for name, issuer in sorted(args.issuers.items()):
        if issuer.ca_secret:
            made.append(_issuer(name, {"ca": {"secretName": issuer.ca_secret}}))
        elif issuer.acme:
            made.append(_issuer(name, {"acme": acme(name, issuer.acme)}))
    return made


def own_ca() -> list[dict[str, Any]]:
    """A CA: a key that signs its own certificate, and the issuer that signs with it."""
    secret = f"{OWN}-ca"
    certificate = {
        "isCA": True,
        "commonName": secret,
        "secretName": secret,
        "duration": LIFETIME,
        # With another key, all that it signed before would be worth nothing.
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Never"},
        "issuerRef": {"kind": "ClusterIssuer", "name": f"{OWN}-root"},
    }
    return [
        _issuer(f"{OWN}-root", {"selfSigned": {}}),
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {
                "name": secret,
                "namespace": SPACE,
                "annotations": {"pulumi.com/waitFor": "condition=Ready"},
            },
            "spec": certificate,
        },
        _issuer(OWN, {"ca": {"secretName": secret}}),
    ]


def acme(name: str, server: AcmeServer) -> dict[str, Any]:
    """An issuer's `acme`."""
    solver: dict[str, Any] = {"dns01": server.dns}
    if server.ingress_class:
        solver = {"http01": {"ingress": {"ingressClassName": server.ingress_class}}}
    elif server.gateway:
        space, _, gateway = server.gateway.partition("/")
        parent = {"kind": "Gateway", "namespace": space, "name": gateway}
        solver = {"http01": {"gatewayHTTPRoute": {"parentRefs": [parent]}}}
    return {
        "server": server.server,
        "email": server.email,
        "privateKeySecretRef": {"name": f"{name}-account"},
        "solvers": [solver],
    }


def _issuer(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "ClusterIssuer",
        "metadata": {"name": name},
        "spec": spec,
    }
