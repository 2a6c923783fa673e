"""Debian packages that hold nothing but their version, and sources of them on lab machines."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from lab import machines
from lab.machines import Lab
from support.bare import put

SECURITY = "Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nVersion: 12\n"


def package(folder: Path, name: str, version: str) -> Path:
    """A package that holds one file: its version."""
    tree = folder / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: x <x@example.org>\n"
        "Description: for a test\n"
    )
    (tree / f"usr/share/{name}").mkdir(parents=True)
    (tree / f"usr/share/{name}/version").write_text(f"{version}\n")
    target = folder / f"{name}_{version}_all.deb"
    build = ["dpkg-deb", "--root-owner-group", "--build", tree, target]
    subprocess.run(build, check=True, capture_output=True)
    return target


def publish(lab: Lab, machine: str, where: str, head: str, *packages: Path) -> None:
    """A package source in a folder of the machine."""
    entries = []
    machines.exec(lab, machine, ["mkdir", "-p", where], check=True)
    for path in packages:
        content = path.read_bytes()
        put(lab, machine, f"{where}/{path.name}", content)
        control = subprocess.run(["dpkg-deb", "-f", path], capture_output=True, text=True).stdout
        entries.append(
            f"{control}Filename: ./{path.name}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )
    index = "\n".join(entries).encode()
    listed = f" {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n"
    put(lab, machine, f"{where}/Packages", index)
    put(lab, machine, f"{where}/Release", f"{head}SHA256:\n{listed}".encode())
