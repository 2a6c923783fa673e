"""How parts reach the cache: whole or not at all, the same bytes each time, official first."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import parts
from lab.mirror.server import Running, running
from lab.parts import build, debian, fetch, images, recipes, store, toolchain


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUNDPLANE_CACHE", str(tmp_path / "cache"))
    fetch.reachable.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "www").mkdir()
    with running(tmp_path / "www", tmp_path) as server:
        yield server


def silent(_: str) -> None:
    pass


# The cache


def test_a_folder_appears_whole(cache: Path) -> None:
    with pytest.raises(KeyboardInterrupt), store.whole(cache / "part") as draft:
        (draft / "half").touch()
        raise KeyboardInterrupt
    assert not (cache / "part").exists()
    with store.whole(cache / "part") as draft:  # as the next run does
        (draft / "file").touch()
    assert [file.name for file in cache.iterdir()] == ["part"]
    assert [file.name for file in (cache / "part").iterdir()] == ["file"]


def test_the_cache_is_held_by_one_run(cache: Path) -> None:
    """A second run says that it waits, and goes on when the first is done."""
    said: list[str] = []
    cache.mkdir()
    holder = subprocess.Popen(
        ["flock", cache / "lock", "sh", "-c", "echo held; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"

    def say(line: str) -> None:
        said.append(line)
        holder.communicate(b"go\n")  # only now does the first let go

    with store.locked(say):
        assert holder.returncode == 0
    assert said == ["waiting for another run that is making parts"]


def test_what_few_need_is_made_when_it_is_asked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(build, "make", lambda part, _: made.append(part.name))
    monkeypatch.setattr(build, "make_runc", lambda _: None)
    monkeypatch.setattr(images, "ensure", lambda _: None)
    parts.ensure(print, recipes.UPGRADES)
    assert {part.name for part in recipes.PARTS} - set(made) == {
        "pulumi-kubernetes",
        "pulumi-yaml",
    }
    made.clear()
    folder = parts.ensure_one("pulumi-yaml", print)
    assert made == ["pulumi-yaml"]
    folder.mkdir(parents=True)
    parts.ensure_one("pulumi-yaml", print)
    assert made == ["pulumi-yaml"]


# Recipes


@pytest.mark.parametrize("part", recipes.PARTS, ids=lambda part: str(part.title))
def test_every_part_can_be_built(part: recipes.Part) -> None:
    folder = build.MODULES / f"{part.name}-{part.version}"
    module = (folder / "go.mod").read_text()
    assert (folder / "go.sum").exists()
    assert re.search(rf" v{re.escape(part.version)}( // indirect)?\n", module)  # a tool's module
    wanted = next(line.split()[1] for line in module.splitlines() if line.startswith("go "))
    assert toolchain.numbers(wanted) <= toolchain.numbers(recipes.GO_VERSION)


def test_no_module_folder_without_its_part() -> None:
    known = {f"{part.name}-{part.version}" for part in recipes.PARTS}
    assert {folder.name for folder in build.MODULES.iterdir()} == known


def test_official_addresses() -> None:
    found = {
        recipes.part(name).official(recipes.part(name).url, "kubelet")
        for name in ("kubernetes", "containerd", "cni-plugins", "etcd")
    }
    assert found == {
        "https://dl.k8s.io/release/v1.36.3/bin/linux/amd64/kubelet",
        "https://github.com/containerd/containerd/releases/download/v2.3.7/"
        "containerd-2.3.7-linux-amd64.tar.gz",
        "https://github.com/containernetworking/plugins/releases/download/v1.9.1/"
        "cni-plugins-linux-amd64-v1.9.1.tgz",
        "https://github.com/etcd-io/etcd/releases/download/v3.6.8/etcd-v3.6.8-linux-amd64.tar.gz",
    }


def test_unknown_part_says_where_to_add_it() -> None:
    with pytest.raises(KeyError, match=r"recipes.py has no etcd 9.9.9"):
        recipes.part("etcd", "9.9.9")


# Built: laid out as the official files are


def fake_programs(folder: Path, names: tuple[str, ...]) -> None:
    (folder / "bin").mkdir(parents=True)
    for name in names:
        (folder / "bin" / name).write_bytes(name.encode() * 1000)
        (folder / "bin" / name).chmod(0o755)


def test_archives_are_the_same_each_time(tmp_path: Path) -> None:
    part = recipes.part("etcd")
    digests = []
    for time in (1, 2):
        draft = tmp_path / str(time)
        fake_programs(draft, part.binaries)
        os.utime(draft / "bin/etcd", (time, time))
        build.pack(part, draft)
        digests.append(store.sha256(draft / "files" / build.served_path(part.official(part.url))))
    assert digests[0] == digests[1]


def test_archives_have_the_official_folder(tmp_path: Path) -> None:
    part = recipes.part("etcd")
    fake_programs(tmp_path, part.binaries)
    build.pack(part, tmp_path)
    with tarfile.open(tmp_path / "files" / build.served_path(part.official(part.url))) as archive:
        members = {member.name: member.mode for member in archive}
    folder = "etcd-v3.6.8-linux-amd64"
    assert members == {f"{folder}/{name}": 0o755 for name in ("etcd", "etcdctl", "etcdutl")}


# Downloaded


def official(server: Running, name: str) -> recipes.Part:
    """A part whose publisher is the test's own server."""
    part = recipes.part(name)
    at = f"{server.url}/{{version}}"
    if part.single_files:
        return replace(part, url=f"{at}/{{name}}", checksums=f"{at}/{{name}}.sha256")
    return replace(part, url=f"{at}/archive.tar.gz", checksums=f"{at}/SHA256SUMS")


