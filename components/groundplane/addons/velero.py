"""velero: backups of the cluster's objects and volumes, and the proof that they can be restored."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pulumi
from pydantic import AfterValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from groundplane.ground import (
    LOCKED,
    NOBODY,
    SMALL,
    Ground,
    account,
    chart,
    namespace,
    objects,
    password,
    script,
    script_pod,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import AddonArgs, Need
from groundplane.spec.model import Model

__all__ = ["Drill", "S3Location", "Schedule", "Velero", "VeleroArgs"]

NAME = "velero"
OUTSIDE, INSIDE = "external", "in-cluster"
DRILL, SCRATCH = "restore-drill", "restore-drill-scratch"
SCRIPT = Path(__file__).with_name("restore_drill.sh")
PORT = 8080

Cron = Annotated[
    str,
    AfterValidator(
        v.matches(
            re.compile(r"[0-9*/,-]+( [0-9A-Za-z*/,?-]+){4}"),
            "{} is not a schedule of cron",
            "Write minute, hour, day of the month, month and day of the week: 15 1 * * *.",
        )
    ),
]


def outside(url: str) -> str:
    """The URL of something that does not go down with the cluster."""
    host = urlsplit(url).hostname or ""
    if host.endswith((".svc", ".cluster.local")) or ".svc." in host:
        raise v.BadValueError(
            f"{v.show(url)} is a service of the cluster",
            "Name an object store elsewhere; for a second copy in the cluster write "
            "`inCluster: true`.",
            "A backup that lies only in the cluster is lost with it",
        )
    return url


class S3Location(Model):
    """A bucket outside of the cluster that speaks S3. Its secret key is the stack's secret
    `groundplane:veleroSecretKey`."""

    url: Annotated[v.Url, AfterValidator(outside)] = Field(examples=["https://s3.example.org"])
    """The URL of the object store, without the bucket."""
    bucket: v.Text = Field(examples=["metal-backup"])
    """The bucket; it must exist."""
    prefix: v.Text | None = Field(default=None, examples=["metal"])
    """The folder in the bucket. Two clusters must not have the same."""
    region: v.Text = "us-east-1"
    """The region that requests are signed for."""
    access_key: v.Text = Field(examples=["velero"])
    """The access key's id."""
    ca: v.Certificate | None = None
    """The certificate that signed the object store's, in PEM form, where the public ones do not
    know it."""

    @model_validator(mode="after")
    def _whole(self) -> S3Location:
        if self.ca is not None and "-----BEGIN" not in self.ca:
            raise v.BadValueError("ca is a path", "Write the certificate itself.")
        return self


class Schedule(Model):
    """When a backup is made, and of what."""

    cron: Cron = Field(examples=["15 1 * * *"])
    """Minute, hour, day of the month, month and day of the week, in UTC."""
    keep_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """After how many days a backup is deleted."""
    namespaces: list[v.Name] = Field(default=[], examples=[["shop", "wiki"]])
    """The namespaces of which it is; all unless given."""
    to: Literal["external", "in-cluster"] = "external"
    """Where it lies; `in-cluster` needs `inCluster`."""
    late_hours: Annotated[int, Field(ge=1)] = 26
    """After how many hours without a good one an alert is raised."""


class Drill(Model):
    """When the newest backup is restored to see whether it can be."""

    cron: Cron = "30 4 * * 0"
    """Minute, hour, day of the month, month and day of the week, in UTC."""
    schedule: v.Name = "daily"
    """Which schedule's backup; it must be of all namespaces."""
    minutes: Annotated[int, Field(ge=5, le=600)] = 60
    """How long it may take."""
    storage_class: v.Text | None = Field(default=None, examples=["ceph-block"])
    """The storage class whose volumes are restored; the default one unless given."""
    late_hours: Annotated[int, Field(ge=1)] = 200
    """After how many hours without a good one an alert is raised."""


