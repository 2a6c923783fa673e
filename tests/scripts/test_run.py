"""From the call of a step to its ledger: `run`, `step`, and the installation before them."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import seen
from support.host import SCRIPTS, Done, Host
from support.program import register
from support.specs import hosts, spec

from groundplane.clusters import shared
from groundplane.errors import GroundplaneError
from groundplane.platform import Platform
from groundplane.remote import ledger
from groundplane.remote.bundle import LIBRARY, Bundle, bundle, installer, kept, packed

STEP = """
apply() {
  put_file /etc/example 0644 < <(data .content) || true
  [ -z "$(data .fails)" ] || die "it fails" "mend it"
  [ -z "$(data .result)" ] || data .result >"$RESULT"
  local found
  found=$(half)
  [ -z "$(data .elsewhere)" ] || FACTS=$(data .elsewhere) part
}
part() { die "a part fails"; }
half() { [ -z "$(data .half)" ]; echo "the other half"; }
destroy() { remove_paths /etc/example; }
"""
DATA = {"stack": "metal", "cluster": "abc", "step": "example", "revision": 1, "token": "t1"}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host whose scripts have one step more."""
    scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, scripts)
    (scripts / "steps" / "example.sh").write_text(STEP)
    host = Host(tmp_path / "host", scripts)
    host.fake("systemctl")
    host.fake("systemd-run")
    return host


def run(host: Host, verb: str = "apply", **data: object) -> Done:
    return host.execute(
        str(host.scripts / "run"), "example", verb, stdin=json.dumps({**DATA, **data})
    )


def test_a_step_that_ends_well(host: Host) -> None:
    done = run(host, content="one")
    assert done == Done(0, "", "changed /etc/example\n")
    entry = ledger.entry(host.read("/var/lib/groundplane/ledger/example.json"))
    assert entry is not None
    assert (entry.stack, entry.cluster, entry.step, entry.token) == (
        "metal",
        "abc",
        "example",
        "t1",
    )
    assert entry.at is not None
    facts = host.read("/var/lib/groundplane/ledger/example.facts")
    assert facts.startswith("file\t/etc/example\t0644\t")


def test_a_step_that_was_stopped_is_no_success(host: Host) -> None:
    """systemd reports one that ended by SIGTERM as it does one that ended well."""
    host.fake("systemd-run", "exit 0")
    done = run(host, content="one", result="half")
    assert (done.status, done.out) == (1, "")
    assert "the step example was stopped before its end" in done.err


def test_the_digest_is_of_the_data_without_the_token(host: Host) -> None:
    digests = []
    for data in ({}, {"token": "t2"}, {"content": "two"}):
        run(host, **{"content": "one", **data})
        digests.append(json.loads(host.read("/var/lib/groundplane/ledger/example.json"))["digest"])
    assert digests[0] == digests[1] != digests[2]


def test_the_ledger_tells_the_generation(host: Host) -> None:
    for data, generation in ({}, 1), ({"generation": 3}, 3):
        run(host, content="one", **data)
        entry = ledger.entry(host.read("/var/lib/groundplane/ledger/example.json"))
        assert entry is not None
        assert entry.generation == generation


def test_the_ledger_is_for_root_only(host: Host) -> None:
    run(host, content="one")
    for name in ("example.json", "example.facts"):
        path = host.path(f"/var/lib/groundplane/ledger/{name}")
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_step_that_fails_leaves_no_ledger(host: Host) -> None:
    done = run(host, content="one", fails=True)
    assert (done.status, done.out) == (1, "")
    assert "it fails\nRemedy: mend it" in done.err
    assert not host.there("/var/lib/groundplane/ledger/example.json")


def test_what_fails_half_way_inside_of_a_substitution_ends_the_step(host: Host) -> None:
    assert run(host, content="one", half=True).status != 0
    assert not host.there("/var/lib/groundplane/ledger/example.json")


def test_a_step_that_fails_again_keeps_what_the_ledger_said(host: Host) -> None:
    """The next observation compares the facts of the last run that ended."""
    run(host, content="one")
    before = host.read("/var/lib/groundplane/ledger/example.json")
    run(host, content="two", fails=True)
    assert host.read("/var/lib/groundplane/ledger/example.json") == before


def test_a_result_is_all_that_stands_on_stdout(host: Host) -> None:
    done = run(host, content="one", result="the result")
    assert done == Done(0, "the result\n", "changed /etc/example\n")


