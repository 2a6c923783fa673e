"""Stand-ins for the parts of Pulumi that only its own downloads have.

The engine itself is always the real one. Where the language host for Python and the providers
`command` and `random` cannot be installed, these take their place: the same names, protocol and
types, and they really do the work. They say `lab.standin` in their version. The provider
`kubernetes` has none: lab/parts builds the official one from its source of another day, and it says
`lab.source`.
"""

from __future__ import annotations

import os
from pathlib import Path

BIN = Path(__file__).parent / "bin"
PROVIDERS = ("command", "random")
BUILT = ("kubernetes",)
OFFICIAL = "https://get.pulumi.com"  # The last of the places where the engine looks for plugins.


def install(cli: Path, folder: Path, home: Path) -> list[str]:
    """Make a Pulumi in `folder` that has all it needs, and return which stand-ins it got.

    An official plugin always wins: one in `home`, which is downloaded where its server answers,
    or, for the language host, the one beside the CLI.

    Args:
        cli: the Pulumi executable.
        folder: gets `pulumi` and `pulumi-language-python`. The engine looks for the language
            host beside its own file (not beside a link to it), so `pulumi` is a hard link or a
            copy; found on the PATH instead, it would warn at every command.
        home: PULUMI_HOME, whose plugins the engine searches by name and version.
    """
    # Not at the top: every start of a stand-in runs this file, and needs neither.
    import shutil
    from importlib.metadata import version

    from lab import parts
    from lab.parts import fetch

    folder.mkdir(parents=True, exist_ok=True)
    used = []
    _hard_link(cli, folder / "pulumi")
    for name in ("pulumi-language-python", "pulumi-language-python-exec"):
        official = cli.parent / name
        if official.exists():
            _link(official, folder / name)
    if not (cli.parent / "pulumi-language-python").exists():
        _link(BIN / "pulumi-language-python", folder / "pulumi-language-python")
        used.append("pulumi-language-python")
    for name in (*PROVIDERS, *BUILT):
        executable = f"pulumi-resource-{name}"
        # The engine only takes the very version that the SDK asks for; what follows the plus
        # sign does not count for it, and tells people what they have.
        wanted = version(f"pulumi_{name}")
        official = home / "plugins" / f"resource-{name}-v{wanted}" / executable
        suffix = "source" if name in BUILT else "standin"
        standin = home / "plugins" / f"resource-{name}-v{wanted}+lab.{suffix}"
        if not official.exists() and fetch.answers(OFFICIAL):
            # Not beside its stand-in, which the engine takes for the same: it fetches nothing.
            shutil.rmtree(standin, ignore_errors=True)
            _download(cli, home, name, wanted)
        if official.exists():
            shutil.rmtree(standin, ignore_errors=True)
        elif name in PROVIDERS:
            standin.mkdir(parents=True, exist_ok=True)
            _link(BIN / executable, standin / executable)
            used.append(executable)
        elif (built := parts.binary(executable)).exists():
            standin.mkdir(parents=True, exist_ok=True)
            _link(built, standin / executable)
    return used


def _download(cli: Path, home: Path, name: str, wanted: str) -> None:
    """Let the engine fetch an official provider; without it, the stand-in stays."""
    import subprocess

    command = [str(cli), "plugin", "install", "resource", name, wanted]
    environment = os.environ | {"PULUMI_HOME": str(home), "PULUMI_SKIP_UPDATE_CHECK": "1"}
    subprocess.run(command, env=environment, capture_output=True, check=False)


def _hard_link(source: Path, target: Path) -> None:
    import shutil

    if target.exists() and _seal(target) == _seal(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:  # Another file system.
        shutil.copy2(source, target)


def _seal(path: Path) -> tuple[int, int]:
    """What a file and its hard links and copies have in common, and a newer build has not."""
    status = path.stat()
    return status.st_size, int(status.st_mtime)


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())