class VeleroArgs(AddonArgs):
    """What is backed up when, and where to."""

    external: S3Location
    """Where backups lie: outside of the cluster, so that they are there when it is not."""
    in_cluster: bool = False
    """Whether there is a second place for them, in the cluster's own object store: quick to restore
    from, and lost with the cluster."""
    volumes: Literal["snapshots", "files"] = "snapshots"
    """How volumes are read. `snapshots`: as they are at one moment, moved out of the cluster; their
    storage class must be able to make snapshots. `files`: file by file while pods write to them."""
    schedules: Annotated[dict[v.Name, Schedule], Field(min_length=1)] = Field(
        default_factory=lambda: {"daily": Schedule(cron="15 1 * * *")},
        examples=[{"daily": {"cron": "15 1 * * *"}}],
    )
    """When backups are made, by name; daily unless given, as in the example."""
    drill: Drill | None = Drill()
    """When it is seen that they can be restored; null: never."""
    secret_key: SkipJsonSchema[v.Secret] = Field(default=None, exclude=True, repr=False)
    """The secret key of velero's `external` bucket"""

    @model_validator(mode="after")
    def _outside(self) -> VeleroArgs:
        inside = [name for name, each in self.schedules.items() if each.to == INSIDE]
        if inside and not self.in_cluster:
            raise v.BadValueError(
                f"the backups of {', '.join(inside)} have no place in the cluster",
                "Write `inCluster: true`.",
            )
        if len(inside) == len(self.schedules):
            raise v.BadValueError(
                "no schedule has its backups outside of the cluster",
                "Let one of them be `to: external`.",
                "A backup that lies only in the cluster is lost with it",
            )
        if self.drill:
            drilled = self.schedules.get(self.drill.schedule)
            if drilled is None:
                raise v.BadValueError(
                    f"the drill's schedule {v.show(self.drill.schedule)} is none of the schedules",
                    f"Write {' or '.join(self.schedules)}, or `drill: null`.",
                )
            if drilled.namespaces and DRILL not in drilled.namespaces:
                raise v.BadValueError(
                    f"the drill's schedule {self.drill.schedule} is not of all namespaces",
                    f"Name another one, or add {DRILL} to its namespaces.",
                    "What the drill restores would not be in it",
                )
        return self

    def also_needs(self) -> list[Need]:
        """Snapshots, a volume to try it with, and a place in the cluster, where it uses them."""
        wanted = {
            Need.SNAPSHOTS: self.volumes == "snapshots",
            Need.BLOCK_STORAGE: self.drill is not None,
            Need.OBJECT_STORE: self.in_cluster,
        }
        return [need for need, there in wanted.items() if there]

    def buckets(self) -> list[str]:
        """The one of the second place."""
        return [NAME] if self.in_cluster else []

    def secrets(self) -> list[str]:
        """There is no backup without a place outside."""
        return ["secret_key"]