@pytest.mark.parametrize("fails", [None, True], ids=["well", "badly"])
def test_nothing_of_the_data_stays(host: Host, fails: bool | None) -> None:
    run(host, content="s3cret-canary", result="s3cret-canary", fails=fails)
    host.path("/etc/example").unlink()
    found = [
        path
        for folder in ("run", "var", "etc")
        for path in (host.root / folder).rglob("*")
        if path.is_file() and "s3cret-canary" in path.read_text(errors="replace")
    ]
    assert found == []


def test_a_part_that_fails_takes_nothing_with_it(host: Host) -> None:
    """Its facts may go elsewhere, as to /dev/null, which no host can be without."""
    host.write("/run/elsewhere", "")
    done = run(host, content="one", elsewhere="/run/elsewhere")
    assert (done.status, "a part fails" in done.err) == (1, True)
    assert host.there("/run/elsewhere")


def test_a_removal_leaves_no_ledger_of_its_own(host: Host) -> None:
    done = run(host, "destroy")
    assert done.status == 0, done.err
    assert not host.there("/var/lib/groundplane/ledger/example.json")


def test_a_second_call_waits_for_the_first(host: Host) -> None:
    """The connection was lost; the step goes on without it."""
    host.write("/run/units/active/groundplane-example", "")
    second = host.start(str(host.scripts / "run"), "example", "apply")
    assert second.stdin is not None
    second.stdin.write(json.dumps({**DATA, "content": "one"}))
    second.stdin.close()
    second.stdin = None
    time.sleep(1)
    assert not [call for call in host.calls if call.startswith("systemd-run")]
    host.path("/run/units/active/groundplane-example").unlink()
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "changed /etc/example\n")
    assert [call for call in host.calls if call.startswith("systemd-run")] == [
        "systemd-run groundplane-example.service step example apply"
    ]


# ---- installation ----------------------------------------------------------------------------


def install(host: Host, scripts: Bundle | None = None, token: str = "t1") -> Done:
    scripts = scripts or bundle()
    return receive(host, f"{scripts.digest} metal {token}\n{scripts.archive}")


def receive(host: Host, sent: str, first: str = "") -> Done:
    """The installer's run. `first`: what becomes of the host before, in the shell."""
    return host.execute("sh", "-c", f"{first}\n{installer()}", stdin=sent)


@pytest.fixture
def blank(host: Host) -> Host:
    host.fake("dpkg-query", "echo 'install ok installed'")
    return host


@pytest.fixture
def another(tmp_path: Path) -> Callable[[str], Bundle]:
    """Makes releases that differ in one script."""

    def make(text: str) -> Bundle:
        folder = tmp_path / "releases" / text
        shutil.copytree(SCRIPTS, folder)
        with (folder / "lib.sh").open("a") as script:
            script.write(f"# {text}\n")
        return packed(folder)

    return make


def releases(host: Host) -> set[str]:
    """All that is where releases are."""
    return {path.name for path in host.path(LIBRARY).iterdir()}


def test_the_scripts_arrive_as_they_are(blank: Host) -> None:
    done = install(blank)
    assert done.status == 0, done.err
    assert blank.path(f"{LIBRARY}/current").readlink().as_posix() == f"{LIBRARY}/{bundle().hash}"
    arrived = blank.path(f"{LIBRARY}/{bundle().hash}")
    names = {p.relative_to(arrived) for p in arrived.rglob("*") if p.is_file()}
    for name in names:
        source = Path(ledger.__file__).parent / "scripts" / name
        assert (arrived / name).read_bytes() == source.read_bytes()
        executable = source.read_bytes().startswith(b"#!")
        assert bool((arrived / name).stat().st_mode & 0o111) == executable
    assert Path("run") in names
    assert arrived.stat().st_mode & 0o777 == 0o755


def test_a_host_knows_which_release_it_has(blank: Host) -> None:
    install(blank)
    entry = ledger.entry(blank.read("/var/lib/groundplane/ledger/bundle.json"))
    assert entry is not None
    assert (entry.stack, entry.step, entry.token) == ("metal", "bundle", "t1")
    assert (entry.digest, entry.at is not None) == (bundle().digest, True)
    facts = blank.read("/var/lib/groundplane/ledger/bundle.facts").splitlines()
    assert [fact.split("\t") for fact in facts] == [
        ["link", f"{LIBRARY}/current", f"{LIBRARY}/{bundle().hash}"],
        ["package", "jq"],
    ]
    assert blank.path("/var/lib/groundplane").stat().st_mode & 0o777 == 0o700


