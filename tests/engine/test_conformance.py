"""What the product relies on in the command plugin, on the real engine.

Each test runs on the lab's stand-in and, where there is one, on the official plugin: the suite
says what the plugin does, not what anyone would wish.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
from engine_harness import (
    Network,
    Server,
    Stack,
    free_port,
    interrupt,
    keygen,
    shown,
    unanswering_port,
    wait_for,
)

# A remote command over the connection CONNECTION; `say` is a command that leaves a trace.
REMOTE = """
connection = {connection}
def command(name, opts=None, **given):
    return remote.Command(name, connection=connection, opts=opts, **given)
def say(word, then="true"):
    return f"echo {{word}} >> {{here}}/trace; {{then}}"
"""
LOCAL = """
def command(name, opts=None, **given):
    return local.Command(name, opts=opts, **given)
def say(word, then="true"):
    return f"echo {word} >> {here}/trace; {then}"
"""
# An upload over the connection CONNECTION; all paths are below the test's folder.
UPLOAD = """
connection = {connection}
def copy(source, to, name="u", **given):
    asset = pulumi.FileAsset(str(here / source)) if isinstance(source, str) else source
    return remote.CopyToRemote(name, connection=connection, source=asset,
                               remote_path=str(here / to), **given)
"""


@pytest.fixture(params=["remote", "local"])
def place(request: pytest.FixtureRequest, host: Server, network: Network) -> str:
    """Program text that defines `command` for either kind; most behaviour is common to both."""
    if request.param == "local":
        return LOCAL
    return REMOTE.format(connection=network.connection(host.port))


@pytest.fixture
def over_ssh(host: Server, network: Network) -> str:
    """Program text that defines `command` as a remote one."""
    return REMOTE.format(connection=network.connection(host.port))


@pytest.fixture
def uploads(host: Server, network: Network) -> str:
    """Program text that defines `copy`."""
    return UPLOAD.format(connection=network.connection(host.port))


def lines(*parts: str) -> str:
    """One program from parts that each begin at the margin."""
    return "\n".join(part.strip("\n") for part in parts)


def test_the_plugin_is_the_one_under_test(stack: Stack, implementation: str) -> None:
    """A mistake in finding it would let the wrong one pass."""
    stack.up(
        lines(LOCAL, 'pulumi.export("exe", command("c", create="readlink /proc/$PPID/exe").stdout)')
    )
    is_python = "python" in Path(stack.outputs()["exe"]).name
    assert is_python is (implementation == "standin")


# Life of a command


def test_life(stack: Stack, place: str) -> None:
    """Create; no change, no run; update by `update`; delete sees the last inputs and outputs."""
    program = lines(
        place,
        """
c = command("c", create=say("create", "echo one; echo two; echo oops >&2"),
            update=say("update", "cat; echo second"), stdin=pulumi.Config().get("stdin"),
            delete=say("delete", "cat >> " + str(here / "trace")))
