"""What a restore checks before it touches a host, and what it then tells the host's steps."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backup_support import Machine, Recipient, cluster_identity, snapshot_bytes
from bucket import SECRET_KEY, Bucket
from click.testing import CliRunner
from support.sshd import Sshd

from groundplane import restore, snapshots
from groundplane.cli import cli
from groundplane.errors import GroundplaneError
from groundplane.remote.connect import Done, HostUnreachable, Kind
from groundplane.remote.facts import Etcd, HostSeen
from groundplane.remote.ledger import Entry
from groundplane.remote.observation import Observation
from groundplane.spec import Backup, Cluster, Endpoint, Host, Kubernetes, Spec
from groundplane.spec.models import S3Target, SshTarget, Target

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPerXowIuTL9nLUM5vSVAPHURvB8V7G3L64aApStAhHl"


@pytest.fixture
def identity(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "identity"
    folder.mkdir()
    return cluster_identity(folder)


@pytest.fixture
def spec() -> Spec:
    hosts = [
        Host(name=f"cp{n}", address=f"192.0.2.{n}", role="control-plane", host_key=KEY)
        for n in (1, 2, 3)
    ]
    hosts.append(Host(name="w1", address="192.0.2.21", role="worker", host_key=KEY))
    cluster = Cluster(
        name="metal",
        kubernetes=Kubernetes(version="1.36.4"),
        pod_cidrs=["10.244.0.0/16"],
        service_cidrs=["10.96.0.0/16"],
        endpoint=Endpoint(address="192.0.2.100", router_id=51),
    )
    return Spec("metal", hosts, cluster)


def with_target(spec: Spec, target: Target | None) -> Spec:
    recipient = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    backup = Backup.model_construct(schedule="hourly", keep=3, target=target, recipient=recipient)
    lost = [host.model_copy(update={"state": "lost"}) for host in spec.hosts]
    cluster = spec.cluster.model_copy(update={"backup": backup})
    # Hosts that nobody asks: only the target answers.
    changed = replace(spec, cluster=cluster)
    object.__setattr__(changed, "hosts", lost)
    return changed


def lines() -> tuple[list[str], Callable[[str], None]]:
    said: list[str] = []
    return said, said.append


# ---- the identity ----------------------------------------------------------------------------


def test_an_identity_is_read(identity: dict[str, Any]) -> None:
    assert restore.read_identity(json.dumps(identity), "here") == identity
    # As `pulumi stack output --json` gives it.
    assert restore.read_identity(json.dumps(json.dumps(identity)), "here") == identity


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda i: {**i, "identity": {**i["identity"], "ca.key": ""}}, "ca.key"),
        (lambda i: {**i, "identity": {**i["identity"], "groundplane.key": ""}}, "groundplane.key"),
        (lambda i: {"cluster": i["cluster"]}, "all of it"),
        (lambda i: {**i, "cluster": "0" * 16}, "its CA is that of another"),
        (lambda i: {**i, "identity": {**i["identity"], "ca.crt": "x"}}, "its CA"),
        (lambda i: [], "all of it"),
        (lambda i: "", "all of it"),
    ],
)
def test_what_is_no_identity(
    spoil: Callable[[dict[str, Any]], Any], said: str, identity: dict[str, Any]
) -> None:
    with pytest.raises(GroundplaneError, match="is no identity of a cluster") as error:
        restore.read_identity(json.dumps(spoil(identity)), "here")
    assert said in str(error.value)
    # An error is read by many; what it is about, by few.
    assert "PRIVATE KEY" not in str(error.value)


def test_cluster_id_as_on_the_host(identity: dict[str, Any], machine: Machine) -> None:
    pki = machine.folder / "kubernetes" / "pki"
    pki.mkdir()
    (pki / "ca.crt").write_text(identity["identity"]["ca.crt"])
    done = machine.shell('. "$0"/steps/bootstrap.sh; cluster_id')
    assert done.stdout.strip() == identity["cluster"], done.stderr


# ---- the snapshot ----------------------------------------------------------------------------


def made(
    folder: Path, identity: dict[str, Any], at: str, content: bytes, cms: bool = False
) -> Path:
    """A snapshot under its name, as a host writes it."""
    folder.mkdir(exist_ok=True)
    part = folder / "part"
    part.write_bytes(content)
    digest = snapshots.sha256(part)[:16]
    name = f"metal-{identity['cluster'][:8]}-{at}-cp1-timer.{digest}.db"
    return part.rename(folder / name)


def obtained(spec: Spec, chosen: str, key: Path | None, identity: Any, folder: Path) -> bytes:
    folder.mkdir(exist_ok=True)
    return restore.obtain(spec, chosen, key, identity, folder, lambda line: None).read_bytes()


def test_a_file(spec: Spec, identity: dict[str, Any], tmp_path: Path) -> None:
    file = made(tmp_path / "there", identity, "20260101T000000Z", snapshot_bytes())
    assert obtained(spec, str(file), None, identity, tmp_path / "w") == snapshot_bytes()
    # Under another name only its own digest can be checked.
    other = file.rename(file.with_name("snapshot.db"))
    assert obtained(spec, str(other), None, identity, tmp_path / "w") == snapshot_bytes()


def test_an_encrypted_file(
    spec: Spec, identity: dict[str, Any], recipient: Recipient, machine: Machine, tmp_path: Path
) -> None:
    machine.settings(recipient=recipient.certificate)
    assert machine.backup("now").returncode == 0
    (name,) = machine.kept()
    identity = {**identity, "cluster": "5f3a9c0112233445"}
    file = str(machine.backups / name)
    assert obtained(spec, file, recipient.key, identity, tmp_path / "w") == snapshot_bytes()
    with pytest.raises(GroundplaneError, match="is encrypted"):
        obtained(spec, file, None, identity, tmp_path / "w")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-1] + b"x", "not the file that was written"),
        (lambda content: content[:500], "not the file that was written"),
    ],
)
def test_a_changed_file(
    change: Callable[[bytes], bytes],
    said: str,
    spec: Spec,
    identity: dict[str, Any],
    tmp_path: Path,
) -> None:
    file = made(tmp_path / "there", identity, "20260101T000000Z", snapshot_bytes())
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(GroundplaneError, match=said):
        obtained(spec, str(file), None, identity, tmp_path / "w")
    nameless = file.rename(file.with_name("snapshot.db"))
    with pytest.raises(GroundplaneError, match="is no whole etcd snapshot"):
        obtained(spec, str(nameless), None, identity, tmp_path / "w")


def test_mutation_unchecked_a_changed_file_would_be_taken(
    spec: Spec, identity: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests before this one are worth something: it is these checks that make them pass."""
    file = made(tmp_path / "there", identity, "20260101T000000Z", snapshot_bytes())
    file = file.rename(file.with_name("snapshot.db"))
    file.write_bytes(snapshot_bytes()[:-1] + b"x")
    monkeypatch.setattr(snapshots, "intact", lambda path: True)
    assert obtained(spec, str(file), None, identity, tmp_path / "w") != snapshot_bytes()


