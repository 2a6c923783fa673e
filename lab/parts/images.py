"""The container images of a first cluster, from the parts' programs.

An image is an OCI layout folder in the cache with one uncompressed layer: everything stays on one
computer, where the time to decompress costs more than the bytes. Its name is what
`kubeadm config images list` prints, so kubeadm and containerd ask for it and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.parts import build, debian, fetch, recipes, toolchain
from lab.parts.progress import Progress, run_logged, timed
from lab.parts.recipes import ARCH
from lab.parts.store import PartError, cache, sha256, whole

PROGRAMS = Path(__file__).parent / "programs"
REGISTRY = "registry.k8s.io"
PROBE = "groundplane.test/probe:1"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEDIA = "application/vnd.oci.image."


@dataclass(frozen=True)
class Image:
    """An image by its full name, and the programs in it: path in the image -> part, program."""

    reference: str
    programs: Mapping[str, tuple[recipes.Part | None, str]]
    entrypoint: str
    packages: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return cache() / "images" / self.reference.replace(":", "/")


def wanted(version: str) -> list[str]:
    """The images that kubeadm of this version asks for, by full name."""
    kubeadm = build.home("kubernetes", version) / "bin/kubeadm"
    listing = subprocess.run(
        [kubeadm, "config", "images", "list", "--kubernetes-version", f"v{version}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    return listing.split()


def versions() -> list[str]:
    """The Kubernetes versions that are made, the default first."""
    return [v for v in recipes.KUBERNETES if build.home("kubernetes", v).exists()]


def image(reference: str) -> Image:
    """What goes into the image of this name. PartError if the recipes lack its version."""
    repository, tag = reference.removeprefix(REGISTRY + "/").split(":")
    name = repository.rsplit("/", 1)[-1]
    bin_ = "usr/local/bin/"
    try:
        match name:
            case "pause":
                return Image(reference, {"pause": (None, "pause")}, "/pause")
            case "etcd":
                part = recipes.part("etcd", tag.split("-")[0])
                tools = {bin_ + program: (part, program) for program in part.binaries}
                return Image(reference, tools, f"/{bin_}etcd")
            case "coredns":
                part = recipes.part("coredns", tag.removeprefix("v"))
                return Image(reference, {"coredns": (part, "coredns")}, "/coredns")
            case _:
                part = recipes.part("kubernetes", tag.removeprefix("v"))
                packages = recipes.PROXY_PACKAGES if name == "kube-proxy" else ()
                return Image(reference, {bin_ + name: (part, name)}, f"/{bin_}{name}", packages)
    except KeyError as error:
        raise PartError(
            reference,
            "kubeadm asks for this image and the lab has no recipe for it",
            error.args[0],
            "Add the version there, with its folder in lab/parts/gomod/.",
        ) from error


def images() -> list[Image]:
    """Every image of the lab: what each Kubernetes version asks for, and the tests' own."""
    references = {name: None for version in versions() for name in wanted(version)}
    probe = Image(PROBE, {"probe": (None, "probe")}, "/probe")
    return [*(image(reference) for reference in references), probe]


def ensure(progress: Progress) -> None:
    """Makes the images that are missing; call with the cache locked and all parts made."""
    recipe = fingerprint()
    for each in images():
        made_by = each.folder / "made-by"
        if not made_by.exists() or made_by.read_text() != recipe:
            with timed(f"image {each.reference}", progress), whole(each.folder) as draft:
                if not (each.reference.startswith(REGISTRY) and pull(each, draft, progress)):
                    assemble(each, draft, progress)
                (draft / made_by.name).write_text(recipe)


def fingerprint() -> str:
    """A digest of what decides an image's content beside versions, which are in its name."""
    sources = [Path(__file__), *sorted(PROGRAMS.rglob("*.go"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def pull(wanted: Image, layout: Path, progress: Progress) -> bool:
    """The official image, where its registry answers."""
    if not fetch.answers(f"https://{REGISTRY}/"):
        return False
    crane = build.home("crane", recipes.part("crane").version) / "bin/crane"
    argv: list[str | Path] = [crane, "pull", "--format=oci", f"--platform=linux/{ARCH}"]
    argv += [wanted.reference, layout]
    log = cache() / "logs/crane.log"
    if run_logged(f"pulling {wanted.reference}", argv, log, progress) == 0:
        return True
    progress(f"{wanted.reference} was not to be had from its registry ({log}): assembling it")
    shutil.rmtree(layout)
    layout.mkdir()
    return False


def assemble(image: Image, layout: Path, progress: Progress) -> None:
    """Writes the image from the parts' programs, and packages where it has any."""
    root = layout / "root"
    root.mkdir()
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    if image.packages:
        debian.unpack(debian.closure(image.packages), root)
        name_iptables(root / "usr/sbin")
    for path, (part, program) in image.programs.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if part is None:
            compile_own(program, target, progress)
        else:
            shutil.copyfile(build.home(part.name, part.version) / "bin" / program, target)
        target.chmod(0o755)
    write_layout(layout, root, image)
    shutil.rmtree(root)


def name_iptables(folder: Path) -> None:
    """Gives the nft variants their plain names, which packages leave to update-alternatives."""
    for variant in folder.glob("ip*tables-nft*"):
        plain = folder / variant.name.replace("-nft", "")
        plain.symlink_to(variant.readlink())


def compile_own(program: str, target: Path, progress: Progress) -> None:
    """Builds a program of lab/parts/programs/."""
    argv: list[str | Path] = [toolchain.go(progress), "build", "-trimpath", "-buildvcs=false"]
    argv += ["-ldflags", "-s -w", "-o", target, f"./{program}"]
    log = cache() / f"logs/{program}.log"
    environment = toolchain.environment()
    if run_logged(program, argv, log, progress, cwd=PROGRAMS, env=environment) != 0:
        raise PartError(f"lab/parts/programs/{program}", "go build failed", log.read_text())


def write_layout(layout: Path, root: Path, image: Image) -> None:
    """The OCI layout of an image whose one layer holds everything under `root`."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    layer = blobs / "layer"
    with tarfile.open(layer, "w") as archive:
        for path in sorted(root.rglob("*")):
            member = archive.gettarinfo(path, str(path.relative_to(root)))
            member.mtime = member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.isfile():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)
    digest = sha256(layer)
    layer = layer.rename(blobs / digest)

    config = add_blob(
        blobs,
        "config.v1+json",
        {
            "architecture": ARCH,
            "os": "linux",
            "config": {"Entrypoint": [image.entrypoint], "Env": [f"PATH={PATH}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        },
    )
    content = descriptor("layer.v1.tar", digest, layer.stat().st_size)
    manifest = add_blob(
        blobs,
        "manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": MEDIA + "manifest.v1+json",
            "config": config,
            "layers": [content],
        },
    )
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def descriptor(kind: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": MEDIA + kind, "digest": f"sha256:{digest}", "size": size}


def add_blob(blobs: Path, kind: str, document: dict[str, object]) -> dict[str, object]:
    body = json.dumps(document, sort_keys=True).encode()
    digest = hashlib.sha256(body).hexdigest()
    (blobs / digest).write_bytes(body)
    return descriptor(kind, digest, len(body))