def publish(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content)


def publish_archive(root: Path, part: recipes.Part) -> None:
    """As a project does: the programs, a document, and the digest of the whole in a list."""
    source = root / "source"
    fake_programs(source, part.binaries)
    document = source / "README.md"
    document.write_text("read me")
    folder = part.official(part.folder)
    (root / part.version).mkdir()
    file = root / part.version / "archive.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for path in (*sorted((source / "bin").iterdir()), document):
            archive.add(path, folder + path.name)
    lines = ["0" * 64 + "  another.tar.gz", store.sha256(file) + "  archive.tar.gz", ""]
    publish(root, f"{part.version}/SHA256SUMS", "\n".join(lines).encode())


def test_official_archive(server: Running, tmp_path: Path) -> None:
    part = official(server, "etcd")
    publish_archive(server.server.root, part)
    build.make(part, silent)
    home = build.home("etcd", part.version)
    assert {file.name for file in (home / "bin").iterdir()} == set(part.binaries)
    assert all(file.stat().st_mode & stat.S_IXUSR for file in (home / "bin").iterdir())
    assert json.loads((home / "made.json").read_text())["source"] == "official download"
    served = home / "files" / build.served_path(part.official(part.url))
    assert store.sha256(served) == store.sha256(
        server.server.root / part.version / "archive.tar.gz"
    )


