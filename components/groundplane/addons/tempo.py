"""tempo: a store of traces."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

import pulumi
from pydantic import Field

from groundplane.ground import (
    ADDONS,
    Ground,
    chart,
    data_source,
    finish,
    namespace,
    network_policy,
    password,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Tempo", "TempoArgs"]

NAME, PORT, OTLP = "tempo", 3200, 4317
SECRET = "tempo-bucket"
HOST = f"http://{NAME}.{NAME}.svc"


class TempoArgs(AddonArgs):
    """How much is kept, and where."""

    retention_days: Annotated[int, Field(ge=1, le=365)] = 14
    """How long traces are kept."""
    size: v.Quantity = "20Gi"
    """The size of its volume, which holds all traces, or with `bucket` the newest."""
    storage_class: v.Text | None = Field(default=None, examples=["topolvm-large"])
    """The storage class of its volume; the default one unless given."""
    bucket: bool = False
    """Whether traces lie in a bucket of the cluster's object store."""

    def also_needs(self) -> list[Need]:
        """Who gives the bucket."""
        return [Need.OBJECT_STORE] if self.bucket else []

    def buckets(self) -> list[str]:
        """One of its own."""
        return [NAME] if self.bucket else []

    def urls(self) -> dict[Need, str]:
        """Where it takes OTLP by gRPC."""
        return {Need.TRACES: f"{HOST}:{OTLP}"}


@addon(
    NAME,
    args=TempoArgs,
    namespace=NAME,
    sources=[NAME],
    needs=[Need.BLOCK_STORAGE],
    uses=[Need.MONITOR_CRDS, Need.MONITORING],
    provides=[Need.TRACES],
)
class Tempo(pulumi.ComponentResource):
    """A store of traces, in one server: while it is moved to another node, none are taken. It does
    not ask who somebody is: only add-ons reach it, where network policies are enforced.

    Source: https://github.com/grafana-community/helm-charts/tree/main/charts/tempo
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: TempoArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Tempo", name, None, opts)
        space = namespace(self, ground)
        ports = [{"port": port, "protocol": "TCP"} for port in (PORT, OTLP)]
        ingress = [{"from": [ADDONS], "ports": ports}]
        before = [space, network_policy(self, ground, ingress=ingress, after=[space])]
        if args.bucket:
            keys: dict[str, Any] = {
                "AWS_ACCESS_KEY_ID": NAME,
                "AWS_SECRET_ACCESS_KEY": ground.buckets[NAME],
            }
            # Its pod reads it when it starts.
            before.append(password(self, ground, SECRET, keys, after=[space]))
        runs = chart(self, ground, NAME, values(args, ground), after=before)
        source = data_source(ground, "tempo", "Tempo", {"url": f"{HOST}:{PORT}"})
        made = [source] if ground.has(Need.MONITORING) else []
        self.ready: pulumi.Resource = finish(self, ground, made, runs)
        """Once it is there it takes traces."""
        self.register_outputs({})


def values(args: TempoArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    small, usual = {"cpu": "20m", "memory": "128Mi"}, {"cpu": "250m", "memory": "1Gi"}
    volume: dict[str, Any] = {"enabled": True, "size": args.size}
    if args.storage_class:
        volume["storageClassName"] = args.storage_class
    return {
        "tempo": {
            "retention": f"{24 * args.retention_days}h",
            "reportingEnabled": False,
            # It is set aside, and never used: the garbage collector runs less often for it.
            "memBallastSizeMbs": 16 if ground.lab else 256,
            "storage": {"trace": trace(args, ground)},
            "extraEnvFrom": [{"secretRef": {"name": SECRET}}] if args.bucket else [],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "resources": {"requests": small if ground.lab else usual},
        },
        "persistence": volume,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)},
    }


def trace(args: TempoArgs, ground: Ground) -> dict[str, Any]:
    """Where traces lie. The keys of a bucket come from the pod's environment."""
    if not args.bucket:
        return {"backend": "local"}
    url = urlsplit(ground.url(Need.OBJECT_STORE) or "")
    return {
        "backend": "s3",
        "s3": {
            "bucket": NAME,
            "endpoint": url.netloc,
            "region": "us-east-1",
            "forcepathstyle": True,
            "insecure": url.scheme == "http",
        },
    }
