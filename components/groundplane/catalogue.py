"""The catalogue: the only place where a version, an address or a digest stands.

`catalogue.yaml` beside this file is the product's; a stack may lay a file of the same form over it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from groundplane.errors import CatalogueError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Sha512 = Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
ARCHITECTURES = ("amd64", "arm64")


class Part(BaseModel):
    """One thing that is downloaded: where its files are, and what they must be."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    default: str | None = None
    """None where one is always asked for."""
    files: dict[str, str | dict[str, str]]
    """URLs; by architecture where {arch} does not say how they differ."""
    sha256: dict[str, dict[str, dict[str, Sha256]]] = {}


class GuestImage(BaseModel):
    """A disk that virtual machines begin with, in the format qcow2, with cloud-init."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: str
    sha256: dict[str, Sha256] = {}
    sha512: dict[str, Sha512] = {}
    """Where its maker publishes no other. One digest an architecture is enough."""
    system: str
    """ID and VERSION_ID of its /etc/os-release: `debian 12`."""


class AddonSource(BaseModel):
    """One thing that an add-on installs: a chart, or Kubernetes objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["release", "chart", "manifest", "objects"]
    """`release`: by Helm as a whole, since the chart has hooks, which carry weight. `chart`:
    rendered, each object a resource of its own. `manifest`: documents at addresses. `objects`:
    written by the add-on itself."""
    version: str
    chart: str = ""
    """Its name in the repository; or oci:// and all of its address without the version; or the
    path of a folder or an archive."""
    repository: str = ""
    """The address of a repository over HTTP."""
    urls: list[str] = []
    """Of a manifest: the addresses of its documents."""
    images: dict[str, str] = {}
    """Images that an add-on names itself, and those that an operator starts and nothing names."""

    @model_validator(mode="after")
    def _whole(self) -> AddonSource:
        if (self.kind in ("release", "chart")) != bool(self.chart):
            raise ValueError("a chart, and nothing else, has `chart`")
        if (self.kind == "manifest") != bool(self.urls):
            raise ValueError("a manifest, and nothing else, has `urls`")
        if bool(self.repository) != bool(self.chart and "/" not in self.chart):
            raise ValueError("a chart has a `repository`, or is an address or a path itself")
        return self


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    parts: dict[str, Part]
    images: dict[str, dict[str, str]] = {}
    guestImages: dict[str, GuestImage] = {}  # noqa: N815 - as the file has it
    addons: dict[str, AddonSource] = {}


@dataclass(frozen=True)
class File:
    """One file to download: its URL, and the digest in hex that it must have: its SHA-256, or of a
    guest's image perhaps its SHA-512. The length tells.
    """

    url: str
    digest: str


class HasDownloads(Protocol):
    """What `with_mirror` needs of `spec.Mirrors`."""

    @property
    def downloads(self) -> str | None: ...


def with_mirror(url: str, mirrors: HasDownloads | None) -> str:
    """The URL under which the mirror, if there is one, holds what `url` names."""
    if mirrors is None or mirrors.downloads is None:
        return url
    parts = urlsplit(url)
    return f"{mirrors.downloads.rstrip('/')}/{parts.netloc}{parts.path}"


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare it by: "1.36.4" -> (1, 36, 4)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def minor(version: str) -> str:
    """The release line of a version: "1.36.4" -> "1.36"."""
    return ".".join(version.split(".")[:2])