pulumi.export("stdout", c.stdout)
pulumi.export("stderr", c.stderr)
""",
    )
    first = stack.up(program)
    assert first.steps == {"c": "create"}
    # One newline at the end goes, those inside stay.
    assert stack.outputs() == {"stdout": "one\ntwo", "stderr": "oops"}
    assert stack.trace() == ["create"]

    again = stack.up()
    assert again.steps == {"c": "same"}
    assert stack.trace() == []

    stack.cli("config", "set", "stdin", "from stdin\n")
    changed = stack.up()
    assert changed.steps == {"c": "update"}
    assert stack.outputs() == {"stdout": "from stdin\nsecond", "stderr": ""}
    assert stack.trace() == ["update"]

    assert stack.destroy().steps == {"c": "delete"}
    assert stack.trace() == ["delete", "from stdin"]


def test_update_runs_create_when_there_is_no_update(stack: Stack, place: str) -> None:
    """Any changed input does it; without create and update, nothing runs and outputs stay."""
    for word in ("a", "b"):
        stack.up(lines(place, f'command("c", create=say("{word}"))'))
        assert stack.trace() == [word]
    stack.up(lines(place, 'command("c", create=say("b"), stdin="other")'))
    assert stack.trace() == ["b"]
    stack.up(lines(place, 'command("c", stdin="other")'))
    stack.up(lines(place, 'command("c", delete=say("gone"))'))
    assert stack.trace() == []
    stack.up("")
    assert stack.trace() == ["gone"]


def test_without_commands_nothing_runs(stack: Stack, place: str) -> None:
    """A command with nothing to run is made, has empty outputs, and goes without a trace."""
    program = lines(place, 'c = command("c")', 'pulumi.export("out", [c.stdout, c.stderr])')
    stack.up(program)
    assert stack.outputs() == {"out": ["", ""]}
    assert stack.up("").steps == {"c": "delete"}


@pytest.mark.parametrize(
    ("before", "after"),
    [("[1]", "[2]"), ("None", "[1]"), ("[1]", "[1, 'x']"), ("[{'a': 1}]", "[{'a': 2}]")],
)
def test_triggers_replace(stack: Stack, before: str, after: str) -> None:
    """Create first, then delete of the old, with the old inputs."""
    program = 'command("c", create=say("create"), update=say("update"), delete=say("{}"), {})'
    stack.up(lines(LOCAL, program.format("old", f"triggers={before}")))
    stack.trace()
    result = stack.up(lines(LOCAL, program.format("new", f"triggers={after}")))
    assert result.steps == {"c": "replace"}
    assert stack.trace() == ["create", "old"]


def test_delete_is_refused(stack: Stack, place: str) -> None:
    """A delete that fails keeps the command in the state, and is tried again."""
    stack.up(lines(place, f'command("c", delete=say("delete", "test -e {stack.here}/may"))'))
    assert "exit" in stack.fail("")
    assert stack.trace() == ["delete"]
    (stack.here / "may").touch()
    assert stack.up("").steps == {"c": "delete"}


def test_failed_create_leaves_nothing(stack: Stack, place: str) -> None:
    """It is not in the state, so its delete never runs."""
    stack.fail(lines(place, 'command("c", create="exit 1", delete=say("delete"))'))
    assert '::c"' not in stack.state()
    stack.up("")
    assert stack.trace() == []


def test_failed_update_is_tried_again(stack: Stack, place: str) -> None:
    """The state keeps the inputs with which it last succeeded."""
    stack.up(lines(place, 'command("c", create="true")'))
    failing = lines(place, f'command("c", create=say("again", "test -e {stack.here}/may"))')
    stack.fail(failing)
    assert stack.resource("c")["inputs"]["create"] == "true"
    (stack.here / "may").touch()
    assert stack.up(failing).steps == {"c": "update"}
    assert stack.trace() == ["again", "again"]


def test_refresh_sees_nothing(stack: Stack, place: str) -> None:
    """There is no Read: a refresh neither runs nor changes anything."""
    stack.up(lines(place, 'command("c", create=say("create"))'))
    stack.trace()
    stack.cli("refresh", "--yes", "--skip-preview")
    assert stack.up().steps == {"c": "same"}
    assert stack.trace() == []


# What the user sees


def test_failure_text(stack: Stack, place: str) -> None:
    """How it ended, the whole command in quotes, and both streams."""
    command = "echo 'it \\\"said\\\"\\té'; echo that >&2; exit 3"
    text = stack.fail(lines(place, f'command("c", create="{command}")'))
    assert re.search(
        r"""(Process exited with status 3|exit status 3): running """
        r""""echo 'it \\"said\\"\\té'; echo that >&2; exit 3":""",
        text,
    )
    assert 'it "said"' in text
    assert "that" in text


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_killed_by_signal(stack: Stack, place: str, signal: str) -> None:
    """The signal is named, in the words of the place."""
    text = stack.fail(lines(place, f'command("c", create="kill -{signal} $$; sleep 1")'))
    number, word = {"KILL": (137, "killed"), "TERM": (143, "terminated")}[signal]
    assert (
        f"Process exited with status {number} from signal {signal}: running" in text
        or f"signal: {word}: running" in text
    )


@pytest.mark.parametrize(
    ("logging", "shown"),
    [
        (None, {"out", "err"}),
        ("stdout", {"out"}),
        ("stderr", {"err"}),
        ("stdoutAndStderr", {"out", "err"}),
        ("none", set()),
    ],
)
def test_logging(stack: Stack, logging: str | None, shown: set[str]) -> None:
    """What is shown while it runs; the outputs hold both streams all the same."""
    words = {"out": "heard-on-stdout", "err": "heard-on-stderr"}
    # Built by the shell, so that the words are not in the command, which the engine may show.
    program = lines(
        LOCAL,
        f"""
c = command("c", create="a=heard; echo $a-on-stdout; echo $a-on-stderr >&2", logging={logging!r})
""",
    )
    result = stack.up(program)
    assert {key for key, word in words.items() if word in result.text} == shown
    assert stack.resource("c")["outputs"]["stderr"] == words["err"]


# Input and output


def test_big_input_and_output(stack: Stack, place: str) -> None:
    """Four megabytes each way come through whole."""
    stack.up(
        lines(
            place,
            """
