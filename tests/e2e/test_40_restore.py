"""Snapshots copied off, all control planes lost, the cluster rebuilt; then etcd's quorum lost.

w2 is no node here: it is the other machine that keeps the snapshots.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import Stack, assert_pods_reach_each_other, until

from lab import machines
from lab.config import CHECKOUT

CONTROLS = ("cp1", "cp2", "cp3")
KEPT = "/srv/backup"
BUCKET = {
    "endpoint": "http://198.18.0.1:9000",
    "bucket": "etcd-backup",
    "prefix": "metal/",
    "accessKey": "groundplane",
}
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"  # tests/backup/bucket.py knows it


def recipient(stack: Stack) -> tuple[str, Path]:
    """The certificate that snapshots are encrypted for, and its private key; made once."""
    folder = stack.logs
    key, certificate = folder / "backup.key", folder / "backup.pem"
    if not key.exists():
        command = ["openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=backup"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True)
    return str(certificate), key


def backup(stack: Stack) -> dict[str, Any]:
    (store,) = stack.hosts("w2")
    target = {name: store[name] for name in ("address", "key", "hostKey")}
    certificate, _ = recipient(stack)
    return {"recipient": certificate, "keep": 3, "target": {"ssh": {**target, "path": KEPT}}}


def listed(stack: Stack) -> list[dict[str, Any]]:
    done = stack.run("groundplane", "snapshots", "--json")
    found: list[dict[str, Any]] = json.loads(done.text[done.text.index("[") :])
    return found


def stored(stack: Stack) -> list[str]:
    return stack.shell("w2", f"ls {KEPT}").split()


@contextmanager
def serving_bucket(stack: Stack) -> Iterator[None]:
    """The stand-in for an object store, where the lab's machines can reach it."""
    address, port = BUCKET["endpoint"].removeprefix("http://").split(":")
    script = CHECKOUT / "tests" / "backup" / "bucket.py"
    command = ["nsenter", f"--net=/run/netns/{stack.lab.name}", sys.executable, str(script)]
    with subprocess.Popen(
        [*command, address, port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield
        finally:
            process.communicate(timeout=10)  # its stdin ends, and so does it


def say(stack: Stack, name: str, word: str) -> None:
    """Write a Secret, which only the right encryption key can read back."""
    stack.kubectl("create", "secret", "generic", name, f"--from-literal=word={word}")


def said(stack: Stack, name: str) -> str:
    return stack.kubectl("get", "secret", name, "-o", "jsonpath={.data.word}", "--ignore-not-found")


def restore(stack: Stack, *arguments: str, check: bool = True) -> str:
    return stack.run("groundplane", "restore", *arguments, check=check, timeout=900).text


def test_a_cluster_with_backups(stack: Stack) -> None:
    stack.fresh(*CONTROLS, "w1", "w2")
    stack.shell("w2", f"mkdir {KEPT}")
    stack.configure(stack.hosts(*CONTROLS, "w1"), backup=backup(stack))
    stack.up()
    assert stack.preview() == {}
    for name in CONTROLS:
        stack.shell(name, "systemctl is-active groundplane-backup.timer")


def test_the_clock_takes_one(stack: Stack) -> None:
    before = stored(stack)
    for name in CONTROLS:
        stack.shell(name, "systemctl start groundplane-backup.service")
    assert len(stored(stack)) == len(before) + 1
    newest = listed(stack)[0]
    assert newest["reason"] == "timer"
    assert newest["encrypted"]
    assert newest["place"].startswith("ssh://")


def test_to_a_bucket(stack: Stack) -> None:
    settings = {**backup(stack), "target": {"s3": BUCKET}}
    stack.pulumi("config", "set", "--secret", "groundplane:backupSecretKey", SECRET_KEY)
    with serving_bucket(stack):
        stack.configure(stack.hosts(*CONTROLS, "w1"), backup=settings)
        # Nothing but a step of secrets and one without a disturbance.
        processes = stack.processes(*CONTROLS)
        stack.up()
        assert stack.processes(*CONTROLS) == processes
        stack.shell("cp2", "/usr/local/lib/groundplane/current/backup now")
        at_target = [s for s in listed(stack) if s["place"].startswith("s3://")]
        assert [(s["host"], s["reason"]) for s in at_target] == [("cp2", "manual")]
        found = [s for s in listed(stack) if s["name"] == at_target[0]["name"]]
        assert {s["place"] for s in found} == {"s3://etcd-backup/metal/", "cp2"}
        assert len({s["bytes"] for s in found}) == 1
    stack.configure(stack.hosts(*CONTROLS, "w1"), backup=backup(stack))
    stack.up()


def test_no_copy_no_disturbance(stack: Stack) -> None:
    """A snapshot that cannot be copied off stops the change before anything is disturbed."""
    processes = stack.processes(*CONTROLS)
    stack.shell("w2", f"mv {KEPT} {KEPT}.away")
    arguments = {"v": "1"}
    stack.configure(
        stack.hosts(*CONTROLS, "w1"), backup=backup(stack), apiServer={"extraArgs": arguments}
    )
    stack.refused("cp1", "does the directory exist")
    assert stack.processes(*CONTROLS) == processes
    assert stack.cordoned() == []
    stack.shell("w2", f"mv {KEPT}.away {KEPT}")
    stack.up()
    assert {s["host"] for s in listed(stack) if s["reason"] == "before"} == set(CONTROLS)
    assert len(stored(stack)) == 3


def test_all_control_planes_are_lost(stack: Stack) -> None:
    say(stack, "before", "kept")
    stack.shell("cp1", "/usr/local/lib/groundplane/current/backup now")
    say(stack, "after", "lost")
    for name in CONTROLS:
        machines.wipe(stack.lab, name)
    _, key = recipient(stack)
    arguments = ("--snapshot", "latest", "--key", str(key))
    # Cut off in the middle, the same command clears what there is and begins anew.
    cut = stack.start("groundplane", "restore", *arguments)
    until(lambda: stack.runs("cp1", "restore"), "the restore has begun on cp1", 300)
    cut.kill()
    text = restore(stack, *arguments)
    assert "cp1: reset" in text
    assert "stands again, on cp1 alone" in text
    assert said(stack, "before")
    assert not said(stack, "after")
    print(text)


def test_the_others_join_again(stack: Stack) -> None:
    stack.up()
    assert stack.members() == dict.fromkeys(CONTROLS, True)
    until(lambda: all(stack.nodes().values()), "all nodes are Ready", 120)
    assert sorted(stack.nodes()) == sorted([*CONTROLS, "w1"])
    assert said(stack, "before")
    assert_pods_reach_each_other(stack)
    assert stack.preview() == {}


def test_a_cluster_that_stands_is_not_restored(stack: Stack) -> None:
    _, key = recipient(stack)
    text = restore(stack, "--snapshot", "latest", "--key", str(key), check=False)
    assert len(re.findall(r"cp\d: is not blank", text)) == 3
    text = restore(
        stack, "--from-survivor", "cp1", "--accept-data-loss-after-last-write", check=False
    )
    assert "etcd has a quorum there" in text


def test_the_quorum_is_lost(stack: Stack) -> None:
    say(stack, "last", "word")
    for name in ("cp2", "cp3"):
        machines.destroy(stack.lab, name)
    text = restore(stack, "--from-survivor", "cp1", check=False)
    assert "--accept-data-loss-after-last-write" in text
    # Nothing else heals it, and nothing else tries.
    stack.refused("cp2", "cp3")
    text = restore(stack, "--from-survivor", "cp1", "--accept-data-loss-after-last-write")
    assert "the only member of etcd" in text
    assert said(stack, "last")
    assert stack.members() == {"cp1": True}
    print(text)


def test_new_machines_take_the_places(stack: Stack) -> None:
    stack.boot("cp2", "cp3")
    stack.configure(
        stack.hosts(*CONTROLS, "w1"), backup=backup(stack), apiServer={"extraArgs": {"v": "1"}}
    )
    stack.up()
    assert stack.members() == dict.fromkeys(CONTROLS, True)
    until(lambda: all(stack.nodes().values()), "all nodes are Ready", 120)
    assert_pods_reach_each_other(stack)
    assert stack.preview() == {}


def test_destroy_takes_the_timer_and_the_snapshots_along(stack: Stack) -> None:
    stack.destroy()
    for name in CONTROLS:
        left = stack.shell(
            name, "ls -d /etc/systemd/system/groundplane-* /var/lib/groundplane 2>&1", check=False
        )
        assert left.count("No such file") == 2, left
    assert len(stored(stack)) == 3
