"""The programs and container images that the lab is made of, built or downloaded once.

lab.parts.ensure(print)              what a first cluster takes and is missing
lab.parts.binary("kubectl")          a program's path, at the lab's default version
lab.parts.binary("kubelet", "1.35.4")
"""

from __future__ import annotations

from pathlib import Path

from lab.parts import build, images, recipes
from lab.parts.progress import Progress
from lab.parts.store import PartError, cache, locked

__all__ = ["PartError", "binary", "cache", "ensure", "show"]


def ensure(progress: Progress, others: bool = False) -> None:
    """Makes what the cache lacks for a first cluster; instant when nothing is missing.

    `others`: also the versions to change from and to, which take a third of the whole time.
    Raises PartError, naming the part, the cause and the remedy.
    """
    with locked(progress):
        for part in recipes.FIRST + (recipes.OTHERS if others else ()):
            if not build.home(part.name, part.version).exists():
                build.make(part, progress)
        build.make_runc(progress)
        images.ensure(progress)


def show(progress: Progress) -> None:
    """A line for each part and each image in the cache."""
    for made in sorted(cache().glob("parts/*/*/*/made.json")):
        name, version = made.parts[-4:-2]
        build.report(made.parent, f"{name} {version}", progress)
    for image in images.images():
        progress(f"{image.reference}: {build.size(image.folder) >> 20} MB")


def binary(program: str, version: str | None = None) -> Path:
    """The path of a part's program. KeyError if no part has it."""
    for part in recipes.PARTS:
        if program in part.binaries and version in (None, part.version):
            return build.home(part.name, part.version) / "bin" / program
    raise KeyError(f"lab/parts/recipes.py has no {program} {version or ''}".rstrip())