text = "".join(f"{n:09d}\\n" for n in range(400_000))
c = command("c", create="tee /dev/stderr | wc -c; head -c 3 /dev/zero >/dev/null", stdin=text,
            logging="none")
d = command("d", create="cat", stdin=text, logging="none")
pulumi.export("counted", c.stdout)
pulumi.export("same", d.stdout.apply(lambda out: out + "\\n" == text))
pulumi.export("stderr", c.stderr.apply(lambda out: out + "\\n" == text))
""",
        )
    )
    assert stack.outputs() == {"counted": "4000000", "same": True, "stderr": True}


def test_unread_input(stack: Stack, place: str) -> None:
    """A command that does not read its input succeeds."""
    stack.up(lines(place, 'command("c", create="true", stdin="x" * 1_000_000)'))


def test_output_is_kept_as_it_is(stack: Stack, place: str) -> None:
    """Only one newline goes from the end; blanks and other newlines stay."""
    stack.up(
        lines(
            place,
            """
c = command("c", create="printf ' a\\\\tb\\\\r\\\\n\\\\n\\\\n'; printf 'größe' >&2")
pulumi.export("out", [c.stdout, c.stderr])
""",
        )
    )
    assert stack.outputs() == {"out": [" a\tb\r\n\n", "größe"]}


def test_previous_output_in_environment(stack: Stack) -> None:
    """A later run and the delete find the last output in two variables, unless told not to."""
    program = """
c = command("c", create="printf made; printf warned >&2",
            update=say("$PULUMI_COMMAND_STDOUT-$PULUMI_COMMAND_STDERR", "printf changed"),
            delete=say("$PULUMI_COMMAND_STDOUT-$PULUMI_COMMAND_STDERR"),
            stdin=os.environ["WORD"], add_previous_output_in_env={})
"""
    for choice, traces in [("None", ["made-warned", "changed-"]), ("False", ["-", "-"])]:
        for word in ("a", "b"):
            stack.environment["WORD"] = word
            stack.up(lines(LOCAL, program.format(choice)))
        stack.up("")
        assert stack.trace() == traces


def test_environment(stack: Stack, over_ssh: str) -> None:
    """Remote: what the server's AcceptEnv takes is there; anything else fails before the run."""
    stack.up(
        lines(
            over_ssh,
            """
c = command("c", create="printf $ALLOWED_ONE", environment={"ALLOWED_ONE": "yes"})
pulumi.export("out", c.stdout)
""",
        )
    )
    assert stack.outputs() == {"out": "yes"}
    text = stack.fail(
        lines(over_ssh, 'command("d", create=say("ran"), environment={"OTHER": "no"})')
    )
    assert 'could not set environment variable "OTHER"' in text
    assert "AcceptEnv" in text
    assert stack.trace() == []


def test_refused_previous_output_only_warns(stack: Stack, over_ssh: str) -> None:
    """The server does not take the two variables; the command runs without them."""
    for word in ("a", "b"):
        result = stack.up(lines(over_ssh, f'command("c", create=say("{word}", "echo out"))'))
        assert stack.trace() == [word]
    assert "Unable to set 'PULUMI_COMMAND_STDOUT'" in result.text
    quiet = 'command("c", create=say("c", "echo out"), add_previous_output_in_env=False)'
    assert "Unable to set" not in stack.up(lines(over_ssh, quiet)).text


def test_local_place(stack: Stack) -> None:
    """dir, interpreter and environment; a folder or a program that is not there fails."""
    stack.up(
        lines(
            LOCAL,
            """
(here / "folder").mkdir(exist_ok=True)
c = command("c", create="pwd; echo $WHAT", dir=str(here / "folder"), environment={"WHAT": "it"})
d = command("d", create="print(6 * 7)", interpreter=["python3", "-c"])
pulumi.export("out", [c.stdout, d.stdout])
""",
        )
    )
    assert stack.outputs() == {"out": [f"{stack.here}/folder\nit", "42"]}
    missing = 'command("c", create="true", dir="/not/here")'
    assert "chdir /not/here: no such file or directory" in stack.fail(lines(LOCAL, missing))
    for name, words in [
        ("nope", 'exec: "nope": executable file not found in $PATH'),
        ("/nope", "fork/exec /nope: no such file or directory"),
    ]:
        program = f'command("d", create="true", interpreter=["{name}"])'
        assert f'{words}: running "true"' in stack.fail(lines(LOCAL, program))


# Previews


