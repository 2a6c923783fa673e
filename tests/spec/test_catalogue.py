"""The catalogue: what is known, what is not, and what goes over it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from groundplane.catalogue import ARCHITECTURES, Catalogue, product, release, with_mirror
from groundplane.errors import CatalogueError
from groundplane.spec import Mirrors
from groundplane.spec.systems import KUBERNETES_MINORS, SYSTEMS, supported

A, B = "a" * 64, "b" * 64
PART = {
    "parts": {
        "runc": {
            "default": "1.4.3",
            "files": {"binary": "https://example.org/v{version}/runc.{arch}"},
            "sha256": {"1.4.3": {"amd64": {"binary": A}}, "1.4.10": {"amd64": {"binary": B}}},
        }
    }
}


def test_the_products_parts_are_whole() -> None:
    catalogue = product()
    assert {"kubernetes", "containerd", "runc", "cni-plugins", "etcd"} <= set(catalogue.parts())
    for part in catalogue.parts():
        assert catalogue.default(part) in catalogue.versions(part)
        for version in catalogue.versions(part):
            for arch in ARCHITECTURES:
                for file in catalogue.files(part, version, arch).values():
                    assert re.fullmatch(r"https://[^{}]+", file.url)
    for version in catalogue.versions("kubernetes"):
        assert catalogue.image("pause", version).startswith("registry.k8s.io/pause:")


def test_the_default_is_the_newest_that_is_known() -> None:
    for part in product().parts():
        assert product().default(part) == product().versions(part)[-1]


def test_a_file() -> None:
    file = Catalogue(PART).file("runc", "1.4.3", "binary", "amd64")
    assert (file.url, file.digest) == ("https://example.org/v1.4.3/runc.amd64", A)
    assert Catalogue(PART).versions("runc") == ["1.4.3", "1.4.10"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("runc", "1.5.0", "binary", "amd64"), "no binary of runc 1.5.0 for amd64"),
        (("runc", "1.5.0", "binary", "amd64"), "Known for amd64: 1.4.3, 1.4.10."),
        (("runc", "1.4.3", "binary", "arm64"), "Known for arm64: none."),
        (("runc", "1.4.3", "archive", "amd64"), "Files of runc: binary."),
        (("crun", "1.4.3", "binary", "amd64"), "no part 'crun'"),
    ],
)
def test_unknown(asked: tuple[str, str, str, str], says: str) -> None:
    with pytest.raises(CatalogueError, match=re.escape(says)):
        Catalogue(PART).file(*asked)


def test_an_unknown_image() -> None:
    with pytest.raises(CatalogueError, match=r"no image 'pause' for Kubernetes 1\.29"):
        product().image("pause", "1.29.0")


def test_an_overlay_goes_over_key_by_key() -> None:
    overlay = {
        "parts": {"runc": {"default": "1.1.5", "sha256": {"1.1.5": {"amd64": {"binary": B}}}}}
    }
    merged = Catalogue(PART).merge(overlay, "lab.yaml")
    assert merged.default("runc") == "1.1.5"
    assert merged.file("runc", "1.1.5", "binary", "amd64").url.endswith("/v1.1.5/runc.amd64")
    assert merged.file("runc", "1.4.3", "binary", "amd64").digest == A
    assert Catalogue(PART).default("runc") == "1.4.3"


@pytest.mark.parametrize(
    ("overlay", "place"),
    [
        ([], "lab.yaml"),
        ({"part": {}}, "lab.yaml: part"),
        ({"parts": {"runc": {"default": 3}}}, "lab.yaml: parts.runc.default"),
        (
            {"parts": {"runc": {"sha256": {"1.4.3": {"amd64": {"binary": "abc"}}}}}},
            "lab.yaml: parts.runc.sha256.1.4.3.amd64.binary",
        ),
    ],
)
def test_a_broken_overlay(overlay: Any, place: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        Catalogue(PART).merge(overlay, "lab.yaml")
    assert caught.value.finding.place == place


def test_a_mirror_holds_hosts_as_folders() -> None:
    url = "https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubeadm"
    there = "http://192.0.2.1:8080/dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubeadm"
    assert with_mirror(url, Mirrors(downloads="http://192.0.2.1:8080/")) == there
    assert with_mirror(url, Mirrors()) == url
    assert with_mirror(url, None) == url


def test_versions_compare_as_numbers() -> None:
    assert release("1.36.10") > release("1.36.9")


@pytest.mark.parametrize(
    ("os_id", "version", "arch", "name"),
    [
        ("debian", "12", "amd64", "debian 12 amd64"),
        ("debian", "12", "x86_64", "debian 12 amd64"),
        ("ubuntu", "24.04", "aarch64", "ubuntu 24.04 arm64"),
        ("rocky", "9.6", "x86_64", "rocky 9 amd64"),
        ("debian", "11", "amd64", "None"),
        ("ubuntu", "24.10", "amd64", "None"),
        ("rhel", "10.1", "amd64", "None"),
        ("debian", "12", "riscv64", "None"),
        ("", "", "", "None"),
    ],
)
def test_supported_systems(os_id: str, version: str, arch: str, name: str) -> None:
    assert str(supported(os_id, version, arch)) == name


def test_what_is_tested_is_said() -> None:
    assert [str(system) for system in SYSTEMS if system.tested] == ["debian 12 amd64"]
    assert len(KUBERNETES_MINORS) == 3
