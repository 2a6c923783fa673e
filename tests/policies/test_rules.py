"""Each rule alone: its example passes and fails, its further cases, what it says and does not say.

A case in cases/AREA.yaml has `rule`, `case`, `type` and `props` of a resource (or `resources`),
`settings`, and `finds`, parts of what is found, in order; `unknown`, what cannot be checked.
"""

from __future__ import annotations

import ast
import copy
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from policy_support import CASES, PACK, examples, read, resources, settings

from rules import all_rules
from rules.rule import ADVISORY, UNKNOWN, Found, NotKnownError, Resource, Secret, View, judge, rule

RULES = {rule.name: rule for rule in all_rules()}
EXAMPLES = examples()
FURTHER = [case for path in sorted(CASES.glob("*.yaml")) for case in read(path)]
# But at what is there at all; the last one's values have cases.
LOOKS_AT_NO_VALUE = {
    "backups-drilled",
    "charts-rendered",
    "cluster-has-a-plan",
    "no-triggers-on-destroyable-steps",
}
OF_CLUSTERS = {name for name, rule in RULES.items() if rule.on == ("groundplane:index:*Cluster",)}


def found(name: str, side: str) -> list[str]:
    example = EXAMPLES[name]
    given = resources(example[side])
    verdict = judge(RULES[name], given, settings(example, side))
    assert verdict.unknown == []
    return [message for _, message in verdict.violations]


def test_every_rule_has_an_example_and_no_other() -> None:
    assert {name: rule.area for name, rule in RULES.items()} == {
        name: example["area"] for name, example in EXAMPLES.items()
    }


@pytest.mark.parametrize("name", RULES)
def test_the_example_passes_and_fails(name: str) -> None:
    assert found(name, "passes") == []
    (message,) = found(name, "fails")
    assert EXAMPLES[name]["finds"] in message


@pytest.mark.parametrize("name", RULES)
def test_a_message_names_resource_rule_reason_and_remedy(name: str) -> None:
    """The SDK puts the rule's name and its first sentence before it."""
    each = RULES[name]
    lines = found(name, "fails")[0].splitlines()
    assert lines[0].startswith(tuple(str(r) for r in resources(EXAMPLES[name]["fails"])))
    assert lines[1:] == [each.why, each.remedy]
    assert each.summary.endswith(".")
    assert each.why.endswith((".", "/"))
    assert each.remedy.endswith((".", "..."))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{case['rule']}: {case['case']}") for case in FURTHER],
)
def test_cases(case: dict[str, Any]) -> None:
    given = case.get("resources") or [{"type": case["type"], "props": case["props"]}]
    verdict = judge(RULES[case["rule"]], resources(given), case.get("settings"))
    messages = [f"{resource}: {what}" for resource, what in verdict.found]
    wanted = case.get("finds", [])
    assert len(messages) == len(wanted), messages
    assert all(part in message for part, message in zip(wanted, messages, strict=True)), messages
    unknown = case.get("unknown", [])
    assert len(verdict.unknown) == len(unknown), verdict.unknown
    assert all(part in path for part, path in zip(unknown, verdict.unknown, strict=True))


# ---- nothing is hidden -----------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, below in inner:
        if isinstance(below, dict | list):
            yield from leaves(below, (*path, key))
        else:
            yield (*path, key)


def with_value(given: Any, path: tuple[Any, ...], value: Any) -> Any:
    made = copy.deepcopy(given)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return made


@pytest.mark.parametrize("name", RULES)
def test_what_is_not_known_is_said(name: str) -> None:
    """Whichever value of the passing example is not known: the rule passes as before, without
    looking at it, or says that it could not be checked."""
    example = EXAMPLES[name]
    said = 0
    for index, resource in enumerate(example["passes"]):
        for path in leaves(resource["props"]):
            for depth in range(1, len(path) + 1):
                changed = [*example["passes"]]
                props = with_value(resource["props"], path[:depth], UNKNOWN)
                changed[index] = {**resource, "props": props}
                verdict = judge(RULES[name], resources(changed), settings(example, "passes"))
                assert verdict.violations == [], path[:depth]
                said += bool(verdict.unchecked)
    if name not in LOOKS_AT_NO_VALUE:
        assert said


