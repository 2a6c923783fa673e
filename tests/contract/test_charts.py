"""Charts in short: what is kept of one, and what of another version is said to have moved."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.charts import wrong_object, wrong_values

from groundplane import charts
from groundplane.cli import cli

GREETER = Path(__file__).parents[1] / "greeter"
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: greetings.example.org}
spec:
  group: example.org
  names: {kind: Greeting}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              description: words
              required: [text]
              properties:
                text: {type: string, maxLength: 20, description: words}
                port: {x-kubernetes-int-or-string: true}
                affinity: {type: object, properties: {nodeAffinity: {type: object}}}
            status: {type: object}
    - name: v1beta1
      served: false
      schema: {openAPIV3Schema: {type: object}}
"""


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart with custom kinds and a schema, to be changed."""
    folder = tmp_path / "charts/greeter"
    shutil.copytree(GREETER, folder)
    (folder / "crds.yaml").write_text(CRD)
    schema = {"type": "object", "required": ["replicas"], "properties": {"replicas": {}}}
    (folder / "values.schema.json").write_text(json.dumps(schema))
    return folder


def change(chart: Path, values: dict[str, Any], *drop: str, version: str = "2.0.0") -> None:
    path = chart / "values.yaml"
    data = {**yaml.safe_load(path.read_text()), **values}
    path.write_text(yaml.safe_dump({key: data[key] for key in data if key not in drop}))
    about = chart / "Chart.yaml"
    about.write_text(about.read_text().replace("version: 1.2.0", f"version: {version}"))


def test_what_is_kept(chart: Path) -> None:
    short = charts.shorten(chart)
    assert (short["chart"], short["version"]) == ("greeter", "1.2.0")
    assert short["hooks"] == {"templates/check.yaml": "pre-install,pre-upgrade"}
    assert short["values"]["persistence"] == {"enabled": "boolean", "size": "text"}
    assert short["values"]["resources"] == "map"
    assert list(short["crds"]) == ["example.org/v1 Greeting"]
    assert "words" not in json.dumps(short)
    assert json.loads(charts.text(short)) == short


def test_without_templates_hooks_stay_known(chart: Path, tmp_path: Path) -> None:
    to = tmp_path / "short"
    charts.write(chart.parent, to, ["greeter"])
    shutil.rmtree(chart / "templates")
    assert charts.shorten(chart)["hooks"] is None
    charts.write(chart.parent, to, [])
    kept = json.loads((to / "greeter.json").read_text())
    assert kept["hooks"] == {"templates/check.yaml": "pre-install,pre-upgrade"}
    change(chart, {})
    charts.write(chart.parent, to, [])
    assert json.loads((to / "greeter.json").read_text())["hooks"] is None


def test_a_charts_own_tests_are_no_hooks_that_matter(chart: Path) -> None:
    path = chart / "templates/check.yaml"
    path.write_text(path.read_text().replace("pre-install,pre-upgrade", "test"))
    assert charts.hooks(chart) == {}


def test_hooks_among_the_values_are_hooks_and_those_in_comments_are_not(chart: Path) -> None:
    (chart / "templates/check.yaml").unlink()
    path = chart / "values.yaml"
    path.write_text(path.read_text() + "# helm.sh/hook: pre-install\n")
    assert charts.hooks(chart) == {}
    path.write_text(path.read_text() + "job: {annotations: {helm.sh/hook: post-install}}\n")
    assert charts.hooks(chart) == {"values.yaml": "post-install"}


def test_what_another_version_moved(chart: Path) -> None:
    before = charts.shorten(chart)
    assert charts.moved(before, before) == []
    change(chart, {"replicas": "many", "persistence": {"enabled": False}}, "greeting")
    (chart / "templates/check.yaml").unlink()
    (chart / "crds.yaml").write_text(CRD.replace("port:", "gate:").replace("Namespaced", "Cluster"))
    schema = {"type": "object", "required": ["replicas", "image"]}
    (chart / "values.schema.json").write_text(json.dumps(schema))
    assert charts.moved(before, charts.shorten(chart)) == [
        "value greeting is gone",
        "value persistence.size is gone",
        "value replicas was number and is text",
        "value image is required",
        "has no hooks any more",
        "kind example.org/v1 Greeting: spec.port is gone",
        "kind example.org/v1 Greeting is Cluster",
    ]


# ---- what add-ons are held against --------------------------------------------------------------


@pytest.fixture
def known(chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own files are this chart's."""
    from support import charts as held

    to = tmp_path / "short"
    charts.write(chart.parent, to, [])
    monkeypatch.setattr(held, "FOLDER", to)
    monkeypatch.setattr(held, "beside", lambda: {"greeter": {"extra": "read in a template"}})
    monkeypatch.setattr(held, "parts", dict)
    for cached in (held.short, held.kinds):
        cached.cache_clear()
        monkeypatch.setattr(held, cached.__name__, cached.__wrapped__)


