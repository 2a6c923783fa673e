"""The pack's examples and cases as data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from rules.rule import UNKNOWN, Resource, Secret, View

PACK = Path(__file__).parents[2] / "policies"
CASES = Path(__file__).parent / "cases"


class Loader(yaml.SafeLoader):
    """YAML in which a value may be `!secret` or `!unknown`."""


Loader.add_constructor("!unknown", lambda loader, node: UNKNOWN)
Loader.add_constructor("!secret", lambda loader, node: Secret(loader.construct_scalar(node)))


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader)


def examples() -> dict[str, dict[str, Any]]:
    """Rule -> its example."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((PACK / "examples").glob("*.yaml")):
        for name, example in read(path).items():
            assert name not in found
            found[name] = {**example, "area": path.stem.replace("_", " ")}
    return found


def resources(given: Sequence[dict[str, Any]], name: str = "it") -> list[Resource]:
    """Resources as a rule gets them; the first is called `name`, the others `name`-2, ..."""
    made = []
    for number, each in enumerate(given, 1):
        called = name if number == 1 else f"{name}-{number}"
        urn = f"urn:pulumi:metal::groundplane::{each['type']}::{called}"
        made.append(Resource(each["type"], called, urn, View(each["props"])))
    return made


def settings(example: dict[str, Any], side: str) -> dict[str, Any]:
    """The settings that an example is judged with."""
    return {
        **example.get("settings", {}),
        **(example.get("fails-with", {}) if side == "fails" else {}),
    }
