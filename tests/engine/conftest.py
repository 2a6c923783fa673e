"""The engine with the plugin under test, and SSH servers."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_harness import Network, Server, Stack, keygen

from lab import parts
from lab.engine import install
from lab.parts import fetch

PLUGINS = {"command": "idle_plugin.py", "kubernetes": "kubernetes_plugin.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.engine)


@pytest.fixture(scope="session")
def cli() -> Path:
    """The lab's Pulumi CLI, which takes some minutes where it has to be built first."""
    return parts.ensure_one("pulumi", print) / "pulumi"


def official_command() -> Path | None:
    """The official command plugin, if this computer has it."""
    named = os.environ.get("GROUNDPLANE_OFFICIAL_COMMAND")
    if named:
        return Path(named)
    home = Path(os.environ.get("PULUMI_HOME", Path.home() / ".pulumi"))
    found = sorted(home.glob("plugins/resource-command-v*/pulumi-resource-command"))
    return next((path for path in found if "standin" not in path.parent.name), None)


@pytest.fixture(scope="session")
def standin_environment(cli: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `pulumi` works with all stand-ins."""
    folder = tmp_path_factory.mktemp("engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "answers", lambda url: False)
        install(cli, folder / "bin", folder / "home")
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("PULUMI_") and key != "SSH_AUTH_SOCK"
    }
    return inherited | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PULUMI_HOME": str(folder / "home"),
    }


@pytest.fixture(scope="session")
def official_environment(
    standin_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The same with the official command plugin: on the PATH, it hides any other."""
    official = official_command()
    if official is None:
        pytest.skip("no official command plugin; GROUNDPLANE_OFFICIAL_COMMAND may name one")
    folder = tmp_path_factory.mktemp("official")
    (folder / "pulumi-resource-command").symlink_to(official.resolve())
    return standin_environment | {"PATH": f"{folder}:{standin_environment['PATH']}"}


@pytest.fixture(scope="session", params=["standin", "official"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Which command plugin a test runs on."""
    return str(request.param)


@pytest.fixture(scope="session")
def engine_environment(request: pytest.FixtureRequest, implementation: str) -> dict[str, str]:
    """An environment with the command plugin under test."""
    environment: dict[str, str] = request.getfixturevalue(f"{implementation}_environment")
    return environment


@pytest.fixture
def stack(engine_environment: dict[str, str], tmp_path: Path) -> Stack:
    """A fresh stack on the command plugin under test."""
    return Stack(tmp_path / "project", engine_environment)


@pytest.fixture
def plain_stack(standin_environment: dict[str, str], tmp_path: Path) -> Stack:
    """A fresh stack on the stand-ins, for what has no official counterpart here."""
    return Stack(tmp_path / "project", standin_environment)


@pytest.fixture
def idle_stack(standin_environment: dict[str, str], tmp_path: Path) -> Stack:
    """A fresh stack whose commands do nothing on hosts, with every kind of Kubernetes objects."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("command", "kubernetes"):
        plugin = folder / f"pulumi-resource-{name}"
        script = Path(__file__).with_name(PLUGINS[name])
        plugin.write_text(f'#!/bin/sh\nexec {sys.executable} {script} "$@"\n')
        plugin.chmod(0o755)
    path = f"{folder}:{standin_environment['PATH']}"
    return Stack(tmp_path / "project", standin_environment | {"PATH": path})


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """The place for SSH servers, with a key that all of them accept."""
    folder = tmp_path_factory.mktemp("ssh")
    keygen(folder / "key")
    return Network(folder, folder / "key", getpass.getuser())


@pytest.fixture(scope="session")
def host(network: Network) -> Iterator[Server]:
    """An SSH server that lives as long as the tests."""
    with network.server() as server:
        yield server