def test_the_same_release_again_changes_nothing(blank: Host) -> None:
    install(blank)
    assert install(blank) == Done(0, "", "")


def test_a_release_that_is_there_needs_no_archive(blank: Host) -> None:
    """Where only the connection or the token is another one, nothing was uploaded."""
    install(blank)
    assert receive(blank, f"{bundle().digest} metal t2\n") == Done(0, "", "")
    assert '"token":"t2"' in blank.read("/var/lib/groundplane/ledger/bundle.json")


def test_one_other_release_stays(blank: Host, another: Callable[[str], Bundle]) -> None:
    """A step that still runs reads its own."""
    made = [another(text) for text in ("one", "two", "three")]
    for release in made:
        assert install(blank, release).status == 0
        # Their age is told by their time, in seconds on some file systems.
        time.sleep(0.02)
    assert releases(blank) == {made[1].hash, made[2].hash, "current"}
    assert blank.path(f"{LIBRARY}/current").readlink().name == made[2].hash


def test_stacks_on_one_machine_have_a_release_each(
    blank: Host, another: Callable[[str], Bundle]
) -> None:
    """As on a hypervisor; each takes its own away, and the last one all that is left."""
    made = [another(text) for text in ("one", "two", "three")]
    for stack, release in zip(("a", "b", "b"), made, strict=True):
        line = f"{release.digest} {stack} for-{stack} t1\n"
        assert receive(blank, line + release.archive).status == 0
        time.sleep(0.02)
    assert blank.path(f"{LIBRARY}/for-a").readlink().name == made[0].hash
    assert blank.path(f"{LIBRARY}/for-b").readlink().name == made[2].hash
    entries = {
        stack: ledger.entry(blank.read(f"/var/lib/groundplane/ledger/bundle.{stack}.json"))
        for stack in ("a", "b")
    }
    assert [entry and (entry.stack, entry.step) for entry in entries.values()] == [
        ("a", "bundle.a"),
        ("b", "bundle.b"),
    ]
    # The emulator of guests that lie below is a user of its own.
    assert blank.path("/var/lib/groundplane").stat().st_mode & 0o777 == 0o711
    for stack, left in (("a", {"for-b", made[1].hash, made[2].hash, made[0].hash}), ("b", set())):
        assert blank.execute(f"{LIBRARY}/for-{stack}/forget", stack).status == 0
        assert releases(blank) == left if left else not blank.there(LIBRARY)
    assert not blank.there("/var/lib/groundplane/ledger")


def spoiled(archive: str) -> dict[str, str]:
    """What may arrive in place of an archive."""
    return {
        "none": "",
        "half": archive[: len(archive) // 2],
        "whole blocks, not all": archive[:10240],
        "another hand's": archive.replace("set -euo pipefail", "touch /etc/other ", 1),
        "more": archive + "\n",
    }


@pytest.mark.parametrize("what", spoiled(""))
def test_another_archive_than_was_sent(
    blank: Host, another: Callable[[str], Bundle], what: str
) -> None:
    """It is not even unpacked; the release before stays whole and in force."""
    old, new = another("old"), another("new")
    install(blank, old)
    record = blank.read("/var/lib/groundplane/ledger/bundle.json")
    archive = spoiled(new.archive)[what]
    assert archive != new.archive
    done = receive(blank, f"{new.digest} metal t2\n{archive}", "tar() { echo unpacked >&2; }")
    assert done.status == 1
    assert "what arrived are not the scripts of this release" in done.err
    assert "Remedy: run the update again" in done.err
    assert "unpacked" not in done.err
    assert releases(blank) == {old.hash, "current"}
    assert blank.path(f"{LIBRARY}/current").readlink().name == old.hash
    assert blank.read("/var/lib/groundplane/ledger/bundle.json") == record


# A disk of its own for the releases, with what is there already, and then not enough room.
SMALL = f"""
cp -a {LIBRARY} /run/keep
mount -t tmpfs -o size=4m small {LIBRARY}
cp -a /run/keep/. {LIBRARY}
cat /dev/zero >{LIBRARY}/fill 2>/dev/null
$LIMIT
sh -c "$INSTALLER"
status=$?
ls -A {LIBRARY}
readlink {LIBRARY}/current
exit $status
"""


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (f"truncate -s -64K {LIBRARY}/fill", "No space left on device"),
        (f"truncate -s -224K {LIBRARY}/fill", "No space left on device"),
        (f"mount -o remount,ro {LIBRARY}", "Read-only file system"),
    ],
    ids=["full while it arrives", "full while it is unpacked", "read-only"],
)
def test_no_room_for_a_release(
    blank: Host, another: Callable[[str], Bundle], limit: str, reason: str
) -> None:
    """The host, the place and the remedy; what is there stays, and nothing half made does."""
    old, new = another("old"), another("new")
    install(blank, old)
    done = blank.execute(
        "sh",
        "-c",
        SMALL.replace("$LIMIT", limit),
        stdin=f"{new.digest} metal t2\n{new.archive}",
        env={"INSTALLER": installer()},
    )
    assert done.status == 1
    assert reason in done.err
    assert f"cannot write {LIBRARY}: no space left, or a read-only file system" in done.err
    assert f"Remedy: df -h {LIBRARY}" in done.err
    assert set(done.out.splitlines()) == {old.hash, "current", "fill", f"{LIBRARY}/{old.hash}"}