def test_unknown_in_previews(stack: Stack, place: str) -> None:
    """Outputs are unknown before a create, before an update, and known when nothing changes."""
    program = """
c = command("c", create="cat", stdin={})
d = command("d", create="cat", stdin=c.stdout)
c.stdout.apply(lambda out: (here / "known").write_text(out))
pulumi.export("out", d.stdout)
"""
    seen = stack.here / "known"
    assert stack.preview(lines(place, program.format('"1"'))).steps == {
        "c": "create",
        "d": "create",
    }
    assert not seen.exists()
    stack.up()
    assert stack.outputs() == {"out": "1"}
    seen.unlink()
    assert stack.preview(lines(place, program.format('"2"'))).steps == {
        "c": "update",
        "d": "update",
    }
    assert not seen.exists()
    stack.up()
    assert stack.outputs() == {"out": "2"}
    seen.unlink()
    assert stack.preview().steps == {"c": "same", "d": "same"}
    assert seen.read_text() == "2"


def test_a_program_can_tell_that_its_state_is_new(stack: Stack, place: str) -> None:
    """Of what ignores all changes, only what was never made is unknown in a preview."""
    program = """
c = command("c", create="cat", stdin={}, opts=ResourceOptions(ignore_changes=["stdin"]))
def tell(out):
    pulumi.log.warn("adopted" if pulumi.contains_unknowns(out) else "known")
c.stdout.apply(tell, run_with_unknowns=True)
"""
    assert "adopted" in stack.preview(lines(place, program.format('"1"'))).text
    assert "known" in stack.up().text
    later = stack.preview(lines(place, program.format('"2"')))
    assert "known" in later.text
    assert "adopted" not in later.text


def test_preview_runs_nothing(stack: Stack, place: str) -> None:
    """Neither for a create, an update, a replacement nor a delete."""
    program = 'command("c", create=say("create"), delete=say("delete"), {})'
    assert stack.preview(lines(place, program.format(""))).steps == {"c": "create"}
    stack.up()
    stack.trace()
    for change, step in [('stdin="x"', "update"), ("triggers=[1]", "replace")]:
        assert stack.preview(lines(place, program.format(change))).steps == {"c": step}
    assert stack.preview("").steps == {"c": "delete"}
    assert stack.trace() == []


def test_preview_shows_the_change(stack: Stack, place: str) -> None:
    """Field by field, within a JSON document too; a change of the connection shows no secret."""
    program = 'command("c", create="true", stdin=json.dumps({{"kept": 1, "changed": {}}}))'
    stack.up(lines(place, program.format('"before"')))
    text = stack.preview(lines(place, program.format('"after"'))).text
    assert re.search(r'changed\W+"before" => "after"', text)
    assert re.search(r"\[diff: ~stdin\]|~ stdin", text)


# Secrets


def test_secrets(stack: Stack, host: Server, network: Network) -> None:
    """The connection always, what came in as a secret, and the outputs that were named so."""
    connection = network.connection(host.port, password="'hidden-password'")
    result = stack.up(
        lines(
            REMOTE.format(connection=connection),
            """
command("c", create="cat", stdin=Output.secret("hidden-stdin"), logging="none",
        opts=ResourceOptions(additional_secret_outputs=["stdout", "stderr"]))
command("d", create="echo seen-stdout", stdin="seen-stdin")
""",
        )
    )
    state = stack.state()
    for hidden in ("hidden-password", "hidden-stdin", "OPENSSH PRIVATE KEY", str(host.port)):
        assert hidden not in state
        assert hidden not in result.text
    for seen in ("seen-stdin", "seen-stdout"):
        assert seen in state
    assert stack.resource("c")["outputs"]["stdout"] == {
        "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270",
        "plaintext": '"hidden-stdin"',
    }
    again = stack.preview()
    assert set(again.steps.values()) == {"same"}


def test_output_of_a_secret_input_is_not_secret(stack: Stack, place: str) -> None:
    """A plugin cannot know what a command makes of its input: name the outputs."""
    stack.up(lines(place, 'command("c", create="tr a-z A-Z", stdin=Output.secret("leak"))'))
    assert "LEAK" in stack.state()
    assert "leak" not in stack.state()


def test_connection_defaults(stack: Stack, over_ssh: str) -> None:
    """What the user left out is in the state, so that a default can never change silently."""
    stack.up(lines(over_ssh, 'command("c")'))
    connection = stack.resource("c")["inputs"]["connection"]
    assert '"perDialTimeout":15' in connection["plaintext"].replace(" ", "")


