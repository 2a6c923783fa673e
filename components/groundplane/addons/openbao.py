"""openbao: a store of secrets, which gives them to who may have them."""

from __future__ import annotations

from typing import Any

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace, network_policy, objects, password
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Openbao", "OpenbaoArgs"]

NAME, PORT = "openbao", 8200
TLS, SEAL = "openbao-tls", "openbao-seal"


class OpenbaoArgs(AddonArgs):
    """Where its data lie, who signs its certificate, and who opens it."""

    size: v.Quantity = "10Gi"
    """The size of each server's volume."""
    storage_class: v.Text | None = Field(default=None, examples=["topolvm-fast"])
    """The storage class of its volumes; the default one unless given."""
    issuer: v.Name = "cluster"
    """The ClusterIssuer that signs its certificate; one that can sign names of the cluster."""
    opens_itself: bool = True
    """Whether a server opens itself when it starts, with a key in the stack's state and in the
    Secret `openbao-seal`: who may read that can read the data on its volumes. Otherwise somebody
    opens each one by hand, after each restart. To change it later is a migration of its own."""


@addon(
    NAME,
    args=OpenbaoArgs,
    namespace=NAME,
    sources=[NAME],
    needs=[Need.BLOCK_STORAGE, Need.CERTIFICATES],
    uses=[Need.MONITOR_CRDS],
    provides=[Need.SECRET_STORE],
)
class Openbao(pulumi.ComponentResource):
    """A store of secrets: three servers that agree, each on a node of its own.

    Its pods are not Ready before it is initialised, which is done once and by hand, for that shows
    the keys to it: `kubectl -n openbao exec -ti openbao-0 -- bao operator init`. A renewed
    certificate is taken when a pod restarts, and a new version when its pod is deleted.

    Source: https://github.com/openbao/openbao-helm/tree/main/charts/openbao
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: OpenbaoArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Openbao", name, None, opts)
        space = namespace(self, ground)
        # It asks everybody who they are.
        ingress = [{"ports": [{"port": PORT, "protocol": "TCP"}]}]
        before = [space, network_policy(self, ground, ingress=ingress, after=[space])]
        # Its pods mount both when they start.
        before += objects(self, ground, [certificate(args)], [space])
        if args.opens_itself:
            before.append(password(self, ground, SEAL, {"key": None}, after=[space]))
        self.ready: pulumi.Resource = chart(
            self, ground, NAME, values(args, ground), after=before, wait=False
        )
        """Once it is there it can be initialised."""
        self.register_outputs({})


def certificate(args: OpenbaoArgs) -> dict[str, Any]:
    """For all names by which it is called, by its own pods, too."""
    services = [NAME, f"{NAME}-active", f"{NAME}-standby", f"*.{NAME}-internal"]
    names = [service + rest for service in services for rest in ("", f".{NAME}", f".{NAME}.svc")]
    return {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {
            "name": TLS,
            "namespace": NAME,
            "annotations": {"pulumi.com/waitFor": "condition=Ready"},
        },
        "spec": {
            "secretName": TLS,
            "duration": "8760h",
            "dnsNames": [*names, "localhost"],
            "ipAddresses": ["127.0.0.1"],
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"kind": "ClusterIssuer", "name": args.issuer},
        },
    }


def settings(args: OpenbaoArgs, servers: int) -> str:
    """The servers' settings: each looks for all others until it finds one that is open."""
    joins = "".join(
        f"""
  retry_join {{
    leader_api_addr     = "https://{NAME}-{number}.{NAME}-internal:{PORT}"
    leader_ca_cert_file = "/openbao/tls/ca.crt"
  }}"""
        for number in range(servers)
    )
    seal = """
seal "static" {
  current_key_id = "1"
  current_key    = "file:///openbao/seal/key"
}
"""
    return f"""ui = true

listener "tcp" {{
  address         = "[::]:{PORT}"
  cluster_address = "[::]:8201"
  tls_cert_file   = "/openbao/tls/tls.crt"
  tls_key_file    = "/openbao/tls/tls.key"

  telemetry {{
    unauthenticated_metrics_access = true
  }}
}}

storage "raft" {{
  path = "/openbao/data"
{joins}
}}
{seal if args.opens_itself else ""}
telemetry {{
  prometheus_retention_time = "60s"
  disable_hostname          = true
}}

service_registration "kubernetes" {{}}
"""


def values(args: OpenbaoArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    servers = 1 if ground.lab else 3
    mounted = {"tls": TLS, **({"seal": SEAL} if args.opens_itself else {})}
    return {
        "global": {"tlsDisable": False},
        "injector": {"enabled": False},
        "server": {
            "ha": {
                "enabled": True,
                "replicas": servers,
                "apiAddr": f"https://{NAME}-active.{NAME}.svc:{PORT}",
                "raft": {
                    "enabled": True,
                    "setNodeId": True,
                    "config": settings(args, servers),
                },
                # A single one that may not go would hold up every drain.
                "disruptionBudget": {"enabled": not ground.lab},
            },
            "dataStorage": {"size": args.size, "storageClass": args.storage_class},
            "volumes": [
                {"name": name, "secret": {"secretName": secret}} for name, secret in mounted.items()
            ],
            "volumeMounts": [
                {"name": name, "mountPath": f"/openbao/{name}", "readOnly": True}
                for name in mounted
            ],
            "extraEnvironmentVars": {"BAO_CACERT": "/openbao/tls/ca.crt"},
            "statefulSet": {
                "securityContext": {
                    "container": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    }
                }
            },
            "resources": {
                "requests": {"cpu": "20m", "memory": "64Mi"}
                if ground.lab
                else {"cpu": "250m", "memory": "256Mi"}
            },
        },
        "serverTelemetry": {"serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)}},
    }