def test_a_release_that_cannot_be_put_in_force(
    blank: Host, another: Callable[[str], Bundle]
) -> None:
    """It is there, and the link to it cannot be written: then it is not recorded either."""
    old, new = another("old"), another("new")
    install(blank, old)
    install(blank, new)
    record = blank.read("/var/lib/groundplane/ledger/bundle.json")
    done = blank.execute(
        "sh",
        "-c",
        SMALL.replace("$LIMIT", f"mount -o remount,ro {LIBRARY}"),
        stdin=f"{old.digest} metal t2\n",
        env={"INSTALLER": installer()},
    )
    assert done.status == 1
    assert f"cannot write {LIBRARY}/current: no space left, or a read-only" in done.err
    assert done.out.splitlines()[-1] == f"{LIBRARY}/{new.hash}"
    assert blank.read("/var/lib/groundplane/ledger/bundle.json") == record


@pytest.mark.parametrize("user", ["root", "ops"])
def test_what_the_program_registers_does_it(blank: Host, user: str) -> None:
    """The file goes where it is looked for, and is taken away, whether it was the right one."""
    blank.fake("sudo", 'echo "sudo $1" >>"$CALLS"; shift; exec "$@"')
    made = spec(hosts(user=user))
    for content in (None, b"another"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shared, "survey", seen.blank)
            found = register(lambda: Platform("metal", made))
        upload, command = found["metal-w1-scripts"].inputs, found["metal-w1-bundle"].inputs
        arrived = Path(upload["remotePath"])
        arrived.write_bytes(content or Path(upload["source"]["path"]).read_bytes())
        blank.execute("rm", "-rf", f"{LIBRARY}/{bundle().hash}")
        done = blank.execute("sh", "-c", command["create"], stdin=command["stdin"])
        assert done.status == (1 if content else 0), done.err
        assert not arrived.exists()
        assert blank.there(f"{LIBRARY}/{bundle().hash}/run") is (content is None)
    assert blank.calls == (["sudo -n"] * 2 if user == "ops" else [])


# ---- the archive -----------------------------------------------------------------------------


def test_the_same_scripts_make_the_same_bundle(tmp_path: Path) -> None:
    """Wherever they lie, and whatever their owners, times and modes are."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(SCRIPTS, elsewhere, copy_function=shutil.copyfile)
    once, again = packed(SCRIPTS), packed(elsewhere)
    assert once == again
    assert re.fullmatch("[0-9a-f]{64}", once.digest)
    assert once.hash == once.digest[:16]
    with tarfile.open(fileobj=io.BytesIO(once.archive.encode())) as tar:
        assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in tar.getmembers())


def test_the_archive_is_kept_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One a release, made once, and made anew where it is not whole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    path = kept(bundle())
    assert path.is_relative_to(tmp_path / "caches")
    content = bundle().archive.encode()
    assert path.read_bytes() == content
    inode = path.stat().st_ino
    assert kept(bundle()) == path
    assert path.stat().st_ino == inode
    path.write_bytes(content[:1000])
    assert kept(bundle()).read_bytes() == content
    assert kept(Bundle("another")) != path
    assert len(list(path.parent.iterdir())) == 2


def test_many_programs_keep_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them ever has half a file."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    big = Bundle(bundle().archive * 20)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            contents = list(pool.map(lambda _: kept(big).read_bytes(), range(8)))
            assert set(contents) == {big.archive.encode()}
            kept(big).unlink()
    assert list(kept(big).parent.iterdir()) == [kept(big)]


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(GroundplaneError) as raised:
        kept(bundle())
    assert str(tmp_path / "file") in str(raised.value)
    assert "XDG_CACHE_HOME" in str(raised.value)
