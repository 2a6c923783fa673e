"""loki: a store of logs, asked by label and text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pulumi
from pydantic import Field

from groundplane.ground import (
    ADDONS,
    Ground,
    chart,
    dashboard,
    data_source,
    finish,
    namespace,
    network_policy,
    password,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["Loki", "LokiArgs"]

NAME, PORT = "loki", 3100
SECRET = "loki-bucket"
DASHBOARD = Path(__file__).with_name("loki.dashboard.json")
URL = f"http://{NAME}.{NAME}.svc:{PORT}"


class LokiArgs(AddonArgs):
    """How much is kept, and where."""

    retention_days: Annotated[int, Field(ge=1, le=3650)] = 31
    """How long logs are kept."""
    size: v.Quantity = "50Gi"
    """The size of each of its volumes, which hold all logs, or with `bucket` the newest. A volume
    that is full takes no more."""
    storage_class: v.Text | None = Field(default=None, examples=["topolvm-large"])
    """The storage class of its volumes; the default one unless given."""
    bucket: bool = False
    """Whether logs lie in a bucket of the cluster's object store. There are then three servers that
    all take what comes, and not one. It cannot change later without losing what there is."""

    def also_needs(self) -> list[Need]:
        """Who gives the bucket."""
        return [Need.OBJECT_STORE] if self.bucket else []

    def buckets(self) -> list[str]:
        """One of its own."""
        return [NAME] if self.bucket else []

    def urls(self) -> dict[Need, str]:
        """Its service."""
        return {Need.LOGS: URL}


@addon(
    NAME,
    args=LokiArgs,
    namespace=NAME,
    sources=[NAME],
    needs=[Need.BLOCK_STORAGE],
    # Grafana is told of it, and the chart asks for the kinds of monitors.
    uses=[Need.MONITOR_CRDS, Need.MONITORING],
    provides=[Need.LOGS],
    profile="full",
)
class Loki(pulumi.ComponentResource):
    """A store of logs, for Grafana and whoever of the add-ons writes to it. It does not ask who
    that is: nobody else may reach it, where network policies are enforced.

    Source: https://github.com/grafana-community/helm-charts/tree/main/charts/loki
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: LokiArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Loki", name, None, opts)
        space = namespace(self, ground)
        ingress = [{"from": [ADDONS], "ports": [{"port": PORT, "protocol": "TCP"}]}]
        before = [space, network_policy(self, ground, ingress=ingress, after=[space])]
        if args.bucket:
            keys: dict[str, Any] = {
                "AWS_ACCESS_KEY_ID": NAME,
                "AWS_SECRET_ACCESS_KEY": ground.buckets[NAME],
            }
            # Its pods read it when they start.
            before.append(password(self, ground, SECRET, keys, after=[space]))
        runs = chart(self, ground, NAME, values(args, ground), after=before)
        shown = [data_source(ground, "loki", "Loki", {"url": URL}), dashboard(ground, DASHBOARD)]
        made = shown if ground.has(Need.MONITORING) else []
        self.ready: pulumi.Resource = finish(self, ground, made, runs)
        """Once it is there it takes logs."""
        self.register_outputs({})


def values(args: LokiArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values."""
    watched = {"enabled": ground.has(Need.MONITOR_CRDS)}
    servers = 3 if args.bucket and not ground.lab else 1
    off: dict[str, Any] = {"enabled": False}
    return {
        "deploymentMode": "Monolithic",
        "loki": {
            "auth_enabled": False,
            "commonConfig": {"replication_factor": servers},
            "storage": storage(args, ground),
            "schemaConfig": {
                "configs": [
                    {
                        # What was written by one schema is read by no other: it stays.
                        "from": "2024-04-01",
                        "store": "tsdb",
                        "object_store": "s3" if args.bucket else "filesystem",
                        "schema": "v13",
                        "index": {"prefix": "index_", "period": "24h"},
                    }
                ]
            },
            "limits_config": {"retention_period": f"{24 * args.retention_days}h"},
            "compactor": {
                "retention_enabled": True,
                "delete_request_store": "s3" if args.bucket else "filesystem",
            },
            "analytics": {"reporting_enabled": False},
        },
        "singleBinary": {
            "replicas": servers,
            "persistence": {"size": args.size, "storageClass": args.storage_class},
            "podDisruptionBudget": {"maxUnavailable": 1},
            "extraEnvFrom": [{"secretRef": {"name": SECRET}}] if args.bucket else [],
            "resources": {
                "requests": {"cpu": "50m", "memory": "128Mi"}
                if ground.lab
                else {"cpu": "500m", "memory": "1Gi"}
            },
        },
        # The parts of the other ways to run it.
        **{part: {"replicas": 0} for part in ("read", "write", "backend")},
        # Its caches would take ten GiB of memory, its gateway only asks who somebody is.
        **{part: off for part in ("gateway", "chunksCache", "resultsCache", "lokiCanary", "test")},
        # It would read all Secrets of its namespace for rules that nobody writes.
        "sidecar": {"rules": off},
        "monitoring": {"serviceMonitor": watched, "rules": watched, "alerts": watched},
    }


def storage(args: LokiArgs, ground: Ground) -> dict[str, Any]:
    """Where logs lie. The keys of a bucket come from the pods' environment."""
    if not args.bucket:
        return {"type": "filesystem"}
    url = ground.url(Need.OBJECT_STORE) or ""
    return {
        "type": "s3",
        "bucketNames": {"chunks": NAME, "ruler": NAME},
        "s3": {
            "endpoint": url,
            "region": "us-east-1",
            "s3ForcePathStyle": True,
            "insecure": url.startswith("http:"),
        },
    }