@addon(
    "velero",
    args=VeleroArgs,
    namespace=NAME,
    sources=[NAME],
    # Its agents read volumes where the kubelets have them.
    pod_security="privileged",
    uses=[Need.MONITOR_CRDS],
    provides=[Need.BACKUP],
    outlives="the backups in their buckets",
)
class Velero(pulumi.ComponentResource):
    """Backups of the cluster's objects and volumes in a bucket outside, on schedules; and a drill
    that restores the newest one beside what runs, checks its data and says how long it took.

    What volumes hold is encrypted on its way by a password of the stack's state: without it a
    backup cannot be read.
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: VeleroArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Velero", name, None, opts)
        space = namespace(self, ground)
        # Velero makes one of its own, which everybody knows, where it finds none.
        secrets = [
            password(
                self, ground, "velero-repo-credentials", {"repository-password": None}, [space]
            )
        ]
        for place, user, key in places(args, ground):
            cloud = pulumi.Output.concat(
                f"[default]\naws_access_key_id={user}\naws_secret_access_key=", key, "\n"
            )
            secrets.append(password(self, ground, place, {"cloud": cloud}, [space]))
        release = chart(self, ground, NAME, values(args, ground), after=secrets)
        behind = objects(self, ground, locations(args, ground), after=[release])
        more = schedules(args)
        if args.drill:
            own = objects(self, ground, [drill_namespace()])
            behind += objects(self, ground, canary(args.drill, ground), after=own)
            behind += objects(self, ground, access(), after=[space])
            more += drill(args.drill, ground)
        *first, last = more
        behind += objects(self, ground, first, after=behind)
        (self.ready,) = objects(self, ground, [last], after=behind)
        """Once it is there backups are made, and can be."""
        self.register_outputs({})


def places(args: VeleroArgs, ground: Ground) -> list[tuple[str, str, pulumi.Input[str]]]:
    """Where backups lie: name, and the access key with its secret."""
    made: list[tuple[str, str, pulumi.Input[str]]] = [
        (OUTSIDE, args.external.access_key, args.secret_key)
    ]
    return made + ([(INSIDE, NAME, ground.buckets[NAME])] if args.in_cluster else [])


def values(args: VeleroArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values. Places and schedules are not of them: what is wrong with a place shows
    when it is made.

    Source: https://github.com/vmware-tanzu/helm-charts/tree/velero-12.1.0/charts/velero
    """
    monitored = ground.has(Need.MONITOR_CRDS)
    small, usual = (
        {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}
        for cpu, memory, limit in (("20m", "64Mi", "1Gi"), ("250m", "256Mi", "2Gi"))
    )
    sized = small if ground.lab else usual
    return {
        "initContainers": [
            {
                "name": "velero-plugin-for-aws",
                "image": ground.image(NAME, "aws"),
                "volumeMounts": [{"mountPath": "/target", "name": "plugins"}],
                "securityContext": LOCKED,
            }
        ],
        "configuration": {
            "backupStorageLocation": [],
            "volumeSnapshotLocation": [],
            "features": "EnableCSI",
            "uploaderType": "kopia",
            "defaultSnapshotMoveData": args.volumes == "snapshots",
            "defaultVolumesToFsBackup": args.volumes == "files",
        },
        # Each place has its own.
        "credentials": {"useSecret": False},
        # Those of a cloud; snapshots by CSI are asked for by `features`.
        "snapshotsEnabled": False,
        "deployNodeAgent": True,
        "nodeAgent": {
            # Volumes are on tainted nodes, too.
            "tolerations": [{"operator": "Exists"}],
            "resources": sized,
        },
        "resources": sized,
        # It keeps what it knows of repositories below its home.
        "containerSecurityContext": {**LOCKED, "readOnlyRootFilesystem": False},
        "priorityClassName": "system-cluster-critical",
        "upgradeCRDs": True,
        # Backups are found again by their places, but only while their kinds are there.
        "cleanUpCRDs": False,
        "metrics": {
            "enabled": True,
            "serviceMonitor": {"enabled": monitored},
            "nodeAgentPodMonitor": {"enabled": monitored},
            "prometheusRule": {"enabled": monitored, "spec": alerts(args)},
        },
    }


def alerts(args: VeleroArgs) -> list[dict[str, Any]]:
    """When somebody should look."""
    made = [
        _alert(
            "BackupLate",
            f'time() - velero_backup_last_successful_timestamp{{schedule="{NAME}-{name}"}}'
            f" > {each.late_hours} * 3600",
            f"No good backup of {name} for more than {each.late_hours} hours.",
        )
        for name, each in sorted(args.schedules.items())
    ]
    if args.drill:
        last = "groundplane_restore_drill_last_success_timestamp_seconds"
        made += [
            _alert(
                "RestoreDrillFailed",
                "groundplane_restore_drill_success == 0",
                f"The newest backup could not be restored: kubectl -n {NAME} logs job/...",
            ),
            _alert(
                "RestoreDrillLate",
                f"time() - {last} > {args.drill.late_hours} * 3600",
                f"No backup was seen to be good for more than {args.drill.late_hours} hours.",
            ),
        ]
    return made


def _alert(name: str, expression: str, summary: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": "15m",
        "labels": {"severity": "critical"},
        "annotations": {"summary": summary},
    }


# ---- places and schedules ----------------------------------------------------------------------


