"""rook-ceph: block, file and object storage on disks of the nodes, by Ceph."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pulumi
from pydantic import AfterValidator, Field, model_validator

from groundplane.ground import (
    Ground,
    account,
    chart,
    gate_check,
    namespace,
    objects,
    password,
    script,
    script_pod,
)
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import BUCKETS, DEFAULT_STORAGE_CLASS, AddonArgs, Claim, Need

__all__ = ["RookCeph", "RookCephArgs"]

SPACE = "rook-ceph"
BLOCK, FILE, OBJECT, BUCKET = "ceph-block", "ceph-filesystem", "ceph-objectstore", "ceph-bucket"
RBD, CEPHFS = f"{SPACE}.rbd.csi.ceph.com", f"{SPACE}.cephfs.csi.ceph.com"
ERASER = "groundplane-eraser"
SCRIPT = Path(__file__).with_name("rook_erased.sh")
# A cluster of new disks takes minutes; with slow ones, or many, many of them.
PATIENCE = "3600"  # seconds
# Of Ceph's health checks, those with which no more may be taken away.
UNSAFE = "|".join(
    [
        "HEALTH_ERR",
        "FS_DEGRADED",
        "MDS_ALL_DOWN",
        "MON_DOWN",
        "OBJECT_UNFOUND",
        "OSD_(DOWN|HOST_DOWN|ROOT_DOWN|FULL|BACKFILLFULL)",
        "PG_(AVAILABILITY|DEGRADED|DAMAGED|BACKFILL_FULL|RECOVERY_FULL)",
        "POOL_FULL",
    ]
)
DEVICE = re.compile(r"[a-z][a-z0-9-]*|/dev/([A-Za-z0-9:.+_-]+/)*[A-Za-z0-9:.+_-]+")


def device(value: str) -> str:
    """One disk, by its name or its path; no pattern, and not all."""
    name = value.removeprefix("/dev/")
    if name == "all" or not DEVICE.fullmatch(value) or ".." in value:
        raise v.BadValueError(
            f"{v.show(value)} does not name one disk",
            "Write one such as sdb or, since that may become another one, "
            "/dev/disk/by-id/nvme-SAMSUNG_MZQL21T9HCJR_S64GNE0R400000.",
            "Whatever is on the disk is gone",
        )
    return value


Device = Annotated[str, AfterValidator(device)]


class RookCephArgs(AddonArgs):
    """Which disks it takes, and what is made of them."""

    nodes: Annotated[
        dict[v.Name, Annotated[list[Device], Field(min_length=1)]], Field(min_length=1)
    ] = Field(
        examples=[
            {
                "rack1-n4": ["/dev/disk/by-id/nvme-eui.0025384331408b1d"],
                "rack1-n5": ["/dev/disk/by-id/nvme-eui.0025384331408b2f"],
                "rack2-n6": ["/dev/disk/by-id/nvme-eui.0025384331408b3c"],
            }
        ]
    )
    """The nodes whose disks it takes, by name, and which disks. They must be empty: without
    partitions and file systems."""
    copies: Annotated[int, Field(ge=1, le=5)] = 3
    """On how many nodes each piece of data lies."""
    block: bool = True
    """Whether there are volumes for one node at a time, of the class `ceph-block`."""
    file: bool = True
    """Whether there are volumes that many nodes write to, of the class `ceph-filesystem`."""
    object: bool = False
    """Whether there is an object store that speaks S3, for buckets of the class `ceph-bucket`."""
    default: bool = True
    """Whether `ceph-block` is the class of claims that name none."""
    encrypted: bool = False
    """Whether what lies on the disks is encrypted, with keys that are Secrets of the cluster."""
    erase: Literal["yes-really-destroy-data"] | None = None
    """`yes-really-destroy-data`: when the add-on or its cluster is taken away, all of its disks are
    wiped. Apply it first, then remove the add-on. Until then nothing is, and from then on Rook
    changes nothing else any more."""

    @model_validator(mode="after")
    def _enough(self) -> RookCephArgs:
        if self.copies > len(self.nodes):
            raise v.BadValueError(
                f"{self.copies} copies on {len(self.nodes)} nodes",
                "Name more nodes, or write fewer `copies`.",
                "Each copy lies on another node, so nothing could be written",
            )
        if self.default and not self.block:
            raise v.BadValueError(
                "`ceph-block` cannot be the default: `block` is false",
                "Write `default: false`.",
            )
        return self

    def also_provides(self) -> list[Need]:
        """What of the three there is."""
        given = {
            Need.BLOCK_STORAGE: self.block,
            Need.SHARED_STORAGE: self.file,
            Need.OBJECT_STORE: self.object,
        }
        return [need for need, there in given.items() if there]

    def claims(self) -> list[Claim]:
        """Two default classes, or two places for buckets, would be one too many."""
        return [DEFAULT_STORAGE_CLASS] * self.default + [BUCKETS] * self.object

    def urls(self) -> dict[Need, str]:
        """Its gateway's service."""
        url = f"http://rook-ceph-rgw-{OBJECT}.{SPACE}.svc"
        return {Need.OBJECT_STORE: url} if self.object else {}

    def erases(self) -> bool:
        """Only when told in full."""
        return bool(self.erase)


