"""Property values as the engine sends them: plain Python values, secrets, assets and unknowns.

On the wire secrets and assets are objects with a signature, an unknown is a fixed string. Here
they are `Secret(value)`, `Asset(...)` and `UNKNOWN`. Numbers are floats.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

Properties = dict[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
_ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
_ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
_UNKNOWNS: Final = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # string
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # bool
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # number
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # array
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # object
        "030794c1-ac77-496b-92df-f27374a8bd58",  # asset
        "e48ece36-62e2-4504-bad9-02848725956a",  # archive
    }
)
_UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


@dataclass(frozen=True)
class Secret:
    """A value that the engine must encrypt in the state and hide in its output."""

    value: Any


@dataclass(frozen=True)
class Asset:
    """Something to copy. It is the same as another of the same `hash`, wherever that one lies.

    source: `path`, `text` or `uri` and its value; nothing where the engine leaves contents out.
    archive: whether it is a folder or an archive, and not one file.
    """

    hash: str
    source: Properties = field(compare=False)
    archive: bool = False


class Unknown:
    """A value that is not known before an update has run."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


def load(struct: Struct) -> Properties:
    """The properties of a message."""
    return {key: _load(value) for key, value in struct.fields.items()}


def _load(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWNS else value.string_value
    if kind == "struct_value":
        return _load_object(load(value.struct_value))
    if kind == "list_value":
        return [_load(item) for item in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def _load_object(fields: Properties) -> Any:
    signature = fields.get(_SIGNATURE)
    if signature == _SECRET:
        return Secret(fields.get("value"))
    if signature in (_ASSET, _ARCHIVE):
        source = {k: v for k, v in fields.items() if k not in (_SIGNATURE, "hash")}
        return Asset(fields.get("hash") or "", source, signature == _ARCHIVE)
    return fields


def dump(properties: Properties) -> Struct:
    """The message for properties; those that are None are left out, as the official SDKs do."""
    struct = Struct()
    struct.update({key: _dump(value) for key, value in properties.items() if value is not None})
    return struct


def _dump(value: Any) -> Any:
    if isinstance(value, Secret):
        return {_SIGNATURE: _SECRET, "value": _dump(value.value)}
    if isinstance(value, Asset):
        signature = _ARCHIVE if value.archive else _ASSET
        return {_SIGNATURE: signature, "hash": value.hash, **_dump(value.source)}
    if isinstance(value, Unknown):
        return _UNKNOWN_STRING
    if isinstance(value, dict):
        return {key: _dump(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_dump(item) for item in value]
    return value


def reveal(value: Any) -> Any:
    """The value with every secret in it opened, to work with; never to be logged or returned."""
    if isinstance(value, Secret):
        return reveal(value.value)
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [reveal(item) for item in value]
    return value


def diff(old: Properties, new: Properties) -> dict[str, str]:
    """What changed, by property path: `add`, `delete` or `update`.

    A secret is compared as a whole, so its path ends where the secret begins.
    """
    changes: dict[str, str] = {}
    _diff_objects("", old, new, changes)
    return changes


def _diff_objects(path: str, old: Properties, new: Properties, changes: dict[str, str]) -> None:
    for key in old.keys() | new.keys():
        _diff_values(_join(path, key), old.get(key), new.get(key), changes)


def _diff_values(path: str, old: Any, new: Any, changes: dict[str, str]) -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        _diff_objects(path, old, new, changes)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            item = f"{path}[{index}]"
            if index >= len(old):
                changes[item] = "add"
            elif index >= len(new):
                changes[item] = "delete"
            else:
                _diff_values(item, old[index], new[index], changes)
    elif old != new:
        changes[path] = "add" if old is None else "delete" if new is None else "update"


def _join(path: str, key: str) -> str:
    """The engine's property path, in which a key that is not a plain word is quoted."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
        return f"{path}[{json.dumps(key)}]"
    return f"{path}.{key}" if path else key
