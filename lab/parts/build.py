"""One part into the cache: the official download where it answers, else built from Go modules.

A finished part is a folder of the cache:
    parts/NAME/VERSION/linux-amd64/bin/...           the programs
                                   files/HOST/PATH   what the mirror serves for https://HOST/PATH
                                   made.json         where it came from, and in how many seconds
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from lab.parts import debian, fetch, recipes, toolchain
from lab.parts.progress import Progress, run_logged
from lab.parts.recipes import ARCH, Part
from lab.parts.store import PartError, cache, whole

MODULES = Path(__file__).parent / "gomod"


def home(name: str, version: str) -> Path:
    """The folder of a part, made or not."""
    return cache() / "parts" / name / version / f"linux-{ARCH}"


def served_path(url: str) -> Path:
    """Where the mirror keeps what it serves for `url`: HOST/PATH."""
    parts = urlsplit(url)
    return Path(parts.netloc) / parts.path.lstrip("/")


def make(part: Part, progress: Progress) -> None:
    """Fills the part's folder. PartError if it can neither be downloaded nor built."""
    began = time.monotonic()
    with whole(home(part.name, part.version)) as draft:
        if downloaded(part, draft, progress):
            source = "official download"
        else:
            source = "Go modules"
            build(part, draft, progress)
            pack(part, draft)
        finish(draft, source, began)
    report(home(part.name, part.version), part.title, progress)


def downloaded(part: Part, draft: Path, progress: Progress) -> bool:
    """True if the official files are here; False, with nothing kept, if they are not to be had."""
    if not fetch.answers(part.official(part.url, part.binaries[0])):
        return False
    progress(f"downloading {part.title} ...")
    try:
        download(part, draft)
    except OSError as error:
        progress(f"{part.title} is not to be had from its publisher ({error}); building it")
        shutil.rmtree(draft)
        draft.mkdir()
        return False
    return True


def download(part: Part, draft: Path) -> None:
    """The official files, each checked against the digest published beside it."""
    (draft / "bin").mkdir()
    names = part.binaries if part.single_files else ("",)
    for name in names:
        url = part.official(part.url, name)
        file = draft / "files" / served_path(url)
        digest = fetch.published_sha256(
            fetch.text(part.official(part.checksums, name)), url.rsplit("/", 1)[-1]
        )
        fetch.download(url, file, digest)
        if name:
            shutil.copyfile(file, draft / "bin" / name)
            (draft / "bin" / name).chmod(0o755)
        else:
            unpack(file, part.official(part.folder), draft / "bin")


def unpack(archive: Path, folder: str, target: Path) -> None:
    """The programs that lie directly in `folder` of an archive."""
    with tarfile.open(archive) as members:
        for member in members:
            name = member.name.removeprefix(folder).removeprefix("./")
            if member.isfile() and member.mode & 0o111 and "/" not in name:
                content = members.extractfile(member)
                assert content is not None  # a regular file has content
                with (target / name).open("wb") as file:
                    shutil.copyfileobj(content, file)
                (target / name).chmod(0o755)


def build(part: Part, draft: Path, progress: Progress) -> None:
    """Builds every program that the part's go.mod names as a tool."""
    (draft / "bin").mkdir()
    what = f"building {part.title}"
    go = toolchain.go(progress)
    progress(f"{what} ...")
    linker = ["-s", "-w", *(f"-X {name}={value}" for name, value in part.variables.items())]
    argv = [str(go), "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
    log = cache() / "logs" / f"{part.name}-{part.version}.log"
    folder = MODULES / f"{part.name}-{part.version}"
    if part.embedded:
        argv += ["-overlay", str(overlay(part, go, folder, draft))]
    argv += ["-tags", part.tags, "-ldflags", " ".join(linker), "-o", f"{draft}/bin/", "tool"]
    code = run_logged(what, argv, log, progress, cwd=folder, env=toolchain.environment())
    if code != 0:
        raise PartError(
            part.title,
            f"go build failed with exit code {code}",
            "\n".join(log.read_text().splitlines()[-15:]),
            f"All of its output is in {log}. A build needs a Go module proxy (GOPROXY) and room in "
            "the build cache (`go env GOCACHE`).",
        )
    if part.name == "etcd":  # a program is named after its package, and this one's is server/v3
        (draft / "bin/server").rename(draft / "bin/etcd")


def overlay(part: Part, go: Path, folder: Path, draft: Path) -> Path:
    """A file by which Go finds what the folder's own program embeds, where modules have it."""
    replaced = {}
    for name, source in part.embedded.items():
        package, _, file = source.rpartition("/")
        # -e: that package by itself need not compile.
        asked = [str(go), "list", "-e", "-mod=readonly", "-find", "-f", "{{.Dir}}", package]
        done = subprocess.run(
            asked, cwd=folder, env=toolchain.environment(), capture_output=True, text=True
        )
        if done.returncode != 0 or not done.stdout.strip():
            remedy = "A build needs a Go module proxy (GOPROXY)."
            raise PartError(part.title, f"no package {package}", done.stderr.strip(), remedy)
        replaced[str(folder / name)] = str(Path(done.stdout.strip()) / file)
    target = draft / "overlay.json"
    target.write_text(json.dumps({"Replace": replaced}))
    return target


def pack(part: Part, draft: Path) -> None:
    """Lays the built programs out as the files that the project's own releases have."""
    for key in part.served:
        url = part.official(part.url, key)
        file = draft / "files" / served_path(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        if part.single_files:
            os.link(draft / "bin" / key, file)
        else:
            write_archive(file, part.official(part.folder), sorted((draft / "bin").iterdir()))


def write_archive(target: Path, folder: str, programs: Iterable[Path]) -> None:
    """A tar.gz that depends on nothing but the programs' names and contents."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as compressed,
        tarfile.open(mode="w", fileobj=compressed) as archive,
    ):
        for program in programs:
            member = tarfile.TarInfo(folder + program.name)
            member.size, member.mode = program.stat().st_size, 0o755
            with program.open("rb") as content:
                archive.addfile(member, content)


def make_runc(progress: Progress) -> None:
    """runc needs a C compiler and libseccomp, so the distribution's own is taken."""
    began = time.monotonic()
    version = debian.upstream(debian.candidate(recipes.RUNC_PACKAGE))
    target = home("runc", version)
    if target.exists():
        return
    with whole(target) as draft:
        (draft / "bin").mkdir()
        debian.unpack([recipes.RUNC_PACKAGE], draft / "package")
        shutil.copyfile(draft / "package/usr/sbin/runc", draft / "bin/runc")
        (draft / "bin/runc").chmod(0o755)
        shutil.rmtree(draft / "package")
        file = draft / "files" / served_path(recipes.RUNC_URL.format(version=version, arch=ARCH))
        file.parent.mkdir(parents=True)
        os.link(draft / "bin/runc", file)
        finish(draft, "Debian package", began)
    report(target, f"runc {version}", progress)


def finish(draft: Path, source: str, began: float) -> None:
    made = {"source": source, "seconds": round(time.monotonic() - began)}
    (draft / "made.json").write_text(json.dumps(made) + "\n")


def size(folder: Path) -> int:
    """Bytes of all files under `folder`, a file of two names counted once."""
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    return sum({file.st_ino: file.st_size for file in files}.values())


def report(folder: Path, title: str, progress: Progress) -> None:
    """One line about a finished part."""
    made = json.loads((folder / "made.json").read_text())
    progress(f"{title}: {size(folder) >> 20} MB, {made['source']}, {made['seconds']} s")


if __name__ == "__main__":
    make(recipes.part(sys.argv[1]), print)
