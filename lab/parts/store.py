"""The cache of parts: where each lies, and how it gets there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from groundplane.errors import GroundplaneError
from lab.parts.progress import Progress


class PartError(GroundplaneError):
    """A part or an image of the lab could not be had."""


def cache() -> Path:
    """The folder shared by all checkouts: $GROUNDPLANE_CACHE, else ~/.cache/groundplane."""
    return Path(os.environ.get("GROUNDPLANE_CACHE") or Path.home() / ".cache/groundplane")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def locked(progress: Progress) -> Iterator[None]:
    """Holds the cache for this process; a second run waits here instead of building twice."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another run that is making parts")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block succeeds.

    What a killed run left is cleared by the next one; `target` is replaced if it exists.
    """
    draft = target.with_name(target.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)


def write_whole(target: Path, text: str) -> None:
    """Writes a file so that a reader sees the old text or the new, and a killed run no half."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".part")
    draft.write_text(text)
    draft.rename(target)
