"""All scripts of this release as one archive, known by its content.

A host receives it once a release; steps then call a constant path, so that a new release changes
no step and restarts nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from groundplane.errors import GroundplaneError

SCRIPTS = Path(__file__).parent / "scripts"
LIBRARY = "/usr/local/lib/groundplane"
# Not sent: it is the text that receives the others.
ELSEWHERE = {"install"}


@dataclass(frozen=True)
class Bundle:
    """The scripts as a tar. All of them are text, and so is it.

    Not compressed: what a compression makes of the same bytes depends on its library, and the
    archive must be the same on every computer.
    """

    archive: str

    @property
    def digest(self) -> str:
        """Its SHA-256, by which hosts and the engine know it."""
        return hashlib.sha256(self.archive.encode()).hexdigest()

    @property
    def hash(self) -> str:
        """The name of the release's folder on a host."""
        return self.digest[:16]


@cache
def bundle() -> Bundle:
    """The same bytes for the same scripts, on whatever computer."""
    return packed(SCRIPTS)


def packed(folder: Path) -> Bundle:
    """The scripts of a folder; what begins with `#!` can be executed on the host."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = path.relative_to(folder).as_posix()
            if name in ELSEWHERE:
                continue
            info = tarfile.TarInfo(name)
            content = path.read_bytes()
            info.size = len(content)
            info.mode = 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(content))
    return Bundle(raw.getvalue().decode())


def kept(scripts: Bundle) -> Path:
    """The archive as a file, for uploads: in the user's cache, made once, whole or not at all.

    A file that stays, since the engine may read it after the program has ended; and at one path,
    since the state names it.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "groundplane" / "scripts"
    path = folder / f"{scripts.hash}.tar"
    content = scripts.archive.encode()
    try:
        if not path.exists() or path.read_bytes() != content:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
                draft.write(content)
            # Another program may do the same at this moment; either's file is the right one.
            os.replace(draft.name, path)
    except OSError as error:
        raise GroundplaneError(
            str(folder),
            f"cannot be written ({error.strerror})",
            "The scripts for the hosts are uploaded from there",
            "Make room, or name another folder: XDG_CACHE_HOME",
        ) from error
    return path


@cache
def installer() -> str:
    """The few lines that unpack a bundle on a host which has nothing yet.

    Without their comments: the state holds this text for each host.
    """
    lines = (SCRIPTS / "install").read_text().splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))
