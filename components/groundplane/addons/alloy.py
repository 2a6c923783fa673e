"""alloy: brings the logs of all pods to the store of logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi

from groundplane.ground import Ground, chart, namespace, network_policy
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Alloy", "AlloyArgs"]

NAME = "alloy"
CONFIG = Path(__file__).with_name("alloy.config")
STATE = "/var/lib/alloy"
METRICS = 12345


class AlloyArgs(AddonArgs):
    """Alloy has nothing to be told: it brings the logs of all pods."""


@addon(
    NAME,
    args=AlloyArgs,
    namespace=NAME,
    sources=[NAME],
    # It reads the nodes' files as root.
    pod_security="privileged",
    needs=[Need.LOGS],
    uses=[Need.MONITOR_CRDS],
    profile="full",
)
class Alloy(pulumi.ComponentResource):
    """Brings the logs of all pods to the store of logs, from each node's files; where it has come
    to is kept on the node, in `/var/lib/alloy`.

    Source: https://github.com/grafana/alloy/tree/main/operations/helm/charts/alloy
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: AlloyArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Alloy", name, None, opts)
        space = namespace(self, ground)
        ingress = [{"ports": [{"port": METRICS, "protocol": "TCP"}]}]
        policy = network_policy(self, ground, ingress=ingress, after=[space])
        self.ready: pulumi.Resource = chart(
            self, ground, NAME, values(ground), after=[space, policy]
        )
        """Once it is there logs come in."""
        self.register_outputs({})


def values(ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    state = {"name": "state", "mountPath": STATE}
    settings = {
        "LOGS_URL": f"{ground.url(Need.LOGS)}/loki/api/v1/push",
        "CLUSTER": ground.spec.cluster.name,
    }
    return {
        "crds": {"create": False},
        "alloy": {
            "configMap": {"content": CONFIG.read_text(encoding="utf-8")},
            "extraEnv": [{"name": key, "value": value} for key, value in settings.items()],
            "storagePath": STATE,
            "mounts": {"varlog": True, "extra": [state]},
            "enableReporting": False,
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "resources": {
                "requests": {"cpu": "20m", "memory": "96Mi"}
                if ground.lab
                else {"cpu": "100m", "memory": "192Mi"}
            },
        },
        "controller": {
            "type": "daemonset",
            "tolerations": [{"operator": "Exists"}],
            "volumes": {
                "extra": [
                    {"name": "state", "hostPath": {"path": STATE, "type": "DirectoryOrCreate"}}
                ]
            },
        },
        # The chart's own would let it read all Secrets.
        "rbac": {
            "rules": [
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
            ],
            "clusterRules": [],
        },
        "serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)},
    }
