"""topolvm: volumes that are LVM's logical volumes on the node where their pod runs."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal

import pulumi
from pydantic import AfterValidator, Field, model_validator

from groundplane.ground import Ground, chart, namespace, objects
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import DEFAULT_STORAGE_CLASS, AddonArgs, Claim, Need
from groundplane.spec.model import Model

__all__ = ["Topolvm", "TopolvmArgs", "VolumeGroup"]

DRIVER = "topolvm.io"

LvmName = Annotated[
    str,
    AfterValidator(
        v.matches(
            re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]*"),
            "{} is not a name in LVM",
            "Write one as `vgs` or `lvs` prints it.",
        )
    ),
]


class VolumeGroup(Model):
    """Where the volumes of one class lie."""

    volume_group: LvmName = Field(examples=["nvme"])
    """The volume group on each node. It must exist: make it with `vgcreate`."""
    thin_pool: LvmName | None = None
    """A thin pool in that group, for volumes that take space as they are written, and of which
    there can be snapshots. It must exist, too."""
    overprovision: Annotated[float, Field(ge=1, le=100)] = 1
    """How many times the thin pool's size its volumes may have together."""
    spare_gb: Annotated[int, Field(ge=0)] = 10
    """How many GiB of the volume group are left alone."""


class TopolvmArgs(AddonArgs):
    """Which volume groups it takes, and on which nodes."""

    classes: Annotated[dict[v.Name, VolumeGroup], Field(min_length=1)] = Field(
        examples=[{"fast": {"volumeGroup": "nvme"}, "large": {"volumeGroup": "disks"}}]
    )
    """What there is to choose from, by name: volumes of `fast` are of the storage class
    `topolvm-fast`."""
    default: v.Name | None = None
    """Which of them is for claims that name no class."""
    file_system: Literal["ext4", "xfs"] = "ext4"
    """What the volumes are formatted with."""
    node_selector: dict[v.LabelKey, v.LabelValue] = Field(
        default={}, examples=[{"example.org/disks": "local"}]
    )
    """The labels of the nodes that have all these volume groups; all nodes unless given. On a node
    without them its pods fail."""

    @model_validator(mode="after")
    def _known(self) -> TopolvmArgs:
        if self.default is not None and self.default not in self.classes:
            raise v.BadValueError(
                f"the default {v.show(self.default)} is none of the classes",
                f"Write {', '.join(self.classes)}.",
            )
        return self

    def claims(self) -> list[Claim]:
        """Two default classes would be one too many."""
        return [DEFAULT_STORAGE_CLASS] if self.default else []


@addon(
    "topolvm",
    args=TopolvmArgs,
    namespace="topolvm-system",
    sources=["topolvm"],
    # It makes logical volumes of the nodes' disks, and mounts them there.
    pod_security="privileged",
    uses=[Need.MONITOR_CRDS, Need.SNAPSHOTS],
    provides=[Need.BLOCK_STORAGE],
    outlives="the logical volumes in its volume groups",
)
class Topolvm(pulumi.ComponentResource):
    """Storage classes whose volumes are logical volumes on a node: as fast as its disks, with a
    size that holds. They stay on that node, and go with its disks. A pod is placed where there is
    room for its volume.
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: TopolvmArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:Topolvm", name, None, opts)
        space = namespace(self, ground)
        self.ready: pulumi.Resource = chart(
            self, ground, "topolvm", values(args, ground), after=[space]
        )
        """Once it is there, volumes are made; and their snapshots, where they can be."""
        if _snapshots(args, ground):
            (self.ready,) = objects(self, ground, [snapshot_class()], after=[self.ready])
        self.register_outputs({})


def _snapshots(args: TopolvmArgs, ground: Ground) -> bool:
    return ground.has(Need.SNAPSHOTS) and any(each.thin_pool for each in args.classes.values())


def values(args: TopolvmArgs, ground: Ground) -> dict[str, Any]:
    """The chart's values.

    Source: https://github.com/topolvm/topolvm/tree/v0.41.0/charts/topolvm
    """
    classes = [device_class(name, each) for name, each in sorted(args.classes.items())]
    # One class must be the default of the daemon itself; claims always name one.
    classes[0]["default"] = True
    digest = hashlib.sha256(json.dumps(classes).encode()).hexdigest()
    watched = {"prometheus": {"podMonitor": {"enabled": ground.has(Need.MONITOR_CRDS)}}}
    small = {"requests": {"cpu": "10m", "memory": "32Mi"}}
    usual = {"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "500Mi"}}
    parts = ("topolvm_node", "topolvm_controller", "lvmd")
    return {
        "lvmd": {
            "deviceClasses": classes,
            # It reads its classes only when it starts.
            "podLabels": {"groundplane.io/classes": digest[:16]},
            "nodeSelector": args.node_selector,
            "priorityClassName": "system-node-critical",
            **watched,
        },
        "node": {
            "nodeSelector": args.node_selector,
            "priorityClassName": "system-node-critical",
            **watched,
        },
        "controller": {
            "replicaCount": ground.replicas,
            "priorityClassName": "system-cluster-critical",
            "podDisruptionBudget": {"enabled": not ground.lab},
            "storageCapacityTracking": {"enabled": True},
            **watched,
        },
        # Storage capacities tell the scheduler where there is room; so no webhook is needed.
        "scheduler": {"enabled": False},
        "webhook": {"podMutatingWebhook": {"enabled": False}},
        "snapshot": {"enabled": _snapshots(args, ground)},
        "resources": dict.fromkeys(parts, small if ground.lab else usual),
        "storageClasses": [storage_class(name, args) for name in sorted(args.classes)],
    }


def device_class(name: str, group: VolumeGroup) -> dict[str, Any]:
    """A class as the daemon on the nodes knows it."""
    made: dict[str, Any] = {
        "name": name,
        "volume-group": group.volume_group,
        "spare-gb": group.spare_gb,
        "default": False,
    }
    if group.thin_pool:
        pool = {"name": group.thin_pool, "overprovision-ratio": group.overprovision}
        made |= {"type": "thin", "thin-pool": pool}
    return made


def storage_class(name: str, args: TopolvmArgs) -> dict[str, Any]:
    """A class as claims know it. A volume is made where its first pod is to run."""
    return {
        "name": f"topolvm-{name}",
        "storageClass": {
            "fsType": args.file_system,
            "isDefaultClass": name == args.default,
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
            "additionalParameters": {f"{DRIVER}/device-class": name},
        },
    }


def snapshot_class() -> dict[str, Any]:
    """The class of snapshots of thin volumes; Velero takes the one with its label."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {
            "name": "topolvm",
            "labels": {"velero.io/csi-volumesnapshot-class": "true"},
        },
        "driver": DRIVER,
        "deletionPolicy": "Delete",
    }
