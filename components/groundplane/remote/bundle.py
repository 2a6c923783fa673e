"""All scripts of this release as one archive, known by its content.

A host receives it once a release; steps then call a constant path, so that a new release changes
no step and restarts nothing.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
LIBRARY = "/usr/local/lib/groundplane"
# Not sent: what observation feeds to a blank host by itself, and what installs the bundle.
ELSEWHERE = {"install"}


@dataclass(frozen=True)
class Bundle:
    """`hash` (16 hexadecimal digits) names the release's folder on a host; `archive` is base64."""

    hash: str
    archive: str


@cache
def bundle() -> Bundle:
    """The same bytes for the same scripts, on whatever computer."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(p for p in SCRIPTS.rglob("*") if p.is_file()):
            name = path.relative_to(SCRIPTS).as_posix()
            if name in ELSEWHERE:
                continue
            info = tarfile.TarInfo(name)
            content = path.read_bytes()
            info.size = len(content)
            info.mode = 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(content))
    archive = gzip.compress(raw.getvalue(), 9, mtime=0)
    digest = hashlib.sha256(raw.getvalue()).hexdigest()[:16]
    return Bundle(digest, base64.encodebytes(archive).decode())


@cache
def installer() -> str:
    """The few lines that unpack a bundle on a host which has nothing yet."""
    return (SCRIPTS / "install").read_text()
