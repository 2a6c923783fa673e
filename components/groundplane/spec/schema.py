"""The JSON schemas of the files that a user writes, for completion in editors.

`python -m groundplane.spec.schema` writes them into `groundplane/schema/`; a test keeps them
current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from groundplane.registry import PROFILES, addon_names, addon_of
from groundplane.spec.addons import PROFILE, SIZE, SIZES
from groundplane.spec.addons import secrets as addon_secrets
from groundplane.spec.checks import known_settings
from groundplane.spec.load import SECRETS, SITE
from groundplane.spec.models import Cluster, Guest, Host, Hypervisor
from groundplane.spec.siblings import PLACE
from groundplane.spec.validate import model_in

FOLDER = Path(__file__).parent.parent / "schema"
KINDS = ("platform", "site")


class _Schema(GenerateJsonSchema):
    """Titles repeat the key, and defaults that are whole models repeat the model: without both."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema(kind: str) -> dict[str, Any]:
    """The schema of "platform" (platform.yaml) or "site" (Pulumi.STACK.yaml)."""
    entries = {name: addon_of(name) for name in addon_names()}
    models_of = [Host, Hypervisor, Guest, Cluster, *(entry.args for entry in entries.values())]
    _, whole = models_json_schema(
        [(model, "validation") for model in models_of],
        by_alias=True,
        schema_generator=_Schema,
    )
    models = whole["$defs"]
    for model in models.values():
        model.pop("title", None)
        _only(model, kind)
    # What both files may give in part is whole only when they are merged.
    for name in ("Cluster", "Guest", *_in_both(), *(e.args.__name__ for e in entries.values())):
        models[name].pop("required", None)
    if kind == "site":
        models["Cluster"]["required"] = [
            to_camel(name)
            for name, field in Cluster.model_fields.items()
            if field.is_required() and _where(field.json_schema_extra) == "site"
        ]
    _settings(models["Cluster"]["properties"])
    cluster = {"$ref": "#/$defs/Cluster"}
    own: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "cluster": cluster,
            "size": {"description": SIZE, "enum": list(SIZES), "default": SIZES[0]},
            "addons": {
                "description": "Add-ons by name, with their arguments; false leaves one of the "
                "profile out.",
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    name: {
                        "description": " ".join((entry.component.__doc__ or "").split()),
                        "anyOf": [
                            {"$ref": f"#/$defs/{entry.args.__name__}"},
                            {"type": "null"},
                            {"const": False},
                        ],
                    }
                    for name, entry in entries.items()
                },
            },
        },
    }
    if kind == "platform":
        own["properties"]["profile"] = {"description": PROFILE, "enum": list(PROFILES)}
    if kind == "site":
        own["required"] = ["hosts", "cluster"]
        own["properties"] |= {
            "place": {"description": PLACE, "type": "string"},
            "hosts": {
                "description": "The machines.",
                "type": "array",
                "minItems": 1,
                "items": {"$ref": "#/$defs/Host"},
            },
            "hypervisors": {
                "description": "The machines that run those of the hosts that are guests.",
                "type": "array",
                "items": {"$ref": "#/$defs/Hypervisor"},
            },
            "guests": {
                "description": "What holds for each guest; that of a host goes over it.",
                "$ref": "#/$defs/Guest",
            },
            "catalogue": {
                "description": "Path to a catalogue of the stack's own, from the folder of this "
                "file: versions and digests that go over groundplane's.",
                "type": "string",
            },
        }
        secret = {"type": "object", "required": ["secure"]}
        config = {
            "type": "object",
            "properties": {
                SITE: own,
                **{
                    f"groundplane:{key}": {"description": f"Secret: {what}.", **secret}
                    for key, what in (SECRETS | addon_secrets()).items()
                },
            },
        }
        own = {"type": "object", "properties": {"config": config}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "platform.yaml" if kind == "platform" else "Pulumi.STACK.yaml",
        **own,
        "$defs": _used(own, models),
    }


def _where(extra: Any) -> Any:
    return extra.get("where") if isinstance(extra, dict) else None


def _only(model: dict[str, Any], kind: str) -> None:
    """Drops the properties that stand in the other file, and our mark of where they do."""
    for key, value in list(model.get("properties", {}).items()):
        where = value.pop("where", kind)
        default = value.get("default")
        if isinstance(default, dict) and default:
            del value["default"]
        if where != kind:
            del model["properties"][key]


def _in_both() -> set[str]:
    found = set()
    for field in Cluster.model_fields.values():
        inner = model_in(field.annotation)
        if inner is not None and _where(field.json_schema_extra) is None:
            found.add(inner.__name__)
    return found


def _settings(properties: dict[str, Any]) -> None:
    """The fields of Kubernetes' own kinds that may be given, by name."""
    settings = known_settings()
    for key, fields in settings["known"].items():
        free = [name for name in fields if name not in settings["owned"][key]]
        properties[key]["additionalProperties"] = False
        properties[key]["properties"] = {name: {} for name in free}


def _used(own: Any, models: dict[str, Any]) -> dict[str, Any]:
    """The models that are referred to, directly or by others."""
    wanted: set[str] = set()

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).removeprefix("#/$defs/")
            if name in models and name not in wanted:
                wanted.add(name)
                follow(models[name])
            for below in value.values():
                follow(below)
        elif isinstance(value, list):
            for below in value:
                follow(below)

    follow(own)
    return {name: models[name] for name in sorted(wanted)}


def text(kind: str) -> str:
    """The schema as its file holds it."""
    return json.dumps(schema(kind), indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the files."""
    FOLDER.mkdir(exist_ok=True)
    for kind in KINDS:
        (FOLDER / f"{kind}.schema.json").write_text(text(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
