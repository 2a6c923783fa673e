"""Charts in short: what of a Helm chart matters to whoever sets its values and writes its custom
resources, and what another version of it moves.

`python -m groundplane.charts FOLDER tests/charts [NAME...]` writes one file a chart; FOLDER holds
charts as their projects keep them: Chart.yaml, values.yaml, values.schema.json, templates/, and the
project's CRDs as crds.yaml. The tests hold each add-on against these files, and
`groundplane catalogue check` these files against charts.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Short = dict[str, Any]
"""A chart in short, as its file holds it.

chart, version, app, origin: what it is, and where that was read.
hooks: template -> the hooks it is run at; None where the templates were not there.
values: the tree of its values, whose leaves are types: text, number, boolean, list, map (whose keys
are free) or any.
schema: its values.schema.json, without words; only where it has one.
crds: "GROUP/VERSION KIND" -> scope and schema, without words and without `status`.
"""

# Kubernetes' own structures, whose keys are not the chart's: a default names only some of them.
FREE = re.compile(
    r"(.*[aA]nnotations|.*[lL]abels|.*[sS]ecurityContext|.*[nN]odeSelector|.*[aA]ffinity"
    r"|.*[rR]esources|.*Probe|updateStrategy|strategy|matchLabels|dnsConfig|.*emptyDir|limits"
    r"|requests)$"
)
# The same in CRDs: pods that an operator starts carry thousands of lines of them.
EMBEDDED = frozenset(
    [
        "affinity",
        "containers",
        "dnsConfig",
        "env",
        "envFrom",
        "ephemeralContainers",
        "hostAliases",
        "initContainers",
        "livenessProbe",
        "lifecycle",
        "podSecurityContext",
        "podSpec",
        "podTemplate",
        "readinessProbe",
        "securityContext",
        "startupProbe",
        "template",
        "tolerations",
        "topologySpreadConstraints",
        "volumeClaimTemplate",
        "volumeClaimTemplates",
        "volumeMounts",
        "volumes",
    ]
)
HOOK = re.compile(r"helm\.sh/hook[\"']?\s*:\s*[\"']?([a-z][a-z, -]*)")
COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
# Istio's charts nest their defaults below this key; users set them at the top.
NESTED = "_internal_defaults_do_not_set"
KEPT = frozenset(
    [
        "$defs",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "definitions",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "items",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "not",
        "nullable",
        "oneOf",
        "pattern",
        "patternProperties",
        "properties",
        "required",
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ]
)


def shorten(folder: Path) -> Short:
    """A chart, or a project that has only CRDs, in short."""
    import yaml

    def read(name: str) -> Any:
        path = folder / name
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None

    about = read("Chart.yaml") or {}
    source = _source(folder / "SOURCE.txt")
    values = read("values.yaml") or {}
    if isinstance(values.get(NESTED), dict):
        values = values[NESTED]
    short: Short = {
        "chart": folder.name,
        # Chart.yaml may hold a placeholder; a project without a chart is known by its tag.
        "version": source.get("chart version")
        or source.get("published chart version")
        or about.get("version")
        or source.get("ref", ""),
        "app": source.get("app version") or str(about.get("appVersion", "")),
        "origin": " ".join(source[key] for key in ("repository", "ref", "commit") if key in source),
        "hooks": hooks(folder),
        "values": {key: tree(value, key) for key, value in sorted(values.items())},
        "crds": {},
    }
    if (folder / "values.schema.json").is_file():
        short["schema"] = bare(json.loads((folder / "values.schema.json").read_text("utf-8")))
    # A project's experimental set holds the kinds of its other one again, which comes first.
    found = [*folder.glob("crds*.yaml"), *folder.glob("crds/*.yaml")]
    for path in sorted(found, key=lambda path: (path.parent, path.stem)):
        for document in yaml.load_all(path.read_text("utf-8"), yaml.CSafeLoader):
            for name, crd in _crd(document or {}):
                short["crds"].setdefault(name, crd)
    return short


def _source(path: Path) -> dict[str, str]:
    """Lines of the form `key: value`."""
    if not path.is_file():
        return {}
    lines = (line.partition(": ") for line in path.read_text("utf-8").splitlines())
    return {key: value for key, _, value in lines}


def hooks(folder: Path) -> dict[str, str] | None:
    """The templates that Helm runs as hooks, those of a chart's own tests aside; and the values,
    where such annotations stand there."""
    if not (folder / "templates").is_dir():
        return None
    found = {}
    for path in [*sorted(folder.rglob("templates/**/*")), folder / "values.yaml"]:
        if path.suffix not in (".yaml", ".yml", ".tpl"):
            continue
        said = HOOK.findall(COMMENT.sub("", path.read_text("utf-8")))
        words = {word.strip() for each in said for word in each.split(",")}
        if words - {"test", "test-success", "test-failure"}:
            found[path.relative_to(folder).as_posix()] = ",".join(sorted(words))
    return found


def tree(value: Any, key: str = "") -> Any:
    """The types of a chart's default values."""
    if isinstance(value, dict):
        if not value or FREE.match(key):
            return "map"
        return {str(k): tree(v, str(k)) for k, v in sorted(value.items(), key=lambda i: str(i[0]))}
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "text", int: "number", float: "number", list: "list"}
    return kinds.get(type(value), "any")


