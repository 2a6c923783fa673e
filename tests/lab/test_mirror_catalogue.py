"""The overlay and the files: what the product looks up is what the mirror serves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from groundplane import catalogue as products
from groundplane.catalogue import product
from groundplane.spec import Mirrors
from lab import mirror
from lab.mirror import catalogue
from lab.parts import build, images, recipes, store

RUNC = "1.1.5"
WANTED = {
    "1.36.3": ["registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/pause:3.10.2"],
    "1.35.4": ["registry.k8s.io/coredns/coredns:v1.13.1", "registry.k8s.io/pause:3.10.1"],
}


def put(folder: Path, names: tuple[str, ...]) -> None:
    (folder / "bin").mkdir(parents=True)
    for name in names:
        (folder / "bin" / name).write_text(f"{name} in {folder}")
    (folder / "made.json").write_text(json.dumps({"source": "a test", "seconds": 0}))


@pytest.fixture
def lab_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A laid-out mirror over a cache whose programs are a few bytes each."""
    monkeypatch.setenv("GROUNDPLANE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "wanted", WANTED.__getitem__)
    for part in recipes.PARTS:
        home = build.home(part.name, part.version)
        put(home, part.binaries)
        build.pack(part, home)
    runc = build.home("runc", RUNC)
    put(runc, ("runc",))
    served = build.served_path(recipes.RUNC_URL.format(version=RUNC, arch=recipes.ARCH))
    (runc / "files" / served).parent.mkdir(parents=True)
    (runc / "files" / served).write_text("runc")
    mirror.lay_out(tmp_path / "lab/mirror/files")
    catalogue.write(mirror.catalogue_file(tmp_path / "lab"), {})
    return tmp_path / "lab"


def overlaid(lab_dir: Path) -> products.Catalogue:
    file = mirror.catalogue_file(lab_dir)
    return product().merge(yaml.safe_load(file.read_text()), str(file))


def test_every_file_is_served_and_has_its_digest(lab_dir: Path) -> None:
    found, mirrors = overlaid(lab_dir), Mirrors(downloads="http://mirror.example:8080")
    for part, versions in catalogue.urls().items():
        for version in versions:
            for file in found.files(part, version, recipes.ARCH).values():
                asked = products.with_mirror(file.url, mirrors)
                path = asked.removeprefix("http://mirror.example:8080/")
                assert store.sha256(lab_dir / "mirror/files" / path) == file.digest


def test_defaults_are_what_the_lab_has(lab_dir: Path) -> None:
    found = overlaid(lab_dir)
    assert {part: found.default(part) for part in catalogue.urls()} == {
        "kubernetes": "1.36.3",
        "containerd": "2.3.7",
        "etcd": "3.6.8",
        "cni-plugins": "1.9.1",
        "runc": RUNC,
    }


def test_a_version_that_is_not_made_is_not_offered(lab_dir: Path) -> None:
    shutil.rmtree(build.home("kubernetes", "1.35.4"))
    catalogue.write(mirror.catalogue_file(lab_dir), {})
    ours = yaml.safe_load(mirror.catalogue_file(lab_dir).read_text())
    assert list(ours["parts"]["kubernetes"]["sha256"]) == ["1.36.3"]
    assert list(ours["images"]["pause"]) == ["1.36"]


def test_addresses_are_the_product_s_own(lab_dir: Path) -> None:
    ours = yaml.safe_load(mirror.catalogue_file(lab_dir).read_text())["parts"]
    for part, entry in ours.items():
        for key, url in entry["files"].items():
            official = product().file(part, product().default(part), key, recipes.ARCH).url
            assert url.format(version=product().default(part), arch=recipes.ARCH) == official


def test_images_by_minor(lab_dir: Path) -> None:
    assert overlaid(lab_dir).image("pause", "1.35.9") == "registry.k8s.io/pause:3.10.1"
    assert overlaid(lab_dir).image("pause", "1.36.3") == "registry.k8s.io/pause:3.10.2"
    assert overlaid(lab_dir).image("coredns", "1.35.4").endswith("/coredns:v1.13.1")


def test_laying_out_again_drops_what_is_no_longer_served(lab_dir: Path) -> None:
    old = lab_dir / "mirror/files/dl.k8s.io/old"
    old.touch()
    mirror.lay_out(lab_dir / "mirror/files")
    assert not old.exists()
