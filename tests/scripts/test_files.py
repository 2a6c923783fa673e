"""The operations on files: what is right already is left alone, what is not changes as a whole."""

from __future__ import annotations

import stat
from hashlib import sha256

import pytest
from support.host import Host

PATH = "/etc/groundplane/example"


def put(host: Host, content: str, mode: str = "0644"):
    return host.bash(
        f"printf %s '{content}' | put_file {PATH} {mode} && echo is new || echo is old"
    )


def test_a_file_is_put_once(host: Host) -> None:
    assert put(host, "one").out.splitlines() == [f"changed {PATH}", "is new"]
    assert host.read(PATH) == "one"
    assert put(host, "one").out == "is old\n"
    assert put(host, "two").out.splitlines() == [f"changed {PATH}", "is new"]
    assert host.read(PATH) == "two"


def test_the_fact_is_recorded_either_way(host: Host) -> None:
    expected = ["file", PATH, "0600", sha256(b"one").hexdigest()]
    for _ in range(2):
        put(host, "one", "0600")
        assert host.facts() == [expected]


def test_a_wrong_mode_is_a_difference(host: Host) -> None:
    put(host, "one", "0644")
    assert put(host, "one", "0600").changes == [PATH]
    assert stat.S_IMODE(host.path(PATH).stat().st_mode) == 0o600


def test_nothing_is_left_in_the_folder_for_data(host: Host) -> None:
    put(host, "one")
    put(host, "one")
    assert not list(host.path("/run/groundplane").glob("put.*"))


def test_an_empty_file_is_a_file(host: Host) -> None:
    assert put(host, "").changes == [PATH]
    assert host.read(PATH) == ""


# ---- atomic ----------------------------------------------------------------------------------


def test_a_file_is_replaced_and_not_written_over(host: Host) -> None:
    """Whoever has the old file open reads the old file to its end."""
    done = host.bash(f"""
      write_atomically {PATH} 0644 <<<old
      exec 3<{PATH}
      write_atomically {PATH} 0644 <<<new
      cat - {PATH} <&3""")
    assert done.out == "old\nnew\n", done.err
    assert [p.name for p in host.path(PATH).parent.iterdir()] == ["example"]


def test_a_file_reaches_the_disk_before_its_name_does(host: Host) -> None:
    host.fake("sync", f'echo "$(cat {PATH} 2>/dev/null || echo none)" "$(cat "$1")" >>"$CALLS"')
    host.bash(f"write_atomically {PATH} 0644 <<<old; write_atomically {PATH} 0644 <<<new")
    assert host.calls == ["none old", "old new"]


def test_a_full_disk_leaves_the_old_file(host: Host) -> None:
    done = host.bash("""
      mkdir -p /etc/small
      mount -t tmpfs -o size=16k small /etc/small
      write_atomically /etc/small/file 0644 <<<old
      (head -c 100000 /dev/zero | write_atomically /etc/small/file 0644) || echo refused
      cat /etc/small/file
      ls -A /etc/small""")
    assert done.out.splitlines() == ["refused", "old", "file"]
    assert "cannot write /etc/small/file: no space left" in done.err


def test_a_writer_that_is_killed_leaves_the_old_file(host: Host) -> None:
    done = host.bash(f"""
      write_atomically {PATH} 0644 <<<old
      mkfifo /run/half
      write_atomically {PATH} 0644 </run/half & writer=$!
      exec 3>/run/half
      head -c 100000 /dev/zero >&3
      kill -KILL "$writer"
      cat {PATH}""")
    assert done.out == "old\n", done.err


# ---- links and removal -----------------------------------------------------------------------


def link(host: Host, target: str):
    return host.bash(f"put_link /usr/local/bin/tool {target} && echo is new || echo is old")


def test_a_link_is_put_once(host: Host) -> None:
    first = link(host, "/opt/one/tool")
    assert first.out.splitlines() == ["changed /usr/local/bin/tool -> /opt/one/tool", "is new"]
    assert link(host, "/opt/one/tool").out == "is old\n"
    assert host.facts() == [["link", "/usr/local/bin/tool", "/opt/one/tool"]]
    assert link(host, "/opt/two/tool").changes == ["/usr/local/bin/tool -> /opt/two/tool"]
    assert host.path("/usr/local/bin/tool").readlink().as_posix() == "/opt/two/tool"


def test_a_link_to_a_folder_is_replaced_and_not_entered(host: Host) -> None:
    host.bash("mkdir -p /opt/one /opt/two; put_link /opt/current /opt/one")
    host.bash("put_link /opt/current /opt/two")
    assert host.path("/opt/current").readlink().as_posix() == "/opt/two"
    assert not list(host.path("/opt/one").iterdir())


def test_a_file_in_the_place_of_a_link_gives_way(host: Host) -> None:
    host.write("/usr/local/bin/tool", "left by somebody")
    assert link(host, "/opt/one/tool").changes
    assert host.path("/usr/local/bin/tool").is_symlink()


def test_what_is_removed(host: Host) -> None:
    host.write("/etc/keep/file", "")
    remove = "remove_paths /etc/gone /etc/folder /etc/absent"
    done = host.bash(f"ln -s /etc/keep /etc/gone; mkdir -p /etc/folder/in; {remove}")
    assert done.changes == ["/etc/gone removed", "/etc/folder removed"]
    assert host.there("/etc/keep/file")
    assert host.bash(remove).out == ""


def test_what_is_mounted_below_is_not_emptied(host: Host) -> None:
    done = host.bash("""
      mkdir -p /etc/folder/mounted /etc/other
      mount --bind /etc/other /etc/folder/mounted
      mount -t tmpfs other /etc/folder/mounted
      touch /etc/folder/mounted/precious
      (remove_paths /etc/folder) || true
      ls /etc/folder/mounted""")
    assert done.out.splitlines()[-1] == "precious"


# ---- facts about files -----------------------------------------------------------------------


def test_the_same_file(host: Host) -> None:
    host.write(PATH, "one\n")
    done = host.bash(
        f"for word in one two; do same_file {PATH} <<<$word && echo same || echo another; done;"
        "same_file /etc/absent <<<one || echo another"
    )
    assert done.out.split() == ["same", "another", "another"]


def test_a_file_that_another_program_wrote_is_recorded_as_it_is(host: Host) -> None:
    host.write(PATH, "one\n", 0o640)
    host.bash(f"keep_file {PATH}")
    assert host.facts() == [["file", PATH, "0640", sha256(b"one\n").hexdigest()]]


@pytest.mark.parametrize(
    "now, drifted", [("one\n", False), ("two\n", True), (None, True)], ids=["same", "other", "gone"]
)
def test_drift_of_a_recorded_file(host: Host, now: str | None, drifted: bool) -> None:
    digest = sha256(b"one\n").hexdigest()
    host.write("/var/lib/groundplane/ledger/node.facts", f"file\t{PATH}\t0644\t{digest}\n")
    if now is not None:
        host.write(PATH, now)
    done = host.bash(f"drifted {PATH} && echo drifted || echo held", step="node")
    assert done.out == ("drifted\n" if drifted else "held\n")


def test_a_file_that_was_never_recorded_has_not_drifted(host: Host) -> None:
    host.write(PATH, "one\n")
    assert host.bash(f"drifted {PATH} || echo held", step="node").out == "held\n"


def test_applied_settings(host: Host) -> None:
    done = host.bash(
        "echo [$(applied kubelet)]; mark_applied kubelet abc; echo [$(applied kubelet)]"
    )
    assert done.out.split() == ["[]", "[abc]"]
