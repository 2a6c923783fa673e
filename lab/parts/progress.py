"""Lines that say what is being made and for how long."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

Progress = Callable[[str], None]
REMINDER = 30  # seconds between two lines about the same work


@contextlib.contextmanager
def timed(what: str, progress: Progress) -> Iterator[None]:
    """Says `what` before the block, and again with its seconds after it."""
    began = time.monotonic()
    progress(f"{what} ...")
    yield
    progress(f"{what} ... {time.monotonic() - began:.0f} s")


def run_logged(
    what: str,
    argv: Sequence[str | Path],
    log: Path,
    progress: Progress,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    """Runs a long command with its output in `log`, reporting every half minute.

    Returns the exit code. The command dies with this process, however that ends: a build that
    lived on would write into the folder in which the next run builds again.
    """
    began = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv],
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            while True:
                try:
                    return process.wait(timeout=REMINDER)
                except subprocess.TimeoutExpired:
                    progress(f"{what} ... {time.monotonic() - began:.0f} s")
        finally:
            process.kill()
            process.wait()
