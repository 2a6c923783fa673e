"""seaweedfs: an object store in the cluster that speaks S3."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pulumi
from pydantic import Field

from groundplane.ground import Ground, chart, namespace, objects, password, random_text
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import BUCKETS, AddonArgs, Claim, Need

__all__ = ["Seaweedfs", "SeaweedfsArgs"]

NAME = "seaweedfs"
SECRET = "seaweedfs-users"
S3, METRICS = 8333, 9327


class SeaweedfsArgs(AddonArgs):
    """How much it holds, and on what."""

    size: v.Quantity = "100Gi"
    """The size of each server's volume. It can be made larger later, by hand: in the claims."""
    servers: Annotated[int, Field(ge=1, le=50)] | None = None
    """How many servers hold the data; three unless given, or one in a lab."""
    copies: Annotated[int, Field(ge=1, le=3)] | None = None
    """On how many servers each piece of data lies; two unless given, or one in a lab. One is enough
    on a storage class that keeps copies itself."""
    storage_class: v.Text | None = Field(default=None, examples=["topolvm-large"])
    """The storage class of its volumes; the default one unless given."""

    def claims(self) -> list[Claim]:
        """Two places for buckets would be one too many."""
        return [BUCKETS]

    def urls(self) -> dict[Need, str]:
        """Its gateway's service."""
        return {Need.OBJECT_STORE: f"http://{NAME}-s3.{NAME}.svc:{S3}"}


@addon(
    "seaweedfs",
    args=SeaweedfsArgs,
    namespace=NAME,
    sources=[NAME],
    needs=[Need.BLOCK_STORAGE],
    uses=[Need.MONITOR_CRDS],
    provides=[Need.OBJECT_STORE],
)
class Seaweedfs(pulumi.ComponentResource):
    """An object store that speaks S3, on volumes of the cluster, with a bucket and a user for each
    add-on that asks for one. It has one filer, whose volume holds what lies where: while that is
    moved to another node the store pauses.

    What it holds is in the cluster, and lost with it.
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: SeaweedfsArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Seaweedfs", name, None, opts)
        space = namespace(self, ground)
        admin = random_text(f"{name}-admin", pulumi.ResourceOptions(parent=self))
        keys = pulumi.Output.all(**{"admin": admin, **ground.buckets})
        # Its gateway reads it when it starts.
        secret = password(
            self, ground, SECRET, {"seaweedfs_s3_config": keys.apply(users)}, after=[space]
        )
        budgets = [] if ground.lab else objects(self, ground, list(map(budget, SERVERS)), [space])
        self.ready: pulumi.Resource = chart(
            self, ground, NAME, values(args, ground), after=[secret, *budgets]
        )
        """Once it is there it answers, and has all buckets."""
        self.register_outputs({})


SERVERS = ("master", "volume", "s3")
"""What there are several of."""


def users(keys: dict[str, str]) -> str:
    """Who may do what: each user of a bucket that bucket, and the administrator all. Without any
    user it would let everybody do everything."""
    return json.dumps(
        {
            "identities": [
                {
                    "name": name,
                    "credentials": [{"accessKey": name, "secretKey": key}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"]
                    if name == "admin"
                    else [f"{may}:{name}" for may in ("Read", "Write", "List", "Tagging")],
                }
                for name, key in sorted(keys.items())
            ]
        }
    )


def budget(component: str) -> dict[str, Any]:
    """One of a kind may be away at a time."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": component}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"{NAME}-{component}", "namespace": NAME},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
    }


def values(args: SeaweedfsArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values.

    Source: https://github.com/seaweedfs/seaweedfs/tree/4.44/k8s/charts/seaweedfs
    """
    copies = args.copies or (1 if ground.lab else 2)
    # Its own notation: how many more copies on other servers of the rack.
    placement = f"00{copies - 1}"
    monitored = ground.has(Need.MONITOR_CRDS)
    return {
        "global": {
            "seaweedfs": {
                "enableReplication": copies > 1,
                "replicationPlacement": placement,
                "monitoring": {"enabled": monitored},
            }
        },
        "master": {
            "replicas": 1 if ground.lab else 3,
            "defaultReplication": placement,
            "data": _volume("5Gi", args),
            **_pod("100m", "256Mi", ground),
        },
        "volume": {
            "replicas": args.servers or (1 if ground.lab else 3),
            "dataDirs": [{"name": "data1", "maxVolumes": 0, **_volume(args.size, args)}],
            # Its pod would run with an old image, and as root.
            "resizeHook": {"enabled": False},
            **_pod("250m", "512Mi", ground),
        },
        "filer": {
            "replicas": 1,
            "defaultReplicaPlacement": placement,
            "data": _volume("25Gi", args),
            **_pod("250m", "512Mi", ground),
        },
        "s3": {
            "enabled": True,
            "replicas": ground.replicas,
            "port": S3,
            "enableAuth": True,
            "existingConfigSecret": SECRET,
            "createBuckets": [{"name": name} for name in sorted(ground.buckets)],
            # It reads its users only when it starts.
            "podAnnotations": {"groundplane.io/buckets": ".".join(sorted(ground.buckets))},
            **_pod("100m", "256Mi", ground),
        },
        # All but the gateway take whatever they are told, from whoever reaches them.
        "networkPolicy": {
            "enabled": True,
            "components": {"s3": {"extraIngress": [{"ports": [{"port": S3}]}]}},
            "extraIngress": [{"ports": [{"port": METRICS}]}] if monitored else [],
        },
    }


def _volume(size: str, args: SeaweedfsArgs) -> dict[str, Any]:
    return {
        "type": "persistentVolumeClaim",
        "size": size,
        "storageClass": args.storage_class or "",
    }


def _pod(cpu: str, memory: str, ground: Ground) -> dict[str, Any]:
    """What is equal for all of its pods."""
    return {
        "logs": {"type": "emptyDir"},
        "podSecurityContext": {
            "enabled": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containerSecurityContext": {
            "enabled": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"}
            if ground.lab
            else {"cpu": cpu, "memory": memory}
        },
    }
