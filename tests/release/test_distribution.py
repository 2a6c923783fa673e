"""What `make dist` builds: all of the package, usable where nothing of the checkout is."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import textwrap
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import sbom
import yaml

from groundplane.catalogue import product
from groundplane.remote.bundle import bundle

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "components" / "groundplane"
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]


def ours() -> set[str]:
    """All files of the package, from its folder's parent."""
    return {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and not any(p.startswith((".", "__py")) for p in path.parts[-3:])
    }


def test_both_files_hold_the_whole_package(dist: Path) -> None:
    """An editable installation would hide a file that is missing from the package's data."""
    (wheel,), (source,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert ours() - inside == set()
    with tarfile.open(source) as archive:
        head = f"groundplane-{VERSION}/components/"
        assert {head + name for name in ours()} - set(archive.getnames()) == set()
    for name in ("catalogue.yaml", "py.typed", "schema/site.schema.json", "remote/scripts/run"):
        assert f"groundplane/{name}" in inside


def run(*command: str | Path, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_used_from_there(environment: Path, tmp_path: Path) -> None:
    """The command answers; its data files are found beside it, the scripts to the byte."""
    command, python = environment / "bin" / "groundplane", environment / "bin" / "python"
    assert VERSION in run(command, "--version", folder=tmp_path)
    schema = json.loads(run(command, "schema", "site", folder=tmp_path))
    assert schema["title"] == "Pulumi.STACK.yaml"
    program = (
        "from groundplane.remote import bundle; print(bundle.__file__, bundle.bundle().digest)"
    )
    where, digest = run(python, "-c", program, folder=tmp_path).split()
    assert Path(where).is_relative_to(environment)
    assert digest == bundle().digest


def test_an_example_runs_from_there(environment: Path, tmp_path: Path) -> None:
    """examples/minimal as a team has it: its own folder, groundplane from the wheel."""
    example = CHECKOUT / "examples" / "minimal"
    config = yaml.safe_load((example / "Pulumi.dev.yaml.example").read_text())["config"]
    program = textwrap.dedent(
        """
        import json, runpy, sys
        import pulumi
        from pulumi.runtime import mocks
        import groundplane.clusters.shared as shared
        from groundplane.remote.facts import HostSeen
        from groundplane.remote.observation import Observation

        made = []

        class Engine(mocks.Mocks):
            def new_resource(self, args):
                made.append(args.name)
                identity = {"ca.crt": "CA", "groundplane.key": "SECRET"}
                given = {"stdout": json.dumps({"cluster": "c1", "identity": identity})}
                return args.name, {**args.inputs, **given}

            def call(self, args):
                return {}

        def blank(spec):
            hosts = {h.name: HostSeen(h.name, arch="amd64", packager="apt") for h in spec.hosts}
            return Observation(spec.stack, hosts)

        mocks.set_mocks(Engine(), project="minimal", stack="dev", preview=False)
        pulumi.runtime.set_all_config(json.loads(sys.argv[2]))
        shared.survey = blank
        pulumi.runtime.test(lambda: runpy.run_path(sys.argv[1], run_name="__main__") and None)()
        print(shared.__file__, *sorted(made))
        """
    )
    (tmp_path / "__main__.py").write_text((example / "__main__.py").read_text())
    settings = {key: json.dumps(value) for key, value in config.items()}
    python = environment / "bin" / "python"
    command = [python, "-c", program, "__main__.py", json.dumps(settings)]
    where, *made = run(*command, folder=tmp_path).split()
    assert Path(where).is_relative_to(environment)
    assert {"team-bootstrap", "team-n1-node", "team-n2-node", "team-nodes"} <= set(made)


# ---- the bill of materials -------------------------------------------------------------------


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom.text())
    return found


def test_the_bill_names_what_users_install(bill: dict[str, Any]) -> None:
    """Each package that pyproject.toml asks for and theirs, with digests; none that only tests."""
    packages = {c["name"].lower(): c for c in bill["components"] if c["type"] == "library"}
    wanted = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    direct = {re.split(r"[><=]", line)[0].replace("-", "_") for line in wanted}
    assert direct <= {name.replace("-", "_") for name in packages}
    assert {"grpcio", "cryptography", "pydantic_core"} <= set(packages), "what those need"
    assert not {"pytest", "ruff", "mypy", "zensical", "cyclonedx-bom"} & set(packages)
    assert all(package["hashes"] for package in packages.values())
    assert bill["metadata"]["component"]["version"] == VERSION
    refs = {c["bom-ref"] for c in bill["components"]} | {"root-component"}
    assert {r for d in bill["dependencies"] for r in [d["ref"], *d["dependsOn"]]} <= refs


def test_the_bill_names_what_hosts_get(bill: dict[str, Any]) -> None:
    """Every file of the catalogue, by its digest and address."""
    there = {
        (c["externalReferences"][0]["url"], c["hashes"][0]["content"])
        for c in bill["components"]
        if c["type"] in ("application", "operating-system")
    }
    catalogue = product()
    for part in catalogue.parts():
        for arch in ("amd64", "arm64"):
            for file in catalogue.files(part, catalogue.default(part), arch).values():
                assert (file.url, file.digest) in there
    digests = re.findall(r"\b(?:[0-9a-f]{64}){1,2}\b", (PACKAGE / "catalogue.yaml").read_text())
    assert len(there) == len(digests)


def test_the_changes_begin_with_this_version() -> None:
    heading = re.search(r"^## (\S+), (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.M)
    assert heading is not None
    assert heading[1] == VERSION