VALUES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "as the chart has them": (
        {"replicas": 2, "resources": {"limits": {"cpu": 1}}, "persistence": {"enabled": True}},
        [],
    ),
    "one that it takes beside": ({"extra": {"anything": True}}, []),
    "an unknown one": ({"replica": 2}, ["replica: the chart has no such value"]),
    "an unknown one inside": (
        {"persistence": {"enable": True}},
        ["persistence.enable: the chart has no such value"],
    ),
    "another type": (
        {"greeting": 1, "persistence": True},
        ["greeting: text in the chart, and not 1", "persistence: a mapping in the chart, and not "
         "True"],
    ),
    "a number for a truth": (
        {"persistence": {"enabled": 1}},
        ["persistence.enabled: boolean in the chart, and not 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values(case: str, known: None) -> None:
    values, wrong = VALUES[case]
    assert wrong_values("greeter", values) == wrong


OBJECTS: dict[str, tuple[dict[str, Any], str]] = {
    "right": ({"text": "hello", "port": "http", "affinity": {"nodeAffinity": {}}}, ""),
    "an unknown field": ({"text": "hello", "words": 1}, "'words' was unexpected"),
    "a missing field": ({"port": 80}, "'text' is a required property"),
    "too long": ({"text": "h" * 21}, "is too long"),
    "another type": ({"text": 1}, "1 is not of type 'string'"),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_custom_resources(case: str, known: None) -> None:
    spec, wrong = OBJECTS[case]
    made = {"apiVersion": "example.org/v1", "kind": "Greeting", "metadata": {}, "spec": spec}
    found = wrong_object(made)
    assert len(found) == bool(wrong), found
    assert all(wrong in each for each in found)


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def checked(chart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`groundplane catalogue check` of a catalogue with that one chart."""
    from groundplane.catalogue import Catalogue
    from groundplane.commands import catalogue

    to = tmp_path / "short"
    charts.write(chart.parent, to, [])
    entry = {"kind": "release", "version": "1.2.0", "chart": "greeter", "repository": "http://c"}
    made = Catalogue({"parts": {}, "addons": {"greeter": entry}})
    monkeypatch.setattr(catalogue, "product", lambda: made)

    def checked(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["catalogue", "check", "--short", str(to), *more])
        return done.exit_code, done.output

    return checked


def test_the_same(chart: Path, checked: Any) -> None:
    assert checked("--charts", str(chart.parent)) == (0, "greeter 1.2.0: nothing moved\n")


def test_a_newer_one(chart: Path, checked: Any) -> None:
    change(chart, {}, "greeting")
    assert checked("--charts", str(chart.parent)) == (
        0,
        "greeter 1.2.0 -> 2.0.0: 1 moved\n  value greeting is gone\n",
    )


def test_another_one_of_the_same_version(chart: Path, checked: Any) -> None:
    change(chart, {}, "greeting", version="1.2.0")
    status, text = checked("--charts", str(chart.parent), "--json")
    assert status == 1
    (found,) = json.loads(text)
    assert found["moved"] == ["value greeting is gone"]


def test_a_chart_that_is_not_there(chart: Path, checked: Any, tmp_path: Path) -> None:
    status, text = checked("--charts", str(tmp_path))
    assert status == 2
    assert "greeter: there is no chart here" in text


HELM = """#!/bin/sh
# As helm pull: the newest chart of a repository, unpacked.
[ "$*" = "pull greeter --repo http://c --untar --destination $7" ] || exit 1
cp -r {chart} "$7/"
"""


@pytest.mark.parametrize("there", [True, False])
def test_the_newest_is_fetched_by_helm(
    chart: Path, checked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    change(chart, {}, "greeting")
    helm = tmp_path / "bin/helm"
    helm.parent.mkdir()
    helm.write_text(HELM.replace("{chart}", str(chart if there else tmp_path / "nowhere")))
    helm.chmod(helm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{helm.parent}:/usr/bin:/bin")
    status, text = checked()
    assert status == (0 if there else 2)
    assert ("value greeting is gone" in text) == there


def test_without_helm(checked: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, text = checked()
    assert status == 2
    assert "helm is not on the PATH" in text