def test_a_state_serves_both_plugins(
    plain_stack: Stack, over_ssh: str, official_environment: dict[str, str]
) -> None:
    """What one has made is unchanged for the other: the lab's stacks can move on."""
    program = lines(
        over_ssh,
        """
command("c", create="cat", stdin="x", environment={}, triggers=[1])
(here / "source").write_text("x")
remote.CopyToRemote("u", connection=connection, source=pulumi.FileAsset(str(here / "source")),
                    remote_path=str(here / "target"), triggers=[1])
""",
    )
    standin = plain_stack.environment
    plain_stack.up(program)
    plain_stack.environment = standin | {"PATH": official_environment["PATH"]}
    assert plain_stack.up().steps == {"c": "same", "u": "same"}
    plain_stack.up(program.replace('"x"', '"y"'))
    plain_stack.environment = standin
    assert plain_stack.up().steps == {"c": "same", "u": "same"}


# Uploads


def test_life_of_an_upload(stack: Stack, uploads: str) -> None:
    """Copied by the first update, again when content or target change; what is there stays."""
    source, target = stack.here / "source", stack.here / "new/folders/target"
    source.write_text("one")
    program = lines(uploads, 'copy("source", "new/folders/target")')
    assert stack.preview(program).steps == {"u": "create"}
    assert not target.parent.exists()
    assert stack.up().steps == {"u": "create"}
    assert target.read_text() == "one"

    target.write_text("by another hand")
    assert stack.up().steps == {"u": "same"}
    assert target.read_text() == "by another hand"

    source.write_text("two")
    assert stack.preview().steps == {"u": "update"}
    assert target.read_text() == "by another hand"
    assert stack.up().steps == {"u": "update"}
    assert target.read_text() == "two"

    moved = stack.up(lines(uploads, 'copy("source", "other")'))
    assert moved.steps == {"u": "update"}
    assert (stack.here / "other").read_text() == "two"

    assert stack.destroy().steps == {"u": "delete"}
    assert target.exists()


def test_another_connection_alone_copies_nothing(stack: Stack, uploads: str) -> None:
    """The state has the new one; that the file is there too, nobody asks."""
    (stack.here / "source").write_text("one")
    program = lines(uploads, 'copy("source", "target")')
    stack.up(program)
    (stack.here / "target").unlink()
    changed = program.replace("dial_error_limit=2", "dial_error_limit=3")
    assert changed != program
    assert stack.up(changed).steps == {"u": "update"}
    assert not (stack.here / "target").exists()


def test_triggers_replace_an_upload(stack: Stack, uploads: str) -> None:
    """It is copied again; the old one's delete takes nothing away."""
    (stack.here / "source").write_text("one")
    program = 'copy("source", "target", triggers=[{}])'
    stack.up(lines(uploads, program.format(1)))
    (stack.here / "target").unlink()
    assert stack.up(lines(uploads, program.format(2))).steps == {"u": "replace"}
    assert (stack.here / "target").read_text() == "one"


def test_the_content_counts_and_not_the_path(stack: Stack, uploads: str) -> None:
    """Another computer has the same file elsewhere, or has it no more."""
    (stack.here / "source").write_text("one")
    stack.up(lines(uploads, 'copy("source", "target")'))
    (stack.here / "source").rename(stack.here / "elsewhere")
    assert stack.up(lines(uploads, 'copy("elsewhere", "target")')).steps == {"u": "same"}
    (stack.here / "elsewhere").unlink()
    stack.cli("refresh", "--yes", "--skip-preview")
    (stack.here / "another").write_text("two")
    changed = lines(uploads, 'copy("another", "target")')
    assert stack.preview(changed).steps == {"u": "update"}
    assert stack.up().steps == {"u": "update"}
    (stack.here / "another").unlink()
    assert stack.destroy().steps == {"u": "delete"}


def test_the_state_has_the_hash_and_not_the_content(stack: Stack, uploads: str) -> None:
    (stack.here / "source").write_text("canary " * 1000)
    stack.up(lines(uploads, 'copy("source", "target")'))
    resource = stack.resource("u")
    for side in ("inputs", "outputs"):
        assert resource[side]["source"].keys() - {"path", "hash"} == {
            "4dabf18193072939515e22adb298388d"
        }
    state = stack.state()
    assert "canary" not in state
    assert resource["inputs"]["source"]["hash"] in state
    assert "OPENSSH PRIVATE KEY" not in state


