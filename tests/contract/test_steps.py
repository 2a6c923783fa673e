"""What every script promises, whoever wrote it."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest
from support.host import Done, Host

from groundplane.remote.bundle import ELSEWHERE, SCRIPTS, bundle

STEPS = sorted((SCRIPTS / "steps").glob("*.sh"))
LIBRARIES = sorted((SCRIPTS / "lib").glob("*.sh"))
DISTRIBUTIONS = sorted((SCRIPTS / "distributions").glob("*.sh"))
PROGRAMS = sorted(p for p in SCRIPTS.iterdir() if p.is_file() and p.suffix != ".sh")
# What step.py puts before the data of each step.
HEAD = {"stack", "cluster", "step", "revision", "token"}


def header(path: Path) -> str:
    """The comment that a script begins with."""
    lines = path.read_text().splitlines()
    end = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def functions(path: Path) -> set[str]:
    return set(re.findall(r"^(\w+)\(\) [{(]", path.read_text(), re.MULTILINE))


def asked(path: Path) -> set[str]:
    """The top-level fields of the step's data that the script reads."""
    code = re.sub(r"^\s*#.*", "", path.read_text(), flags=re.MULTILINE)
    return set(re.findall(r"""\bdata(?:_json)? ['"]?\.([a-z_]+)""", code))


def documented(path: Path) -> set[str]:
    fields = set(re.findall(r"\.([a-z_]+)", header(path)))
    # "as the node step's", "as bootstrap's"
    for other in re.findall(r"as (?:the )?(\w+)(?: step)?'s", header(path)):
        fields |= documented(SCRIPTS / "steps" / f"{other}.sh")
    return fields


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_a_step_can_be_applied(path: Path) -> None:
    assert "apply" in functions(path)


@pytest.mark.parametrize("path", STEPS + LIBRARIES + DISTRIBUTIONS, ids=lambda path: path.stem)
def test_a_script_says_what_it_does_and_what_it_is_given(path: Path) -> None:
    lines = header(path).splitlines()
    assert lines[0] == "# shellcheck shell=bash"
    assert len(lines) > 1
    if path in STEPS:
        assert lines[1].startswith(f"# {path.stem}: ")
    assert asked(path) - documented(path) - HEAD == set()


@pytest.mark.parametrize("path", STEPS, ids=lambda path: path.stem)
def test_a_step_that_is_loaded_does_nothing_yet(path: Path, tmp_path: Path) -> None:
    host = Host(tmp_path / "host")
    assert host.bash("true", step=path.stem) == Done(0, "", "")
    written = [
        p for name in ("etc", "opt", "usr_local", "var") for p in (host.root / name).iterdir()
    ]
    assert written == []


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_a_program_stops_at_the_first_failure(path: Path) -> None:
    text = path.read_text()
    # install is the text of `sh -c`, on hosts of which nothing is known yet.
    strict = "set -euo pipefail\nshopt -s inherit_errexit\n"
    assert ("set -eu\n" if path.name == "install" else strict) in text


def test_no_two_scripts_define_the_same() -> None:
    """All libraries are loaded together, then one distribution, and one step after them."""
    owners: dict[str, str] = {}
    for path in [SCRIPTS / "lib.sh", *LIBRARIES]:
        for name in functions(path):
            assert name not in owners, f"{name}: {owners.get(name)} and {path.name}"
            owners[name] = path.name
    for path in DISTRIBUTIONS:
        assert functions(path) & owners.keys() == set(), path.name
    everywhere = owners.keys() | set().union(*map(functions, DISTRIBUTIONS))
    for path in STEPS:
        assert functions(path) & everywhere == set(), path.name


def test_no_unit_has_the_name_of_a_step() -> None:
    """`run` makes a unit for each step, and waits for one of that name to end."""
    text = "".join(path.read_text() for path in [*LIBRARIES, *STEPS, *PROGRAMS])
    units = set(re.findall(r"/etc/systemd/system/groundplane-(\w+)\.service", text))
    assert "nftables" in units
    assert units & {path.stem for path in STEPS} == set()


def test_every_script_travels() -> None:
    archive = io.BytesIO(bundle().archive.encode())
    with tarfile.open(fileobj=archive) as tar:
        inside = set(tar.getnames())
    there = {p.relative_to(SCRIPTS).as_posix() for p in SCRIPTS.rglob("*") if p.is_file()}
    assert inside == there - ELSEWHERE
    assert there >= ELSEWHERE


def test_nothing_waits_but_by_a_condition() -> None:
    """A sleep stands only inside of a loop that looks again."""
    for path in [SCRIPTS / "lib.sh", *LIBRARIES, *DISTRIBUTIONS, *STEPS, *PROGRAMS]:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if re.match(r"\s*sleep ", line):
                before = "\n".join(lines[max(0, number - 6) : number])
                assert re.search(r"^\s*(until|while|for) ", before, re.MULTILINE), (path, number)


@pytest.mark.parametrize("library", LIBRARIES + DISTRIBUTIONS, ids=lambda path: path.name)
def test_no_library_needs_a_step(library: Path) -> None:
    """It is loaded with each of them. Names of one word, which may be any word, are left out."""
    code = re.sub(r"^\s*#.*", "", library.read_text(), flags=re.MULTILINE)
    everywhere = set().union(*map(functions, [SCRIPTS / "lib.sh", *LIBRARIES, *DISTRIBUTIONS]))
    of_steps = {name for step in STEPS for name in functions(step) if "_" in name} - everywhere
    assert not of_steps & set(re.findall(r"\w+", code))


# Names of one word are left out here, too.
OWN = {path: {n for n in functions(path) if "_" in n} for path in DISTRIBUTIONS}
CONSTANTS = {
    path: set(re.findall(r"^readonly (\w+)=", path.read_text(), re.MULTILINE))
    for path in DISTRIBUTIONS
}


@pytest.mark.parametrize("path", DISTRIBUTIONS, ids=lambda path: path.stem)
def test_a_distribution_gives_all_that_is_asked_of_one(path: Path) -> None:
    """What libraries and steps call, and is not theirs, each distribution has."""
    asked = set()
    for script in [SCRIPTS / "lib.sh", *LIBRARIES, *STEPS, *PROGRAMS]:
        code = re.sub(r"^\s*#.*", "", script.read_text(), flags=re.MULTILINE)
        asked |= set(re.findall(r"\w+", code))
    for names in (OWN, CONSTANTS):
        assert set().union(*names.values()) & asked <= names[path]
