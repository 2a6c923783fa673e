"""Programs taken from Debian's or Ubuntu's packages, unpacked without installing them."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.parts.store import PartError

# Folders that are links on every current system. They stand before anything is unpacked, or the
# dynamic loader would look in another place than its package was made for.
MERGED = ("bin", "sbin", "lib", "lib64")
APT = ("-o", "APT::Sandbox::User=root")  # the temporary folder belongs to root
NOT_NEEDED = ("usr/share/doc", "usr/share/man", "usr/share/lintian", "usr/share/locale")


def run(argv: Sequence[str], cwd: Path | None = None) -> str:
    english = os.environ | {"LC_ALL": "C"}  # what apt says is read below
    done = subprocess.run(argv, cwd=cwd, env=english, capture_output=True, text=True)
    if done.returncode != 0:
        raise PartError(
            " ".join(argv),
            f"exit code {done.returncode}",
            done.stderr,
            "Check that this computer's package sources answer: apt-get update",
        )
    return done.stdout


def candidate(package: str) -> str:
    """The version that would be installed; the package lists are fetched if there are none."""
    for refresh in (True, False):
        found = re.search(r"Candidate: (\S+)", run(["apt-cache", "policy", package]))
        if found and found[1] != "(none)":
            return found[1]
        if refresh:
            run(["apt-get", "update", "-qq"])
    raise PartError(
        package,
        "no package source of this computer has it",
        "The lab takes it from the distribution",
        "Add a source that has it (on Ubuntu: universe) and run apt-get update.",
    )


def upstream(version: str) -> str:
    """The program's own version in a package's: 1.1.5 from 1.1.5+ds1-1+deb12u1."""
    return re.split(r"[+~-]", version.split(":")[-1])[0]


def closure(packages: Sequence[str]) -> list[str]:
    """The packages and all they depend on, by name."""
    wanted = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]
    listing = run(
        ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in wanted), *packages]
    )
    return sorted({line for line in listing.splitlines() if re.match(r"[a-z0-9]", line)})


def lacking(package: str) -> list[str]:
    """The package and what of all it needs this computer has not, by name."""
    plan = run(["apt-get", "install", "--simulate", "--no-install-recommends", package])
    return re.findall(r"^Inst (\S+)", plan, re.MULTILINE)


def unpack(packages: Sequence[str], root: Path) -> None:
    """Puts the files of exactly these packages under `root`, with nothing run or configured."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    with tempfile.TemporaryDirectory() as folder:
        run(["apt-get", *APT, "download", *packages], cwd=Path(folder))
        for package in sorted(Path(folder).glob("*.deb")):
            with subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE
            ) as files:
                subprocess.run(
                    ["tar", "-x", "--keep-directory-symlink", "-C", str(root)]
                    + [f"--exclude=./{path}/*" for path in NOT_NEEDED],
                    stdin=files.stdout,
                    check=True,
                )
            if files.returncode != 0:
                raise PartError(package.name, "dpkg-deb could not read the downloaded package")
