"""What the lab's machines can reach: downloads at :8080, container images at :5000.

    lab.mirror.prepare(lab_dir, print)        files, images and catalogue.yaml in lab_dir
    lab.mirror.start("gp", lab_dir)           both servers, in the network namespace gp
    lab.mirror.stop(lab_dir)
    lab.mirror.accesses(lab_dir)              what was asked of either
    lab.mirror.set_faults(lab_dir, [...])     see server.py; for the download server only

Everything is under lab_dir/mirror: files/HOST/PATH for https://HOST/PATH, registry/ (the images),
access.log, faults.json, and a .log and .pid of each server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from lab import parts
from lab.mirror import access, catalogue, daemon, server
from lab.mirror.access import Access
from lab.mirror.daemon import DaemonError
from lab.mirror.server import Fault
from lab.parts import build, images
from lab.parts.images import Image
from lab.parts.progress import Progress, timed
from lab.parts.store import write_whole

__all__ = [
    "Access",
    "DaemonError",
    "Fault",
    "accesses",
    "catalogue_file",
    "prepare",
    "running",
    "set_faults",
    "start",
    "stop",
]

DOWNLOADS_PORT = 8080
IMAGES_PORT = 5000
SERVERS = ("downloads", "registry")
CHECKOUT = Path(__file__).parents[2]


def folder(lab_dir: Path) -> Path:
    return lab_dir / "mirror"


def catalogue_file(lab_dir: Path) -> Path:
    """The overlay of the product's catalogue that a lab stack names."""
    return lab_dir / "catalogue.yaml"


def prepare(lab_dir: Path, progress: Progress) -> None:
    """Lays out what the mirror serves, from parts that are already made."""
    offer(lab_dir, {})
    fill(folder(lab_dir), progress)


def offer(lab_dir: Path, guests: Mapping[str, Path]) -> None:
    """Serves the cache's files and writes the catalogue that names them. `guests`: images that
    guests are installed from, by name."""
    lay_out(folder(lab_dir) / "files", guests.values())
    catalogue.write(catalogue_file(lab_dir), guests)


def lay_out(files: Path, guests: Iterable[Path] = ()) -> None:
    """Links to the cache's files, under the names that the official servers give them."""
    shutil.rmtree(files, ignore_errors=True)
    for image in guests:
        link = files / build.served_path(catalogue.guest_url(image))
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image)
    for name, versions in catalogue.urls().items():
        for version, keys in versions.items():
            for url in keys.values():
                link = files / build.served_path(url)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(catalogue.file(name, version, url))


def fill(mirror: Path, progress: Progress) -> None:
    """Puts the images that the registry lacks, or has in an older form, into its storage."""
    pushed = mirror / "images.json"
    have: dict[str, str] = json.loads(pushed.read_text()) if pushed.exists() else {}
    want = {image.reference: (image.folder / "index.json").read_text() for image in images.images()}
    if have == want:
        return
    with timed(f"filling the registry with {len(want)} images", progress):
        pid_file = mirror / "filling.pid"
        daemon.stop(pid_file)  # of a run that was killed
        address = start_registry(mirror, pid_file, pid_file.with_suffix(".log"), "127.0.0.1:0")
        try:
            for image in images.images():
                push(image, address)
        finally:
            daemon.stop(pid_file)
        write_whole(pushed, json.dumps(want))


def push(image: Image, address: str) -> None:
    """An image keeps its repository and tag; only the registry's host is another."""
    name = f"{address}/{image.reference.split('/', 1)[1]}"
    done = subprocess.run(
        [parts.binary("crane"), "push", "--insecure", image.folder, name],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise DaemonError(
            image.reference, "the lab's registry did not take the image", done.stderr.strip()
        )


def start_registry(
    mirror: Path, pid_file: Path, accessed: Path, address: str, netns: str | None = None
) -> str:
    """The registry over the mirror's storage, with its access log appended to `accessed`.

    Returns the address on which it listens.
    """
    config = pid_file.with_suffix(".json")  # JSON is YAML
    write_whole(
        config,
        json.dumps(
            {
                "version": 0.1,
                "log": {"level": "info", "formatter": "text"},
                "storage": {"filesystem": {"rootdirectory": str(mirror / "registry")}},
                "http": {"addr": address},
            }
        ),
    )
    line = daemon.start(
        [*enter(netns), parts.binary("registry"), "serve", config],
        pid_file,
        pid_file.with_suffix(".log"),
        "listening on ",
        output=accessed,
        env=os.environ | {"OTEL_TRACES_EXPORTER": "none"},
    )
    return line.split("listening on ")[1].split('"')[0]


def enter(netns: str | None) -> list[str]:
    """What goes before a command to run it in a network namespace."""
    return ["nsenter", f"--net=/run/netns/{netns}", "--"] if netns else []


def start(netns: str, lab_dir: Path) -> None:
    """Both servers in the lab's network namespace; those that already run there stay.

    DaemonError if one does not come up.
    """
    mirror = folder(lab_dir)
    accessed = mirror / "access.log"
    namespace = Path("/run/netns", netns).stat().st_ino
    for name in SERVERS:
        pid_file = mirror / f"{name}.pid"
        pid = daemon.running(pid_file)
        if pid is not None and Path(f"/proc/{pid}/ns/net").stat().st_ino == namespace:
            continue
        daemon.stop(pid_file)  # of a namespace that was made anew
        if name == "registry":
            start_registry(mirror, pid_file, accessed, f"0.0.0.0:{IMAGES_PORT}", netns)
        else:
            start_downloads(mirror, pid_file, netns)


def start_downloads(mirror: Path, pid_file: Path, netns: str) -> None:
    daemon.start(
        [*enter(netns), sys.executable, "-m", "lab.mirror", "serve", mirror, str(DOWNLOADS_PORT)],
        pid_file,
        pid_file.with_suffix(".log"),
        "listening on ",
        cwd=CHECKOUT,
    )


def stop(lab_dir: Path) -> None:
    """Ends what `start` began, and nothing else."""
    for name in (*SERVERS, "filling"):
        daemon.stop(folder(lab_dir) / f"{name}.pid")


def accesses(lab_dir: Path) -> list[Access]:
    """Every request to either server so far, oldest first."""
    return access.accesses(folder(lab_dir) / "access.log")


def set_faults(lab_dir: Path, faults: list[Fault]) -> None:
    """Lets the download server misbehave by these rules; none to serve as usual again."""
    server.set_faults(folder(lab_dir) / "faults.json", faults)


running = server.running
