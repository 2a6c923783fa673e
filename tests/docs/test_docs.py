"""What the documentation shows is there: commands, options, keys, links, pictures.

Commands that cost nothing are run. Those that need a cluster are taken apart instead: their
targets, subcommands and options must exist, so that a renamed one turns this red.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pages import CHECKOUT, anchors, blocks, commands, links
from support.specs import K3S_DIGESTS

from groundplane.cli import cli
from groundplane.spec import load

SCRIPTS = CHECKOUT / "components/groundplane/remote/scripts"
COMMANDS = sorted({(words[0], place, tuple(words)) for place, words in commands()})

# What the documentation may use of programs that are not ours: subcommand -> options. Where the
# program is here, the options are looked up in its own help as well.
PULUMI = {
    "cancel": set(),
    "config set": {"--secret"},
    "destroy": {"--stack"},
    "package add": set(),
    "package get-schema": set(),
    "policy analyze": {"--file", "--policy-pack", "--policy-pack-config", "--stack"},
    "preview": {"--diff", "--json", "--policy-pack", "--policy-pack-config", "--stack"},
    "refresh": {"--clear-pending-creates"},
    "stack export": {"--file"},
    "stack init": set(),
    "stack output": {"--show-secrets"},
    "up": {"--policy-pack", "--policy-pack-config", "--stack"},
}
ELSEWHERE = {
    "cat", "ctr", "curl", "etcdctl", "ip", "journalctl", "kubeadm", "kubectl", "lab-ssh",
    "openssl", "pip", "policies/.venv/bin/pip", "python3", "qemu-img", "rm", "scp", "ssh", "sudo",
    "systemctl", "umask", "virsh",
}  # fmt: skip
"""Programs of a host, of a cluster or of the system; what they are told is not looked at here,
but for the units and paths that are ours."""


def of(*programs: str) -> list[Any]:
    """The commands of these programs, as a test's cases."""
    return [
        pytest.param(list(words), id=f"{place}: {' '.join(words)[:60]}")
        for program, place, words in COMMANDS
        if program in programs
    ]


def test_every_command_is_known() -> None:
    ours = {"make", "groundplane", "pulumi", "python", "source", ".", "mkdir", "cd"}
    strange = {(place, words[0]) for _, place, words in COMMANDS if "=" not in words[0]} - {
        (place, words[0]) for _, place, words in COMMANDS if words[0] in ours | ELSEWHERE
    }
    assert not strange, "add them to a table here, and say how they are checked"


def test_every_story_that_a_page_names_is_there() -> None:
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (CHECKOUT / "docs/faults.md").read_text())
    assert named
    stories = CHECKOUT / "tests/e2e"
    assert not [
        f"{file}::{test}"
        for file, test in named
        if f"\ndef {test}(" not in (stories / file).read_text()
    ]


# ---- our own programs --------------------------------------------------------------------------


@pytest.mark.parametrize("words", of("make"))
def test_make_targets(words: Sequence[str]) -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z.][a-z0-9/.-]*):", makefile, re.M))
    variables = set(re.findall(r"^([A-Z0-9]+) :=", makefile, re.M))
    given = {word.partition("=")[0] for word in words[1:] if "=" in word}
    assert {word for word in words[1:] if "=" not in word} <= targets
    assert given <= variables


