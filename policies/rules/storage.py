"""Disks: what may take them."""

from __future__ import annotations

from collections.abc import Iterator

from rules.rule import MANDATORY, Found, Resource, Settings, View, rule

CEPH_CLUSTER = "kubernetes:ceph.rook.io/v1:CephCluster"
CHART = "rook-ceph-cluster"


def storages(resource: Resource) -> Iterator[View]:
    """What of a Ceph cluster says which disks it takes: of the object, or of the chart's values."""
    if resource.type == CEPH_CLUSTER:
        yield resource.props["spec"]["storage"]
    elif CHART in resource.props["chart"].text:
        yield resource.props["values"]["cephClusterSpec"]["storage"]


@rule(
    MANDATORY,
    on=(CEPH_CLUSTER, "kubernetes:helm.sh/v3:Release"),
    each=storages,
    remedy="Set useAllNodes: false and useAllDevices: false, and name nodes and their devices.",
)
def no_use_all_devices(storage: View, settings: Settings) -> Found:
    """Ceph takes the disks that are named, and no others.

    With useAllDevices it takes every empty disk of every node: also that which was put in for
    something else, or comes back empty from a repair. Rook's chart has both on where they are not
    set.
    """
    for key in ("useAllNodes", "useAllDevices"):
        if storage[key].value is not False:
            yield f"{storage.path}.{key} is not false"
    for node in storage["nodes"]:
        if node["useAllDevices"].value is True:
            yield f"{node.path}.useAllDevices is true"
