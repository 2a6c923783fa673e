"""A release, built once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import release


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and source archive."""
    return release.build(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and nothing of this checkout."""
    return release.environment(dist, tmp_path_factory.mktemp("environment") / "env")
