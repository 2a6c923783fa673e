"""What a host makes of a snapshot: checked, encrypted, copied off, pruned; or plainly failed.

etcd's tools are stand-ins here (test_with_etcd.py has the real ones); openssl, sshd and curl are
real.
"""

import hashlib
import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from backup_support import (
    CLUSTER,
    HERE,
    Machine,
    Recipient,
    leads,
    make_recipient,
    snapshot_bytes,
    ssh_target,
)
from bucket import SECRET_KEY, Bucket
from support.sshd import Sshd

from groundplane.errors import GroundplaneError
from groundplane.snapshots import NAME, decrypt, intact, named

OLD = [f"metal-{CLUSTER[:8]}-2026010{day}T000000Z-cp1-timer.{'0' * 16}.db.cms" for day in "1234"]
# Never ours to remove: of another cluster, of one with a similar name, of an earlier life, no
# snapshot at all.
FOREIGN = [
    f"steel-{CLUSTER[:8]}-20250101T000000Z-cp1-timer.{'0' * 16}.db.cms",
    f"metal-{CLUSTER[:8]}-two-{CLUSTER[:8]}-20250101T000000Z-cp1-timer.{'0' * 16}.db.cms",
    f"metal-{'f' * 8}-20250101T000000Z-cp1-timer.{'0' * 16}.db.cms",
    f"metal-{CLUSTER[:8]}-notes.txt",
]


def the_one(machine: Machine) -> Path:
    (name,) = machine.kept()
    return machine.backups / name


# ---- on the host -----------------------------------------------------------------------------


