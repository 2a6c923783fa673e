"""A release, and an environment that has nothing of groundplane but that."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def build(folder: Path) -> Path:
    """Build in an empty folder; returns where wheel and source archive are.

    The wheel is built from the archive, so what is missing there is missing in both.
    """
    for name in ("components", "pyproject.toml", "README.md"):
        here, there = CHECKOUT / name, folder / name
        if here.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", ".*", "*.egg*")
            shutil.copytree(here, there, ignore=left_out)
        else:
            shutil.copy(here, there)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=folder,
        capture_output=True,
        check=True,
    )
    return folder / "dist"


def environment(dist: Path, folder: Path) -> Path:
    """A virtual environment in this folder with the wheel in it, and nothing of this checkout.

    What groundplane needs is lent by the environment of the tests, so that no network is asked.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (inside,) = folder.glob("lib/python3*/site-packages")
    (wheel,) = dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True)
    # A path that a .pth adds is not searched for other .pth: an editable installation stays out.
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (inside / "lent.pth").write_text("\n".join(lent) + "\n")
    return folder
