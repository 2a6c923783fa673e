"""From plain data to models: every error of a mapping, in words, and what is good of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from groundplane.errors import Finding, SpecError
from groundplane.spec.checks import Location, Problem, did_you_mean
from groundplane.spec.model import Model
from groundplane.spec.values import HOSTNAME, BadValueError, show

AnyModel = TypeVar("AnyModel", bound=Model)

# How the types that pydantic expects are called in YAML.
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def partial(model: type[AnyModel], data: Any, at: Location) -> tuple[AnyModel, list[Problem]]:
    """The model of what YAML holds at a place, and what is wrong there.

    Where something is wrong, the model has None for those fields: good enough for further checks,
    and for nothing else.
    """
    try:
        return model.model_validate(data, by_alias=True, by_name=False), []
    except ValidationError as error:
        wrong = _problems(model, error.errors(include_url=False), at, IN_YAML)
    data = data if isinstance(data, dict) else {}
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        values[name] = _good(field, data, to_camel(name), values)
    return model.model_construct(**values), wrong


def refused(model: type[Model], error: ValidationError, given: Mapping[str, Any]) -> SpecError:
    """All that is wrong with an object that a program makes, fields by their names in Python."""
    name = given.get("name")
    whose = f" ({name})" if isinstance(name, str) and HOSTNAME.fullmatch(name) else ""
    return SpecError(
        Finding(
            ".".join([model.__name__, *map(str, problem.at)]) + whose,
            problem.what,
            problem.why,
            problem.remedy,
        )
        for problem in _problems(model, error.errors(include_url=False), (), IN_PYTHON)
    )


def _good(field: FieldInfo, data: dict[Any, Any], key: str, values: dict[str, Any]) -> Any:
    """The value of one field alone; None where it is wrong or missing."""
    try:
        if key in data:
            # pydantic keeps the constraints of an annotation apart from its type.
            kind: Any = field.annotation
            for constraint in field.metadata:
                kind = Annotated[kind, constraint]
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
            return adapter.validate_python(data[key], by_alias=True, by_name=False)
        value = field.get_default(call_default_factory=True, validated_data=values)
        return None if value is PydanticUndefined else value
    except (ValidationError, KeyError):
        return None


def _problems(
    model: type[Model], errors: Sequence[ErrorDetails], at: Location, language: Language
) -> list[Problem]:
    """pydantic's errors in our words. What follows from another error is left out."""
    found: dict[Location, Problem] = {}
    for error in errors:
        # pydantic marks an error in a mapping's key with a step of its own.
        path = tuple(step for step in error["loc"] if step != "[key]")
        where = (*at, *_spelled(model, path, language))
        if error["type"] == "extra_forbidden":
            where = (*where[:-1], path[-1])  # as it was written
        if error["type"] != "default_factory_not_called" and where not in found:
            found[where] = _problem(model, error, where, path, language)
    return list(found.values())


def _spelled(model: type[Model], path: Location, language: Language) -> Location:
    """A path whose fields pydantic calls now by their names and now by their keys."""
    inner: type[Model] | None = model
    steps: list[str | int] = []
    for step in path:
        name = _field_name(inner, step) if inner and isinstance(step, str) else None
        if inner and name:
            steps.append(language.spell(name))
            inner = model_in(inner.model_fields[name].annotation)
        else:
            steps.append(step)
    return tuple(steps)


def _field_name(model: type[Model], key: str) -> str | None:
    return next((name for name in model.model_fields if key in (name, to_camel(name))), None)


def _problem(
    model: type[Model], error: ErrorDetails, where: Location, path: Location, language: Language
) -> Problem:
    field, kind, value = field_at(model, path), error["type"], error["input"]
    about = " ".join((field.description or "").split()) if field else ""
    examples = list(field.examples or ()) if field else []
    example = f", such as {language.write(examples[0])}" if examples else ""
    if kind == "missing":
        return Problem(where, "missing", about, f"Add {where[-1]}{example}.")
    if kind in ("extra_forbidden", "invalid_key"):
        return Problem(where, "unknown key", "Nothing would read it", _known(model, path, language))
    bad = error.get("ctx", {}).get("error")
    if isinstance(bad, BadValueError):
        return Problem(where, bad.what, bad.why or about, bad.remedy)
    if kind == "literal_error":
        choices = error["ctx"]["expected"].replace("'", "")
        return Problem(where, f"{show(value)} is not known here", about, f"Write {choices}.")
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
        got = "empty" if value is None else f"{_kind(value)} is not {expected}"
        quoted = " Put it into quotes." if expected == "text" and value is not None else ""
        if isinstance(value, dict | list):
            quoted = ""
        return Problem(where, got, about, f"Write {expected}{example}.{quoted}")
    what = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    shown = f"{show(value)} " if isinstance(value, int | float | str) else ""
    return Problem(where, f"{shown}{what[0].lower()}{what[1:]}", about, f"Correct it{example}.")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return show(value)


@dataclass(frozen=True)
class Language:
    """How a user writes: the name of a field, and a value."""

    spell: Callable[[str], str]
    write: Callable[[Any], str]


def yaml_example(value: Any) -> str:
    """An example on one line, as YAML's flow style has it."""
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_example, value))}]"
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{key}: {yaml_example(inner)}" for key, inner in value.items()) + "}"
        )
    return str(value).lower() if isinstance(value, bool) else str(value)


IN_YAML = Language(to_camel, yaml_example)
IN_PYTHON = Language(str, repr)


def _known(model: type[Model], path: Location, language: Language) -> str:
    inner = _surrounding(model, path)
    keys = [language.spell(name) for name, field in inner.model_fields.items() if not field.exclude]
    return did_you_mean(str(path[-1]), keys) or f"Known here are {', '.join(keys)}."


def model_in(annotation: Any) -> type[Model] | None:
    """The model in an annotation: itself, or inside Optional, list and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    for inner in get_args(annotation):
        found = model_in(inner)
        if found is not None:
            return found
    return None


def field_at(model: type[Model], path: Sequence[str | int]) -> FieldInfo | None:
    """The last field that a path through a model names, in YAML or in Python."""
    found: FieldInfo | None = None
    inner: type[Model] | None = model
    for step in path:
        if isinstance(step, int) or inner is None:
            continue
        name = _field_name(inner, step)
        if name is None:
            break
        found = inner.model_fields[name]
        inner = model_in(found.annotation)
    return found


def _surrounding(model: type[Model], path: Sequence[str | int]) -> type[Model]:
    """The model in which the last key of the path stands."""
    field = field_at(model, path[:-1])
    return (model_in(field.annotation) if field else None) or model
