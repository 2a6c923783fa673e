"""Snapshots of a cluster's etcd: what their names say, where they are, how one is fetched and read.

The hosts write them (`remote/scripts/lib/backup.sh`); here they are only listed, fetched, checked
and decrypted, on the computer of whoever holds the recipient's private key.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from groundplane.errors import GroundplaneError
from groundplane.remote.connect import (
    Hop,
    HostError,
    HostUnreachable,
    Kind,
    as_root,
    attempt,
    dialler,
    exit_status,
    finish,
    last_line,
    run_all,
)
from groundplane.spec import Host, Spec
from groundplane.spec.load import BACKUP_SECRET_KEY
from groundplane.spec.models import S3Target, SshTarget

__all__ = ["Place", "Snapshot", "decrypt", "intact", "named", "places", "stack_secret"]

FOLDER = "/var/lib/groundplane/backup"  # on a control plane
LIST_SECONDS = 30
FETCH_SECONDS = 3600
# As SNAPSHOT_NAME in scripts/lib/backup.sh.
NAME = re.compile(
    r"(?P<cluster>[a-z0-9-]+)-(?P<id>[0-9a-f]{8})-(?P<at>\d{8}T\d{6}Z)"
    r"-(?P<host>[a-z0-9-]+)-(?P<reason>[a-z]+)\.(?P<digest>[0-9a-f]{16})\.db(?P<cms>\.cms)?"
)


@dataclass(frozen=True)
class Snapshot:
    """A snapshot somewhere. `id` is the first half of the cluster's id, `digest` the first 16
    hexadecimal digits of the file's SHA-256, `bytes` its size, `place` where it is, for people."""

    name: str
    cluster: str
    id: str
    at: datetime
    host: str
    reason: str
    digest: str
    encrypted: bool
    bytes: int
    place: str


