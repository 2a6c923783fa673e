"""No input makes anything but our own error: random values in random places, and odd YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_support import PLATFORM, SITE

from groundplane.errors import SpecError
from groundplane.spec import Cluster, Host, load
from groundplane.spec.documents import parse
from groundplane.spec.model import Model
from groundplane.spec.validate import model_in, partial

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [
            "192.0.2.10",
            "10.0.0.0/8",
            "fd00::/48",
            "1.36.4",
            "::1%eth0",
            "http://[",
            "-",
            "~x/y",
            "a/b",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def paths(model: type[Model], before: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every key of a model, those of models inside it included."""
    found = []
    for field in model.model_fields.values():
        here = (*before, str(field.alias))
        found.append(here)
        inner = model_in(field.annotation)
        if inner is not None:
            found += paths(inner, (*here, 0) if get_origin(field.annotation) is list else here)
    return found


PLACES = [("cluster", *path) for path in paths(Cluster)] + [
    ("hosts", 3, *path) for path in paths(Host)
]


def placed(data: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """The data with a value at a path; whatever is in the way gives way."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        items = list(data) if isinstance(data, list) else []
        items += [{}] * (step + 1 - len(items))
        items[step] = placed(items[step], tuple(rest), value)
        return items
    kept = data if isinstance(data, dict) else {}
    return {**kept, step: placed(kept.get(step), tuple(rest), value)}


@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=4))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_value_at_any_place(changes: list[tuple[Any, Any]], tmp_path: Path) -> None:
    site = SITE
    for path, value in changes:
        site = placed(site, path, value)
    (tmp_path / "platform.yaml").write_text(json.dumps(PLATFORM))
    (tmp_path / "Pulumi.metal.yaml").write_text(json.dumps({"config": {"groundplane:site": site}}))
    try:
        load("metal", tmp_path)
    except SpecError as error:
        assert all(finding.what and finding.place for finding in error.findings)


@given(anything)
@settings(max_examples=100, deadline=None)
def test_any_document(value: Any) -> None:
    for model in (Host, Cluster):
        partial(model, value, ("cluster",))


@given(st.text(max_size=200) | st.text("{}[]:-#&*!|>'\"%@`,?a1 \n\t", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text(text: str) -> None:
    try:
        parse(text, "file.yaml")
    except SpecError as error:
        assert str(error).startswith("file.yaml")


ODD = {
    "an anchor that contains itself": "a: &x [*x]",
    "aliases of aliases": "\n".join(
        ["a0: &a0 [1,2,3,4,5,6,7,8,9]"]
        + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    ),
    "nesting without end": "[" * 5000,
    "a number of many digits": "a: " + "9" * 5000,
    "a key that is a list": "{[1, 2]: 3}",
    "a tag that makes an object": "a: !!python/object/apply:os.system [id]",
    "no YAML": "a: b: c",
    "two documents": "a: 1\n---\nb: 2",
    "a tab": "a:\n\t- b",
    "a key twice": "a: 1\nb: 2\na: 3",
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_odd_yaml_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, "file.yaml")


def test_a_key_twice_is_named() -> None:
    with pytest.raises(SpecError, match=r"file.yaml:4: a\.c: stands there twice"):
        parse("a:\n  c: 1\n  d: 2\n  c: 3\n", "file.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("2026-01-01", "2026-01-01"),
        ("010", "010"),
        ("true", True),
        ("1e3", 1000.0),
        ("0x1f", 31),
        ("~", None),
        ("", None),
        ("1_000", "1_000"),
    ],
)
def test_yaml_as_pulumi_reads_it(text: str, value: Any) -> None:
    assert parse(f"a: {text}", "file.yaml").data == {"a": value}


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.metal.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="not a text in UTF-8"):
        load("metal", tmp_path)
    (tmp_path / "Pulumi.metal.yaml").write_text("config: 3")
    with pytest.raises(SpecError, match="no hosts"):
        load("metal", tmp_path)
    (tmp_path / "platform.yaml").write_text("[]")
    with pytest.raises(SpecError, match=r"platform.yaml: not a mapping"):
        load("metal", tmp_path)
