"""velero: where backups lie, when they are made, and how it is seen that they are good."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.addons import STORE, Case, before, installed
from support.program import SECRET, Resource

from groundplane.addons.velero import DRILL, SCRATCH, VeleroArgs
from groundplane.errors import SpecError
from groundplane.spec.addons import Need

EXTERNAL = {"url": "https://s3.example.org", "bucket": "backup", "accessKey": "velero"}
HOURLY = {"cron": "5 * * * *", "to": "in-cluster"}


def case(has: tuple[Need, ...] = (), **args: Any) -> Case:
    return Case("velero", {"external": EXTERNAL, **args}, has=has)


def of_kind(found: dict[str, Resource], kind: str) -> dict[str, dict[str, Any]]:
    return {
        r.inputs["metadata"]["name"]: r.inputs
        for r in found.values()
        if r.inputs.get("kind") == kind
    }


def values(found: dict[str, Resource]) -> dict[str, Any]:
    (chart,) = [r for r in found.values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


INSIDE = [
    "http://rook-ceph-rgw-ceph-objectstore.rook-ceph.svc",
    "http://seaweedfs-s3.seaweedfs.svc:8333",
    "http://store.other.svc.example.org",
    "http://store.other.svc.cluster.local:9000",
]


@pytest.mark.parametrize("url", INSIDE)
def test_a_cluster_is_never_backed_up_only_into_itself(url: str) -> None:
    with pytest.raises(SpecError, match="is a service of the cluster"):
        VeleroArgs(external={**EXTERNAL, "url": url})


def test_some_backup_lies_outside() -> None:
    given = {"external": EXTERNAL, "in_cluster": True, "drill": None}
    with pytest.raises(SpecError, match="no schedule has its backups outside of the cluster"):
        VeleroArgs(**given, schedules={"hourly": HOURLY})
    with pytest.raises(SpecError, match="the backups of hourly have no place in the cluster"):
        VeleroArgs(external=EXTERNAL, schedules={"hourly": HOURLY, "daily": {"cron": "0 1 * * *"}})
    both = {"hourly": HOURLY, "daily": {"cron": "0 1 * * *"}}
    assert VeleroArgs(**given, schedules=both).buckets() == ["velero"]


@pytest.mark.parametrize("cron", ["daily", "1 2 3 4", "* * * * * *", "0 1 * * *;x"])
def test_what_is_no_schedule_is_refused(cron: str) -> None:
    with pytest.raises(SpecError, match="is not a schedule of cron"):
        VeleroArgs(external=EXTERNAL, schedules={"daily": {"cron": cron}})


def test_places_are_there_once_they_can_be_reached() -> None:
    schedules = {"daily": {"cron": "0 1 * * *"}, "hourly": HOURLY}
    found = installed(case(inCluster=True, schedules=schedules))
    made = of_kind(found, "BackupStorageLocation")
    assert {name: each["spec"]["config"]["s3Url"] for name, each in made.items()} == {
        "external": "https://s3.example.org",
        "in-cluster": STORE,
    }
    assert {name: each["spec"]["default"] for name, each in made.items()} == {
        "external": True,
        "in-cluster": False,
    }
    for name, each in made.items():
        assert each["metadata"]["annotations"] == {
            "pulumi.com/waitFor": "jsonpath={.status.phase}=Available"
        }
        secret = of_kind(found, "Secret")[each["spec"]["credential"]["name"]]
        assert name == secret["metadata"]["name"]
        assert SECRET in json.dumps(secret["stringData"]["cloud"])
    placed = of_kind(found, "Schedule")
    assert placed["velero-hourly"]["spec"]["template"]["storageLocation"] == "in-cluster"


def test_the_password_of_backups_is_there_before_velero() -> None:
    """Or it makes one that everybody knows."""
    found = installed(case())
    secret = "metal-velero-secret-velero-repo-credentials"
    assert "repository-password" in found[secret].inputs["stringData"]
    assert secret in before(found, "metal-velero-velero")


def test_volumes_are_read_as_told() -> None:
    for volumes, moved, needs in (("snapshots", True, True), ("files", False, False)):
        made = case(volumes=volumes)
        given = values(installed(made))["configuration"]
        assert given["defaultSnapshotMoveData"] is moved
        assert given["defaultVolumesToFsBackup"] is not moved
        assert (Need.SNAPSHOTS in made.parsed.also_needs()) is needs


def test_a_schedule_says_how_long_its_backups_are_kept() -> None:
    made = of_kind(
        installed(case(schedules={"daily": {"cron": "0 1 * * *", "keepDays": 7}})), "Schedule"
    )
    assert made["velero-daily"]["spec"]["template"]["ttl"] == "168h0m0s"
    assert made["velero-daily"]["spec"]["template"]["includedNamespaces"] == ["*"]


# ---- the drill ---------------------------------------------------------------------------------


def test_what_is_drilled_is_in_the_backup() -> None:
    some = {"daily": {"cron": "0 1 * * *", "namespaces": ["shop"]}}
    with pytest.raises(SpecError, match="the drill's schedule daily is not of all namespaces"):
        VeleroArgs(external=EXTERNAL, schedules=some)
    with pytest.raises(SpecError, match="the drill's schedule 'weekly' is none of the schedules"):
        VeleroArgs(external=EXTERNAL, drill={"schedule": "weekly"})
    some["daily"]["namespaces"] = ["shop", DRILL]
    assert VeleroArgs(external=EXTERNAL, schedules=some).drill


def test_without_a_drill_there_is_nothing_of_it() -> None:
    assert DRILL not in json.dumps([r.name for r in installed(case(drill=None)).values()])


def test_the_drill_restores_the_newest_of_its_schedule() -> None:
    found = installed(case())
    job = of_kind(found, "CronJob")[DRILL]["spec"]["jobTemplate"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    given = {each["name"]: each["value"] for each in container["env"]}
    assert given["SCHEDULE"] in of_kind(found, "Schedule")
    assert (given["SOURCE"], given["SCRATCH"]) == (DRILL, SCRATCH)
    # The script ends by itself, and then has time to tidy up.
    assert job["activeDeadlineSeconds"] > int(given["LIMIT"]) + 240
    assert of_kind(found, "CronJob")[DRILL]["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_canary_writes_only_where_it_lives() -> None:
    """In the scratch namespace its data must be what was restored."""
    found = installed(case())
    canary = of_kind(found, "Deployment")["canary"]
    assert canary["metadata"]["namespace"] == DRILL
    (write,) = canary["spec"]["template"]["spec"]["initContainers"]
    assert f'[ "$NAMESPACE" = {DRILL} ] ||' in write["command"][2]
    (read,) = canary["spec"]["template"]["spec"]["containers"]
    assert "sha256sum -c" in read["readinessProbe"]["exec"]["command"][2]


def test_the_drill_may_take_away_its_scratch_namespace_and_no_other() -> None:
    found = installed(case())
    rules = of_kind(found, "ClusterRole")[DRILL]["rules"]
    for rule in rules:
        assert rule["resourceNames"] in ([SCRATCH], ["canary"])


def test_its_result_is_served_where_something_asks_for_it() -> None:
    assert f"{DRILL}-metrics" not in of_kind(installed(case()), "Deployment")
    found = installed(case(has=(Need.MONITOR_CRDS,)))
    page = of_kind(found, "Deployment")[f"{DRILL}-metrics"]["spec"]
    watched = of_kind(found, "PodMonitor")[DRILL]["spec"]
    assert watched["selector"]["matchLabels"] == page["template"]["metadata"]["labels"]
    alerts = {
        each["alert"]: each["expr"] for each in values(found)["metrics"]["prometheusRule"]["spec"]
    }
    assert {"BackupLate", "RestoreDrillFailed", "RestoreDrillLate"} == alerts.keys()
    assert 'schedule="velero-daily"' in alerts["BackupLate"]
