"""Processes by pid file: started once ready, and never another's process stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.mirror import daemon

SERVE = (
    "import sys, signal; print('listening on here', file=sys.stderr, flush=True); signal.pause()"
)
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVE
FAIL = "import sys; sys.exit('port taken')"


def start(folder: Path, program: str) -> Path:
    pid_file = folder / "server.pid"
    daemon.start([sys.executable, "-c", program], pid_file, folder / "server.log", "listening on ")
    return pid_file


def test_runs_until_it_is_stopped(tmp_path: Path) -> None:
    pid_file = start(tmp_path, SERVE)
    pid = daemon.running(pid_file)
    assert pid is not None
    daemon.stop(pid_file)
    assert daemon.started(pid) == ""
    assert not pid_file.exists()


def test_stops_what_ignores_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GRACE", 0.2)
    pid_file = start(tmp_path, DEAF)
    pid = daemon.running(pid_file)
    assert pid is not None
    daemon.stop(pid_file)
    assert daemon.started(pid) == ""


def test_says_why_it_did_not_come_up(tmp_path: Path) -> None:
    with pytest.raises(daemon.DaemonError, match="port taken"):
        start(tmp_path, FAIL)
    assert not (tmp_path / "server.pid").exists()


def test_leaves_a_stranger_with_the_same_pid_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file = tmp_path / "server.pid"
        pid_file.write_text(json.dumps({"pid": stranger.pid, "started": "1"}))
        assert daemon.running(pid_file) is None
        daemon.stop(pid_file)
        assert stranger.poll() is None
        assert not pid_file.exists()
        stranger.communicate(b"\n")


def test_stopping_what_never_ran_is_nothing(tmp_path: Path) -> None:
    daemon.stop(tmp_path / "server.pid")
