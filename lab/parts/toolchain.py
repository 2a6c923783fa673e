"""A Go that is new enough: the one on the PATH, else Go's own toolchain module.

Debian's Go is older than Kubernetes wants. The Go project publishes each release as a module,
golang.org/toolchain, so any Go module proxy that serves the parts serves their compiler too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from lab.parts import fetch
from lab.parts.progress import Progress, timed
from lab.parts.recipes import ARCH, GO_SHA256, GO_VERSION
from lab.parts.store import PartError, cache, whole

MODULE = f"golang.org/toolchain@v0.0.1-go{GO_VERSION}.linux-{ARCH}"
DEFAULT_PROXY = "https://proxy.golang.org"


def numbers(version: str) -> tuple[int, ...]:
    """1.26.8 from "go1.26.8", "go version go1.26.8 linux/amd64" or "1.26.8", to compare by."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in found.groups()) if found else (0, 0, 0)


def installed() -> Path | None:
    """The Go on the PATH if it is new enough."""
    go = shutil.which("go")
    if go is None:
        return None
    said = subprocess.run(
        [go, "version"],
        env=os.environ | {"GOTOOLCHAIN": "local"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return Path(go) if numbers(said) >= numbers(GO_VERSION) else None


def proxies() -> list[str]:
    """The servers named by GOPROXY, in its order; "direct" and "off" are not servers."""
    setting = os.environ.get("GOPROXY") or DEFAULT_PROXY
    return [url.rstrip("/") for url in re.split(r"[,|]", setting) if "://" in url]


def fetched(progress: Progress) -> Path:
    """Go from its module, unpacked in the cache once."""
    home = cache() / "go" / GO_VERSION
    if not home.exists():
        with timed(f"fetching Go {GO_VERSION}", progress), whole(home) as draft:
            archive = draft / "toolchain.zip"
            download(archive)
            unpack(archive, draft)
            archive.unlink()
    return home / "bin/go"


def download(archive: Path) -> None:
    module, version = MODULE.split("@")
    failures = []
    for proxy in proxies():
        try:
            return fetch.download(f"{proxy}/{module}/@v/{version}.zip", archive, GO_SHA256)
        except OSError as error:
            failures.append(f"{proxy}: {error}")
    raise PartError(
        f"Go {GO_VERSION}",
        f"no Go module proxy served {module}",
        "\n".join(failures or [f"GOPROXY={os.environ.get('GOPROXY')} names no server"]),
        f"Install Go {GO_VERSION} or newer, or set GOPROXY to a proxy that answers.",
    )


def unpack(archive: Path, target: Path) -> None:
    """A module's zip has all under module@version/ and carries no modes."""
    with zipfile.ZipFile(archive) as files:
        files.extractall(target)
    inner = target / MODULE
    for entry in inner.iterdir():
        entry.rename(target / entry.name)
    inner.rmdir()
    inner.parent.rmdir()
    for program in [*target.glob("bin/*"), *target.glob("pkg/tool/*/*")]:
        program.chmod(0o755)


def go(progress: Progress) -> Path:
    """The Go command to build with."""
    return installed() or fetched(progress)


def environment() -> dict[str, str]:
    """What every build runs with: no C, so that programs run in an image that holds nothing else;
    and this Go or none, so that no other is fetched behind its back."""
    return os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