def bare(schema: Any) -> Any:
    """A JSON schema without words, defaults and what only an API server can check."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if str(schema.get("$ref", "")).startswith("http"):
        return {}  # Kubernetes' own, somewhere in the net
    short: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties", "definitions", "$defs"):
            short[key] = {name: bare(each) for name, each in value.items()}
        elif key in KEPT:
            short[key] = bare(value) if isinstance(value, dict | list) else value
    return short


def _crd(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if document.get("kind") != "CustomResourceDefinition":
        return
    spec = document["spec"]
    for version in spec["versions"]:
        if version["served"]:
            schema = bare(version["schema"]["openAPIV3Schema"])
            schema.get("properties", {}).pop("status", None)
            name = f"{spec['group']}/{version['name']} {spec['names']['kind']}"
            yield name, {"scope": spec["scope"], "schema": _opened(schema)}


def _opened(schema: Any) -> Any:
    """Without the insides of what a pod is made of."""
    if not isinstance(schema, dict):
        return schema
    short = {key: _opened(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        short["properties"] = {
            name: {"x-kubernetes-preserve-unknown-fields": True}
            if name in EMBEDDED and isinstance(each, dict) and each.get("type") != "string"
            else _opened(each)
            for name, each in schema["properties"].items()
        }
    return short


# ---- files -------------------------------------------------------------------------------------


def text(short: Short) -> str:
    """A chart in short as its file holds it: a line for each kind, so that a diff can be read."""
    lines = [f' "{key}": {_line(short[key])}' for key in short if key not in ("values", "crds")]
    for key in ("values", "crds"):
        inside = ",\n".join(f'  "{name}": {_line(each)}' for name, each in short[key].items())
        lines.append(f' "{key}": {{\n{inside}\n }}' if inside else f' "{key}": {{}}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write(charts: Path, to: Path, names: list[str]) -> None:
    """Writes charts in short. Hooks that are known stay known where templates are missing."""
    to.mkdir(parents=True, exist_ok=True)
    for folder in sorted(path for path in charts.iterdir() if path.is_dir()):
        if names and folder.name not in names:
            continue
        short, path = shorten(folder), to / f"{folder.name}.json"
        if short["hooks"] is None and path.is_file():
            before = json.loads(path.read_text("utf-8"))
            if before["version"] == short["version"]:
                short["hooks"] = before["hooks"]
        path.write_text(text(short), encoding="utf-8")


# ---- two versions ------------------------------------------------------------------------------


def moved(before: Short, now: Short) -> list[str]:
    """What an add-on that was written for one version may stumble over in another."""
    found = []
    was, new = dict(_leaves(before["values"])), dict(_leaves(now["values"]))
    for key in sorted(was.keys() - new.keys()):
        if not any(other.startswith(f"{key}.") for other in new):
            found.append(f"value {key} is gone")
    for key in sorted(was.keys() & new.keys()):
        if "any" not in (was[key], new[key]) and was[key] != new[key]:
            found.append(f"value {key} was {was[key]} and is {new[key]}")
    added = set(required(now)) - set(required(before))
    found += [f"value {key} is required" for key in sorted(added)]
    if None not in (before["hooks"], now["hooks"]) and bool(before["hooks"]) != bool(now["hooks"]):
        found.append("has hooks now" if now["hooks"] else "has no hooks any more")
    if now["crds"]:  # a chart may hold its kinds as templates, which only Helm can read
        gone = before["crds"].keys() - now["crds"].keys()
        found += [f"kind {name} is gone" for name in sorted(gone)]
    for name in sorted(before["crds"].keys() & now["crds"].keys()):
        fields, after = (set(_fields(c["crds"][name]["schema"])) for c in (before, now))
        found += [f"kind {name}: {field} is gone" for field in sorted(fields - after)]
        if before["crds"][name]["scope"] != now["crds"][name]["scope"]:
            found.append(f"kind {name} is {now['crds'][name]['scope']}")
    return found


def _leaves(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def required(short: Short) -> Iterator[str]:
    """The values that a chart's schema requires."""
    return _required(short.get("schema", {}), "")


def _required(schema: Any, at: str) -> Iterator[str]:
    if isinstance(schema, dict):
        for key in schema.get("required", ()):
            yield f"{at}{key}"
        for key, value in schema.get("properties", {}).items():
            yield from _required(value, f"{at}{key}.")


def _fields(schema: Any, at: str = "") -> Iterator[str]:
    """The paths of all fields of a kind."""
    if isinstance(schema, dict):
        for key, value in schema.get("properties", {}).items():
            yield f"{at}{key}"
            yield from _fields(value, f"{at}{key}.")
        yield from _fields(schema.get("items"), at)
        yield from _fields(schema.get("additionalProperties"), at)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