@pytest.mark.parametrize("words", of("groundplane"))
def test_groundplane_options(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed by the command itself, files aside, which need not be here."""
    if words[1].startswith("-"):
        cli.make_context("groundplane", list(words[1:2]), resilient_parsing=True)
        return
    command = cli.get_command(click.Context(cli), words[1])
    assert command is not None
    for option in command.params:
        if isinstance(option.type, click.Path | click.File):
            monkeypatch.setattr(option, "type", click.Path())
    rest = words[2 : words.index(">")] if ">" in words else words[2:]
    command.make_context(words[1], list(rest))


def test_groundplane_help_names_every_command() -> None:
    text = run("groundplane", "--help").stdout
    assert set(re.findall(r"^  (\w+) ", text, re.M)) >= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("kind", ["site", "platform"])
def test_groundplane_schema(kind: str) -> None:
    assert json.loads(run("groundplane", "schema", kind).stdout)["properties"]


def test_make_help() -> None:
    text = run("make", "--no-print-directory", "help", cwd=CHECKOUT).stdout
    assert {"lab", "lab-down", "check", "test", "e2e"} <= set(
        re.findall(r"make ([a-z0-9-]+)", text)
    )


@pytest.mark.parametrize("words", [p for p in of("groundplane") if p.values[0][1] == "init"])
def test_init_as_it_stands(words: Sequence[str], tmp_path: Path) -> None:
    """In a network of its own, where the addresses of the page are hosts that answer."""
    isolated = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*isolated, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to make a network namespace")
    shutil.copy(CHECKOUT / "Pulumi.yaml", tmp_path)
    addresses = [
        value.partition("=")[2]
        for option, value in pairwise(words)
        if option in ("--control-plane", "--worker")
    ]
    script = Path(__file__).with_name("init_on_hosts.py")
    hosts = [*isolated, sys.executable, str(script), ",".join(addresses)]
    done = run(*hosts, program("groundplane"), *words[1:], cwd=tmp_path)
    stack = words[words.index("--stack") + 1]
    assert f"next: pulumi stack init {stack}" in done.stdout
    spec = load(stack, tmp_path / "stacks")
    assert [host.address for host in spec.hosts] == addresses


def program(name: str) -> str:
    """Beside this Python, or on the PATH."""
    if "/" in name:
        return name
    own = Path(sys.executable).with_name(name)
    return str(own) if own.exists() else name


def run(name: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [program(name), *arguments],
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


# ---- Pulumi ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", of("pulumi"))
def test_pulumi_options(words: Sequence[str]) -> None:
    name = next((n for n in (" ".join(words[1:3]), words[1]) if n in PULUMI), None)
    assert name is not None, f"pulumi {words[1]} is not in the table above"
    assert {word for word in words if word.startswith("--")} <= PULUMI[name]


@pytest.mark.parametrize("name", PULUMI)
def test_pulumi_has_them(name: str) -> None:
    built = sorted(Path.home().glob(".cache/groundplane/parts/pulumi/*/*/bin/pulumi"))
    found = shutil.which("pulumi") or (str(built[-1]) if built else None)
    if found is None:
        pytest.skip("no pulumi here")
    text = run(found, *name.split(), "--help").stdout
    assert all(option in text for option in PULUMI[name])


# ---- hosts -------------------------------------------------------------------------------------


def test_steps_units_and_paths() -> None:
    """What pages say of steps, units and files on hosts is what the scripts say."""
    steps = {path.stem for path in (SCRIPTS / "steps").glob("*.sh")}
    sources = "".join(path.read_text() for path in SCRIPTS.rglob("*") if path.is_file())
    for page in {place.split(":")[0] for place, _ in commands()} | {
        "docs/architecture.md",
        "docs/operations/troubleshooting.md",
    }:
        text = (CHECKOUT / page).read_text()
        for unit in re.findall(r"\bgroundplane-([a-z]+)(?:\.service|\.timer)?`", text):
            assert (
                unit in steps
                or f"groundplane-{unit}" in sources
                or unit
                in (
                    "haproxy",
                    "keepalived",
                )
            ), f"{page}: groundplane-{unit}"
        for step in re.findall(r"/ledger/([a-z]+)\.(?:json|facts)", text):
            assert step in steps, f"{page}: {step}"


def test_paths_of_the_repository() -> None:
    """A path in backticks that begins with one of our folders is there."""
    folders = "components|lab|stacks|tests|examples|docs|benchmarks|policies"
    for page in {page for page, _ in links()}:
        for path in re.findall(rf"`((?:{folders})/[^`\s]*)`", page.read_text()):
            if re.search("STACK|greeter", path) or path == "stacks/Pulumi.metal.yaml":
                continue  # the reader's own
            assert (CHECKOUT / path).exists(), f"{page.name}: {path}"


# ---- what is edited ----------------------------------------------------------------------------

SITE: dict[str, Any] = {
    "hosts": [
        {
            "name": f"n{number}",
            "address": f"192.0.2.{address}",
            "hostKey": "ssh-ed25519 "
            "AAAAC3NzaC1lZDI1NTE5AAAAIKnwNmOHWSgtY1wG5hZi01OXz2AhlrkFr9So6Hu1f1KS",
            "role": "control-plane" if address < 20 else "worker",
        }
        for number, address in enumerate((11, 12, 13, 21, 22), 1)
    ],
    "cluster": {
        "name": "metal",
        "podCidrs": ["10.244.0.0/16"],
        "serviceCidrs": ["10.96.0.0/16"],
        "endpoint": {"address": "192.0.2.10", "routerId": 51},
    },
}
KEYS_OF_THE_PLATFORM = {
    "audit",
    "distribution",
    "domain",
    "hardening",
    "kubernetes",
    "network",
}


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=block.place)
        for block in blocks("yaml", "diff")
        if re.search(r"^[ +]?(cluster|hosts):", block.text, re.M)
    ],
)
def test_edits_are_taken(block: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fragment, laid over a site, is a specification without errors; before and after."""
    before = without_lines(block.text, "+") if block.language == "diff" else {}
    after = (
        without_lines(block.text, "-") if block.language == "diff" else yaml.safe_load(block.text)
    )
    for name in ("registry-ca.pem", "backup-recipient.pem"):
        (tmp_path / name).write_text(
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
        )
    # What a page calls ~/.ssh/... is the reader's.
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    for name in re.findall(r"~/\.ssh/(\w+)", block.text):
        (tmp_path / ".ssh" / name).touch()
    gone = names(before) - names(after)
    for fragment, absent in ((before, set()), (after, gone)):
        site = over(SITE, fragment)
        site["hosts"] = [host for host in site["hosts"] if host["name"] not in absent]
        platform: dict[str, Any] = {"kubernetes": {"version": "1.36.4"}}
        for key in KEYS_OF_THE_PLATFORM & site["cluster"].keys():
            platform[key] = site["cluster"].pop(key)
        if "distribution" in platform:
            site["catalogue"] = "catalogue.yaml"  # as its page says
            (tmp_path / "catalogue.yaml").write_text(yaml.safe_dump(K3S_DIGESTS))
        for name, data in (("platform", {"cluster": platform}), ("Pulumi.metal", config(site))):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(data))
        load("metal", tmp_path)


