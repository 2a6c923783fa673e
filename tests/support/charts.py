"""Values and custom resources against charts in short (tests/charts)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

FOLDER = Path(__file__).parents[1] / "charts"
KINDS = {"text": str, "number": (int, float), "boolean": bool, "list": list, "map": dict}


@cache
def short(name: str) -> dict[str, Any]:
    """A chart in short."""
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


@cache
def parts() -> dict[str, dict[str, str]]:
    """Charts that others hold: chart -> key of its values -> the chart in short."""
    return dict(yaml.safe_load((FOLDER / "parts.yaml").read_text()))


@cache
def beside() -> dict[str, dict[str, str]]:
    """Values that a chart takes although its defaults name them not: chart -> path -> reason."""
    return dict(yaml.safe_load((FOLDER / "beside.yaml").read_text()) or {})


@cache
def without_kinds() -> dict[str, str]:
    """Charts that install none of their custom kinds with our values: chart -> which value does."""
    return dict(yaml.safe_load((FOLDER / "without_kinds.yaml").read_text()) or {})


def wrong_values(name: str, values: Mapping[str, Any]) -> list[str]:
    """What of these values the chart does not know, or knows to be of another type."""
    chart = short(name)
    tree = chart["values"]
    for key, part in parts().get(name, {}).items():
        tree = _merged(tree, {key: short(part)["values"]})
    found = list(_wrong(values, tree, chart.get("schema"), beside().get(name, {}), ""))
    if "schema" in chart:
        # What it requires and defaults give is not for us to set.
        errors = Draft7Validator(_lenient(chart["schema"])).iter_errors(dict(values))
        found += [f"{error.json_path}: {error.message}" for error in errors]
    return found


def _merged(one: Any, other: Any) -> Any:
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one
    return {**other, **{key: _merged(value, other.get(key)) for key, value in one.items()}}


def _wrong(
    values: Mapping[str, Any], tree: Any, schema: Any, known: Mapping[str, str], at: str
) -> Iterator[str]:
    for key, value in values.items():
        path = f"{at}{key}"
        inside = (schema or {}).get("properties", {}).get(key)
        if path in known:
            continue
        if not isinstance(tree, dict) or key not in tree:
            if inside is None:
                yield f"{path}: the chart has no such value"
            continue
        kind = tree[key]
        if isinstance(kind, dict):
            if not isinstance(value, Mapping):
                yield f"{path}: a mapping in the chart, and not {value!r}"
            else:
                yield from _wrong(value, kind, inside, known, f"{path}.")
        elif kind in KINDS and value is not None and inside is None:
            good = isinstance(value, KINDS[kind]) and (kind == "boolean") == isinstance(value, bool)
            if not good:
                yield f"{path}: {kind} in the chart, and not {value!r}"


def _lenient(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_lenient(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _lenient(each) for name, each in value.items()}
        if key in ("properties", "definitions", "$defs")
        else _lenient(value)
        for key, value in schema.items()
        if key != "required" or not isinstance(value, list)
    }


@cache
def kinds() -> dict[str, tuple[str, dict[str, Any]]]:
    """All custom kinds of all charts: "GROUP/VERSION KIND" -> the chart, and its scope and schema.

    One that stands in several is the same in all, or experimental in the others.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        for name, crd in short(path.stem)["crds"].items():
            found.setdefault(name, (path.stem, crd))
    return found


def wrong_object(document: Mapping[str, Any]) -> list[str]:
    """What is wrong with a custom resource, as its CRD has it."""
    _, crd = kinds()[f"{document['apiVersion']} {document['kind']}"]
    body = {k: v for k, v in document.items() if k not in ("apiVersion", "kind", "metadata")}
    errors = Draft7Validator(_strict(crd["schema"])).iter_errors(body)
    return [f"{error.json_path}: {error.message}" for error in errors]


def _strict(schema: Any, top: bool = True) -> Any:
    """As an API server would have it that refuses unknown fields."""
    if not isinstance(schema, dict):
        return schema
    made = dict(schema)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if top:
        made["properties"] = {
            key: value
            for key, value in made.get("properties", {}).items()
            if key not in ("apiVersion", "kind", "metadata")
        }
        made["required"] = [key for key in made.get("required", []) if key in made["properties"]]
    open_ = made.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in made
    if "properties" in made:
        made["properties"] = {k: _strict(v, False) for k, v in made["properties"].items()}
        if not open_:
            made["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(made.get(key), dict):
            made[key] = _strict(made[key], False)
    if made.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made
