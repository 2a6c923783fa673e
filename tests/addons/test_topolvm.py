"""topolvm: which volume groups its classes are of."""

from __future__ import annotations

from typing import Any

import pytest
from support.addons import Case, installed

from groundplane.addons.topolvm import TopolvmArgs
from groundplane.errors import SpecError
from groundplane.spec.addons import Need

THICK = {"large": {"volumeGroup": "disks"}, "small": {"volumeGroup": "nvme"}}
THIN = {"thin": {"volumeGroup": "nvme", "thinPool": "pool0", "overprovision": 2}}


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_a_storage_class_names_its_volume_group() -> None:
    given = values(Case("topolvm", {"classes": THICK, "default": "small"}))
    devices = {each["name"]: each["volume-group"] for each in given["lvmd"]["deviceClasses"]}
    classes = {each["name"]: each["storageClass"] for each in given["storageClasses"]}
    assert devices == {"large": "disks", "small": "nvme"}
    for name, each in classes.items():
        chosen = each["additionalParameters"]["topolvm.io/device-class"]
        assert name == f"topolvm-{chosen}" and chosen in devices
        assert each["isDefaultClass"] == (chosen == "small")
        # Another mode would place a volume where its pod may have no room.
        assert each["volumeBindingMode"] == "WaitForFirstConsumer"


def test_a_default_that_is_no_class_is_refused() -> None:
    with pytest.raises(SpecError, match="the default 'big' is none of the classes"):
        TopolvmArgs(classes={"fast": {"volumeGroup": "nvme"}}, default="big")


def test_the_daemon_starts_anew_where_its_classes_change() -> None:
    one, other = (
        values(Case("topolvm", {"classes": classes}))["lvmd"]["podLabels"]
        for classes in (THICK, THICK | THIN)
    )
    assert one != other


@pytest.mark.parametrize(
    "classes, has, there",
    [(THICK, (Need.SNAPSHOTS,), False), (THIN, (Need.SNAPSHOTS,), True), (THIN, (), False)],
)
def test_snapshots_of_thin_volumes(
    classes: dict[str, Any], has: tuple[Need, ...], there: bool
) -> None:
    case = Case("topolvm", {"classes": classes}, has=has)
    kinds = [r.inputs.get("kind") for r in installed(case).values()]
    assert ("VolumeSnapshotClass" in kinds) == there
    assert values(case)["snapshot"]["enabled"] == there