def locations(args: VeleroArgs, ground: Ground) -> list[dict[str, Any]]:
    """Where backups lie; each is there once it can be reached."""
    at = args.external
    store: dict[str, Any] = {"bucket": at.bucket}
    if at.prefix:
        store["prefix"] = at.prefix
    if at.ca:
        store["caCert"] = base64.b64encode(at.ca.encode()).decode()
    made = [_location(OUTSIDE, at.url, at.region, store)]
    if args.in_cluster:
        url = ground.url(Need.OBJECT_STORE) or ""
        made.append(_location(INSIDE, url, "us-east-1", {"bucket": NAME}))
    return made


def _location(name: str, url: str, region: str, store: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "velero.io/v1",
        "kind": "BackupStorageLocation",
        "metadata": {
            "name": name,
            "namespace": NAME,
            "annotations": {"pulumi.com/waitFor": "jsonpath={.status.phase}=Available"},
        },
        "spec": {
            "provider": "aws",
            "default": name == OUTSIDE,
            "credential": {"name": name, "key": "cloud"},
            "objectStorage": store,
            "config": {
                "region": region,
                "s3Url": url,
                "s3ForcePathStyle": "true",
                # Many object stores know none of the newer ones.
                "checksumAlgorithm": "",
            },
        },
    }


def schedules(args: VeleroArgs) -> list[dict[str, Any]]:
    """When backups are made."""
    how = (
        {"snapshotMoveData": True}
        if args.volumes == "snapshots"
        else {"defaultVolumesToFsBackup": True}
    )
    return [
        {
            "apiVersion": "velero.io/v1",
            "kind": "Schedule",
            "metadata": {"name": f"{NAME}-{name}", "namespace": NAME},
            "spec": {
                "schedule": each.cron,
                "template": {
                    "includedNamespaces": each.namespaces or ["*"],
                    "storageLocation": each.to,
                    "ttl": f"{24 * each.keep_days}h0m0s",
                    **how,
                },
            },
        }
        for name, each in sorted(args.schedules.items())
    ]


# ---- the drill ---------------------------------------------------------------------------------

# Only in its own namespace: in the scratch one it must find what was restored.
WRITE = f"""set -eu
cd /data
[ ! -e canary.sha256 ] || exit 0
[ "$NAMESPACE" = {DRILL} ] || {{ echo "nothing was restored" >&2; exit 1; }}
dd if=/dev/urandom of=canary bs=1M count=16
sha256sum canary >canary.sha256.new
sync
mv canary.sha256.new canary.sha256
"""


def drill_namespace() -> dict[str, Any]:
    """Where the canary lives, and after whose likeness the scratch one is made."""
    modes = ("enforce", "audit", "warn")
    standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in modes}
    metadata = {"name": DRILL, "labels": standard}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def canary(args: Drill, ground: Ground) -> list[dict[str, Any]]:
    """What the drill restores: a volume with data of a known sum, and a pod that is Ready only
    where the sum is right."""
    labels = {"app.kubernetes.io/name": "canary"}
    here = {"name": "canary", "namespace": DRILL}
    mounts = [{"name": "data", "mountPath": "/data"}]
    image = ground.image(NAME, "shell")
    common = {"image": image, "securityContext": LOCKED, "resources": SMALL, "volumeMounts": mounts}
    namespace_of = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    claim: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    if args.storage_class:
        claim["storageClassName"] = args.storage_class
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": NOBODY,
        "initContainers": [
            {
                "name": "write",
                "command": ["sh", "-c", WRITE],
                "env": [{"name": "NAMESPACE", "valueFrom": namespace_of}],
                **common,
            }
        ],
        "containers": [
            {
                "name": "read",
                "command": ["sleep", "2147483647"],
                "readinessProbe": {
                    "exec": {"command": ["sh", "-c", "cd /data && sha256sum -c canary.sha256"]},
                    "periodSeconds": 60,
                    "timeoutSeconds": 30,
                },
                **common,
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "canary"}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            # Where a volume is made for its first pod only, nothing binds it before.
            "metadata": {**here, "annotations": {"pulumi.com/skipAwait": "true"}},
            "spec": claim,
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": here,
            "spec": {
                "replicas": 1,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def access() -> list[dict[str, Any]]:
    """The drill's account, and what that may do: restore, and look at and remove what it made."""
    group = "rbac.authorization.k8s.io"
    own = [
        {"apiGroups": ["velero.io"], "resources": ["backups"], "verbs": ["get", "list"]},
        {
            "apiGroups": ["velero.io"],
            "resources": ["restores"],
            "verbs": ["get", "list", "create", "delete"],
        },
        # Names do not limit what is created.
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
        {
            "apiGroups": [""],
            "resources": ["configmaps"],
            "resourceNames": [DRILL],
            "verbs": ["get", "patch", "update"],
        },
    ]
    scratch = [
        {
            "apiGroups": [""],
            "resources": ["namespaces"],
            "resourceNames": [SCRATCH],
            "verbs": ["get", "list", "watch", "delete"],
        },
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["canary"],
            "verbs": ["get"],
        },
    ]
    rbac, who = f"{group}/v1", {"kind": "ServiceAccount", "name": DRILL, "namespace": NAME}
    return [
        *account(DRILL, NAME, own),
        {"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": DRILL}, "rules": scratch},
        {
            "apiVersion": rbac,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": DRILL},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": DRILL},
            "subjects": [who],
        },
    ]


