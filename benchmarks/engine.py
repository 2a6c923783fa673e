"""The real engine on a project of its own, in a folder, with the lab's plugins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.measured import Say
from groundplane.errors import GroundplaneError
from lab import parts
from lab.engine import install
from lab.parts import build, recipes, store

SECONDS = 1800.0
"""For one command."""


class Project:
    """A project with one stack, whose state lies in a file."""

    def __init__(self, folder: Path, program: Path, say: Say) -> None:
        self.folder = folder
        cli = parts.binary("pulumi")
        with store.locked(say):
            if not cli.exists():
                build.make(recipes.part("pulumi"), say)
        install(cli, folder / "bin", folder / "home")
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PULUMI_") and name != "SSH_AUTH_SOCK"
        }
        self.variables = inherited | {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "benchmark",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        }
        for name in ("backend", "project"):
            (folder / name).mkdir()
        (folder / "project" / "Pulumi.yaml").write_text("name: benchmark\nruntime: python\n")
        shutil.copyfile(program, folder / "project" / "__main__.py")
        self.pulumi("stack", "init", "benchmark")

    def pulumi(self, *arguments: str) -> str:
        """Run the CLI; returns what it printed. GroundplaneError when it fails or does not end."""
        command = ["pulumi", *arguments, "--non-interactive"]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder / "project",
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            failed, text = done.returncode != 0, done.stdout
        except subprocess.TimeoutExpired as late:
            failed = True
            text = f"no end within {SECONDS:.0f} s\n{late.stdout!r}"
        if failed:
            end = "\n".join(text.splitlines()[-25:])
            raise GroundplaneError(" ".join(command), end, "", "See above.")
        return text

    @property
    def state(self) -> Path:
        """The file in which the engine keeps the stack."""
        return self.folder / "backend" / ".pulumi" / "stacks" / "benchmark" / "benchmark.json"