@addon(
    "rook-ceph",
    args=RookCephArgs,
    namespace=SPACE,
    sources=["rook-ceph", "ceph-csi-drivers", "rook-ceph-cluster"],
    # Its daemons open the nodes' disks, and its drivers mount on the nodes.
    pod_security="privileged",
    uses=[Need.MONITOR_CRDS, Need.SNAPSHOTS],
    outlives="the data on its disks, and /var/lib/rook on its nodes",
)
class RookCeph(pulumi.ComponentResource):
    """Storage on disks of the nodes: volumes for one node or many, and an object store. Each piece
    of data lies on several nodes, so that it stays while one is away. Only disks that are named
    are taken.

    Its claims and volumes are not known here: delete them before the add-on, which waits for that.
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: RookCephArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:RookCeph", name, None, opts)
        space = namespace(self, ground)
        # Brings the kinds of all that follows.
        operator = chart(self, ground, "rook-ceph", operator_values(ground), after=[space])
        # Taken down in the other order: the operator removes what the cluster leaves.
        drivers = chart(self, ground, "ceph-csi-drivers", driver_values(ground), after=[operator])
        behind = [drivers]
        if args.erase:
            # Deleted after the cluster, and before the operator, who wipes what the cluster had.
            rights = objects(self, ground, eraser_needs(), after=[drivers])
            behind += objects(self, ground, [eraser(args, ground)], after=rights)
        cluster = chart(
            self, ground, "rook-ceph-cluster", cluster_values(args, ground), after=behind
        )
        made = objects(self, ground, storage(args, ground), after=[cluster])
        if args.object:
            made += self._buckets(ground, made)
        self.ready: pulumi.Resource = gate_check(
            self,
            ground,
            f"cephclusters.ceph.rook.io/{SPACE}",
            jsonpath="{.status.ceph.health} {.status.ceph.details}",
            refuses=UNSAFE,
            why="Ceph has not all copies of its data: kubectl -n rook-ceph get cephcluster -o yaml",
            after=[cluster, *made],
        )
        """Once it is there Ceph is healthy, and has all pools and stores."""
        self.register_outputs({})

    def _buckets(self, ground: Ground, after: list[pulumi.Resource]) -> list[pulumi.Resource]:
        """The buckets that add-ons ask for, each with the user that it is for."""
        made: list[pulumi.Resource] = []
        for bucket, key in sorted(ground.buckets.items()):
            keys = {"accessKey": pulumi.Output.from_input(bucket), "secretKey": key}
            secret = password(self, ground, f"bucket-{bucket}", keys, after)
            # A claim names an owner that is there.
            user = objects(self, ground, [bucket_user(bucket)], after=[secret])
            made += objects(self, ground, [bucket_claim(bucket)], after=user)
        return made


def operator_values(ground: Ground) -> dict[str, Any]:
    """Values of the operator's chart.

    Source: https://github.com/rook/rook/tree/v1.20.6/deploy/charts/rook-ceph
    """
    sidecars = ("cephcsi", "registrar", "provisioner", "snapshotter", "attacher", "resizer")
    return {
        "csi": {
            **{name: _image(ground, name) for name in (*sidecars, "csiAddons")},
            "serviceMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)},
        },
        "resources": {
            "requests": {"cpu": "50m", "memory": "128Mi"}
            if ground.lab
            else {"cpu": "200m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
        "priorityClassName": "system-cluster-critical",
        # Each bucket that is asked for belongs to a user of its own.
        "obcAllowAdditionalConfigFields": "maxObjects,maxSize,bucketOwner",
        "allowLoopDevices": ground.lab,
        "monitoring": {"enabled": ground.has(Need.MONITOR_CRDS)},
    }


def _image(ground: Ground, name: str) -> dict[str, str]:
    repository, _, tag = ground.image("rook-ceph", name).rpartition(":")
    return {"repository": repository, "tag": tag}


def driver_values(ground: Ground) -> dict[str, Any]:
    """Values of the drivers' chart: without them no volume is ever made.

    Source: https://github.com/rook/rook/blob/v1.20.6/deploy/charts/ceph-csi-drivers/values.yaml
    """
    # The sidecar for snapshots fails where their kinds are missing.
    snapshots = {"snapshotPolicy": "volumeSnapshot" if ground.has(Need.SNAPSHOTS) else "none"}
    return {
        "operatorConfig": {
            "namespace": SPACE,
            "driverSpecDefaults": {
                "imageSet": {"name": "rook-csi-operator-image-set-configmap"},
                "nodePlugin": {
                    "priorityClassName": "system-node-critical",
                    # Pods with volumes run on all nodes, tainted ones too.
                    "tolerations": [{"operator": "Exists"}],
                },
                "controllerPlugin": {
                    "priorityClassName": "system-cluster-critical",
                    "replicas": ground.replicas,
                },
            },
        },
        "drivers": {
            "rbd": {"enabled": True, "name": RBD, **_plugins(ground), **snapshots},
            "cephfs": {"enabled": True, "name": CEPHFS, **_plugins(ground), **snapshots},
            "nfs": {"enabled": False},
            "nvmeof": {"enabled": False},
        },
    }


def _plugins(ground: Ground) -> dict[str, Any]:
    """What the chart says for each driver, over its own defaults for all."""
    return {
        "nodePlugin": {
            "priorityClassName": "system-node-critical",
            "tolerations": [{"operator": "Exists"}],
        },
        "controllerPlugin": {"replicas": ground.replicas},
    }


def cluster_values(args: RookCephArgs, ground: Ground) -> dict[str, Any]:
    """Values of the cluster's chart. Pools and stores are not of them: see `storage`.

    Source: https://github.com/rook/rook/tree/v1.20.6/deploy/charts/rook-ceph-cluster
    """
    monitored = ground.has(Need.MONITOR_CRDS)
    repository, _, tag = ground.image("rook-ceph-cluster", "ceph").rpartition(":")
    # A pool of Ceph's own has as many; with more than there are nodes it would never be healthy.
    waited = ["jsonpath={.status.phase}=Ready", "jsonpath={.status.ceph.health}=HEALTH_OK"]
    override = f"[global]\nosd_pool_default_size = {args.copies}\n"
    if args.copies == 1:
        override += "mon_warn_on_pool_no_redundancy = false\n"
    return {
        "operatorNamespace": SPACE,
        "clusterName": SPACE,
        "cephImage": {"repository": repository, "tag": tag},
        "configOverride": override,
        "cephClusterMetadata": {
            "annotations": {
                "pulumi.com/timeoutSeconds": PATIENCE,
                # A sick one can be erased, too.
                **({} if args.erase else {"pulumi.com/waitFor": json.dumps(waited)}),
            }
        },
        "cephClusterSpec": {
            "mon": {"count": 1 if ground.lab else 3, "allowMultiplePerNode": False},
            "mgr": {"count": ground.replicas, "allowMultiplePerNode": False},
            "dashboard": {"enabled": True, "ssl": True},
            # Kernels below 7.0 know no other.
            "security": {"cephx": {"csi": {"keyType": "aes"}}},
            "cleanupPolicy": {"confirmation": args.erase or "", "allowUninstallWithVolumes": False},
            "disruptionManagement": {"managePodBudgets": True},
            "storage": {
                "useAllNodes": False,
                "useAllDevices": False,
                "config": {"encryptedDevice": str(args.encrypted).lower()},
                "nodes": [
                    {"name": node, "devices": [{"name": disk} for disk in disks]}
                    for node, disks in sorted(args.nodes.items())
                ],
            },
            **({"resources": SMALL} if ground.lab else {}),
        },
        "monitoring": {"enabled": monitored, "createPrometheusRules": monitored},
        "toolbox": {"enabled": True, "priorityClassName": "system-cluster-critical"},
        "cephBlockPools": [],
        "cephFileSystems": [],
        "cephObjectStores": [],
    }


SMALL = {
    daemon: {"requests": {"cpu": "50m", "memory": memory}, "limits": {"memory": limit}}
    for daemon, memory, limit in (
        ("mon", "256Mi", "1Gi"),
        ("mgr", "256Mi", "1Gi"),
        ("osd", "1Gi", "2Gi"),
    )
}
"""What daemons get in a lab."""


# ---- pools and stores --------------------------------------------------------------------------


def storage(args: RookCephArgs, ground: Ground) -> list[dict[str, Any]]:
    """Pools, and the classes that claims name. The chart would make them too, but wait for none of
    them, and a claim that comes too early fails."""
    snapshots = ground.has(Need.SNAPSHOTS)
    made: list[dict[str, Any]] = []
    if args.block:
        made += [block_pool(args), block_class(args)]
        made += [snapshot_class(BLOCK, RBD, "rbd")] if snapshots else []
    if args.file:
        made += [file_system(args, ground), file_class()]
        made += [snapshot_class(FILE, CEPHFS, "cephfs")] if snapshots else []
    if args.object:
        made += [object_store(args, ground), bucket_class()]
    return made


def _ceph(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    waited = {
        "pulumi.com/waitFor": "jsonpath={.status.phase}=Ready",
        "pulumi.com/timeoutSeconds": PATIENCE,
    }
    return {
        "apiVersion": "ceph.rook.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": SPACE, "annotations": waited},
        "spec": spec,
    }


def _pool(args: RookCephArgs) -> dict[str, Any]:
    safe = args.copies > 1
    return {
        "failureDomain": "host",
        "replicated": {"size": args.copies, "requireSafeReplicaSize": safe},
    }


def block_pool(args: RookCephArgs) -> dict[str, Any]:
    """Where the volumes lie."""
    return _ceph("CephBlockPool", "ceph-blockpool", **_pool(args))


def file_system(args: RookCephArgs, ground: Ground) -> dict[str, Any]:
    """Where the shared volumes lie."""
    resources = (
        {"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
        if ground.lab
        else {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "4Gi"}}
    )
    return _ceph(
        "CephFilesystem",
        FILE,
        metadataPool=_pool(args),
        dataPools=[{"name": "data0", **_pool(args)}],
        metadataServer={
            "activeCount": 1,
            "activeStandby": not ground.lab,
            "resources": resources,
            "priorityClassName": "system-cluster-critical",
        },
    )


def object_store(args: RookCephArgs, ground: Ground) -> dict[str, Any]:
    """Where the buckets lie, and the gateway to them."""
    resources = (
        {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
        if ground.lab
        else {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    )
    return _ceph(
        "CephObjectStore",
        OBJECT,
        metadataPool=_pool(args),
        dataPool=_pool(args),
        # Who deletes a store by mistake finds its data again.
        preservePoolsOnDelete=not args.erase,
        gateway={
            "port": 80,
            "instances": ground.replicas,
            "resources": resources,
            "priorityClassName": "system-cluster-critical",
        },
    )


def block_class(args: RookCephArgs) -> dict[str, Any]:
    """The class of volumes for one node at a time."""
    return _class(
        BLOCK,
        RBD,
        "rbd",
        {
            "pool": "ceph-blockpool",
            "imageFormat": "2",
            "imageFeatures": "layering",
            # XFS can deadlock where a volume is mounted on a node that holds its data.
            "csi.storage.k8s.io/fstype": "ext4",
        },
        default=args.default,
    )


def file_class() -> dict[str, Any]:
    """The class of volumes that many nodes write to."""
    return _class(FILE, CEPHFS, "cephfs", {"fsName": FILE, "pool": f"{FILE}-data0"})


def _class(
    name: str, driver: str, secret: str, parameters: dict[str, str], default: bool = False
) -> dict[str, Any]:
    secrets = {
        f"csi.storage.k8s.io/{use}-secret-{key}": value
        for use, who in (
            ("provisioner", "provisioner"),
            ("controller-expand", "provisioner"),
            ("controller-publish", "provisioner"),
            ("node-stage", "node"),
        )
        for key, value in (("name", f"rook-csi-{secret}-{who}"), ("namespace", SPACE))
    }
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
        },
        "provisioner": driver,
        "parameters": {"clusterID": SPACE, **parameters, **secrets},
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": True,
        "volumeBindingMode": "Immediate",
    }


def snapshot_class(name: str, driver: str, secret: str) -> dict[str, Any]:
    """The class of snapshots of such volumes; Velero takes the one with its label."""
    prefix = "csi.storage.k8s.io/snapshotter-secret"
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "labels": {"velero.io/csi-volumesnapshot-class": "true"}},
        "driver": driver,
        "parameters": {
            "clusterID": SPACE,
            f"{prefix}-name": f"rook-csi-{secret}-provisioner",
            f"{prefix}-namespace": SPACE,
        },
        "deletionPolicy": "Delete",
    }


# ---- the end -----------------------------------------------------------------------------------


def eraser_needs() -> list[dict[str, Any]]:
    """What the eraser reads, and may look at."""
    look = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]}]
    return [script(ERASER, SPACE, SCRIPT), *account(ERASER, SPACE, look)]


def eraser(args: RookCephArgs, ground: Ground) -> dict[str, Any]:
    """A pod that takes as long to be deleted as Rook's jobs take to wipe the disks: they begin when
    the cluster is gone, and nobody else waits for them."""
    setting = {"NODES": " ".join(sorted(args.nodes)), "LIMIT": PATIENCE}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": ERASER,
            "namespace": SPACE,
            "annotations": {"pulumi.com/timeoutSeconds": str(int(PATIENCE) + 60)},
        },
        "spec": {
            **script_pod(ground, "rook-ceph-cluster", ERASER, setting, at_end=True),
            "terminationGracePeriodSeconds": int(PATIENCE),
        },
    }


# ---- buckets -----------------------------------------------------------------------------------


def bucket_class() -> dict[str, Any]:
    """The class of buckets; what is in one stays when its claim goes."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": BUCKET},
        "provisioner": f"{SPACE}.ceph.rook.io/bucket",
        "parameters": {
            "objectStoreName": OBJECT,
            "objectStoreNamespace": SPACE,
            "region": "us-east-1",
        },
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    }


def bucket_user(bucket: str) -> dict[str, Any]:
    """Who may use a bucket, by keys that we know."""
    secret = f"bucket-{bucket}"
    return _ceph(
        "CephObjectStoreUser",
        bucket,
        store=OBJECT,
        displayName=bucket,
        keys=[
            {
                "accessKeyRef": {"name": secret, "key": "accessKey"},
                "secretKeyRef": {"name": secret, "key": "secretKey"},
            }
        ],
        # The claim brings the one that it owns.
        quotas={"maxBuckets": 1},
    )


def bucket_claim(bucket: str) -> dict[str, Any]:
    """A bucket of exactly this name."""
    return {
        "apiVersion": "objectbucket.io/v1alpha1",
        "kind": "ObjectBucketClaim",
        "metadata": {
            "name": bucket,
            "namespace": SPACE,
            "annotations": {"pulumi.com/waitFor": "jsonpath={.status.phase}=Bound"},
        },
        "spec": {
            "bucketName": bucket,
            "storageClassName": BUCKET,
            "additionalConfig": {"bucketOwner": bucket},
        },
    }
