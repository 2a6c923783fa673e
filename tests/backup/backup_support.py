"""The host's scripts in a folder of their own, with an etcd, a recipient and targets around."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.sshd import Sshd

from groundplane.remote.bundle import SCRIPTS

CLUSTER = "5f3a9c0112233445"
# Where the scripts look on a host -> the folder of the test that stands for it.
PLACES = {
    "/var/lib/groundplane": "state",
    "/run/groundplane": "run",
    "/etc/groundplane": "etc",
    "/etc/kubernetes": "kubernetes",
    "/var/lib/etcd": "etcd-data",
}


@dataclass(frozen=True)
class Machine:
    """A host as far as backups go: its folders, and the tools that stand in for etcd's."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def backups(self) -> Path:
        return self.state / "backup"

    @property
    def status(self) -> dict[str, Any]:
        found = json.loads((self.backups / "status.json").read_text())
        assert isinstance(found, dict)
        return found

    def kept(self) -> list[str]:
        """The snapshots on the host, and whatever else lies among them, in order."""
        return sorted(p.name for p in self.backups.iterdir() if p.name != "status.json")

    def settings(self, keep: int = 3, **secrets: Any) -> None:
        """What the steps `node` and `secrets` write."""
        (self.folder / "etc" / "backup-keep").write_text(f"{keep}\n")
        (self.folder / "etc" / "backup.json").write_text(json.dumps(secrets))

    def backup(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.folder / "scripts" / "backup"), *words, **environment)

    def shell(self, script: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """A script with all libraries loaded."""
        head = "set -euo pipefail; shopt -s inherit_errexit; "
        head += '. "$0"/lib.sh; load; '
        scripts = str(self.folder / "scripts")
        return self.run("bash", "-c", head + script, scripts, stdin=stdin)

    def run(
        self, *argv: str, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PATH": path, "FAKE": str(self.folder / "fake"), **environment},
        )

    def tool(self, name: str, script: str) -> None:
        """A program of this name, found before the computer's own."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def mend(self, old: str, new: str, file: str) -> None:
        """Change one line of a script: for tests that must turn red when a check is gone."""
        path = self.folder / "scripts" / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} says {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))


# As etcdctl and etcdutl, as far as backup calls them. $FAKE/ holds what they answer.
ETCDCTL = r"""
case "$*" in
  *"endpoint health"*) url=$2; grep -qx "$url" "$FAKE/healthy" ;;
  *"endpoint status"*) cat "$FAKE/status" ;;
  *"snapshot save"*)
    [ ! -e "$FAKE/refuses" ] || { echo '{"level":"info"}'; echo "Error: no leader" >&2; exit 1; }
    cp "$FAKE/snapshot" "${@: -1}"; echo "$2" >>"$FAKE/asked" ;;
esac
"""
ETCDUTL = """
[ ! -e "$FAKE/damaged" ] || { echo 'Error: integrity' >&2; exit 1; }
echo '{"hash":1,"revision":201,"totalKey":200}'
"""
HERE = "https://127.0.0.1:2379"


def snapshot_bytes(content: bytes = b"etcd" * 1024) -> bytes:
    """As etcd sends it: pages of 512 bytes, and the SHA-256 of them."""
    assert len(content) % 512 == 0
    return content + hashlib.sha256(content).digest()


def copied_scripts(to: Path, places: Mapping[str, Path]) -> None:
    """The scripts, looking for a host's folders in those of the test."""
    shutil.copytree(SCRIPTS, to)
    for path in (p for p in to.rglob("*") if p.is_file()):
        text = path.read_text()
        for place, folder in places.items():
            text = text.replace(place, str(folder))
        path.write_text(text)


def make_machine(folder: Path) -> Machine:
    for tool in ("jq", "openssl", "curl", "flock"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    places = {place: folder / name for place, name in PLACES.items()}
    for made in (*places.values(), folder / "bin", folder / "fake"):
        made.mkdir()
    copied_scripts(folder / "scripts", places)
    machine = Machine(folder)
    (machine.state / "cluster.json").write_text(
        json.dumps({"stack": "test", "cluster": CLUSTER, "immutable": {"name": "metal"}})
    )
    manifests = folder / "kubernetes" / "manifests"
    manifests.mkdir()
    (manifests / "etcd.yaml").write_text(
        f"    - --listen-client-urls={HERE},https://192.0.2.1:2379\n"
    )
    machine.tool("etcdctl", ETCDCTL)
    machine.tool("etcdutl", ETCDUTL)
    machine.tool(
        "uname", 'if [ "$1" = -n ]; then echo cp1.example.org; else /usr/bin/uname "$@"; fi'
    )
    fake = folder / "fake"
    (fake / "snapshot").write_bytes(snapshot_bytes())
    (fake / "healthy").write_text(f"{HERE}\n")
    leads(machine, True)
    return machine


def leads(machine: Machine, itself: bool, database: int = 4096) -> None:
    """Say who is etcd's leader, and how large its database is."""
    status = {"header": {"member_id": 7}, "leader": 7 if itself else 8, "dbSize": database}
    (machine.folder / "fake" / "status").write_text(json.dumps([{"Status": status}]))


@dataclass(frozen=True)
class Recipient:
    """For whom snapshots are encrypted: the certificate as text, the private key as a file."""

    certificate: str
    key: Path


def make_recipient(folder: Path, kind: str) -> Recipient:
    kinds = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:3072"]}
    command = ["openssl", "req", "-x509", "-nodes", "-days", "3650", "-subj", "/CN=backup"]
    command += ["-newkey", *kinds[kind], "-keyout", f"{folder}/key", "-out", f"{folder}/pem"]
    subprocess.run(command, check=True, capture_output=True)
    return Recipient((folder / "pem").read_text(), folder / "key")


def ssh_target(sshd: Sshd, path: Path) -> dict[str, Any]:
    """The target's settings as the step `secrets` writes them."""
    host = sshd.host
    assert host.key is not None
    target = {"address": host.address, "user": host.user, "port": host.port, "path": str(path)}
    return {"ssh": {**target, "key": Path(host.key).read_text(), "host_key": host.host_key}}


def cluster_identity(folder: Path, name: str = "kubernetes") -> dict[str, Any]:
    """An identity as the stack's output holds it, with a CA of its own."""
    command = ["openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.crt"]
    subprocess.run(command, check=True, capture_output=True)
    ca = (folder / "ca.crt").read_text()
    der = base64.b64decode("".join(ca.splitlines()[1:-1]))
    return {
        "cluster": hashlib.sha256(der).hexdigest()[:16],
        "identity": {
            "ca.crt": ca,
            "ca.key": (folder / "ca.key").read_text(),
            "groundplane.key": "00" * 32,
        },
    }