def test_a_host_that_is_gone_holds_no_upload_up(stack: Stack, network: Network) -> None:
    """With its inputs ignored it stays as it is, also where its file is gone; its delete calls
    nobody."""
    (stack.here / "source").write_text("one")
    (stack.here / "changed").write_text("two")
    with network.server() as server:
        uploads = UPLOAD.format(connection=network.connection(server.port))
        stack.up(lines(uploads, 'copy("source", "target")'))
    (stack.here / "source").unlink()
    inputs = ["connection", "source", "remotePath", "triggers", "stdin"]
    ignoring = f'copy("changed", "elsewhere", opts=ResourceOptions(ignore_changes={inputs}))'
    assert stack.up(lines(uploads, ignoring)).steps == {"u": "same"}
    assert stack.up("").steps == {"u": "delete"}


def test_a_text_is_uploaded(stack: Stack, uploads: str) -> None:
    program = 'copy(pulumi.StringAsset("{}"), "{}")'
    stack.up(lines(uploads, program.format("größe", "a/target")))
    assert (stack.here / "a/target").read_text() == "größe"
    assert stack.up().steps == {"u": "same"}
    text = stack.fail(lines(uploads, program.format("x", "a")))
    assert f"remote path {stack.here}/a is a directory; when using a text asset" in text


def test_where_an_upload_arrives(stack: Stack, uploads: str) -> None:
    """In a folder under its own name; over a file, whose mode stays, through a link."""
    (stack.here / "source").write_bytes(bytes(range(256)) * 20_000)
    (stack.here / "folder").mkdir()
    there = stack.here / "there"
    there.write_text("before, and longer than that which comes" * 200_000)
    there.chmod(0o600)
    (stack.here / "link").symlink_to(there)
    stack.up(lines(uploads, 'copy("source", "folder")', 'copy("source", "link", name="l")'))
    content = (stack.here / "source").read_bytes()
    assert (stack.here / "folder/source").read_bytes() == content
    assert there.read_bytes() == content
    assert there.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        # Full; no room for anybody, root included; a file where a folder must be.
        ("/dev/full", 'failed to copy file {source} to remote path {target}: sftp: "Failure"'),
        ("/sys/upload", "failed to create remote file {target}: permission denied"),
        ("/sys/new/upload", "failed to create parent directories for {target}: permission denied"),
        (
            "source/under",
            "failed to create parent directories for {target}: mkdir {source}: not a directory",
        ),
    ],
)
def test_an_upload_that_fails(stack: Stack, uploads: str, target: str, reason: str) -> None:
    """With the place and the cause, as far as SFTP tells it; it is not in the state then."""
    source = stack.here / "source"
    source.write_text("more than a packet\n" * 10_000)
    text = stack.fail(lines(uploads, f'copy("source", "{target}")'))
    assert reason.format(source=source, target=stack.here / target) in text
    assert '::u"' not in stack.state()


def test_an_upload_of_what_is_not_there(stack: Stack, uploads: str) -> None:
    """The engine itself looks, before it asks the plugin."""
    text = stack.fail(lines(uploads, 'copy("nothing", "target")'), verb="preview")
    assert f"{stack.here}/nothing" in text
    assert "no such file or directory" in text


def test_an_upload_refuses_another_host_key(stack: Stack, host: Server, network: Network) -> None:
    (stack.here / "source").write_text("one")
    keygen(stack.here / "other")
    wrong = " ".join((stack.here / "other.pub").read_text().split()[:2])
    connection = network.connection(host.port, host_key=repr(wrong))
    text = stack.fail(lines(UPLOAD.format(connection=connection), 'copy("source", "target")'))
    assert "after 2 failed attempts: ssh: handshake failed: ssh: host key mismatch" in text
    assert not (stack.here / "target").exists()


def test_an_upload_to_a_server_without_sftp(stack: Stack, network: Network) -> None:
    (stack.here / "source").write_text("one")
    with network.server(sftp=False) as server:
        uploads = UPLOAD.format(connection=network.connection(server.port))
        text = stack.fail(lines(uploads, 'copy("source", "target")'))
    assert "ssh: subsystem request failed" in text


def test_stricter_uploads_than_the_official_plugin(plain_stack: Stack, uploads: str) -> None:
    """Archives are refused rather than left out in silence; and a full disk is an error for a
    small file as well, which that one takes for copied."""
    archive = 'copy(pulumi.FileArchive(str(here)), "target")'
    text = plain_stack.fail(lines(uploads, archive), verb="preview")
    assert "stand-in for command copies files and texts" in text
    (plain_stack.here / "source").write_text("one")
    text = plain_stack.fail(lines(uploads, 'copy("source", "/dev/full")'))
    assert 'to remote path /dev/full: sftp: "Failure"' in text


# Connecting