def test_without_settings_it_stays_here_for_root_only(machine: Machine) -> None:
    done = machine.backup("now", "before")
    assert done.returncode == 0, done.stderr
    file = the_one(machine)
    found = NAME.fullmatch(file.name)
    assert found is not None
    assert found["cluster"] == "metal"
    assert found["id"] == CLUSTER[:8]
    assert (found["host"], found["reason"], found["cms"]) == ("cp1", "before", None)
    assert hashlib.sha256(file.read_bytes()).hexdigest().startswith(found["digest"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(machine.backups.stat().st_mode) == 0o700
    success = machine.status["success"]
    assert success["name"] == file.name
    assert success["bytes"] == file.stat().st_size
    assert success["revision"] == 201
    assert success["where"] == str(machine.backups)


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_encrypted_for_the_recipient_alone(
    kind: str, machine: Machine, stranger: Recipient, tmp_path: Path
) -> None:
    recipient = make_recipient(tmp_path, kind)
    machine.settings(recipient=recipient.certificate)
    assert machine.backup("now").returncode == 0
    file = the_one(machine)
    assert file.name.endswith(".db.cms")
    assert b"etcd" * 8 not in file.read_bytes()
    plain = tmp_path / "plain"
    decrypt(file, recipient.key, plain)
    assert plain.read_bytes() == snapshot_bytes()
    assert intact(plain)
    with pytest.raises(GroundplaneError, match="cannot be decrypted"):
        decrypt(file, stranger.key, tmp_path / "stranger's")
    assert not (tmp_path / "stranger's").exists()


@pytest.mark.parametrize("where", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_refused(
    where: float, machine: Machine, recipient: Recipient, tmp_path: Path
) -> None:
    machine.settings(recipient=recipient.certificate)
    assert machine.backup("now").returncode == 0
    file = the_one(machine)
    content = bytearray(file.read_bytes())
    # Behind the header, whose names of algorithms and issuers protect nothing.
    content[1000 + int((len(content) - 1000) * where)] ^= 1
    file.write_bytes(content)
    with pytest.raises(GroundplaneError, match="cannot be decrypted"):
        decrypt(file, recipient.key, tmp_path / "plain")
    assert not list(tmp_path.glob("*plain*"))


def test_a_truncated_one_is_refused(machine: Machine, recipient: Recipient, tmp_path: Path) -> None:
    machine.settings(recipient=recipient.certificate)
    assert machine.backup("now").returncode == 0
    file = the_one(machine)
    for size in (file.stat().st_size - 1, 2000, 10, 0):
        os.truncate(file, size)
        with pytest.raises(GroundplaneError, match="cannot be decrypted"):
            decrypt(file, recipient.key, tmp_path / "plain")
        assert not list(tmp_path.glob("*plain*"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bytes([snapshot_bytes()[0] ^ 1]) + snapshot_bytes()[1:], "a flipped bit"),
        (snapshot_bytes()[:-512], "truncated"),
        (snapshot_bytes()[:-32], "no digest"),
        (b"", "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_etcd_did_not_send_is_no_snapshot(content: bytes, why: str, machine: Machine) -> None:
    (machine.folder / "fake" / "snapshot").write_bytes(content)
    done = machine.backup("now")
    assert done.returncode != 0, why
    assert "not what etcd sent" in done.stderr
    assert machine.kept() == []
    assert "not what etcd sent" in machine.status["failure"]["error"]


def test_mutation_without_its_check_a_damaged_snapshot_is_kept(machine: Machine) -> None:
    """The test before this one is worth something: it is the check that makes it pass."""
    (machine.folder / "fake" / "snapshot").write_bytes(b"x" + snapshot_bytes()[1:])
    machine.mend('snapshot_intact "$plain" ||', "true ||", "lib/backup.sh")
    assert machine.backup("now").returncode == 0
    assert len(machine.kept()) == 1


def test_a_database_that_does_not_hold_together(machine: Machine) -> None:
    (machine.folder / "fake" / "damaged").touch()
    done = machine.backup("now")
    assert done.returncode != 0
    assert "does not hold together: Error: integrity" in done.stderr
    assert machine.kept() == []


def test_etcd_refuses(machine: Machine) -> None:
    (machine.folder / "fake" / "refuses").touch()
    done = machine.backup("now")
    assert done.returncode != 0
    assert "cp1.example.org: etcd gives no snapshot: Error: no leader" in done.stderr
    assert machine.kept() == []


def test_a_full_disk_leaves_nothing_half(machine: Machine, recipient: Recipient) -> None:
    machine.settings(recipient=recipient.certificate)
    machine.tool("openssl", 'exec /usr/bin/openssl "${@/*snapshot.db.cms//dev/full}"')
    done = machine.backup("now")
    assert done.returncode != 0
    assert "openssl does not encrypt" in done.stderr
    assert machine.kept() == []


def test_a_nearly_full_disk_is_left_to_etcd(machine: Machine) -> None:
    leads(machine, True, database=1 << 60)
    done = machine.backup("now")
    assert done.returncode != 0
    assert "MiB free, a snapshot needs" in done.stderr
    assert not (machine.folder / "fake" / "asked").exists()


def test_what_a_killed_run_left_goes(machine: Machine) -> None:
    half = machine.backups / ".work"
    half.mkdir(parents=True)
    (half / "snapshot.db").write_bytes(b"half")
    assert machine.backup("now").returncode == 0
    assert len(machine.kept()) == 1


def test_old_ones_go_and_only_of_this_cluster(machine: Machine, recipient: Recipient) -> None:
    machine.settings(keep=3, recipient=recipient.certificate)
    machine.backups.mkdir()
    for name in (*OLD, *FOREIGN):
        (machine.backups / name).write_bytes(b"old")
    assert machine.backup("now").returncode == 0
    kept = machine.kept()
    assert set(FOREIGN) <= set(kept)
    ours = [name for name in kept if name not in FOREIGN]
    assert ours[:2] == OLD[2:]
    assert len(ours) == 3


def test_a_failure_removes_nothing_and_keeps_the_last_success(machine: Machine) -> None:
    assert machine.backup("now").returncode == 0
    success, kept = machine.status["success"], machine.kept()
    (machine.folder / "fake" / "refuses").touch()
    assert machine.backup("now").returncode != 0
    assert machine.status["success"] == success
    assert "failure" in machine.status
    assert machine.kept() == kept
    (machine.folder / "fake" / "refuses").unlink()
    assert machine.backup("now").returncode == 0
    assert "failure" not in machine.status


# ---- who takes it ----------------------------------------------------------------------------


def test_the_clock_asks_only_the_leader(machine: Machine) -> None:
    leads(machine, False)
    done = machine.backup("timer")
    assert done.returncode == 0
    assert "left to the leader" in done.stdout
    assert not machine.backups.exists()
    leads(machine, True)
    assert machine.backup("timer").returncode == 0
    assert "-timer." in the_one(machine).name


def test_without_a_leader_the_clock_fails(machine: Machine) -> None:
    status = {"header": {"member_id": 7}, "leader": 0, "dbSize": 1}
    (machine.folder / "fake" / "status").write_text(json.dumps([{"Status": status}]))
    done = machine.backup("timer")
    assert done.returncode != 0
    assert "etcd has no leader" in done.stderr
    assert "no leader" in machine.status["failure"]["error"]


def test_a_sick_member_asks_its_peer(machine: Machine) -> None:
    peer = "https://192.0.2.2:2379"
    (machine.folder / "fake" / "healthy").write_text(f"{peer}\n")
    done = machine.backup("now", "before", HERE, "https://192.0.2.3:2379", peer)
    assert done.returncode == 0, done.stderr
    assert (machine.folder / "fake" / "asked").read_text() == f"{peer}\n"


def test_nobody_is_healthy(machine: Machine) -> None:
    (machine.folder / "fake" / "healthy").write_text("")
    done = machine.backup("now", "before", "https://192.0.2.2:2379")
    assert done.returncode != 0
    assert "no etcd member is healthy" in done.stderr


@pytest.mark.parametrize("words", [(), ("later",), ("now", "be-fore"), ("now", "../x")])
def test_calls_that_are_not_understood(words: tuple[str, ...], machine: Machine) -> None:
    done = machine.backup(*words)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_two_at_once_take_turns(machine: Machine) -> None:
    script = str(machine.folder / "scripts" / "backup")
    both = [
        subprocess.Popen(
            [script, "now", reason],
            env={
                **os.environ,
                "PATH": f"{machine.folder}/bin:{os.environ['PATH']}",
                "FAKE": str(machine.folder / "fake"),
            },
            stdout=subprocess.DEVNULL,
        )
        for reason in ("one", "other")
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(machine.kept()) == 2


# ---- copied off by SSH -----------------------------------------------------------------------


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / 'the "other" machine'
    folder.mkdir()
    return folder


def arrived(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("account", ["sshd", "sftp_only"])
def test_copied_by_ssh(
    account: str,
    request: pytest.FixtureRequest,
    machine: Machine,
    recipient: Recipient,
    there: Path,
) -> None:
    target = ssh_target(request.getfixturevalue(account), there)
    machine.settings(keep=3, recipient=recipient.certificate, target=target)
    for name in (*OLD, *FOREIGN):
        (there / name).write_bytes(b"old")
    done = machine.backup("now")
    assert done.returncode == 0, done.stderr
    file = the_one(machine)
    assert (there / file.name).read_bytes() == file.read_bytes()
    assert arrived(there) == sorted([*FOREIGN, *OLD[2:], file.name])
    assert machine.status["success"]["where"].startswith("ssh://")
    # The key was only for the run.
    assert not list((machine.folder / "run").glob("backup-ssh*"))


def test_another_host_key_is_refused(
    machine: Machine, recipient: Recipient, sshd: Sshd, there: Path, sftp_only: Sshd
) -> None:
    target = ssh_target(sshd, there)
    target["ssh"]["host_key"] = sftp_only.host.host_key
    machine.settings(recipient=recipient.certificate, target=target)
    done = machine.backup("now")
    assert done.returncode != 0
    assert "host key" in done.stderr.lower()
    assert arrived(there) == []
    # It is here at least, and the failure says that it is only here.
    assert len(machine.kept()) == 1
    assert "success" not in machine.status


def test_a_missing_directory_is_named(
    machine: Machine, recipient: Recipient, sshd: Sshd, there: Path
) -> None:
    target = ssh_target(sshd, there / "missing")
    machine.settings(recipient=recipient.certificate, target=target)
    done = machine.backup("now")
    assert done.returncode != 0
    assert f"{there}/missing" in done.stderr
    assert "does the directory exist" in done.stderr


def test_a_copy_with_another_content_is_refused(
    machine: Machine, recipient: Recipient, sshd: Sshd, there: Path
) -> None:
    machine.settings(recipient=recipient.certificate, target=ssh_target(sshd, there))
    lie = sshd.folder / "bin" / "sha256sum"
    lie.write_text(f"#!/bin/sh\necho {'0' * 64}\n")
    lie.chmod(0o755)
    try:
        done = machine.backup("now")
    finally:
        lie.unlink()
    assert done.returncode != 0
    assert "arrived with another content" in done.stderr
    assert arrived(there) == []


# ---- copied off to S3 ------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "metal/", "a b/ä+(*)!'~/"])
def test_copied_to_s3(prefix: str, machine: Machine, recipient: Recipient, bucket: Bucket) -> None:
    machine.settings(keep=3, recipient=recipient.certificate, target=bucket.target(prefix))
    for name in (*OLD, *FOREIGN):
        bucket.objects[prefix + name] = b"old"
    done = machine.backup("now")
    assert done.returncode == 0, done.stderr
    file = the_one(machine)
    assert bucket.objects[prefix + file.name] == file.read_bytes()
    assert sorted(bucket.objects) == sorted(prefix + n for n in [*FOREIGN, *OLD[2:], file.name])


def test_copied_to_s3_through_a_proxy(
    machine: Machine, recipient: Recipient, bucket: Bucket
) -> None:
    """Which looks up the name; the host cannot."""
    target = bucket.target(endpoint="http://s3.invalid")
    machine.settings(recipient=recipient.certificate, target=target, proxy=bucket.url)
    done = machine.backup("now")
    assert done.returncode == 0, done.stderr
    assert bucket.objects[the_one(machine).name] == the_one(machine).read_bytes()


def test_more_names_than_a_page(machine: Machine, recipient: Recipient, bucket: Bucket) -> None:
    machine.settings(keep=2, recipient=recipient.certificate, target=bucket.target("p/"))
    bucket.page = 2
    for name in (*OLD, *FOREIGN):
        bucket.objects[f"p/{name}"] = b"old"
    assert machine.backup("now").returncode == 0
    ours = [k for k in bucket.objects if k.removeprefix("p/") not in FOREIGN]
    assert len(ours) == 2


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ({"secret_key": "wrong"}, "403 SignatureDoesNotMatch"),
        ({"access_key": "wrong"}, "403 InvalidAccessKeyId"),
        ({"bucket": "missing"}, "404 NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "Failed to connect"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_s3_refuses(
    trouble: dict[str, str], said: str, machine: Machine, recipient: Recipient, bucket: Bucket
) -> None:
    machine.settings(recipient=recipient.certificate, target=bucket.target(**trouble))
    done = machine.backup("now")
    assert done.returncode != 0
    assert said in done.stderr
    assert said in machine.status["failure"]["error"]
    assert bucket.objects == {}


@pytest.mark.parametrize(("field", "said"), [("full", "507 Full"), ("damages", "arrived with")])
def test_s3_that_does_not_keep_it(
    field: str, said: str, machine: Machine, recipient: Recipient, bucket: Bucket
) -> None:
    machine.settings(recipient=recipient.certificate, target=bucket.target())
    setattr(bucket, field, True)
    done = machine.backup("now")
    assert done.returncode != 0
    assert said in done.stderr


# ---- secrets ---------------------------------------------------------------------------------

WATCHER = """printf '%s\\0' "$0" "$@" >>"$FAKE/seen"; exec /usr/bin/{0} "$@" """


def test_no_secret_on_a_command_line_or_in_what_is_said(
    machine: Machine, recipient: Recipient, bucket: Bucket, sshd: Sshd, there: Path
) -> None:
    programs = ["curl", "ssh", "sftp", "jq", "sed", "od", "sha256sum", "awk", "tr", "openssl"]
    for program in programs:
        machine.tool(program, WATCHER.format(program))
    said = ""
    secrets = [SECRET_KEY, SECRET_KEY.encode().hex(), f"AWS4{SECRET_KEY}".encode().hex()]
    targets: list[dict[str, Any]] = [bucket.target(), ssh_target(sshd, there)]
    secrets.append(targets[1]["ssh"]["key"].splitlines()[2])
    for target in targets:
        machine.settings(recipient=recipient.certificate, target=target)
        done = machine.run("bash", "-x", str(machine.folder / "scripts" / "backup"), "now")
        assert done.returncode == 0, done.stderr
        done = machine.backup("now")
        said += done.stdout + done.stderr + (machine.backups / "status.json").read_text()
    seen = (machine.folder / "fake" / "seen").read_text(errors="replace")
    assert "curl" in seen
    assert "sftp" in seen
    for secret in secrets:
        assert secret not in seen
        assert secret not in said


def test_names_of_the_host_and_of_python_agree(machine: Machine) -> None:
    done = machine.shell('echo "$SNAPSHOT_NAME"')
    pattern = re.sub(r"\?P<\w+>", "", NAME.pattern).replace(r"\d", "[0-9]")
    groups = re.sub(r"\((?!\\)([^()]*)\)(?!\?)", r"\1", pattern)
    assert done.stdout.strip() == groups
    for name in FOREIGN[:3] + OLD:
        assert named(name, 1, "here") is not None
    assert named(FOREIGN[3], 1, "here") is None
