"""`groundplane policies`: the rules of a policy pack, and how strict a stack is with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from groundplane.errors import Finding, GroundplaneError, SpecError
from groundplane.spec.checks import did_you_mean
from groundplane.spec.documents import shown

LEVELS = ("mandatory", "advisory", "disabled")
WHY = "A rule that is not there, or a setting that is not read, would guard nothing"


@click.command()
@click.option(
    "--pack",
    type=click.Path(path_type=Path),
    help="The folder of the pack; else `policies` beside the nearest Pulumi.yaml.",
)
@click.option(
    "--levels",
    "levels_file",
    type=click.Path(path_type=Path),
    help="A stack's levels, as --policy-pack-config takes them: they are checked, and shown.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rules as JSON.")
@click.option("--markdown", is_flag=True, help="Print them as a page, with all that is known.")
def policies(pack: Path | None, levels_file: Path | None, as_json: bool, markdown: bool) -> None:
    """List the rules of a policy pack, with area, level and source."""
    pack = pack or nearest_pack(Path.cwd())
    rules = rules_of(pack)
    levels = levels_of(levels_file, rules) if levels_file else {}
    if markdown:
        click.echo("\n".join(page(rules)))
    elif as_json:
        click.echo(json.dumps([document(rule, levels.get(rule.name)) for rule in rules], indent=2))
    else:
        click.echo("\n".join(lines(rules, levels, shown(pack))))


def nearest_pack(start: Path) -> Path:
    """`policies` beside the nearest Pulumi.yaml upwards. Raises GroundplaneError."""
    for folder in (start, *start.resolve().parents):
        if (folder / "Pulumi.yaml").is_file() and (folder / "policies").is_dir():
            return folder / "policies"
    raise GroundplaneError(
        shown(start),
        "no policy pack here or above",
        "",
        "Name its folder with --pack; docs/operations/policies.md tells how to have one.",
    )


def rules_of(pack: Path) -> list[Any]:
    """The pack's rules, in its own words: see `Rule` in rules/rule.py. Raises GroundplaneError."""
    if not (pack / "rules" / "rule.py").is_file():
        raise GroundplaneError(
            shown(pack),
            "holds no rules",
            "A pack of this kind has a folder rules/, one file an area",
            "Name another folder with --pack.",
        )
    sys.path.insert(0, str(pack.resolve()))
    return list(import_module("rules").all_rules())


def levels_of(path: Path, rules: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """What a stack's file says of each rule: enforcementLevel, and settings. Raises SpecError with
    all that is wrong with the file."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GroundplaneError(shown(path), str(error), "", "Write a JSON object.") from None
    known = {rule.name: rule for rule in rules}
    found = {
        name: {"enforcementLevel": value} if isinstance(value, str) else value
        for name, value in (given if isinstance(given, dict) else {"": given}).items()
    }
    if wrong := list(_wrong(shown(path), found, known)):
        raise SpecError(wrong)
    everywhere = found.pop("all", {})
    return {name: {**everywhere, **found.get(name, {})} for name in known}


def _wrong(place: str, found: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Finding]:
    for name, given in found.items():
        at = f"{place}: {name}"
        if name not in known and name != "all":
            yield Finding(at, "there is no such rule", WHY, did_you_mean(name, known))
            continue
        if not isinstance(given, dict):
            yield Finding(at, "neither a level nor an object", WHY, f"Write {', '.join(LEVELS)}.")
            continue
        settings = known[name].settings if name in known else {}
        for key, value in given.items():
            if key == "enforcementLevel" and value not in LEVELS:
                yield Finding(at, f"{value} is no level", WHY, f"Write {', '.join(LEVELS)}.")
            elif key != "enforcementLevel" and key not in settings:
                yield Finding(f"{at}.{key}", "there is no such setting", WHY, _settings(settings))
        exempt = given.get("exempt", {})
        if not isinstance(exempt, dict) or not all(
            isinstance(why, str) and why.strip() for why in exempt.values()
        ):
            yield Finding(
                f"{at}.exempt",
                "not an object of resources and reasons",
                "Who reads it in a year must learn why",
                'Write {"RESOURCE": "why it may pass"}.',
            )


def _settings(settings: Mapping[str, Any]) -> str:
    return f"There are {', '.join(settings)}." if settings else ""


def document(rule: Any, level: Mapping[str, Any] | None) -> dict[str, Any]:
    """A rule for programs."""
    return {
        "name": rule.name,
        "area": rule.area,
        "level": (level or {}).get("enforcementLevel", rule.level),
        "source": rule.source,
        "summary": rule.summary,
        "why": rule.why,
        "remedy": rule.remedy,
        "on": list(rule.on),
        "settings": {name: dict(schema) for name, schema in rule.settings.items()},
        "set": {k: v for k, v in (level or {}).items() if k != "enforcementLevel"},
    }


def lines(
    rules: Sequence[Any], levels: Mapping[str, Mapping[str, Any]], pack: str
) -> Iterator[str]:
    """The rules as a table; below a rule what a stack says of it."""
    rows = [("RULE", "AREA", "LEVEL", "SOURCE", "WHAT MUST HOLD")]
    for rule in rules:
        level = levels.get(rule.name, {}).get("enforcementLevel", rule.level)
        rows.append((rule.name, rule.area, level, f"{pack}/{rule.source}", rule.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[4]])
        for name, value in levels.get(row[0], {}).items():
            if name == "exempt":
                yield from (f"  exempt: {resource} ({why})" for resource, why in value.items())
            elif name != "enforcementLevel":
                yield f"  {name}: {json.dumps(value)}"


def page(rules: Sequence[Any]) -> Iterator[str]:
    """All rules in Markdown, by area."""
    yield "# Policies"
    yield ""
    yield "<!-- Generated by `groundplane policies --markdown`. -->"
    yield ""
    yield "The rules of the policy pack. A level is what the pack says; a stack may say otherwise,"
    yield "and set what is named here: see [how to use them](../operations/policies.md). Each rule"
    yield "has an example that passes and one that fails in `policies/examples/`."
    area = ""
    for rule in rules:
        if rule.area != area:
            area = rule.area
            yield ""
            yield f"## {area[0].upper()}{area[1:]}"
        yield ""
        yield f"### {rule.name}"
        yield ""
        yield f"{rule.summary} {rule.why}".strip()
        yield ""
        yield f"- **Remedy**: {rule.remedy}"
        yield f"- **Level**: {rule.level}"
        yield f"- **Looks at**: {', '.join(f'`{kind}`' for kind in rule.on)}" + (
            "" if rule.each else ", all of a stack together"
        )
        for name, schema in rule.settings.items():
            if name != "exempt":
                default = json.dumps(schema["default"])
                yield f"- **Setting** `{name}`: {schema['description']} Default: `{default}`."
        yield f"- **Source**: `policies/{rule.source.partition(':')[0]}`"