def test_host_key(stack: Stack, host: Server, network: Network) -> None:
    """The right key passes; a wrong one is refused before anything runs; unset is unchecked."""
    keygen(stack.here / "other")
    wrong = " ".join((stack.here / "other.pub").read_text().split()[:2])
    for key, fails in [(host.host_key, False), (host.host_key + " comment", False), (wrong, True)]:
        program = lines(
            REMOTE.format(connection=network.connection(host.port, host_key=repr(key))),
            f'command("c", create=say("ran"), triggers=[{key!r}])',
        )
        if fails:
            text = stack.fail(program)
            assert "after 2 failed attempts: ssh: handshake failed: ssh: host key mismatch" in text
            assert stack.trace() == []
        else:
            stack.up(program)
            assert stack.trace() == ["ran"]
    garbled = network.connection(host.port, host_key="'not a key'")
    text = stack.fail(lines(REMOTE.format(connection=garbled), 'command("d", create="true")'))
    assert "failed to parse host key" in text


def test_keys(stack: Stack, host: Server, network: Network) -> None:
    """A wrong key fails, a locked one opens with its password, and a garbled one says so."""
    keygen(stack.here / "stranger")
    stranger = network.connection(host.port, key=stack.here / "stranger")
    text = stack.fail(lines(REMOTE.format(connection=stranger), 'command("c", create="true")'))
    assert "after 2 failed attempts: ssh: handshake failed: ssh: unable to authenticate" in text
    keygen(stack.here / "locked", passphrase="open sesame")
    locked = network.connection(host.port, key=stack.here / "locked")
    text = stack.fail(lines(REMOTE.format(connection=locked), 'command("c", create="true")'))
    assert "this private key is passphrase protected" in text
    garbled = network.connection(host.port, private_key="'garbled'")
    text = stack.fail(lines(REMOTE.format(connection=garbled), 'command("c", create="true")'))
    assert "ssh: no key found" in text


def test_dial_gives_up(stack: Stack, network: Network) -> None:
    """After `dialErrorLimit` further tries, with the last error."""
    port = free_port()
    program = lines(
        REMOTE.format(connection=network.connection(port, tries=3)),
        'command("c", create="true")',
    )
    text = stack.fail(program)
    assert (
        f"after 3 failed attempts: dial tcp 127.0.0.1:{port}: connect: connection refused" in text
    )
    assert "Dial 3/3 failed: retrying" in text


def test_dial_waits_for_a_late_host(stack: Stack, network: Network) -> None:
    """A host that comes up meanwhile is met at the next try."""
    port = free_port()
    process, events = stack.begin(
        "up",
        lines(
            REMOTE.format(connection=network.connection(port, tries=10)),
            'command("c", create=say("ran"))',
        ),
    )
    wait_for(lambda: "Dial 1/10 failed" in shown(events), "the first try has failed")
    with network.server(port):
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "Dial 1/10 failed: retrying" in text
    assert stack.trace() == ["ran"]


def test_dial_timeout_bounds_the_connection(stack: Stack, network: Network) -> None:
    """A host that drops packets: each try takes `perDialTimeout`, no longer."""
    with unanswering_port() as port:
        connection = network.connection(port, tries=1, per_dial_timeout="1")
        program = lines(REMOTE.format(connection=connection), 'command("c", create="true")')
        process, events = stack.begin("up", program)
        wait_for(lambda: "Dial 1/1 failed" in shown(events), "the first try has failed")
        began = time.monotonic()
        text, _ = process.communicate(timeout=60)
    assert f"after 1 failed attempts: dial tcp 127.0.0.1:{port}: i/o timeout" in text
    assert time.monotonic() - began < 15  # The default for one try.


def test_proxy(stack: Stack, host: Server, network: Network) -> None:
    """Through a jump host: its key is checked too, and the target's failures are told apart."""
    with network.server() as jump:

        def through(key: str, port: int = host.port) -> str:
            proxy = network.connection(jump.port, host_key=repr(key))
            proxy = proxy.replace("ConnectionArgs", "ProxyConnectionArgs")
            return REMOTE.format(connection=network.connection(port, proxy=proxy))

        (stack.here / "source").write_text("one")
        upload = """
remote.CopyToRemote("u", connection=connection, source=pulumi.FileAsset(str(here / "source")),
                    remote_path=str(here / "target"))
"""
        stack.up(lines(through(jump.host_key), 'command("c", create=say("ran"))', upload))
        assert stack.trace() == ["ran"]
        assert (stack.here / "target").read_text() == "one"
        assert "Accepted publickey" in jump.log
        text = stack.fail(lines(through(host.host_key), 'command("c", create=say("ran", ":"))'))
        assert "proxy: after 2 failed attempts: ssh: handshake failed" in text
        nowhere = lines(through(jump.host_key, free_port()), 'command("d", create=say("ran"))')
        text = stack.fail(nowhere)
        assert "proxy: after 2 failed attempts: ssh: rejected: connect failed" in text
        assert stack.trace() == []