def named(name: str, size: int, place: str) -> Snapshot | None:
    """What a file's name says; None for a file that is no snapshot of ours."""
    found = NAME.fullmatch(name)
    if found is None:
        return None
    return Snapshot(
        name=name,
        cluster=found["cluster"],
        id=found["id"],
        at=datetime.strptime(found["at"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC),
        host=found["host"],
        reason=found["reason"],
        digest=found["digest"],
        encrypted=found["cms"] is not None,
        bytes=size,
        place=place,
    )


# ---- places ----------------------------------------------------------------------------------


class Place(Protocol):
    """Where snapshots are. Both methods raise GroundplaneError when it cannot be asked."""

    @property
    def name(self) -> str: ...

    def names(self) -> list[Snapshot]:
        """All snapshots there, of whatever cluster."""

    def fetch(self, snapshot: str, to: Path) -> None:
        """Copy one; what came is not checked yet."""


def places(spec: Spec) -> list[Place]:
    """Where this stack's snapshots can be: its target first, then each control plane."""
    target = spec.cluster.backup.target if spec.cluster.backup else None
    found: list[Place] = []
    if target and target.ssh:
        found.append(Directory(target.ssh))
    if target and target.s3:
        found.append(Bucket(target.s3, lambda: stack_secret(spec.stack, BACKUP_SECRET_KEY)))
    return found + [OnHost(host) for host in spec.control_planes if host.state != "lost"]


def stack_secret(stack: str, key: str) -> str:
    """A secret of the stack's configuration, in plain text. Raises GroundplaneError."""
    name = f"groundplane:{key}"
    got = pulumi("config", "get", name, "--stack", stack)
    if got.returncode != 0:
        raise GroundplaneError(
            f"stack {stack}",
            f"its secret {name} cannot be read: {got.stderr.strip().partition(chr(10))[0]}",
            "",
            "Is the stack's passphrase there (PULUMI_CONFIG_PASSPHRASE), and are you logged in?",
        )
    return got.stdout.strip()


def pulumi(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask Pulumi, bounded to two minutes."""
    try:
        return subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(["pulumi", *words], 1, "", str(error))


@dataclass(frozen=True)
class OnHost:
    """The folder of a control plane."""

    host: Host

    @property
    def name(self) -> str:
        return self.host.name

    def names(self) -> list[Snapshot]:
        command = (
            f"cd {FOLDER} 2>/dev/null || exit 0; find . -maxdepth 1 -type f -printf '%s %f\\n'"
        )
        done = run_all([self.host], ["sh", "-c", command], seconds=LIST_SECONDS)[self.host.name]
        if isinstance(done, HostUnreachable):
            raise GroundplaneError(self.name, done.cause, "", done.remedy)
        found = []
        for line in done.stdout.splitlines():
            size, _, name = line.partition(" ")
            if snapshot := named(name, int(size), self.name):
                found.append(snapshot)
        return found

    def fetch(self, snapshot: str, to: Path) -> None:
        download(self.host, f"{FOLDER}/{snapshot}", to)


def download(host: Host, path: str, to: Path) -> None:
    """Copy a file that only root may read. Raises GroundplaneError."""

    async def work() -> HostUnreachable | None:
        async with dialler() as dial:

            async def copy() -> None:
                connection = await dial(host)
                command = as_root(host, ["cat", path])
                process = await connection.run(command, stdout=to, encoding=None)
                if exit_status(process) != 0:
                    said = last_line(text(process.stderr))
                    raise HostError(Kind.COMMAND_FAILED, f"{path}: {said}", "Is it still there?")

            return await attempt(host, FETCH_SECONDS, copy)

    failure = finish(work())
    if failure is not None:
        raise GroundplaneError(host.name, failure.cause, "", failure.remedy)


def text(output: str | bytes | None) -> str:
    """What a command printed, for a message."""
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


@dataclass(frozen=True)
class _TargetHost:
    """An SSH target as the SSH code knows hosts."""

    name: str
    address: str
    port: int
    user: str
    key: str
    host_key: str
    jump: Hop | None = None
    sudo: bool = False
    state: str = "present"


@dataclass(frozen=True)
class Directory:
    """A directory by SSH. SFTP only: its account may be given nothing else."""

    target: SshTarget

    @property
    def name(self) -> str:
        t = self.target
        return f"ssh://{t.user}@{t.address}:{t.port}{t.path}"

    def names(self) -> list[Snapshot]:
        async def entries(sftp: Any) -> list[Snapshot]:
            found = [
                named(str(entry.filename), int(entry.attrs.size or 0), self.name)
                for entry in await sftp.readdir(self.target.path)
            ]
            return [snapshot for snapshot in found if snapshot is not None]

        return self._with_sftp(entries, LIST_SECONDS)

    def fetch(self, snapshot: str, to: Path) -> None:
        async def get(sftp: Any) -> list[Snapshot]:
            await sftp.get(f"{self.target.path.rstrip('/')}/{snapshot}", str(to))
            return []

        self._with_sftp(get, FETCH_SECONDS)

    def _with_sftp(self, work: Callable[[Any], Any], seconds: float) -> list[Snapshot]:
        t = self.target
        host = _TargetHost(self.name, t.address, t.port, t.user, t.key, t.host_key)

        async def run() -> list[Snapshot] | HostUnreachable:
            async with dialler() as dial:

                async def use() -> list[Snapshot]:
                    async with (await dial(host)).start_sftp_client() as sftp:
                        result: list[Snapshot] = await work(sftp)
                        return result

                return await attempt(host, seconds, use)

        result = finish(run())
        if isinstance(result, HostUnreachable):
            raise GroundplaneError(self.name, result.cause, "", result.remedy)
        return result


@dataclass(frozen=True)
class Bucket:
    """A bucket that speaks S3, addressed by path. `secret` is asked only when it is needed."""

    target: S3Target
    secret: Callable[[], str]

    @property
    def name(self) -> str:
        return f"s3://{self.target.bucket}/{self.target.prefix}"

    def names(self) -> list[Snapshot]:
        found: list[Snapshot] = []
        after = ""
        while True:
            query = {"delimiter": "/", "list-type": "2", "prefix": self.target.prefix}
            page = ET.fromstring(self._ask("", query | ({"start-after": after} if after else {})))
            for content in page.findall("{*}Contents"):
                after = content.findtext("{*}Key", "")
                size = int(content.findtext("{*}Size", "0"))
                snapshot = named(after.removeprefix(self.target.prefix), size, self.name)
                found += [snapshot] if snapshot else []
            if page.findtext("{*}IsTruncated") != "true" or not after:
                return found

    def fetch(self, snapshot: str, to: Path) -> None:
        self._ask(f"/{self.target.prefix}{snapshot}", {}, to)

    def _ask(self, key: str, query: Mapping[str, str], to: Path | None = None) -> bytes:
        t = self.target
        url = urllib.parse.urlsplit(t.endpoint.rstrip("/"))
        path = urllib.parse.quote(f"{url.path}/{t.bucket}{key}", safe="/~")
        pairs = sorted((k, urllib.parse.quote(v, safe="~")) for k, v in query.items())
        search = "&".join(f"{k}={v}" for k, v in pairs)
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": url.netloc, "x-amz-content-sha256": NOTHING, "x-amz-date": time}
        headers["authorization"] = authorization(
            t.access_key, self.secret(), t.region, "GET", path, search, headers
        )
        request = urllib.request.Request(
            urllib.parse.urlunsplit((url.scheme, url.netloc, path, search, "")), headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=LIST_SECONDS) as answer:
                if to is None:
                    return bytes(answer.read())
                with to.open("wb") as file:
                    while block := answer.read(1 << 20):
                        file.write(block)
                return b""
        except urllib.error.HTTPError as error:
            body = text(error.read(4096))
            said = " ".join(re.findall(r"<(?:Code|Message)>([^<]*)<", body)) or error.reason
            raise GroundplaneError(
                self.name,
                f"answered {error.code}: {said}",
                "",
                "Are bucket, access key and groundplane:backupSecretKey right, and is this "
                "computer's clock?",
            ) from None
        except OSError as error:
            raise GroundplaneError(
                self.name,
                f"{t.endpoint} does not answer: {error}",
                "",
                "Can it be reached from here?",
            ) from None


NOTHING = hashlib.sha256().hexdigest()


def authorization(
    access_key: str,
    secret_key: str,
    region: str,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
) -> str:
    """The Authorization header of AWS Signature Version 4 for S3.

    `path` and `query` are percent-encoded, the query in order; `headers` (lower-case names, among
    them x-amz-date and x-amz-content-sha256) are all signed.
    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    names = sorted(headers)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    signed, content = ";".join(names), headers["x-amz-content-sha256"]
    request = "\n".join([method, path, query, lines, signed, content])
    time = headers["x-amz-date"]
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    key = f"AWS4{secret_key}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(key, to_sign.encode(), "sha256").hexdigest()
    return (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, "
        f"Signature={signature}"
    )


# ---- reading one -----------------------------------------------------------------------------


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decrypt(encrypted: Path, key: Path, to: Path) -> None:
    """Decrypt a snapshot with the recipient's private key (PEM).

    Raises GroundplaneError when the key is another one, or the file is not as it was written; then
    `to` does not exist: what openssl writes before it has checked the end must not be used. Takes
    about three times the snapshot's size in memory.
    """
    part = to.with_name(f".{to.name}.part")
    command = ["openssl", "cms", "-decrypt", "-binary", "-inform", "DER"]
    command += ["-in", os.fspath(encrypted), "-inkey", os.fspath(key), "-out", os.fspath(part)]
    try:
        # The terminal stays: a key with a passphrase asks for it there.
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            version = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout
            why = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise GroundplaneError(
                encrypted.name,
                f"cannot be decrypted: {why}",
                "Either the key is not the one of backup.recipient, or the file was changed",
                f"Name the right key, or take another snapshot. (OpenSSL 3 is needed; this is "
                f"{version.strip() or 'unknown'}.)",
            )
        part.rename(to)
    except FileNotFoundError as error:
        raise GroundplaneError(
            "openssl", f"not found: {error}", "It decrypts", "Install OpenSSL 3."
        ) from None
    finally:
        part.unlink(missing_ok=True)


def intact(path: Path) -> bool:
    """Whether the file is a whole etcd snapshot: it ends with the SHA-256 of all before it."""
    size = path.stat().st_size
    if size % 512 != 32:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        left = size - 32
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
        return file.read() == digest.digest()


def found(spec: Spec, say: Callable[[str], None]) -> list[Snapshot]:
    """All snapshots of the stack's cluster, newest first, the target's before the hosts' own.

    What cannot be asked is told through `say` and skipped.
    """

    def ask(place: Place) -> list[Snapshot]:
        try:
            return place.names()
        except GroundplaneError as error:
            say(str(error))
            return []

    # At once: a dead host takes its time to be given up.
    asked = places(spec)
    with ThreadPoolExecutor(len(asked)) as pool:
        all_of = [snapshot for found in pool.map(ask, asked) for snapshot in found]
    return newest_first([s for s in all_of if s.cluster == spec.cluster.name])


def newest_first(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Newest first; of the same time, as they came."""
    return sorted(snapshots, key=lambda snapshot: snapshot.at, reverse=True)


def place_named(spec: Spec, name: str) -> Place:
    """The place with that name."""
    return next(place for place in places(spec) if place.name == name)
