"""The bill of materials of a release: `python release/sbom.py FOLDER`, which `make dist` runs.

CycloneDX, of two halves: the Python packages that groundplane needs, as the lock pins them, and
what the catalogue can install on hosts. What a user must answer for is both.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from packaging.requirements import Requirement

from groundplane.catalogue import ARCHITECTURES, Catalogue, File, product

CHECKOUT = Path(__file__).parent.parent
Component = dict[str, Any]


def bill() -> dict[str, Any]:
    """The whole document."""
    document = environment()
    ways = needs("groundplane")
    others = ways.keys() - {"groundplane"}  # which is the root, and no component of itself
    packages = [c for c in document["components"] if normal(c["name"]) in others]
    refs = {normal(package["name"]): package["bom-ref"] for package in packages}
    refs["groundplane"] = document["metadata"]["component"]["bom-ref"]
    pins = locked((CHECKOUT / "requirements.lock").read_text(encoding="utf-8"))
    for package in packages:
        digests = pins[normal(package["name"]), package["version"]]
        package["hashes"] = [hashed(digest) for digest in digests]
    document["components"] = [*packages, *installed(product()), *bootable(product())]
    document["dependencies"] = [
        {"ref": refs[name], "dependsOn": sorted(refs[need] for need in own)}
        for name, own in sorted(ways.items())
    ]
    return document


def environment() -> dict[str, Any]:
    """What is installed beside this interpreter: packages, their licences, who needs whom."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    command = [tool, "environment", sys.executable, "--pyproject", CHECKOUT / "pyproject.toml"]
    options = ["--mc-type", "library", "--output-reproducible", "-o", "-"]
    done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def needs(name: str) -> dict[str, set[str]]:
    """Each package that users of this one install, with those that it needs itself. What is only
    there to build and test is not: extras count where somebody asks for them."""
    ways: dict[str, set[str]] = {}
    waiting = [Requirement(name)]
    while waiting:
        wanted = waiting.pop()
        own = ways.setdefault(normal(wanted.name), set())
        for line in requires(wanted.name) or []:
            one = Requirement(line)
            extras = {"", *wanted.extras}
            if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
                continue
            if normal(one.name) not in own:
                own.add(normal(one.name))
                waiting.append(one)
    return ways


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(text: str) -> dict[tuple[str, str], list[str]]:
    """(name, version) -> the SHA-256 of each file that the lock lets through."""
    found: dict[tuple[str, str], list[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        pin = re.match(r"([\w.-]+)==(\S+)", block)
        if pin:
            found[normal(pin[1]), pin[2]] = re.findall(r"--hash=sha256:([0-9a-f]{64})", block)
    return found


def installed(catalogue: Catalogue) -> Iterator[Component]:
    """Every file that the catalogue can bring onto a host, of each version, for each processor."""
    for part in catalogue.parts():
        for number in catalogue.versions(part):
            for arch in ARCHITECTURES:
                if catalogue.knows(part, number, arch):
                    for key, file in catalogue.files(part, number, arch).items():
                        name = part if key == "archive" else key
                        default = str(number == catalogue.default(part)).lower()
                        yield {
                            "type": "application",
                            "group": part,
                            "version": number,
                            **fetched(name, f"{part}/{name}@{number}", file, arch),
                            "properties": properties(on="host", arch=arch, default=default),
                        }


def bootable(catalogue: Catalogue) -> Iterator[Component]:
    """Every image that the catalogue can make guests from, for each processor."""
    for name, image in catalogue.guest_images().items():
        for arch in sorted({*image.sha256, *image.sha512}):
            yield {
                "type": "operating-system",
                **fetched(name, name, catalogue.guest_image(name, arch), arch),
                "properties": properties(on="guest", arch=arch),
            }


def fetched(name: str, called: str, file: File, arch: str) -> Component:
    """What is told of each file that is downloaded; `called` tells it from all others but those for
    other processors."""
    return {
        "bom-ref": f"{called}-{arch}",
        "name": name,
        "purl": f"pkg:generic/{called}?arch={arch}",
        "hashes": [hashed(file.digest)],
        "externalReferences": [{"type": "distribution", "url": file.url}],
    }


def properties(**given: str) -> list[dict[str, str]]:
    """Properties of ours."""
    return [{"name": f"groundplane:{name}", "value": value} for name, value in given.items()]


def hashed(digest: str) -> dict[str, str]:
    """A digest, whose length tells what it is."""
    return {"alg": "SHA-256" if len(digest) == 64 else "SHA-512", "content": digest}


def text() -> str:
    """The document as its file holds it, valid by CycloneDX's own schema."""
    written = json.dumps(bill(), indent=2, ensure_ascii=False) + "\n"
    wrong = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(written)
    if wrong is not None:
        raise ValueError(f"not CycloneDX 1.6: {wrong}")
    return written


if __name__ == "__main__":
    file = Path(sys.argv[1], f"groundplane-{version('groundplane')}.cdx.json")
    file.write_text(text(), encoding="utf-8")
