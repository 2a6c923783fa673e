"""What the mirror holds, as an overlay of the product's catalogue: the lab's pins and digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lab.parts import build, images, recipes
from lab.parts.recipes import ARCH, Part
from lab.parts.store import cache, sha256, write_whole

# The images that are pinned by Kubernetes' version and not by their own.
COMPANIONS = ("pause", "etcd", "coredns")


def urls() -> dict[str, dict[str, dict[str, str]]]:
    """Every URL that the mirror answers: part -> version -> catalogue key -> URL."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for part in recipes.PARTS:
        if part.served and build.home(part.name, part.version).exists():
            keys = {key: part.official(part.url, key) for key in part.served}
            found.setdefault(part.name, {})[part.version] = keys
    found["runc"] = {
        version: {"binary": recipes.RUNC_URL.format(version=version, arch=ARCH)}
        for version in runc_versions()
    }
    return found


def runc_versions() -> list[str]:
    """The versions of runc in the cache: as many as this computer's distribution has given."""
    made = cache().glob(f"parts/runc/*/linux-{ARCH}/made.json")
    newest_first = sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parts[-3] for path in newest_first]


def template(part: Part, key: str) -> str:
    """A part's URL with {version} and {arch} left open."""
    return part.url.replace("{name}", key)


def file(name: str, version: str, url: str) -> Path:
    """Where the cache keeps what is served for `url`."""
    return build.home(name, version) / "files" / build.served_path(url)


def overlay(guests: Mapping[str, Path]) -> dict[str, Any]:
    """The catalogue's own format: parts with default, files and sha256, companion images, and what
    guests are installed from."""
    parts: dict[str, Any] = {}
    for name, versions in urls().items():
        default = next(iter(versions))
        if name == "runc":
            files = {"binary": recipes.RUNC_URL}
        else:
            files = {key: template(recipes.part(name), key) for key in versions[default]}
        parts[name] = {
            "default": default,
            "files": files,
            "sha256": {
                version: {
                    ARCH: {key: sha256(file(name, version, url)) for key, url in keys.items()}
                }
                for version, keys in versions.items()
            },
        }
    made = {"parts": parts, "images": companions()}
    return {**made, "guestImages": guest_images(guests)} if guests else made


def guest_images(guests: Mapping[str, Path]) -> dict[str, Any]:
    """The lab's images under their names. Each content has a name of its own: a hypervisor keeps
    what it fetched by its URL."""
    return {
        name: {
            "url": guest_url(path),
            "sha256": {ARCH: sha256(path)},
            "system": "debian 12",
        }
        for name, path in guests.items()
    }


def guest_url(image: Path) -> str:
    """Where the lab's mirror has an image; nobody else does."""
    return f"https://groundplane.test/guests/{image.name}"


def companions() -> dict[str, dict[str, str]]:
    """Name -> Kubernetes minor -> image, as kubeadm of that minor asks for it."""
    found: dict[str, dict[str, str]] = {name: {} for name in COMPANIONS}
    for version in images.versions():
        minor = version.rsplit(".", 1)[0]
        for reference in images.wanted(version):
            name = reference.rsplit("/", 1)[-1].split(":")[0]
            if name in found:
                found[name][minor] = reference
    return found


def write(target: Path, guests: Mapping[str, Path]) -> None:
    text = yaml.safe_dump(overlay(guests), sort_keys=False)
    write_whole(target, "# Made by the lab: what its mirror holds.\n" + text)
