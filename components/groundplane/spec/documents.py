"""YAML files as data, with the line that each key stands on.

Values are read as YAML 1.2 has them, which is also how Pulumi reads a stack's file: `on` is text,
and so is 52:54:00:12:34:56.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from groundplane.errors import Finding, SpecError

Location = tuple[str | int, ...]
MOST_VALUES = 100_000  # far above any real site; far below what aliases of aliases can blow up to
REAL = re.compile(
    r"(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
"""Numbers of YAML 1.2; version 1.1 takes 1e3 for text."""


@dataclass(frozen=True)
class Document:
    """What a file holds. `place` names it in errors; `lines` tells where each key stands."""

    place: str
    data: Any
    lines: Mapping[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """The line of the value, or of what surrounds it; 0 when that is unknown."""
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return self.lines[location[:length]]
        return 0

    def at(self, location: Location) -> str:
        """FILE:LINE of the value, or of what surrounds it."""
        line = self.line(location)
        return f"{self.place}:{line}" if line else self.place

    def has(self, location: Location) -> int:
        """How many steps of the path lead to something in this document."""
        value = self.data
        for depth, step in enumerate(location):
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return depth
        return len(location)


@cache
def _loader() -> type:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML's core schema, of version 1.2."""

    Loader.yaml_implicit_resolvers = {}  # those of version 1.1 go
    null, true = "tag:yaml.org,2002:null", "tag:yaml.org,2002:bool"
    integer, real = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
    add = Loader.add_implicit_resolver
    add(null, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    add(true, re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    add(integer, re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
    add(real, REAL, list("-+0123456789."))
    add("tag:yaml.org,2002:merge", re.compile(r"<<$"), ["<"])
    return Loader


def shown(path: Path) -> str:
    """A path as the user would type it: from where they are, if that is shorter."""
    try:
        near = os.path.relpath(path)
    except ValueError:
        return str(path)
    return near if len(near) < len(str(path)) else str(path)


def read(path: Path) -> Document:
    """A YAML file. Raises SpecError when it cannot be read."""
    place = shown(path)
    try:
        return parse(path.read_text(encoding="utf-8"), place)
    except UnicodeDecodeError:
        raise _unreadable(place, "not a text in UTF-8", "Save it as UTF-8.") from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise _unreadable(place, what, "Correct its name or its permissions.") from None


def parse(text: str, place: str) -> Document:
    """YAML text. Raises SpecError with the line when it is no YAML."""
    import yaml

    loader = None
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return Document(place, None)
        lines: dict[Location, int] = {}
        twice = list(_walk(node, (), lines, set()))
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        what = f"not YAML: {error.problem or error.context}"
        raise _unreadable(place + line, what, "Correct the line.") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        first = str(error).partition("\n")[0][:200] or type(error).__name__
        raise _unreadable(place, f"not YAML: {first}", "Correct the file.") from None
    finally:
        if loader is not None:
            loader.dispose()
    if twice:
        raise SpecError(
            Finding(
                f"{place}:{line}: {'.'.join(map(str, at))}",
                "stands there twice",
                "YAML would take one of the two and drop the other",
                "Remove one.",
            )
            for at, line in twice
        )
    return Document(place, data, lines)


def _walk(
    node: Any, at: Location, lines: dict[Location, int], above: set[int]
) -> Iterator[tuple[Location, int]]:
    """Records the line of each key below `node`; yields the keys that stand there twice."""
    import yaml

    if id(node) in above:
        raise ValueError("an alias contains itself")
    if len(lines) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str) or key.tag.endswith(":merge"):
                continue
            line = key.start_mark.line + 1
            if (*at, name) in lines:
                yield (*at, name), line
            lines[(*at, name)] = line
            yield from _walk(value, (*at, name), lines, above | {id(node)})
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            yield from _walk(value, (*at, index), lines, above | {id(node)})


def _unreadable(place: str, what: str, remedy: str) -> SpecError:
    return SpecError([Finding(place, what, "Nothing of it can be checked", remedy)])
