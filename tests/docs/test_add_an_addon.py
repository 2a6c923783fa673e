"""The guide "add an add-on", followed to the letter in a copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import CHECKOUT, FENCE

GUIDE = CHECKOUT / "docs/operations/add-an-add-on.md"
CATALOGUE = "components/groundplane/catalogue.yaml"


def blocks(language: str) -> list[str]:
    return [found[3] for found in FENCE.finditer(GUIDE.read_text()) if found[2] == language]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the guide's add-on."""
    place = tmp_path_factory.mktemp("checkout")
    for folder in ("components", "tests/addons", "tests/charts", "tests/contract", "tests/support"):
        shutil.copytree(CHECKOUT / folder, place / folder)
    (place / "docs/reference").mkdir(parents=True)
    shutil.copy(CHECKOUT / "pyproject.toml", place)
    entry, cases = blocks("yaml")
    with (place / CATALOGUE).open("a") as file:
        file.write(entry)
    (code,) = blocks("python")
    (place / "components/groundplane/addons/greeter.py").write_text(code)
    (place / "tests/addons/cases/greeter.yaml").write_text(cases)
    shortened, _, generated = blocks("sh")
    for line in [shortened.replace("FOLDER", str(CHECKOUT / "tests")), *generated.splitlines()]:
        if line.startswith("python "):
            run(place, *line.split()[1:])
    return place


def run(place: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place / "components")},
        capture_output=True,
        text=True,
        timeout=240,
        check=check,
    )


def test_what_every_addon_promises_it_promises_too(copy: Path) -> None:
    contract = "tests/contract/test_addons.py"
    done = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", "greeter")
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


def test_it_is_in_the_schema_and_in_the_reference(copy: Path) -> None:
    page = (copy / "docs/reference/add-ons.md").read_text()
    assert "| [greeter](#greeter) | full |" in page
    assert "- Installs the chart `greeter` 1.2.0, from https://charts.example.org." in page
    schema = copy / "components/groundplane/schema/platform.schema.json"
    assert "GreeterArgs" in schema.read_text()


@pytest.mark.parametrize(
    ("was", "now", "red"),
    [
        ('"greeting": args.greeting', '"greetin": args.greeting', "exist_in_the_chart"),
        ('"replicas": ground.replicas', '"replicas": "two"', "exist_in_the_chart"),
        ("        space = namespace(self, ground)\n", "        space = self\n", "its_namespace"),
        (", after=[space])", ")", "its_namespace"),
        (", after=[secret]", "", "ends_with_ready"),
        ('"existingSecret": "greeter-admin"', '"existingSecret": secret_of(ground)', "no_outputs"),
        ("kind: release", "kind: chart", "as_its_hooks_want"),
        ("version: 1.2.0", "version: 1.3.0", "as_its_hooks_want"),
    ],
    ids=["unknown value", "wrong type", "no namespace", "swapped order", "ready too early",
         "a secret in values", "hooks forgotten", "another version"],
)  # fmt: skip
def test_a_mistake_turns_the_contract_red(
    copy: Path, tmp_path: Path, was: str, now: str, red: str
) -> None:
    place = tmp_path / "checkout"
    shutil.copytree(copy, place)
    spoilt = [place / "components/groundplane/addons/greeter.py", place / CATALOGUE]
    texts = [path.read_text() for path in spoilt]
    assert sum(was in text for text in texts) == 1
    for path, text in zip(spoilt, texts, strict=True):
        path.write_text(
            text.replace(was, now) + (SECRET_OF if "secret_of" in now else "")
            if was in text
            else text
        )
    contract = "tests/contract/test_addons.py"
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", contract, "-k", f"greeter and {red}")
    done = run(place, *words, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    assert any(red in line for line in failed), done.stdout[-2000:]


SECRET_OF = """

def secret_of(ground):
    from pulumi_random import RandomPassword

    return RandomPassword("greeter-plain", length=8).result
"""