class Catalogue:
    """Versions, addresses and digests, looked up by name. Unknown ones raise CatalogueError."""

    def __init__(self, data: Mapping[str, Any], place: str = "catalogue") -> None:
        """`data` as catalogue.yaml has it; `place` names its file in errors."""
        self._raw, self.place = data, place
        try:
            self._data = _Data.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise CatalogueError(
                f"{place}: {'.'.join(map(str, first['loc'])) or 'the file'}",
                first["msg"],
                "What is installed on hosts is looked up here",
                "Write it as groundplane's own catalogue.yaml does.",
            ) from None

    def parts(self) -> list[str]:
        """The names of all parts of which a version is known."""
        return sorted(name for name, part in self._data.parts.items() if part.sha256)

    def _part(self, part: str) -> Part:
        if part not in self._data.parts:
            raise CatalogueError(
                self.place, f"no part {part!r}", "", f"It knows {', '.join(self.parts())}."
            )
        return self._data.parts[part]

    def versions(self, part: str) -> list[str]:
        """The versions whose digests are known, oldest first."""
        return sorted(self._part(part).sha256, key=release)

    def default(self, part: str) -> str:
        """The version that is taken when none is asked for."""
        found = self._part(part).default
        if found is None:
            raise CatalogueError(
                self.place, f"no default version of {part}", "", "Name one, and its digests."
            )
        return found

    def knows(self, part: str, version: str, arch: str) -> bool:
        """Whether all files of this version are known for this architecture."""
        found = self._part(part)
        return set(found.files) <= set(found.sha256.get(version, {}).get(arch, {}))

    def file(self, part: str, version: str, key: str, arch: str) -> File:
        """The file `key` ("kubeadm", "archive", ...) of a part, for "amd64" or "arm64"."""
        found = self._part(part)
        digest = found.sha256.get(version, {}).get(arch, {}).get(key)
        if key not in found.files or digest is None:
            what = f"no {key} of {part} {version} for {arch}"
            if key not in found.files:
                known = f"Files of {part}: {', '.join(sorted(found.files))}."
            else:
                versions = [v for v in self.versions(part) if self.knows(part, v, arch)]
                known = f"Known for {arch}: {', '.join(versions) or 'none'}."
            raise CatalogueError(
                self.place,
                what,
                "Nothing is installed whose digest is not known",
                f"{known} Others can be added by a catalogue of the stack's own.",
            )
        url = found.files[key]
        template = url if isinstance(url, str) else url[arch]
        return File(template.format(version=version, arch=arch), digest)

    def files(self, part: str, version: str, arch: str) -> dict[str, File]:
        """All files of a part, by key."""
        return {key: self.file(part, version, key, arch) for key in self._part(part).files}

    def image(self, name: str, version: str) -> str:
        """The image that a Kubernetes version wants: image("pause", "1.36.4")."""
        images = self._data.images.get(name, {})
        if minor(version) not in images:
            raise CatalogueError(
                self.place,
                f"no image {name!r} for Kubernetes {minor(version)}",
                "",
                f"Known: {', '.join(sorted(images)) or 'none of this name'}.",
            )
        return images[minor(version)]

    def guest_images(self) -> dict[str, GuestImage]:
        """What virtual machines can be installed from, by name."""
        return dict(self._data.guestImages)

    def guest_image(self, name: str, arch: str) -> File:
        """The image of this name for "amd64" or "arm64"."""
        image = self._data.guestImages.get(name)
        digest = image and (image.sha256.get(arch) or image.sha512.get(arch))
        if image is None or not digest:
            known = sorted(
                key
                for key, image in self._data.guestImages.items()
                if arch in image.sha256 | image.sha512
            )
            raise CatalogueError(
                self.place,
                f"no guest image {name!r} for {arch}",
                "Nothing is installed whose digest is not known",
                f"Known for {arch}: {', '.join(known) or 'none'}. Others can be added by a "
                "catalogue of the stack's own.",
            )
        return File(image.url.format(arch=arch), digest)

    def addons(self) -> dict[str, AddonSource]:
        """What add-ons install, by name; an add-on may install several."""
        return {name: self.addon(name) for name in sorted(self._data.addons)}

    def addon(self, name: str) -> AddonSource:
        """What add-ons install by this name, its version filled in wherever it belongs."""
        if name not in self._data.addons:
            raise CatalogueError(
                self.place,
                f"no entry {name!r} in addons",
                "What an add-on installs, and which version of it, is looked up there",
                f"Known: {', '.join(sorted(self._data.addons)) or 'none'}.",
            )
        found = self._data.addons[name]
        return found.model_copy(
            update={
                "urls": [url.format(version=found.version) for url in found.urls],
                "images": {k: v.format(version=found.version) for k, v in found.images.items()},
            }
        )

    def merge(self, overlay: Mapping[str, Any], place: str = "the overlay") -> Catalogue:
        """This catalogue with another's entries over its own. `place` names the other's file."""
        if not isinstance(overlay, Mapping):
            raise CatalogueError(
                place, "not a catalogue", "", "It must hold `parts:`, as groundplane's own does."
            )
        return Catalogue(_over(self._raw, overlay), place)


def _over(below: Any, above: Any) -> Any:
    """Mappings are merged key by key; anything else is replaced."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}


@cache
def product() -> Catalogue:
    """The catalogue of this release of groundplane."""
    import yaml  # half of a short command's import time, and only needed here

    text = Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")
    return Catalogue(yaml.safe_load(text), "groundplane/catalogue.yaml")
