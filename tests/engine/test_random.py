"""What the product relies on in the random plugin: made once, kept, secret where it says so."""

from __future__ import annotations

import base64
import re
from importlib.metadata import version
from typing import Any

import bcrypt
import pytest
from engine_harness import Stack

from lab.engine import command, randomness

PROGRAM = """
keepers = {{"k": "{keeper}"}}
b = pulumi_random.RandomBytes("b", length=32, keepers=keepers)
i = pulumi_random.RandomId("i", byte_length=8, prefix="p-", keepers=keepers)
p = pulumi_random.RandomPassword("p", length=20, min_special=3, override_special="_+",
                                 keepers=keepers)
s = pulumi_random.RandomString("s", length=12, upper=False, special=False, keepers=keepers)
u = pulumi_random.RandomUuid("u", keepers=keepers)
pulumi.export("base64", b.base64)
pulumi.export("hex", b.hex)
pulumi.export("id", [i.hex, i.dec, i.b64_std, i.b64_url, i.id])
pulumi.export("password", p.result)
pulumi.export("hash", p.bcrypt_hash)
pulumi.export("string", s.result)
pulumi.export("uuid", u.result)
"""


def test_life(plain_stack: Stack) -> None:
    """Made by the first update, unchanged by the next, all made anew when a keeper changes."""
    stack = plain_stack
    assert set(stack.up(PROGRAM.format(keeper="a")).steps.values()) == {"create"}
    made = stack.outputs()
    well_formed(made)
    assert set(stack.up().steps.values()) == {"same"}
    assert stack.outputs() == made
    assert set(stack.preview(PROGRAM.format(keeper="b")).steps.values()) == {"replace"}
    stack.up()
    remade = stack.outputs()
    well_formed(remade)
    assert all(remade[key] != value for key, value in made.items())
    assert set(stack.destroy().steps.values()) == {"delete"}


def well_formed(made: dict[str, Any]) -> None:
    """Each value is what its inputs ask for, and its notations agree."""
    assert len(bytes.fromhex(made["hex"])) == 32
    assert base64.b64decode(made["base64"]).hex() == made["hex"]
    in_hex, in_dec, b64_std, b64_url, identity = (text.removeprefix("p-") for text in made["id"])
    assert len(in_hex) == 16
    assert int(in_hex, 16) == int(in_dec)
    assert base64.b64decode(b64_std).hex() == in_hex
    assert base64.urlsafe_b64decode(b64_url + "=").hex() == in_hex
    assert identity == b64_url
    assert re.fullmatch(r"[A-Za-z0-9_+]{20}", made["password"])
    assert len(re.findall(r"[_+]", made["password"])) >= 3
    assert bcrypt.checkpw(made["password"].encode(), made["hash"].encode())
    assert re.fullmatch(r"[a-z0-9]{12}", made["string"])
    assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", made["uuid"])


def test_secrecy(plain_stack: Stack) -> None:
    """Bytes and passwords are in plain neither in the state nor on the screen; an id may be."""
    result = plain_stack.up(PROGRAM.format(keeper="a"))
    made = plain_stack.outputs()
    state = plain_stack.state()
    for secret in ("base64", "hex", "password", "hash"):
        assert made[secret] not in state
        assert made[secret] not in result.text
    assert made["id"][0] in state
    assert made["string"] in state


def test_unknown_in_previews(plain_stack: Stack) -> None:
    """Nothing is made up before it is made."""
    plain_stack.preview(PROGRAM.format(keeper="a") + "b.hex.apply((here / 'known').write_text)")
    assert not (plain_stack.here / "known").exists()


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        ('RandomString("s", length=2, min_lower=3)', "must be at least 3"),
        ('RandomString("s", length=0)', "must be at least 1"),
        (
            'RandomString("s", length=2, lower=False, upper=False, numeric=False, special=False)',
            "no class of characters",
        ),
        ('RandomBytes("b", length=0)', "must be at least 1"),
        ('RandomPet("p")', "not a type of the lab's stand-in for random"),
    ],
)
def test_refused(plain_stack: Stack, resource: str, reason: str) -> None:
    """Inputs that no value satisfies, and types that the stand-in does not have."""
    assert reason in plain_stack.fail(f"pulumi_random.{resource}", verb="preview")


def test_versions() -> None:
    """The stand-ins name the versions that the SDKs ask for, and say what they are."""
    assert f"{version('pulumi_random')}+lab.standin" == randomness.VERSION
    assert f"{version('pulumi_command')}+lab.standin" == command.VERSION
