"""The lab's stand-in for the official `random` plugin: values made once and kept in the state.

From the operating system's source for secrets. A change of any input makes a new value.
"""

from __future__ import annotations

import base64
import secrets
import string
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from lab.engine import provider
from lab.engine.properties import Properties
from lab.engine.provider import Call, Resource

VERSION = "4.21.4+lab.standin"

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
STRING_INPUTS = frozenset(
    {
        "keepers", "length", "lower", "minLower", "minNumeric", "minSpecial", "minUpper",
        "number", "numeric", "overrideSpecial", "special", "upper",
    }
)  # fmt: skip
STRING_DEFAULTS = {
    "lower": True, "upper": True, "numeric": True, "number": True, "special": True,
    "minLower": 0.0, "minUpper": 0.0, "minNumeric": 0.0, "minSpecial": 0.0,
}  # fmt: skip


def random_bytes(inputs: Properties) -> tuple[str, Properties]:
    """`length` bytes, in base64 and in hexadecimal."""
    value = secrets.token_bytes(int(inputs["length"]))
    return "none", {"base64": base64.b64encode(value).decode(), "hex": value.hex()}


def random_id(inputs: Properties) -> tuple[str, Properties]:
    """`byteLength` bytes that need not be secret, in four notations behind a prefix."""
    value = secrets.token_bytes(int(inputs["byteLength"]))
    prefix = inputs.get("prefix") or ""
    identity = base64.urlsafe_b64encode(value).decode().rstrip("=")
    return identity, {
        "b64Std": prefix + base64.b64encode(value).decode(),
        "b64Url": prefix + identity,
        "dec": prefix + str(int.from_bytes(value, "big")),
        "hex": prefix + value.hex(),
    }


def random_string(inputs: Properties) -> tuple[str, Properties]:
    """`length` characters of the chosen classes, of each at least the chosen number."""
    result = _characters(inputs)
    return result, {"result": result}


def random_password(inputs: Properties) -> tuple[str, Properties]:
    """As random_string, secret, and hashed by bcrypt, which reads 72 bytes of it."""
    import bcrypt

    result = _characters(inputs)
    digest = bcrypt.hashpw(result.encode()[:72], bcrypt.gensalt(rounds=10))
    return "none", {"result": result, "bcryptHash": digest.decode()}


def random_uuid(inputs: Properties) -> tuple[str, Properties]:
    """A version 4 UUID."""
    result = str(uuid.uuid4())
    return result, {"result": result}


def _classes(inputs: Properties) -> list[tuple[str, bool, int]]:
    """Characters, whether they may occur, and how many of them must."""
    return [
        (string.ascii_lowercase, inputs["lower"], int(inputs["minLower"])),
        (string.ascii_uppercase, inputs["upper"], int(inputs["minUpper"])),
        (string.digits, inputs["numeric"], int(inputs["minNumeric"])),
        (inputs.get("overrideSpecial") or SPECIAL, inputs["special"], int(inputs["minSpecial"])),
    ]


def _characters(inputs: Properties) -> str:
    complete = _complete(inputs)
    classes = _classes(complete)
    chosen = [
        secrets.choice(characters) for characters, _, number in classes for _ in range(number)
    ]
    every = "".join(characters for characters, allowed, _ in classes if allowed)
    chosen += [secrets.choice(every) for _ in range(int(complete["length"]) - len(chosen))]
    secrets.SystemRandom().shuffle(chosen)
    return "".join(chosen)


def _complete(inputs: Properties) -> Properties:
    complete = STRING_DEFAULTS | {key: value for key, value in inputs.items() if value is not None}
    # `number` is the older name of `numeric`; whichever is given holds for both.
    numeric = inputs.get("numeric", inputs.get("number"))
    return complete if numeric is None else complete | {"numeric": numeric, "number": numeric}


def check_length(key: str) -> Callable[[Properties], tuple[Properties, dict[str, str]]]:
    """The check of a value whose size is the input `key`."""

    def check(inputs: Properties) -> tuple[Properties, dict[str, str]]:
        size = inputs.get(key)
        bad = size is None or (isinstance(size, float) and size < 1)
        return inputs, {key: f"must be at least 1, but is {size}"} if bad else {}

    return check


def check_string(inputs: Properties) -> tuple[Properties, dict[str, str]]:
    """The characters asked for must fit, and there must be some to choose from."""
    length = inputs.get("length")
    if not isinstance(length, float):
        return inputs, {} if length is not None else {"length": "missing"}
    classes = _classes(_complete(inputs))
    least = max(1, sum(number for _, _, number in classes))
    if length < least:
        return inputs, {"length": f"must be at least {least}, but is {length:g}"}
    if not any(allowed for _, allowed, _ in classes):
        return inputs, {"length": "no class of characters is left to choose from"}
    return inputs, {}


def _resource(
    make: Callable[[Properties], tuple[str, Properties]],
    check: Callable[[Properties], tuple[Properties, dict[str, str]]],
    inputs: Iterable[str],
    outputs: Iterable[str],
    *,
    secret: bool = False,
    defaults: Callable[[Properties], Properties] = dict,
) -> Resource:
    async def create(call: Call, given: Properties) -> tuple[str | None, Properties]:
        identity, made = make(given)
        return identity, defaults(given) | made

    return Resource(
        inputs=frozenset(inputs),
        outputs=frozenset(outputs),
        check=check,
        replaces=lambda path: True,
        create=create,
        secret=frozenset(outputs) if secret else frozenset(),
    )


def _any(inputs: Properties) -> tuple[Properties, dict[str, str]]:
    return inputs, {}


RESOURCES: dict[str, Any] = {
    "random:index/randomBytes:RandomBytes": _resource(
        random_bytes, check_length("length"), {"keepers", "length"}, {"base64", "hex"}, secret=True
    ),
    "random:index/randomId:RandomId": _resource(
        random_id,
        check_length("byteLength"),
        {"byteLength", "keepers", "prefix"},
        {"b64Std", "b64Url", "dec", "hex"},
    ),
    "random:index/randomString:RandomString": _resource(
        random_string, check_string, STRING_INPUTS, {"result"}, defaults=_complete
    ),
    "random:index/randomPassword:RandomPassword": _resource(
        random_password,
        check_string,
        STRING_INPUTS,
        {"result", "bcryptHash"},
        secret=True,
        defaults=_complete,
    ),
    "random:index/randomUuid:RandomUuid": _resource(random_uuid, _any, {"keepers"}, {"result"}),
}


def main() -> None:
    """Serve the plugin; the engine's address is the last argument."""
    provider.main("random", VERSION, RESOURCES, sys.argv[-1])