def test_stale_agent(stack: Stack, over_ssh: str) -> None:
    """An agent's socket that does not answer fails every command, key or not."""
    stack.environment["SSH_AUTH_SOCK"] = str(stack.here / "no-agent")
    text = stack.fail(lines(over_ssh, 'command("c", create="true")'))
    assert f"dial unix {stack.here}/no-agent: connect: no such file or directory" in text


def test_lost_connection(stack: Stack, network: Network) -> None:
    """A server that dies under a command fails it, and does not hang it."""
    with network.server() as server:
        process, _ = stack.begin(
            "up",
            lines(
                REMOTE.format(connection=network.connection(server.port)),
                'command("c", create="kill -KILL $PPID; sleep 5")',
            ),
        )
        text, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "remote command exited without exit status or exit signal" in text


def test_rsa_host_key(stack: Stack, network: Network) -> None:
    """Only its old signature is asked for, which OpenSSH no longer gives: use another type."""
    with network.server(key_type="rsa") as server:
        connection = network.connection(server.port, tries=1, host_key=repr(server.host_key))
        text = stack.fail(
            lines(REMOTE.format(connection=connection), 'command("c", create="true")')
        )
    assert "after 1 failed attempts: ssh: handshake failed" in text
    assert "ssh-rsa" in text


def test_stricter_than_the_official_plugin(plain_stack: Stack) -> None:
    """Where that one hangs, or its outputs break the program, the stand-in says so."""
    binary = """'command("b", create="printf 'a\\\\377'", logging="none")'"""
    text = plain_stack.fail(lines(LOCAL, binary[1:-1]))
    assert "stdout: not UTF-8 at byte 1" in text
    long = 'command("l", create="head -c 70000 /dev/zero | tr \'\\\\0\' x", {})'
    assert "a line of 64 KiB or more" in plain_stack.fail(lines(LOCAL, long.format("")))
    plain_stack.up(lines(LOCAL, long.format('logging="none"')))


# Many, and interrupted


def test_fifty_at_once(stack: Stack, over_ssh: str) -> None:
    """As many connections as the engine has workers, none lost."""
    stack.environment["PULUMI_PARALLEL"] = "50"
    # Each waits for all others, so that they end only if they run at the same time.
    waiting = "while [ $(wc -l < {here}/trace) -lt 50 ]; do sleep 0.2; done"
    stack.up(
        lines(
            over_ssh,
            f"waiting = f\"timeout 60 sh -c '{waiting}'\"",
            'for n in range(50): command(f"c{n}", create=say(n, waiting), logging="none")',
        )
    )
    assert sorted(map(int, stack.trace())) == list(range(50))


def test_interrupted_local(stack: Stack) -> None:
    """Ctrl-C kills a local command; it is not in the state."""
    process, _ = stack.begin("up", lines(LOCAL, 'command("c", create=say("ran", "exec sleep 60"))'))
    wait_for((stack.here / "trace").exists, "the command runs")
    interrupt(process)
    text, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "signal: killed" in text
    assert '"type": "command:local:Command"' not in stack.state().split('"pending_operations"')[0]


def test_interrupted_remote(stack: Stack, over_ssh: str) -> None:
    """Ctrl-C waits for a remote command to end, and the state has it."""
    program = lines(
        over_ssh,
        f'command("c", create=say("ran", "while [ ! -e {stack.here}/end ]; do sleep 0.1; done"))',
    )
    process, _ = stack.begin("up", program)
    wait_for((stack.here / "trace").exists, "the command runs")
    interrupt(process)
    timer = threading.Timer(3, (stack.here / "end").touch)
    timer.start()
    began = time.monotonic()
    text, _ = process.communicate(timeout=60)
    assert time.monotonic() - began > 2.5, text
    assert stack.resource("c")["outputs"]["stdout"] == ""


def test_interrupted_dial(stack: Stack, network: Network) -> None:
    """Ctrl-C ends the tries."""
    connection = network.connection(free_port(), tries=-1)
    process, events = stack.begin(
        "up", lines(REMOTE.format(connection=connection), 'command("c", create="true")')
    )
    wait_for(lambda: "Dial 2/inf failed" in shown(events), "it dials")
    interrupt(process)
    text, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "context canceled" in text
