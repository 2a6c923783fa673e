"""A host that is a folder: the product's own scripts on a computer of which nothing is changed.

Each run gets a mount, a process and a network namespace of its own. There /etc, /opt, /usr/local
and /var are this computer's with everything that is written kept in the host's folder; /run is
empty at first. So scripts run as they are, with the paths that they have in production.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import groundplane

SCRIPTS = Path(
    # The tests of mutations point this to a spoiled copy.
    os.environ.get("GROUNDPLANE_TEST_SCRIPTS")
    or Path(groundplane.__file__).parent / "remote" / "scripts"
)
FAKES = Path(__file__).parent / "fakes"
KEPT = {name: name.strip("/").replace("/", "_") for name in ("/etc", "/opt", "/usr/local", "/var")}

ENTER = """
set -eu
cd "$1"
shift
while read -r folder name; do
  own="upperdir=$PWD/$name,workdir=$PWD/work/$name"
  mount -t overlay overlay -o "lowerdir=$folder,$own" "$folder"
done <kept
mount --bind run /run
cd /
exec "$@"
"""
# As scripts/step loads them.
LOAD = """
set -euo pipefail
shopt -s inherit_errexit
umask 022
export STEP=$1 DATA=/run/groundplane/data.json RESULT=/run/groundplane/result
export FACTS=/run/groundplane/facts
mkdir -p /run/groundplane
. "$2/lib.sh"
read_data
load
[ -z "$STEP" ] || . "$2/steps/$STEP.sh"
"""


def _namespaces(network: bool) -> list[str]:
    user = [] if os.getuid() == 0 else ["--map-root-user"]
    net = ["--net"] if network else []
    return ["unshare", *user, "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *net]


@cache
def cannot() -> str:
    """Why no host can be made here; empty where one can."""
    done = subprocess.run([*_namespaces(True), "true"], capture_output=True, text=True)
    return done.stderr.strip()


@dataclass(frozen=True)
class Done:
    """What a run came to."""

    status: int
    out: str
    err: str

    @property
    def changes(self) -> list[str]:
        """What it says that it changed."""
        return [line[8:] for line in self.out.splitlines() if line.startswith("changed ")]


class Host:
    """One host; what is written on it stays from one run to the next."""

    def __init__(self, root: Path, scripts: Path = SCRIPTS) -> None:
        if cannot():
            pytest.skip(f"no namespaces here: {cannot()}")
        self.root, self.scripts = root, scripts
        for folder in (*KEPT.values(), "run/groundplane", "bin"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for name in KEPT.values():
            (root / "work" / name).mkdir(parents=True)
        (root / "kept").write_text("".join(f"{k} {v}\n" for k, v in KEPT.items()))

    def copy(self, root: Path) -> Host:
        """Another host on which is what is on this one."""
        for folder in (*KEPT.values(), "run", "bin"):
            shutil.copytree(self.root / folder, root / folder, symlinks=True)
        return Host(root, self.scripts)

    def path(self, path: str) -> Path:
        """Where on this computer a file lies that was written on the host."""
        for folder, name in {**KEPT, "/run": "run"}.items():
            if path.startswith(f"{folder}/"):
                return self.root / name / path[len(folder) + 1 :]
        raise ValueError(path)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file on the host."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path: str) -> str:
        """A file that was written on the host."""
        return self.path(path).read_text()

    def there(self, path: str) -> bool:
        """Whether the host has this path, written on it."""
        found = self.path(path)
        # A file of this computer that was removed on the host is a character device here.
        return found.is_symlink() or (found.exists() and not found.is_char_device())

    def fake(self, name: str, script: str | None = None) -> None:
        """A program in place of the real one: of tests/support/fakes, or this bash script."""
        target = self.root / "bin" / name
        if script is None:
            shutil.copy(FAKES / name, target)
        else:
            target.write_text(f"#!/usr/bin/env bash\n{script}\n")
        target.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What the fakes were called with, a line a call."""
        path = self.root / "run" / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def facts(self) -> list[list[str]]:
        """What the last run recorded."""
        path = self.path("/run/groundplane/facts")
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split("\t") for line in lines]

    def start(
        self, *argv: str, env: Mapping[str, str] | None = None, network: bool = True
    ) -> subprocess.Popen[str]:
        """A program on the host. `network`: one of its own, with nothing in it but `lo`, down."""
        path = f"{self.root / 'bin'}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.Popen(
            [*_namespaces(network), "sh", "-c", ENTER, "enter", str(self.root), *argv],
            env={"PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8", "CALLS": "/run/calls"}
            | dict(env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def execute(
        self,
        *argv: str,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        network: bool = True,
    ) -> Done:
        """A program on the host, to its end."""
        with self.start(*argv, env=env, network=network) as process:
            try:
                out, err = process.communicate(stdin, timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()  # or leaving the block would wait for it for ever
                raise
        return Done(process.returncode, out, err)

    def prepared_for(self, distribution: str) -> None:
        """As the step `prepare` leaves it; nothing is left of kubeadm's."""
        if distribution != "kubeadm":
            self.write("/var/lib/groundplane/distribution", f"{distribution}\n")

    def bash(
        self,
        script: str,
        data: Mapping[str, Any] | None = None,
        step: str = "",
        **how: Any,
    ) -> Done:
        """A script that has the product's functions at hand, and those of a step."""
        self.write("/run/groundplane/data.json", json.dumps(data or {}))
        self.path("/run/groundplane/facts").unlink(missing_ok=True)
        return self.execute("bash", "-c", LOAD + script, "bash", step, str(self.scripts), **how)