@pytest.mark.parametrize("name", sorted(RULES.keys() - OF_CLUSTERS))
def test_no_value_is_echoed(name: str) -> None:
    """Any of them may be secret, whether it is marked or not. A cluster's plan never is."""
    example = EXAMPLES[name]
    for mark in (lambda value: value, Secret):
        for index, resource in enumerate(example["fails"]):
            for path in leaves(resource["props"]):
                changed = [*example["fails"]]
                props = with_value(resource["props"], path, mark("canary-7f3a"))
                changed[index] = {**resource, "props": props}
                verdict = judge(RULES[name], resources(changed), settings(example, "fails"))
                text = f"{verdict.violations} {verdict.unchecked}"
                assert "canary-7f3a" not in text
                assert "the rule itself failed" not in text


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    "odd", [None, "text", 7.0, True, [], {}, [None], {"a": {"b": []}}], ids=str
)
def test_resources_of_odd_shapes_fell_no_rule(name: str, odd: Any) -> None:
    """At each place of an example stands something that nobody expects."""
    example = EXAMPLES[name]
    for side in ("passes", "fails"):
        for index, resource in enumerate(example[side]):
            for path in leaves(resource["props"]):
                for depth in range(1, len(path) + 1):
                    changed = [*example[side]]
                    props = with_value(resource["props"], path[:depth], odd)
                    changed[index] = {**resource, "props": props}
                    verdict = judge(RULES[name], resources(changed), settings(example, side))
                    assert "the rule itself failed" not in str(verdict.found), path[:depth]


POD = {"type": "kubernetes:core/v1:Pod", "props": {"spec": {"password": "hunter2"}}}


def test_a_rule_that_falls_says_so_and_no_value() -> None:
    @rule(ADVISORY, on=("kubernetes:core/v1:Pod",), remedy="")
    def falls(pod: View, settings: object) -> Found:
        """Falls."""
        yield "seen before it fell"
        raise KeyError(pod["spec"]["password"].text)

    verdict = judge(falls, resources([POD]))
    first, second = verdict.violations[0][1].splitlines()
    assert first == "Pod it: seen before it fell."
    assert "the rule itself failed, so look for yourself: KeyError at test_rules.py:" in second
    assert "hunter2" not in second


def test_so_does_one_that_falls_while_it_looks_for_its_parts() -> None:
    def parts(resource: Resource) -> Iterator[View]:
        yield resource.props
        raise ValueError("hunter2")

    @rule(ADVISORY, on=("kubernetes:core/v1:Pod",), remedy="", each=parts)
    def falls(pod: View, settings: object) -> Found:
        """Falls."""
        yield "seen before it fell"

    ((_, message),) = judge(falls, resources([POD])).violations
    assert "seen before it fell" in message
    assert "ValueError at test_rules.py" in message
    assert "hunter2" not in message


def test_a_part_that_is_not_known_hides_no_other() -> None:
    props = {
        "spec": {
            "containers": [{"image": UNKNOWN}, {"image": "nginx"}],
            "initContainers": UNKNOWN,
        }
    }
    verdict = judge(RULES["no-latest-tag"], resources([{**POD, "props": props}]))
    assert "spec.containers[1].image" in verdict.violations[0][1]
    assert verdict.unchecked == (
        "could not be checked in this preview, since not known: spec.initContainers of Pod it, "
        "spec.containers[0].image of Pod it. The update checks it when it is known"
    )


@pytest.mark.parametrize("pattern", ["it", "i*", "urn:pulumi:metal::*::it"])
def test_an_exempt_resource_is_left_alone(pattern: str) -> None:
    given = resources(EXAMPLES["no-latest-tag"]["fails"])
    exempt = {"exempt": {pattern: "it is to go next week"}}
    assert judge(RULES["no-latest-tag"], given, exempt).violations == []
    other = {"exempt": {"other": "not this one"}}
    assert judge(RULES["no-latest-tag"], given, other).violations


def test_views() -> None:
    view = View({"a": [{"b": Secret("x")}, UNKNOWN], "n": 1.0, "yes": True})
    first, second = view["a"]
    assert (first["b"].text, first["b"].secret, first["b"].path) == ("x", True, "a[0].b")
    assert (view["n"].number, view["yes"].number, view["n"].text) == (1, 0, "")
    assert view["nothing"]["below"].value is None
    assert list(view["n"]) == list(view["n"].items()) == []
    assert (second.known, view.known) == (False, True)
    with pytest.raises(NotKnownError, match=r"a\[1\]"):
        second["c"]
    assert "x" not in repr(first)


def test_sources_lead_to_the_rules() -> None:
    for each in RULES.values():
        file, line = each.source.split(":")
        text = (PACK / file).read_text().splitlines()
        assert text[int(line) - 1].startswith("@rule(")


def test_rules_are_documented() -> None:
    for each in RULES.values():
        assert each.summary, each.name
        assert each.why, each.name
        assert all("description" in schema for schema in each.settings.values())
        assert all("default" in schema for schema in each.settings.values())


def test_the_pack_can_be_copied() -> None:
    """Rules import the standard library and each other; the SDK is for the analyzer alone."""
    allowed = {"__future__", "rules", *sys.stdlib_module_names}
    for path in PACK.glob("**/*.py"):
        if ".venv" in path.parts:
            continue
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        own = set() if path.parent.name == "rules" else {"analyzer", "pulumi_policy"}
        assert imported <= allowed | own, path
