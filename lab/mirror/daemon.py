"""Processes that outlive the command that starts them, and that only their owner stops."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from groundplane.errors import GroundplaneError
from lab.parts.store import write_whole

GRACE = 5  # seconds between asking a process to end and ending it
START = 20  # seconds for a process to listen
POLL = 0.05  # seconds between two looks at a log that another process writes


class DaemonError(GroundplaneError):
    """A server of the lab did not come up or did not do what it was asked."""


def started(pid: int) -> str:
    """When a process was started, in clock ticks since boot; empty if it is gone.

    With it a pid is one process for ever: the kernel gives the number again, not the time.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state == "Z" else fields[18]  # field 22 of proc(5), counted from the third


def running(pid_file: Path) -> int | None:
    """The pid that the file names, if that very process is alive."""
    if not pid_file.exists():
        return None
    noted = json.loads(pid_file.read_text())
    return noted["pid"] if started(noted["pid"]) == noted["started"] else None


def start(
    argv: Sequence[str | Path],
    pid_file: Path,
    log: Path,
    ready: str,
    *,
    output: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Starts a process of its own session and returns once its log shows `ready`.

    Its error output is `log`, made anew; its output is appended to `output` where given. Returns
    the line that holds `ready`. DaemonError if the process ends first or takes too long.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors, (output or log).open("a") as out:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
            env=env,
            cwd=cwd,
        )
    noted = {"pid": process.pid, "started": started(process.pid)}
    write_whole(pid_file, json.dumps(noted))
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            if ready in line:
                return line
        try:
            process.wait(timeout=POLL)
            break
        except subprocess.TimeoutExpired:
            continue
    stop(pid_file)
    raise DaemonError(
        str(log),
        f"{pid_file.stem} did not listen within {START} s",
        "\n".join(log.read_text().splitlines()[-5:]),
        "Look there for the cause; another process may hold the port.",
    )


def stop(pid_file: Path) -> None:
    """Ends the process that the file names, and no other; returns when it is gone."""
    pid = running(pid_file)
    if pid is not None:
        handle = os.pidfd_open(pid)
        try:
            if running(pid_file) == pid:  # still the same one, now that the handle holds it
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                if not select.select([handle], [], [], GRACE)[0]:
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    select.select([handle], [], [], GRACE)
        finally:
            os.close(handle)
    pid_file.unlink(missing_ok=True)
