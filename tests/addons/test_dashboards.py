"""The dashboards that add-ons bring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.addons import Case, installed

import groundplane.addons
from groundplane.spec.addons import Need

FOLDER = Path(groundplane.addons.__file__).parent
FILES = sorted(FOLDER.glob("*.dashboard.json"))
ADDONS = {path.name.partition(".")[0].replace("_", "-"): path for path in FILES}


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("name", ADDONS)
def test_an_add_on_brings_its_dashboard(name: str) -> None:
    (found,) = [
        r.inputs
        for r in installed(Case(name, has=(Need.MONITORING,))).values()
        if r.inputs.get("metadata", {}).get("labels", {}).get("grafana_dashboard")
    ]
    assert list(found["data"].values()) == [ADDONS[name].read_text()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_panels_ask_a_data_source_that_there_is(path: Path) -> None:
    """Grafana calls Prometheus by the id `prometheus`, and the others by their kind."""
    panels = read(path)["panels"]
    assert {panel["datasource"]["uid"] for panel in panels} <= {"prometheus", "loki", "tempo"}
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def test_each_has_an_id_of_its_own() -> None:
    ids = [read(path)["uid"] for path in FILES]
    assert len(set(ids)) == len(ids) > 0
