"""rook-ceph: which disks it takes, when it is there, and what it destroys."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.addons import BUCKETS, Case, before, cases, installed
from support.charts import wrong_object
from support.program import Resource

from groundplane.addons.rook_ceph import SCRIPT, UNSAFE, RookCephArgs
from groundplane.errors import SpecError
from groundplane.spec.addons import Need

NODES = {f"w{n}": ["/dev/disk/by-id/nvme-a"] for n in (1, 2, 3)}


def case(has: tuple[Need, ...] = (), **args: Any) -> Case:
    return Case("rook-ceph", {"nodes": NODES, **args}, has=has)


def chart(found: dict[str, Resource], name: str) -> dict[str, Any]:
    (values,) = [r.inputs["values"] for r in found.values() if r.inputs.get("chart") == name]
    return dict(values)


def cluster(case: Case) -> dict[str, Any]:
    return dict(chart(installed(case), "rook-ceph-cluster")["cephClusterSpec"])


def kinds(case: Case) -> set[str]:
    names = (r.inputs.get("kind") for r in installed(case).values())
    return {name for name in names if name}


@pytest.mark.parametrize("case", [c for c in cases() if c.addon == "rook-ceph"], ids=str)
def test_the_clusters_spec_is_as_its_definition_wants(case: Case) -> None:
    document = {"apiVersion": "ceph.rook.io/v1", "kind": "CephCluster", "spec": cluster(case)}
    assert wrong_object(document) == []


def test_only_disks_that_are_named_are_taken() -> None:
    storage = cluster(case(nodes={**NODES, "w1": ["sdb", "/dev/nvme0n1"]}))["storage"]
    assert (storage["useAllNodes"], storage["useAllDevices"]) == (False, False)
    assert {"deviceFilter", "devicePathFilter"} & set(storage) == set()
    assert storage["nodes"][0] == {
        "name": "w1",
        "devices": [{"name": "sdb"}, {"name": "/dev/nvme0n1"}],
    }


@pytest.mark.parametrize("disk", ["all", "/dev/all", "sd*", "^sd.", "", "/dev/../etc", "sd b", "."])
def test_what_is_no_disk_is_refused(disk: str) -> None:
    with pytest.raises(SpecError, match="does not name one disk"):
        RookCephArgs(nodes={**NODES, "w1": [disk]})


def test_no_more_copies_than_nodes() -> None:
    with pytest.raises(SpecError, match="3 copies on 2 nodes"):
        RookCephArgs(nodes={"w1": ["sdb"], "w2": ["sdb"]})
    override = chart(installed(case(copies=2)), "rook-ceph-cluster")["configOverride"]
    assert "osd_pool_default_size = 2" in override


def test_it_is_there_when_ceph_is_healthy() -> None:
    values = chart(installed(case()), "rook-ceph-cluster")
    waited = json.loads(values["cephClusterMetadata"]["annotations"]["pulumi.com/waitFor"])
    assert "jsonpath={.status.ceph.health}=HEALTH_OK" in waited


def test_operator_drivers_cluster_and_then_pools() -> None:
    found = installed(case(object=True))
    order = [f"metal-rook-ceph-{name}" for name in ("rook-ceph", "ceph-csi-drivers")]
    order += ["metal-rook-ceph-rook-ceph-cluster", "metal-rook-ceph-cephblockpool-ceph-blockpool"]
    for earlier, later in itertools.pairwise(order):
        assert earlier in before(found, later)


def test_nothing_is_erased_but_when_told_in_full() -> None:
    assert cluster(case())["cleanupPolicy"]["confirmation"] == ""
    told = case(erase="yes-really-destroy-data")
    assert cluster(told)["cleanupPolicy"]["confirmation"] == "yes-really-destroy-data"
    # Rook's own: volumes that are still used hold it up, told or not.
    assert cluster(told)["cleanupPolicy"]["allowUninstallWithVolumes"] is False
    with pytest.raises(SpecError):
        RookCephArgs(nodes=NODES, erase="yes")  # type: ignore[arg-type]


def test_what_there_is_follows_from_the_arguments() -> None:
    assert set(RookCephArgs(nodes=NODES).also_provides()) == {
        Need.BLOCK_STORAGE,
        Need.SHARED_STORAGE,
    }
    buckets = case(block=False, file=False, object=True, default=False)
    assert buckets.parsed.also_provides() == [Need.OBJECT_STORE]
    assert not {"CephBlockPool", "CephFilesystem"} & kinds(buckets)
    assert "CephObjectStore" in kinds(buckets)
    assert "CephObjectStore" not in kinds(case())


def test_snapshots_where_there_are_their_kinds() -> None:
    assert "VolumeSnapshotClass" not in kinds(case())
    found = installed(case(has=(Need.SNAPSHOTS,)))
    classes = [r.inputs for r in found.values() if r.inputs.get("kind") == "VolumeSnapshotClass"]
    assert {c["driver"] for c in classes} == {
        "rook-ceph.rbd.csi.ceph.com",
        "rook-ceph.cephfs.csi.ceph.com",
    }
    for each in classes:
        assert each["metadata"]["labels"] == {"velero.io/csi-volumesnapshot-class": "true"}


def test_each_bucket_that_is_asked_for_has_a_user_of_its_own() -> None:
    found = installed(case(object=True))
    claims = [r.inputs for r in found.values() if r.inputs.get("kind") == "ObjectBucketClaim"]
    assert {c["spec"]["bucketName"] for c in claims} == set(BUCKETS)
    for claim in claims:
        owner = claim["spec"]["additionalConfig"]["bucketOwner"]
        user = found[f"metal-rook-ceph-cephobjectstoreuser-{owner}"].inputs
        assert user["spec"]["keys"][0]["secretKeyRef"]["name"] == f"bucket-{owner}"
    fields = chart(found, "rook-ceph")["obcAllowAdditionalConfigFields"]
    assert "bucketOwner" in fields.split(",")


# ---- the end -----------------------------------------------------------------------------------

ERASE = {"erase": "yes-really-destroy-data"}


def test_the_disks_are_wiped_before_the_operator_goes() -> None:
    """What is deleted goes in the other order than it comes."""
    eraser, name = "metal-rook-ceph-pod-groundplane-eraser", "metal-rook-ceph"
    assert eraser not in installed(case())
    found = installed(case(**ERASE))
    assert eraser in before(found, f"{name}-rook-ceph-cluster")
    assert f"{name}-rook-ceph" in before(found, eraser)
    pod = found[eraser].inputs["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]
    (nodes,) = [e["value"] for e in pod["containers"][0]["env"] if e["name"] == "NODES"]
    assert nodes.split() == sorted(NODES)


def test_a_sick_cluster_can_be_erased() -> None:
    values = chart(installed(case(**ERASE)), "rook-ceph-cluster")
    assert "pulumi.com/waitFor" not in values["cephClusterMetadata"]["annotations"]


KUBECTL = """#!/bin/sh
echo "$*" >>"$STATE/calls"
[ ! -e "$STATE/2" ] || [ "$(grep -c . "$STATE/calls")" -lt 2 ] || { cat "$STATE/2"; exit; }
cat "$STATE/1"
"""
JOBS = {
    "all wiped": ("w1 1\nw2 1\n", True),
    "a monitor's node, too": ("w1 1\nw2 1\ncp1 1\n", True),
    "none begun": ("", False),
    "one not begun": ("w1 1\n", False),
    "one at work": ("w1 1\nw2 \n", False),
    "another one at work": ("w1 1\nw2 1\ncp1 \n", False),
    "a node whose name is longer": ("w1 1\nw22 1\n", False),
}


@pytest.mark.parametrize("jobs, good", JOBS.values(), ids=JOBS.keys())
def test_it_waits_until_all_disks_are_wiped(tmp_path: Path, jobs: str, good: bool) -> None:
    done = erased(tmp_path, jobs, limit=0)
    assert (done.returncode == 0) == good
    assert ("not all disks are wiped after 0 s" in done.stderr) != good


def test_it_goes_on_when_they_are(tmp_path: Path) -> None:
    assert erased(tmp_path, "w1 1\nw2 \n", "w1 1\nw2 1\n", limit=5).returncode == 0


def erased(folder: Path, *jobs: str, limit: int) -> subprocess.CompletedProcess[str]:
    """The script, on nodes w1 and w2, with jobs as they are at first and then."""
    (folder / "kubectl").write_text(KUBECTL)
    (folder / "kubectl").chmod(0o755)
    for number, text in enumerate(jobs, 1):
        (folder / str(number)).write_text(text)
    env = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "STATE": str(folder),
        "NODES": "w1 w2",
        "LIMIT": str(limit),
        "PAUSE": "0.1",
    }
    shell = ["busybox", "sh"] if shutil.which("busybox") else ["sh"]
    return subprocess.run(
        [*shell, SCRIPT], env=env, capture_output=True, text=True, timeout=60, check=False
    )


# ---- the gate ----------------------------------------------------------------------------------

HEALTH = {
    "HEALTH_OK ": False,
    'HEALTH_WARN {"MON_CLOCK_SKEW":{"message":"clock skew","severity":"HEALTH_WARN"}}': False,
    'HEALTH_WARN {"OSD_NEARFULL":{"message":"1 nearfull osd","severity":"HEALTH_WARN"}}': False,
    'HEALTH_WARN {"PG_NOT_DEEP_SCRUBBED":{"message":"","severity":"HEALTH_WARN"}}': False,
    'HEALTH_WARN {"PG_DEGRADED":{"message":"Degraded","severity":"HEALTH_WARN"}}': True,
    'HEALTH_WARN {"OSD_DOWN":{"message":"1 osds down","severity":"HEALTH_WARN"}}': True,
    'HEALTH_WARN {"MON_DOWN":{"message":"1/3 mons down","severity":"HEALTH_WARN"}}': True,
    "HEALTH_ERR ": True,
}


@pytest.mark.parametrize("health, refused", HEALTH.items())
def test_no_node_is_disturbed_while_copies_are_missing(health: str, refused: bool) -> None:
    assert bool(re.search(UNSAFE, health)) == refused


def test_the_gate_is_told_what_to_ask_and_nodes_may() -> None:
    found = installed(case())
    (check,) = [
        r.inputs
        for r in found.values()
        if r.inputs.get("metadata", {}).get("labels") == {"groundplane.io/gate": "check"}
    ]
    assert check["metadata"]["namespace"] == "groundplane"
    assert check["data"]["resource"] == "cephclusters.ceph.rook.io/rook-ceph"
    role = found["metal-rook-ceph-role-groundplane:gate:rook-ceph"].inputs
    assert role["rules"] == [
        {
            "apiGroups": ["ceph.rook.io"],
            "resources": ["cephclusters"],
            "resourceNames": ["rook-ceph"],
            "verbs": ["get"],
        }
    ]