def test_of_another_cluster(spec: Spec, identity: dict[str, Any], tmp_path: Path) -> None:
    other = {**identity, "cluster": "0123456789abcdef"}
    file = made(tmp_path / "there", other, "20260101T000000Z", snapshot_bytes())
    with pytest.raises(GroundplaneError, match=r"is of the cluster 01234567\.\.\."):
        obtained(spec, str(file), None, identity, tmp_path / "w")


@pytest.mark.parametrize("kind", ["ssh", "s3"])
def test_the_latest_at_the_target(
    kind: str,
    spec: Spec,
    identity: dict[str, Any],
    sshd: Sshd,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = tmp_path / "there"
    other = {**identity, "cluster": "0123456789abcdef"}
    made(there, identity, "20260101T000000Z", snapshot_bytes(b"old." * 128))
    newest = made(there, identity, "20260102T000000Z", snapshot_bytes(b"new." * 128))
    # Newer still, but of a cluster of the same name that was founded anew.
    made(there, other, "20260103T000000Z", snapshot_bytes(b"not!" * 128))
    host = sshd.host
    if kind == "ssh":
        settings = {"address": host.address, "port": host.port, "user": host.user}
        ssh = SshTarget(**settings, key=host.key, host_key=host.host_key, path=str(there))
        target = Target(ssh=ssh)
    else:
        for path in there.iterdir():
            bucket.objects[f"a/{path.name}"] = path.read_bytes()
        monkeypatch.setattr(snapshots, "stack_secret", lambda stack, key: SECRET_KEY)
        bucket.page = 1
        settings = {k: v for k, v in bucket.target("a/")["s3"].items() if k != "secret_key"}
        target = Target(s3=S3Target(**settings))
    spec = with_target(spec, target)
    plain = obtained(spec, "latest", None, identity, tmp_path / "w")
    assert plain == snapshot_bytes(b"new." * 128)
    assert obtained(spec, newest.name, None, identity, tmp_path / "w") == plain
    with pytest.raises(GroundplaneError, match="no such snapshot of metal"):
        obtained(spec, "metal-other", None, identity, tmp_path / "w")


def test_a_target_that_does_not_answer_is_told(spec: Spec) -> None:
    ssh = SshTarget(address="127.0.0.1", port=1, key="/dev/null", host_key=KEY, path="/x")
    said, say = lines()
    assert snapshots.found(with_target(spec, Target(ssh=ssh)), say) == []
    assert "ssh://root@127.0.0.1:1/x" in said[0]


def test_a_snapshot_on_a_host(
    spec: Spec, sshd: Sshd, identity: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    file = made(tmp_path / "there", identity, "20260101T000000Z", snapshot_bytes())
    monkeypatch.setattr(snapshots, "FOLDER", str(tmp_path / "there"))
    place = snapshots.OnHost(sshd.host)  # type: ignore[arg-type]
    (found,) = place.names()
    assert (found.name, found.bytes, found.place) == (file.name, file.stat().st_size, "h1")
    place.fetch(found.name, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == file.read_bytes()
    with pytest.raises(GroundplaneError, match=r"h1: .*missing"):
        place.fetch("missing", tmp_path / "fetched")
    monkeypatch.setattr(snapshots, "FOLDER", str(tmp_path / "no such folder"))
    assert place.names() == []


def test_uploaded_whole_or_not_at_all(sshd: Sshd, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"\0\xff" * 100_000)
    restore.upload(sshd.host, file, str(tmp_path / "arrived"))  # type: ignore[arg-type]
    assert (tmp_path / "arrived").read_bytes() == file.read_bytes()
    with pytest.raises(GroundplaneError, match="did not arrive whole"):
        restore.upload(sshd.host, file, str(tmp_path / "missing" / "x"))  # type: ignore[arg-type]
    assert not (tmp_path / "arrived.part").exists()


# ---- the hosts -------------------------------------------------------------------------------


def blank(name: str) -> HostSeen:
    return HostSeen(name)


def member(name: str, healthy: bool = False) -> HostSeen:
    entry = Entry("metal", "5f3a9c0112233445", "node", 1, "t", "d", None)
    return HostSeen(
        name,
        ledger={"node": entry},
        cluster_data=("/var/lib/etcd/member",),
        record={"stack": "metal", "cluster": "5f3a9c0112233445"},
        etcd=Etcd(healthy=healthy),
    )


def silent(name: str) -> HostUnreachable:
    return HostUnreachable(name, Kind.UNREACHABLE, "no route", "Look at its power.")


class Hosts:
    """Hosts as they are seen; those that are reset are blank from then on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state: dict[str, HostSeen | HostUnreachable] = {}
        self.begun: tuple[str, ...] = ()  # where an earlier restore did not end
        self.resets: list[list[str]] = []
        monkeypatch.setattr(restore, "run_all", self.run_all)
        monkeypatch.setattr(
            restore, "look_around", lambda spec, again: Observation("metal", self.state)
        )

    def are(self, *seen: HostSeen | HostUnreachable, begun: Sequence[str] = ()) -> None:
        self.state = {host.name: host for host in seen}
        self.begun = tuple(begun)

    def run_all(self, hosts: Sequence[Host], argv: Sequence[str]) -> dict[str, Done]:
        return {h.name: Done(h.name, 0 if h.name in self.begun else 1, "", "") for h in hosts}

    def reset(self, hosts: Sequence[Host], stack: str) -> list[str]:
        self.resets.append([host.name for host in hosts])
        self.state.update({host.name: blank(host.name) for host in hosts})
        return []


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


def ready(spec: Spec, hosts: Hosts, wipe: bool = False) -> Observation:
    return restore.blank_hosts(spec, spec.control_planes, wipe, hosts.reset, lambda line: None)


def test_blank_hosts_are_taken(spec: Spec, hosts: Hosts) -> None:
    hosts.are(blank("cp1"), blank("cp2"), blank("cp3"), member("w1"))
    seen = ready(spec, hosts)
    assert hosts.resets == []
    assert seen.blank("cp2")


def test_hosts_with_data_are_refused_all_at_once(spec: Spec, hosts: Hosts) -> None:
    hosts.are(member("cp1"), blank("cp2"), member("cp3"), blank("w1"))
    with pytest.raises(GroundplaneError) as error:
        ready(spec, hosts)
    text = str(error.value)
    assert "cp1: is not blank: /var/lib/etcd/member" in text
    assert "cp3: is not blank" in text
    assert "cp2" not in text
    assert "--wipe" in text
    assert hosts.resets == []


def test_wiped_when_asked(spec: Spec, hosts: Hosts) -> None:
    hosts.are(member("cp1"), blank("cp2"), member("cp3"), member("w1"))
    ready(spec, hosts, wipe=True)
    assert hosts.resets == [["cp1", "cp3"]]  # a worker that lives is left alone


def test_an_unfinished_restore_is_cleared(spec: Spec, hosts: Hosts) -> None:
    hosts.are(member("cp1"), blank("cp2"), blank("cp3"), blank("w1"), begun=["cp1"])
    ready(spec, hosts)
    assert hosts.resets == [["cp1"]]


def test_a_silent_control_plane_may_live(spec: Spec, hosts: Hosts) -> None:
    hosts.are(blank("cp1"), blank("cp2"), silent("cp3"), silent("w1"))
    with pytest.raises(GroundplaneError) as error:
        ready(spec, hosts, wipe=True)
    assert "cp3: does not answer" in str(error.value)
    assert "two clusters of one identity" in str(error.value)
    assert "w1" not in str(error.value)


def test_what_the_step_is_told(spec: Spec, identity: dict[str, Any]) -> None:
    told = restore.restore_data(spec, spec.hosts[0], identity, ["cp2", "w1"])
    assert told["name"] == "cp1"
    assert told["cluster"] == identity["cluster"]
    assert told["blank"] == ["cp2", "w1"]
    assert "DirAvailable--var-lib-etcd" in told["ignore_preflight"]
    # The identity goes to the step that carries secrets, and nowhere else.
    assert not any(text in json.dumps(told) for text in identity["identity"].values())


def test_nothing_is_touched_when_the_snapshot_is_bad(
    spec: Spec, identity: dict[str, Any], hosts: Hosts, tmp_path: Path
) -> None:
    hosts.are(member("cp1"), member("cp2"), member("cp3"), member("w1"))
    bad = tmp_path / "snapshot.db"
    bad.write_bytes(b"bad")
    with pytest.raises(GroundplaneError, match="is no whole etcd snapshot"):
        restore.from_snapshot(spec, str(bad), None, identity, True, hosts.reset, lambda line: None)
    assert hosts.resets == []


@pytest.mark.parametrize("asked, refused", [(1, True), (2, True), (3, False), (4, False)])
def test_a_snapshot_whose_secrets_need_a_later_key(
    spec: Spec, tmp_path: Path, asked: int, refused: bool
) -> None:
    database = tmp_path / "snapshot.db"
    names = (b"k8s:enc:secretbox:v1:key1:\x00\xff", b"k8s:enc:secretbox:v1:key3:\x00", b"key9:")
    database.write_bytes(b"\x00page" * 100 + b"\x00page".join(names))
    cluster = spec.cluster.model_copy(update={"encryption_generation": asked})
    there = replace(spec, cluster=cluster)
    if refused:
        with pytest.raises(GroundplaneError, match=r"key of generation 3(.|\n)*Generation: 3\."):
            restore.keys_reach(there, database, "latest")
    else:
        restore.keys_reach(there, database, "latest")


# ---- a survivor ------------------------------------------------------------------------------


def survive(spec: Spec, hosts: Hosts, name: str = "cp1", wipe: bool = False) -> Host:
    return restore.from_survivor(spec, name, wipe, hosts.reset, lambda line: None)


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be done on hosts."""
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(restore, "install", lambda spec, host: done.append(("install", host.name)))
    monkeypatch.setattr(
        restore,
        "step",
        lambda spec, host, script, fields, verb: done.append((script, verb, fields["cluster"])),
    )
    return done


def revisions(monkeypatch: pytest.MonkeyPatch, **known: int) -> None:
    monkeypatch.setattr(
        restore,
        "_revisions",
        lambda hosts: {h.name: known[h.name] for h in hosts if h.name in known},
    )


def test_the_last_one_is_founded_anew(
    spec: Spec, hosts: Hosts, acts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.are(member("cp1"), silent("cp2"), silent("cp3"), member("w1"))
    revisions(monkeypatch, cp1=7)
    assert survive(spec, hosts).name == "cp1"
    assert acts == [("install", "cp1"), ("restore", "refound", "5f3a9c0112233445")]
    assert hosts.resets == []


@pytest.mark.parametrize(
    ("seen", "known", "said"),
    [
        ([member("cp1", True), silent("cp2"), silent("cp3")], {}, "etcd has a quorum there"),
        ([silent("cp1"), member("cp2"), silent("cp3")], {}, "cp1: does not answer"),
        ([blank("cp1"), silent("cp2"), silent("cp3")], {}, "holds no member"),
        ([member("cp1"), member("cp2"), silent("cp3")], {"cp1": 7, "cp2": 8}, "is behind cp2"),
        ([member("cp1"), member("cp2"), silent("cp3")], {"cp1": 8, "cp2": 7}, "still holds etcd"),
    ],
)
def test_survivors_that_are_refused(
    seen: list[HostSeen],
    known: dict[str, int],
    said: str,
    spec: Spec,
    hosts: Hosts,
    acts: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hosts.are(*seen, silent("w1"))
    revisions(monkeypatch, **known)
    with pytest.raises(GroundplaneError, match=said):
        survive(spec, hosts)
    assert acts == hosts.resets == []


def test_another_one_that_knows_less_is_wiped_when_asked(
    spec: Spec, hosts: Hosts, acts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.are(member("cp1"), member("cp2"), silent("cp3"), silent("w1"))
    revisions(monkeypatch, cp1=8, cp2=8)
    survive(spec, hosts, wipe=True)
    assert hosts.resets == [["cp2"]]
    assert ("restore", "refound", "5f3a9c0112233445") in acts


def test_nobody_of_that_name(spec: Spec, hosts: Hosts) -> None:
    with pytest.raises(GroundplaneError, match="Name one of cp1, cp2, cp3"):
        survive(spec, hosts, "w1")


# ---- the commands ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [[], ["--snapshot", "latest", "--from-survivor", "cp1"]], ids=["neither", "both"]
)
def test_one_way_has_to_be_named(words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["restore", *words])
    assert done.exit_code == 2
    assert "either --snapshot or --from-survivor" in done.output


def test_a_survivor_takes_an_explicit_flag() -> None:
    done = CliRunner().invoke(cli, ["restore", "--from-survivor", "cp1"])
    assert isinstance(done.exception, GroundplaneError)
    assert "--accept-data-loss-after-last-write" in str(done.exception)


def test_the_list(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    from groundplane.commands import snapshots as command

    name = f"metal-5f3a9c01-20260102T030405Z-cp1-timer.{'0' * 16}.db"
    everywhere = [snapshots.named(name, 1 << 21, place) for place in ("s3://b/", "cp1")]
    monkeypatch.setattr(command, "load", lambda stack: spec)
    monkeypatch.setattr(snapshots, "found", lambda spec, say: everywhere)
    table = CliRunner().invoke(cli, ["snapshots"]).output.splitlines()
    assert table[0].split() == ["TAKEN", "(UTC)", "ON", "WHY", "SIZE", "NAME", "WHERE"]
    assert table[1].startswith("2026-01-02 03:04:05  cp1  timer  2.0 MiB")
    assert table[1].endswith("s3://b/, cp1 (not encrypted)")
    assert len(table) == 2
    told = json.loads(CliRunner().invoke(cli, ["snapshots", "--json"]).output)
    assert [s["place"] for s in told] == ["s3://b/", "cp1"]
    assert told[0]["at"] == "2026-01-02T03:04:05+00:00"
    monkeypatch.setattr(snapshots, "found", lambda spec, say: [])
    assert "no snapshot of metal anywhere" in CliRunner().invoke(cli, ["snapshots"]).output
