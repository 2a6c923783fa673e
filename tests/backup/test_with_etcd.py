"""The real etcd: a snapshot taken, encrypted, copied, fetched, decrypted and restored again."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from backup_support import Machine, Recipient, ssh_target
from support.sshd import Sshd

from groundplane.snapshots import decrypt, intact

SUBJECT = ["-subj", "/CN=etcd", "-days", "2", "-nodes"]
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


@dataclass(frozen=True)
class Etcd:
    """One member with TLS; its tools are in `tools`."""

    tools: Path
    url: str
    data: Path

    def ctl(self, machine: Machine, *words: str) -> str:
        done = machine.shell(f"etcd_at {self.url} " + " ".join(words))
        assert done.returncode == 0, done.stderr
        return done.stdout


def tools() -> Path | None:
    """The folder with etcd's programs: of the computer, or of the lab's parts."""
    if found := shutil.which("etcdutl"):
        return Path(found).parent
    cache = os.environ.get("GROUNDPLANE_CACHE") or "~/.cache/groundplane"
    built = sorted(Path(cache).expanduser().glob("parts/etcd/*/*/bin/etcdutl"))
    return built[-1].parent if built else None


def certificates(pki: Path) -> None:
    """A CA, and one certificate of it for server and client, under kubeadm's names."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    pki.mkdir(parents=True)
    ca = ("-keyout", f"{pki}/ca.key", "-out", f"{pki}/ca.crt")
    openssl("req", "-x509", *EC, *SUBJECT, *ca)
    for name in ("server", "healthcheck-client"):
        key, request = f"{pki}/{name}.key", f"{pki}/{name}.csr"
        openssl("req", *EC, "-nodes", "-subj", "/CN=etcd", "-keyout", key, "-out", request)
        extension = pki / "extension"
        extension.write_text("subjectAltName=IP:127.0.0.1\n")
        signer = ("-CA", f"{pki}/ca.crt", "-CAkey", f"{pki}/ca.key", "-CAcreateserial")
        to = ("-out", f"{pki}/{name}.crt", "-extfile", str(extension), "-days", "2")
        openssl("x509", "-req", "-in", request, *signer, *to)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def etcd(machine: Machine) -> Iterator[Etcd]:
    found = tools()
    if found is None or not (found / "etcd").exists():
        pytest.skip("needs etcd: `make parts` builds it")
    for stand_in in ("etcdctl", "etcdutl"):
        (machine.folder / "bin" / stand_in).unlink()
        (machine.folder / "bin" / stand_in).symlink_to(found / stand_in)
    pki = machine.folder / "kubernetes" / "pki" / "etcd"
    certificates(pki)
    url, peer = f"https://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    (machine.folder / "kubernetes" / "manifests" / "etcd.yaml").write_text(
        f"    - --listen-client-urls={url}\n"
    )
    data = machine.folder / "data"
    command = [str(found / "etcd"), "--name", "cp1", "--data-dir", str(data)]
    command += ["--listen-client-urls", url, "--advertise-client-urls", url]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    command += ["--initial-cluster", f"cp1={peer}", "--client-cert-auth"]
    command += ["--cert-file", f"{pki}/server.crt", "--key-file", f"{pki}/server.key"]
    command += ["--trusted-ca-file", f"{pki}/ca.crt"]
    with (machine.folder / "etcd.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        port = int(url.rsplit(":", 1)[1])
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield Etcd(found, url, data)
    finally:
        process.terminate()
        process.wait(20)


def test_there_and_back(
    machine: Machine, etcd: Etcd, recipient: Recipient, sshd: Sshd, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    machine.settings(recipient=recipient.certificate, target=ssh_target(sshd, there))
    for number in range(20):
        etcd.ctl(machine, "put", f"/registry/key{number}", f"value{number}")
    before = json.loads(etcd.ctl(machine, "-w", "json", "get", "/registry/key7"))
    done = machine.backup("timer")
    assert done.returncode == 0, done.stderr
    (file,) = there.iterdir()

    plain = tmp_path / "plain.db"
    decrypt(file, recipient.key, plain)
    assert intact(plain)

    # As the step `restore` does it, in a folder of the test.
    (machine.folder / "run" / "restore.json").write_text(
        json.dumps({"name": "cp9", "address": "192.0.2.9"})
    )
    done = machine.shell(
        f'STEP=restore DATA={machine.folder}/run/restore.json; . "$0"/steps/restore.sh; '
        f"read_data; etcd_from {plain}"
    )
    assert done.returncode == 0, done.stderr
    member = machine.folder / "etcd-data" / "member"
    assert member.is_dir()
    status = subprocess.run(
        [etcd.tools / "etcdutl", "hashkv", member / "snap" / "db", "-w", "json"],
        check=True,
        capture_output=True,
        text=True,
    )
    # Watchers of before must notice: the revisions begin far above what they saw.
    assert json.loads(status.stdout)["hashRevision"] > before["header"]["revision"] + 10**9 - 1


@pytest.mark.parametrize("change", ["flip", "truncate"])
def test_what_was_damaged_on_the_way_is_not_restored(
    change: str, machine: Machine, etcd: Etcd, tmp_path: Path
) -> None:
    for number in range(20):
        etcd.ctl(machine, "put", f"key{number}", "value" * 40)
    assert machine.backup("now").returncode == 0
    (name,) = machine.kept()
    damaged = tmp_path / "damaged.db"
    content = bytearray((machine.backups / name).read_bytes())
    assert intact(machine.backups / name)
    if change == "flip":
        content[content.index(b"valuevalue")] ^= 1
    else:
        del content[len(content) // 2 :]
    damaged.write_bytes(content)
    assert not intact(damaged)
    # Not even etcd's own check of the file would see the flipped bit.
    if change == "flip":
        checked = subprocess.run([etcd.tools / "etcdutl", "snapshot", "status", damaged])
        assert checked.returncode == 0