def without_lines(diff: str, sign: str) -> dict[str, Any]:
    """One side of a diff as data; a key with nothing below it is left out."""
    lines = [line[1:] for line in diff.splitlines() if line[:1] != sign]
    found = yaml.safe_load("\n".join(lines)) or {}
    return {key: prune(value) for key, value in found.items() if value}


def prune(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: prune(below) for key, below in value.items() if below is not None}
    return value


def names(fragment: Mapping[str, Any]) -> set[str]:
    return {host["name"] for host in fragment.get("hosts", ())}


def config(site: Mapping[str, Any]) -> dict[str, Any]:
    secret = {"secure": "v1:x"}
    return {
        "config": {
            "groundplane:site": dict(site),
            "groundplane:registryPassword": secret,
            "groundplane:backupSecretKey": secret,
        }
    }


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """A site with a fragment over it: hosts by their names, mappings key by key."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        if key == "hosts":
            named = {host["name"]: host for host in merged["hosts"]}
            merged["hosts"] = list((named | {host["name"]: host for host in value}).values())
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = over(merged[key], value)
        else:
            merged[key] = value
    return merged


# ---- links and pictures ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "target"),
    [
        pytest.param(page, target, id=f"{page.relative_to(CHECKOUT)}: {target}")
        for page, target in sorted(set(links()))
    ],
)
def test_links_resolve(page: Path, target: str) -> None:
    if re.match(r"[a-z]+:", target):
        return  # elsewhere
    path, _, anchor = target.partition("#")
    there = (page.parent / path).resolve() if path else page
    assert there.exists()
    if anchor and there.suffix == ".md":
        assert anchor in anchors(there)


def test_pictures_are_current() -> None:
    sys.path.insert(0, str(CHECKOUT / "docs" / "images"))
    try:
        import draw
    finally:
        sys.path.pop(0)
    for name, made in draw.PICTURES.items():
        assert (draw.FOLDER / name).read_text() == str(made()), "run: python docs/images/draw.py"
