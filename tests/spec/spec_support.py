"""A good stack, cases that change it, and paths into both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundplane.spec.documents import parse

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJf6nD1a9m8hS7YJxkqo1x0B0E4g0m8w7i8Wm3k5y2V"
PLATFORM: dict[str, Any] = {
    "cluster": {"kubernetes": {"version": "1.36.4"}, "containerd": {"version": "2.3.4"}}
}
SITE: dict[str, Any] = {
    "hosts": [
        {"name": "cp1", "address": "192.0.2.11", "role": "control-plane", "hostKey": KEY},
        {"name": "cp2", "address": "192.0.2.12", "role": "control-plane", "hostKey": KEY},
        {"name": "cp3", "address": "192.0.2.13", "role": "control-plane", "hostKey": KEY},
        {"name": "w1", "address": "192.0.2.21", "role": "worker", "hostKey": KEY},
    ],
    "cluster": {
        "name": "metal",
        "podCidrs": ["10.244.0.0/16"],
        "serviceCidrs": ["10.96.0.0/16"],
        "endpoint": {"address": "192.0.2.10", "routerId": 51},
    },
}


def cases(name: str) -> list[Any]:
    """The cases of a file, read as the product reads YAML."""
    path = Path(__file__).parent / "cases" / f"{name}.yaml"
    found = parse(path.read_text(encoding="utf-8"), path.name).data
    return [pytest.param(case, id=case["name"]) for case in found]


def at(value: Any, path: str) -> Any:
    """What a path such as hosts/0/name leads to, in mappings, lists and objects."""
    for step in path.split("/"):
        if isinstance(value, dict):
            value = value[step]
        else:
            value = value[int(step)] if step.isdigit() else getattr(value, step)
    return value


def put(data: Any, path: str, value: Any) -> None:
    """Sets what a path leads to; mappings on the way are made."""
    *way, last = path.split("/")
    for step in way:
        data = data[int(step)] if isinstance(data, list) else data.setdefault(step, {})
    data[int(last) if isinstance(data, list) else last] = value


Write = Callable[[dict[str, Any]], Path]
