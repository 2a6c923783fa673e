"""Downloads for the lab itself: a short probe of each server, then whole, checked files."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from lab.parts.store import PartError

PROBE = 4  # seconds a server has to answer at all
STALL = 60  # seconds without a byte after which a download is given up


@functools.cache
def reachable(server: str) -> bool:
    """True if `server` (scheme://host) answers anything over HTTP; asked once a run."""
    try:
        urllib.request.urlopen(urllib.request.Request(server, method="HEAD"), timeout=PROBE).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    """True if the server of `url` can be reached from here."""
    parts = urlsplit(url)
    return reachable(f"{parts.scheme}://{parts.netloc}")


def text(url: str) -> str:
    """The body of a small file. OSError if it is not to be had."""
    with urllib.request.urlopen(url, timeout=PROBE) as response:
        body: bytes = response.read()
    return body.decode()


def published_sha256(listing: str, file_name: str) -> str:
    """The digest of `file_name` in a checksum file: its only digest, or the one on its line."""
    lines = [line for line in listing.splitlines() if re.match(r"[0-9a-fA-F]{64}\b", line)]
    if len(lines) != 1:
        lines = [line for line in lines if line.split()[-1].lstrip("*") == file_name]
    if len(lines) != 1:
        raise PartError(
            file_name,
            f"its checksum file names it {len(lines)} times, not once",
            "Nothing is used whose digest is not known",
        )
    return lines[0][:64].lower()


def download(url: str, target: Path, sha256: str) -> None:
    """Writes `url` to `target`; OSError if it is not to be had, PartError if it is not it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(target.name + ".part")
    with urllib.request.urlopen(url, timeout=STALL) as response, draft.open("wb+") as file:
        shutil.copyfileobj(response, file, 1 << 20)
        if response.length:  # bytes that were announced and did not come
            raise OSError(f"{url}: the connection ended {response.length} bytes early")
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        draft.unlink()
        raise PartError(
            url,
            f"the download has sha256 {found}, expected {sha256}",
            "It was damaged or changed on its way, and nothing of it is kept",
            "Try again; if it stays, compare the digest with the publisher's.",
        )
    draft.rename(target)
