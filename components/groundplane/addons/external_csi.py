"""external-csi: volumes on a storage system outside of the cluster, by its maker's driver."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pulumi
from pydantic import Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from groundplane.catalogue import AddonSource
from groundplane.ground import Ground, chart, namespace, objects, password
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import DEFAULT_STORAGE_CLASS, AddonArgs, Claim, Need
from groundplane.spec.model import Model

__all__ = ["CsiChart", "CsiClass", "CsiSecret", "ExternalCsi", "ExternalCsiArgs"]

NAME = "external-csi"


class CsiChart(Model):
    """The driver's chart, as its maker names it."""

    chart: v.Text = Field(examples=["csi-powerstore", "oci://registry.example.org/charts/csi"])
    """Its name in the repository, or oci:// and all of its address without the version."""
    version: v.Text = Field(examples=["2.17.0"])
    """Its version, to the last number."""
    repository: v.Url | None = Field(default=None, examples=["https://charts.example.org"])
    """The address of its repository, unless the chart's begins with oci://."""

    @model_validator(mode="after")
    def _somewhere(self) -> CsiChart:
        if bool(self.repository) == self.chart.startswith("oci://"):
            raise v.BadValueError(
                "a chart by its name has no repository"
                if not self.repository
                else "a chart of an OCI registry has a repository, too",
                "Write `repository` and the chart's name, or oci:// and all of its address.",
            )
        return self


class CsiSecret(Model):
    """What the driver logs in with: a Secret in its namespace. What of it is secret is the stack's
    secret `groundplane:externalCsiCredential`."""

    name: v.Name = Field(examples=["storage-backend"])
    """The name that the chart's values give, or the driver expects."""
    key: v.Text = Field(examples=["token", "config"])
    """The key that holds the stack's secret: a password, or a whole file."""
    plain: dict[v.Text, v.Text] = Field(default={}, examples=[{"username": "kubernetes"}])
    """Its other keys."""


class CsiClass(Model):
    """A storage class of the driver's volumes."""

    parameters: dict[v.Text, v.Text] = Field(default={}, examples=[{"pool": "nvme"}])
    """What the driver is told, as its maker has it."""
    many_writers: bool = False
    """Whether many nodes may write to one volume."""
    reclaim_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of a volume once its claim is deleted."""
    binding: Literal["Immediate", "WaitForFirstConsumer"] = "WaitForFirstConsumer"
    """When a volume is made: at once, or where its first pod is to run."""


class ExternalCsiArgs(AddonArgs):
    """Which driver it is, and which classes its volumes are of."""

    source: CsiChart
    """The driver's chart."""
    driver: v.Domain = Field(examples=["csi-powerstore.dellemc.com"])
    """The driver's name, as `kubectl get csidrivers` shows it."""
    values: dict[str, Any] = Field(default={}, examples=[{"controller": {"replicas": 2}}])
    """The chart's values, as its maker has them. They are in plain text: what is secret goes into
    `secret`."""
    secret: CsiSecret | None = None
    """What it logs in with."""
    classes: Annotated[dict[v.Name, CsiClass], Field(min_length=1)] = Field(
        examples=[{"san": {"parameters": {"pool": "nvme"}}}]
    )
    """The storage classes of its volumes, by name."""
    default: v.Name | None = None
    """Which of them is for claims that name no class."""
    snapshots: bool = False
    """Whether the driver can make snapshots; they are of the class `external-csi`."""
    credential: SkipJsonSchema[v.Secret] = Field(default=None, exclude=True, repr=False)
    """What external-csi logs in with"""

    @model_validator(mode="after")
    def _known(self) -> ExternalCsiArgs:
        if self.default is not None and self.default not in self.classes:
            raise v.BadValueError(
                f"the default {v.show(self.default)} is none of the classes",
                f"Write {', '.join(self.classes)}.",
            )
        return self

    def also_needs(self) -> list[Need]:
        """Kinds for snapshots, where it makes them."""
        return [Need.SNAPSHOTS] if self.snapshots else []

    def also_provides(self) -> list[Need]:
        """Volumes for many nodes, where a class has them."""
        many = any(each.many_writers for each in self.classes.values())
        return [Need.SHARED_STORAGE] if many else []

    def claims(self) -> list[Claim]:
        """Two default classes would be one too many."""
        return [DEFAULT_STORAGE_CLASS] if self.default else []

    def secrets(self) -> list[str]:
        """Only where it is used."""
        return ["credential"] if self.secret else []


@addon(
    "external-csi",
    args=ExternalCsiArgs,
    namespace=NAME,
    sources=[],
    # Drivers mount volumes on the nodes.
    pod_security="privileged",
    provides=[Need.BLOCK_STORAGE],
    outlives="the volumes on the storage system",
)
class ExternalCsi(pulumi.ComponentResource):
    """A driver for a storage system outside of the cluster, such as a SAN, by its maker's chart,
    and the classes of its volumes. Chart and values are yours: nothing here checks them.
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: ExternalCsiArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:ExternalCsi", name, None, opts)
        before: list[pulumi.Resource] = [namespace(self, ground)]
        if args.secret:
            data = {**args.secret.plain, args.secret.key: args.credential}
            before.append(password(self, ground, args.secret.name, data, after=before))
        entry = AddonSource(
            # Whether it has hooks is not known; a release takes both.
            kind="release",
            version=args.source.version,
            chart=args.source.chart,
            repository=args.source.repository or "",
        )
        release = chart(self, ground, NAME, args.values, after=before, entry=entry)
        *first, last = classes(args)
        behind = objects(self, ground, first, after=[release])
        (self.ready,) = objects(self, ground, [last], after=[release, *behind])
        """Once it is there volumes are made."""
        self.register_outputs({})


def classes(args: ExternalCsiArgs) -> list[dict[str, Any]]:
    """The classes of its volumes and snapshots."""
    made: list[dict[str, Any]] = []
    if args.snapshots:
        made.append(
            {
                "apiVersion": "snapshot.storage.k8s.io/v1",
                "kind": "VolumeSnapshotClass",
                # Velero takes the one with this label.
                "metadata": {
                    "name": NAME,
                    "labels": {"velero.io/csi-volumesnapshot-class": "true"},
                },
                "driver": args.driver,
                "deletionPolicy": "Delete",
            }
        )
    return made + [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": name,
                "annotations": {
                    "storageclass.kubernetes.io/is-default-class": str(name == args.default).lower()
                },
            },
            "provisioner": args.driver,
            "parameters": dict(each.parameters),
            "reclaimPolicy": each.reclaim_policy,
            "allowVolumeExpansion": True,
            "volumeBindingMode": each.binding,
        }
        for name, each in sorted(args.classes.items())
    ]