def drill(args: Drill, ground: Ground) -> list[dict[str, Any]]:
    """The job that restores, and what serves its result."""
    here = {"name": DRILL, "namespace": NAME}
    served = [page(ground), monitor()] if ground.has(Need.MONITOR_CRDS) else []
    return [
        script(DRILL, NAME, SCRIPT),
        *served,
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": here,
            "spec": {
                "schedule": args.cron,
                "timeZone": "Etc/UTC",
                # A second one would take the first one's namespace away.
                "concurrencyPolicy": "Forbid",
                "successfulJobsHistoryLimit": 1,
                "failedJobsHistoryLimit": 3,
                "jobTemplate": {
                    "spec": {
                        "backoffLimit": 0,
                        # The script bounds itself, and tidies up afterwards.
                        "activeDeadlineSeconds": 60 * args.minutes + 900,
                        "template": {"spec": job(args, ground)},
                    }
                },
            },
        },
    ]


def job(args: Drill, ground: Ground) -> dict[str, Any]:
    """The pod of a drill."""
    setting = {
        "SCHEDULE": f"{NAME}-{args.schedule}",
        "SPACE": NAME,
        "SOURCE": DRILL,
        "SCRATCH": SCRATCH,
        "RESULT": DRILL,
        "LIMIT": str(60 * args.minutes),
    }
    return {
        **script_pod(ground, NAME, DRILL, setting),
        "restartPolicy": "Never",
        # Whoever stops it gives it time to take its namespace away.
        "terminationGracePeriodSeconds": 300,
    }


METRICS = {"app.kubernetes.io/name": f"{DRILL}-metrics"}


def page(ground: Ground) -> dict[str, Any]:
    """Serves the result of the last drill, which lies in a ConfigMap: a job is gone when Prometheus
    asks."""
    container = {
        "name": "metrics",
        "image": ground.image(NAME, "shell"),
        "command": ["httpd", "-f", "-p", str(PORT), "-h", "/result"],
        "ports": [{"name": "metrics", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": "metrics"}},
        "securityContext": LOCKED,
        "resources": SMALL,
        "volumeMounts": [{"name": "result", "mountPath": "/result", "readOnly": True}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{DRILL}-metrics", "namespace": NAME},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": METRICS},
            "template": {
                "metadata": {"labels": METRICS},
                "spec": {
                    "automountServiceAccountToken": False,
                    "securityContext": NOBODY,
                    "containers": [container],
                    # Before the first drill there is none.
                    "volumes": [{"name": "result", "configMap": {"name": DRILL, "optional": True}}],
                },
            },
        },
    }


def monitor() -> dict[str, Any]:
    """Has it read."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": DRILL, "namespace": NAME},
        "spec": {
            "selector": {"matchLabels": METRICS},
            "podMetricsEndpoints": [{"port": "metrics", "path": "/metrics.txt"}],
        },
    }