def test_official_single_files(server: Running) -> None:
    part = official(server, "kubernetes")
    for name in part.binaries:
        publish(server.server.root, f"{part.version}/{name}", name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        publish(server.server.root, f"{part.version}/{name}.sha256", digest.encode())
    build.make(part, silent)
    home = build.home("kubernetes", part.version)
    assert (home / "bin/kubelet").read_text() == "kubelet"
    assert (home / "bin/kubelet").stat().st_mode & stat.S_IXUSR


def test_a_damaged_download_is_refused(server: Running) -> None:
    part = official(server, "etcd")
    publish_archive(server.server.root, part)
    server.set_faults([{"path": "*.tar.gz", "corrupt": 20}])
    with pytest.raises(store.PartError, match="the download has sha256"):
        build.make(part, silent)
    assert not build.home("etcd", part.version).exists()


@pytest.mark.parametrize("fault", ["status", "off", "truncate"])
def test_what_is_not_to_be_had_is_built(
    server: Running, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    part = official(server, "etcd")
    publish_archive(server.server.root, part)
    faults = {"status": {"status": 404}, "off": {"off": True}, "truncate": {"truncate": 9}}
    server.set_faults([{"path": "*.tar.gz", **faults[fault]}])  # type: ignore[typeddict-item]
    monkeypatch.setattr(build, "build", lambda part, draft, _: fake_programs(draft, part.binaries))
    build.make(part, silent)
    made = json.loads((build.home("etcd", part.version) / "made.json").read_text())
    assert made["source"] == "Go modules"


CHECKSUMS = {
    "alone": ("A" * 64, "a" * 64),
    "with its name": (f"{'b' * 64}  tool.tgz\n", "b" * 64),
    "among others": (f"{'c' * 64}  other.tgz\n{'d' * 64} *tool.tgz\n", "d" * 64),
}


@pytest.mark.parametrize("case", CHECKSUMS.values(), ids=CHECKSUMS.keys())
def test_published_digests(case: tuple[str, str]) -> None:
    assert fetch.published_sha256(case[0], "tool.tgz") == case[1]


@pytest.mark.parametrize("listing", ["", "<html>not found</html>", f"{'a' * 64}  x\n{'b' * 64}  y"])
def test_no_digest_no_download(listing: str) -> None:
    with pytest.raises(store.PartError, match=r"tool.tgz: its checksum file names it 0 times"):
        fetch.published_sha256(listing, "tool.tgz")


# The compiler


@pytest.mark.parametrize(
    ("said", "enough"),
    [
        ("go version go1.26.8 linux/amd64", True),
        ("go version go1.27rc1 linux/amd64", True),
        ("go version go1.26.7 linux/amd64", False),
        ("go version go1.19.8 linux/amd64", False),
    ],
)
def test_go_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, enough: bool
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{said}'\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert (toolchain.installed() == go) is enough


@pytest.mark.parametrize(
    ("setting", "servers"),
    [
        ("", ["https://proxy.golang.org"]),
        ("https://one.example/go/,direct", ["https://one.example/go"]),
        ("https://a.example|https://b.example,off", ["https://a.example", "https://b.example"]),
        ("off", []),
    ],
)
def test_go_proxies(monkeypatch: pytest.MonkeyPatch, setting: str, servers: list[str]) -> None:
    monkeypatch.setenv("GOPROXY", setting)
    assert toolchain.proxies() == servers


def publish_toolchain(root: Path) -> str:
    """A module's zip with a program in it; returns its digest."""
    module, version = toolchain.MODULE.split("@")
    archive = root / module / "@v" / f"{version}.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr(f"{toolchain.MODULE}/bin/go", "#!/bin/sh\necho go version go1.26.8\n")
    return store.sha256(archive)


def test_go_from_its_module(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "GO_SHA256", publish_toolchain(server.server.root))
    monkeypatch.setenv("GOPROXY", f"http://127.0.0.1:9,{server.url},direct")  # the first is down
    for _ in range(2):
        go = toolchain.fetched(silent)
        assert "go1.26.8" in subprocess.run([go], stdout=subprocess.PIPE, text=True).stdout
    assert len(server.log) == 1


def test_another_go_is_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_toolchain(server.server.root)
    monkeypatch.setenv("GOPROXY", server.url)
    with pytest.raises(store.PartError, match="the download has sha256"):
        toolchain.fetched(silent)


def test_no_go_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    with pytest.raises(store.PartError, match=r"(?s)127.0.0.1:9: .*set GOPROXY to a proxy"):
        toolchain.fetched(silent)


# Debian


@pytest.mark.parametrize(
    ("package", "upstream"),
    [("1.1.5+ds1-1+deb12u1", "1.1.5"), ("1:1.0.6-2", "1.0.6"), ("1.3.3-0ubuntu1~24.04", "1.3.3")],
)
def test_upstream_version(package: str, upstream: str) -> None:
    assert debian.upstream(package) == upstream


# Images


def test_image_layout(tmp_path: Path) -> None:
    """Every digest names its blob; the layer holds the files and nothing that changes."""
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    (root / "usr/sbin/tool").write_text("tool")
    (root / "usr/sbin/tool").chmod(0o755)
    (root / "sbin").symlink_to("usr/sbin")
    image = images.Image("registry.example/tool:1", {}, "/usr/sbin/tool")
    images.write_layout(tmp_path / "one", root, image)
    os.utime(root / "usr/sbin/tool", (1, 1))
    images.write_layout(tmp_path / "two", root, image)
    index = json.loads((tmp_path / "one/index.json").read_text())
    assert index == json.loads((tmp_path / "two/index.json").read_text())

    def blob(descriptor: dict[str, Any]) -> Path:
        path = tmp_path / "one/blobs" / str(descriptor["digest"]).replace(":", "/")
        assert store.sha256(path) == path.name
        assert path.stat().st_size == descriptor["size"]
        return path

    manifest = json.loads(blob(index["manifests"][0]).read_text())
    config = json.loads(blob(manifest["config"]).read_text())
    assert config["config"]["Entrypoint"] == ["/usr/sbin/tool"]
    assert "/usr/sbin" in config["config"]["Env"][0]
    assert config["rootfs"]["diff_ids"] == [manifest["layers"][0]["digest"]]
    with tarfile.open(blob(manifest["layers"][0])) as layer:
        found = {member.name: (member.type, member.mode, member.mtime) for member in layer}
    assert found["usr/sbin/tool"] == (tarfile.REGTYPE, 0o755, 0)
    assert found["sbin"][0] == tarfile.SYMTYPE


PROGRAMS = {
    "registry.k8s.io/kube-apiserver:v1.36.3": {"usr/local/bin/kube-apiserver"},
    "registry.k8s.io/coredns/coredns:v1.14.2": {"coredns"},
    "registry.k8s.io/pause:3.10.2": {"pause"},
    "registry.k8s.io/etcd:3.6.8-0": {
        f"usr/local/bin/{program}" for program in ("etcd", "etcdctl", "etcdutl")
    },
}


@pytest.mark.parametrize("reference", PROGRAMS)
def test_what_is_in_an_image(reference: str) -> None:
    image = images.image(reference)
    assert set(image.programs) == PROGRAMS[reference]
    assert image.entrypoint.lstrip("/") in image.programs


def test_an_image_without_recipe() -> None:
    with pytest.raises(store.PartError, match=r"etcd:9.9.9-0: kubeadm asks for this image"):
        images.image("registry.k8s.io/etcd:9.9.9-0")
