"""What is generated from the models is current, and describes what they take."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from spec_support import PLATFORM, SITE, cases, put

from groundplane.begin import platform_text
from groundplane.spec import load, reference, schema
from groundplane.spec.documents import read
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster
from groundplane.spec.validate import model_in

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", schema.KINDS)
def test_schemas_are_current(kind: str) -> None:
    written = (schema.FOLDER / f"{kind}.schema.json").read_text(encoding="utf-8")
    assert written == schema.text(kind), "run: python -m groundplane.spec.schema"


@pytest.mark.parametrize("path", reference.WRITTEN, ids=lambda path: path.name)
def test_the_reference_is_current(path: Path) -> None:
    written = (ROOT / path).read_text(encoding="utf-8")
    assert written == reference.WRITTEN[path](), "run: python -m groundplane.spec.reference"


def test_the_page_of_add_ons_is_current() -> None:
    written = (ROOT / reference.ADDONS).read_text(encoding="utf-8")
    assert written == reference.addons_page(), "run: python -m groundplane.spec.reference"


def test_the_platform_is_what_init_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / "stacks/platform.yaml").read_text() == platform_text(Path("stacks"))


@pytest.mark.parametrize("stack", ["metal", "vm"])
def test_the_example_is_a_stack(stack: str, tmp_path: Path) -> None:
    example = (ROOT / f"stacks/Pulumi.{stack}.yaml.example").read_text()
    (tmp_path / "id").write_text("a private key")
    (tmp_path / f"Pulumi.{stack}.yaml").write_text(example.replace("~/.ssh/id_ed25519", "id"))
    (tmp_path / "platform.yaml").write_text((ROOT / "stacks/platform.yaml").read_text())
    assert len(load(stack, tmp_path).control_planes) == 3
    site = read(tmp_path / f"Pulumi.{stack}.yaml").data
    jsonschema.validate(site, schema.schema("site"))
    jsonschema.validate(read(ROOT / "stacks/platform.yaml").data, schema.schema("platform"))


@pytest.mark.parametrize("case", cases("taken"))
def test_the_schema_takes_what_the_models_take(case: dict[str, Any]) -> None:
    documents = {"platform": copy.deepcopy(PLATFORM), "site": copy.deepcopy(SITE)}
    for name, data in documents.items():
        for path, value in case.get(name, {}).items():
            put(data, path, value)
    jsonschema.validate(documents["platform"], schema.schema("platform"))
    jsonschema.validate({"config": {"groundplane:site": documents["site"]}}, schema.schema("site"))


def test_the_schema_refuses_what_is_elsewhere() -> None:
    for kind, data in (
        ("platform", {"hosts": []}),
        ("platform", {"cluster": {"endpoint": {"address": "192.0.2.10"}}}),
        ("site", {"config": {"groundplane:site": {**SITE, "cluster": {"network": "none"}}}}),
        ("site", {"config": {"groundplane:site": {**SITE, "hosts": [{"lables": {}}]}}}),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, schema.schema(kind))


def _models(model: type[Model]) -> set[type[Model]]:
    found = {model}
    for field in model.model_fields.values():
        inner = model_in(field.annotation)
        if inner is not None and inner not in found:
            found |= _models(inner)
    return found


def test_every_field_is_described() -> None:
    for model in _models(Cluster):
        for name, field in model.model_fields.items():
            assert field.exclude or field.description, f"{model.__name__}.{name}"


def test_schemas_hold_no_secret_fields() -> None:
    text = json.dumps([schema.schema(kind) for kind in schema.KINDS])
    assert '"password"' not in text and '"secretKey"' not in text
