"""From the call of a step to its ledger: `run`, `step`, and the installation before them."""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
import time
from pathlib import Path

import pytest
from support.host import SCRIPTS, Done, Host

from groundplane.remote import ledger
from groundplane.remote.bundle import LIBRARY, bundle, installer

STEP = """
apply() {
  put_file /etc/example 0644 < <(data .content) || true
  [ -z "$(data .fails)" ] || die "it fails" "mend it"
  [ -z "$(data .result)" ] || data .result >"$RESULT"
  local found
  found=$(half)
}
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
    assert host.calls == []
    host.path("/run/units/active/groundplane-example").unlink()
    _, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "changed /etc/example\n")
    assert [call for call in host.calls if call.startswith("systemd-run")] == [
        "systemd-run groundplane-example step example apply"
    ]


# ---- installation ----------------------------------------------------------------------------


def install(host: Host, name: str = "", token: str = "t1") -> Done:
    scripts = bundle()
    return host.execute(
        "sh", "-c", installer(), stdin=f"{name or scripts.hash} metal {token}\n{scripts.archive}"
    )


@pytest.fixture
def blank(host: Host) -> Host:
    host.fake("dpkg-query", "echo 'install ok installed'")
    return host


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


def test_a_host_knows_which_release_it_has(blank: Host) -> None:
    install(blank)
    entry = ledger.entry(blank.read("/var/lib/groundplane/ledger/bundle.json"))
    assert entry is not None
    assert (entry.stack, entry.step, entry.token) == ("metal", "bundle", "t1")
    fact = blank.read("/var/lib/groundplane/ledger/bundle.facts").rstrip("\n").split("\t")
    assert fact == ["link", f"{LIBRARY}/current", f"{LIBRARY}/{bundle().hash}"]
    assert blank.path("/var/lib/groundplane").stat().st_mode & 0o777 == 0o700


def test_the_same_release_again_changes_nothing(blank: Host) -> None:
    install(blank)
    assert install(blank) == Done(0, "", "")


def test_one_other_release_stays(blank: Host) -> None:
    """A step that still runs reads its own."""
    for name in ("1111", "2222", "3333"):
        assert install(blank, name).status == 0
        # Their age is told by their time, in seconds on some file systems.
        time.sleep(0.02)
    folder = blank.path(LIBRARY)
    assert sorted(p.name for p in folder.iterdir()) == ["2222", "3333", "current"]


def test_an_archive_that_is_cut_off(blank: Host) -> None:
    install(blank, "1111")
    half = bundle().archive[:2000]
    done = blank.execute("sh", "-c", installer(), stdin=f"2222 metal t1\n{half}")
    assert done.status != 0
    assert blank.path(f"{LIBRARY}/current").readlink().as_posix() == f"{LIBRARY}/1111"
    assert [p.name for p in blank.path(LIBRARY).iterdir() if p.is_dir() and not p.is_symlink()] == [
        "1111"
    ]


def test_the_same_scripts_make_the_same_bundle(tmp_path: Path) -> None:
    once, again = bundle(), bundle.__wrapped__()
    assert once == again
    assert len(once.hash) == 16
    archive = tmp_path / "archive.tgz"
    archive.write_bytes(base64.b64decode(once.archive))
    with tarfile.open(archive) as tar:
        assert all((m.uid, m.gid, m.mtime) == (0, 0, 0) for m in tar.getmembers())
