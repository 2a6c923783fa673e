"""A release, built once for all tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with wheel and source archive. The wheel is built from the archive, so what is
    missing there is missing in both."""
    folder = tmp_path_factory.mktemp("release")
    for name in ("components", "pyproject.toml", "README.md"):
        here, there = CHECKOUT / name, folder / name
        if here.is_dir():
            shutil.copytree(
                here, there, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.egg*")
            )
        else:
            shutil.copy(here, there)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    return folder / "dist"


@pytest.fixture(scope="session")
def environment(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it, and nothing of this checkout.

    What groundplane needs is lent by the environment of the tests, so that no network is asked.
    """
    folder = tmp_path_factory.mktemp("environment") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (inside,) = folder.glob("lib/python3*/site-packages")
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    # A path that a .pth adds is not searched for other .pth: an editable installation stays out.
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (inside / "lent.pth").write_text("\n".join(lent) + "\n")
    return folder
