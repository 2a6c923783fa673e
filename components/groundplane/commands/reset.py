"""`groundplane reset`: hosts become what they were before, in parallel, dead ones reported."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from groundplane.errors import GroundplaneError
from groundplane.remote.connect import Done, run_all
from groundplane.spec import Host, Jump

RESET = "/usr/local/lib/groundplane/current/reset"
SECONDS = 600


@click.command()
@click.option("--all", "everything", is_flag=True, required=True, help="All hosts that are named.")
@click.option("--from-stdin", is_flag=True, required=True, help="Read the hosts as JSON on stdin.")
def reset(everything: bool, from_stdin: bool) -> None:
    """Take the cluster off hosts: no kubelet, etcd data, runtime or routes of ours remain.

    This is what deleting a cluster's teardown runs; nothing asks etcd for its leave.
    """
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        hosts = [_host(raw, Path(folder)) for raw in asked["hosts"]]
        left = reset_hosts(hosts, asked["stack"])
    for line in left:
        click.echo(line, err=True)


def reset_hosts(hosts: Sequence[Host], stack: str) -> list[str]:
    """Reset all at once. Returns what was left and why; raises when a host that answers failed."""
    left, failed = [], []
    for name, result in run_all(hosts, ["sh", "-c", _command(stack)], seconds=SECONDS).items():
        if not isinstance(result, Done):
            left.append(f"{name}: not reset, {result.cause}. Wipe it before it is used again.")
        elif result.status != 0:
            failed.append(f"{name}: {result.stderr.strip() or result.stdout.strip()}")
        else:
            click.echo(f"{name}: reset")
    if failed:
        raise GroundplaneError(
            "reset", "; ".join(failed), "", "Look at those hosts, then run the same again."
        )
    return left


def _command(stack: str) -> str:
    # A host that never got as far as our scripts has nothing of ours.
    return f"[ ! -x {RESET} ] || {RESET} {stack}"


def _host(raw: dict[str, Any], folder: Path) -> Host:
    """A host as teardown wrote it, its key's text laid into a file that only we can read."""
    raw = _with_key(raw, folder)
    if raw.get("jump"):
        raw["jump"] = Jump(**_with_key(raw["jump"], folder))
    return Host(**raw)


def _with_key(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    raw = dict(raw)
    text = raw.pop("key_text", None)
    if text:
        path = folder / f"key{len(list(folder.iterdir()))}"
        path.touch(0o600)
        path.write_text(text)
        raw["key"] = os.fspath(path)
    return raw
