"""What the product relies on in the Python language host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine_harness import Stack, interrupt, wait_for


def test_outputs_and_prints(plain_stack: Stack) -> None:
    """What the program exports and prints reaches the user, in previews too."""
    program = """
    import sys
    print("said on stdout")
    print("said on stderr", file=sys.stderr)
    pulumi.log.warn("a warning")
    pulumi.export("text", "größe")
    pulumi.export("nested", {"list": [1, 2.5, True, None]})
    pulumi.export("secret", Output.secret("hidden-value"))
    pulumi.export("preview", pulumi.runtime.is_dry_run())
    pulumi.export("where", [pulumi.get_project(), pulumi.get_stack(), pulumi.get_organization()])
    """
    for text in (plain_stack.preview(program).text, plain_stack.up().text):
        assert "said on stdout" in text
        assert "said on stderr" in text
        assert "a warning" in text
        assert "hidden-value" not in text
    assert "hidden-value" not in plain_stack.state()
    assert plain_stack.outputs() == {
        "text": "größe",
        "nested": {"list": [1, 2.5, True, None]},
        "secret": "hidden-value",
        "preview": False,
        "where": ["conformance", "test", "organization"],
    }


def test_configuration(plain_stack: Stack) -> None:
    """Plain, structured and secret; the secret is in no process's arguments or environment."""
    plain_stack.cli("config", "set", "plain", "value")
    plain_stack.cli("config", "set", "--path", "object.list[0].key", "7")
    plain_stack.cli("config", "set", "--secret", "secret", "hidden-value")
    plain_stack.up(
        """
        config = pulumi.Config()
        pulumi.export("plain", config.require("plain"))
        pulumi.export("object", config.require_object("object"))
        pulumi.export("secret", config.require_secret("secret"))
        pulumi.export("seen", [
            file for file in ("cmdline", "environ")
            if b"hidden-value" in Path(f"/proc/self/{file}").read_bytes()
        ])
        """
    )
    assert plain_stack.outputs() == {
        "plain": "value",
        "object": {"list": [{"key": 7}]},
        "secret": "hidden-value",
        "seen": [],
    }
    missing = plain_stack.fail('pulumi.Config().require("other")', verb="preview")
    assert "Missing required configuration variable 'conformance:other'" in missing


def test_traceback(plain_stack: Stack) -> None:
    """An exception shows the usual traceback, of the program and what it called only."""
    (plain_stack.folder / "helper.py").write_text("def fall():\n    return {}['key']\n")
    text = plain_stack.fail("import helper\nhelper.fall()", verb="preview")
    assert "Program failed with an unhandled exception" in text
    assert "Traceback (most recent call last):" in text
    assert re.search(rf'File "{plain_stack.folder}/__main__.py", line \d+, in <module>', text)
    assert f'File "{plain_stack.folder}/helper.py", line 2, in fall' in text
    assert "KeyError: 'key'" in text
    assert "program.py" not in text
    assert "runpy" not in text


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise pulumi.RunError('stop here')", "error: stop here"),
        ("def broken(:", "SyntaxError"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
        ("import sys; sys.exit(3)", "exited with code 3"),
        ("os.kill(os.getpid(), 9)", "killed by signal 9"),
        ("Output.from_input(1).apply(lambda n: 1 / 0)", "ZeroDivisionError"),
    ],
)
def test_a_program_fails(plain_stack: Stack, program: str, words: str) -> None:
    """In whatever way, the user learns what happened, and the update fails."""
    assert words in plain_stack.fail(program, verb="preview")


def test_a_failed_program_deletes_nothing(plain_stack: Stack) -> None:
    """What it had not come to register is not taken for unwanted."""
    command = 'local.Command("c", delete=f"touch {here}/deleted")'
    plain_stack.up(command)
    plain_stack.fail(f"raise RuntimeError\n{command}")
    assert not (plain_stack.here / "deleted").exists()
    assert plain_stack.resource("c")


def test_main_folder(plain_stack: Stack) -> None:
    """`main` names a folder: it is imported from, and is the working directory."""
    (plain_stack.folder / "program").mkdir()
    (plain_stack.folder / "Pulumi.yaml").write_text(
        "name: conformance\nruntime: python\nmain: program\n"
    )
    (plain_stack.folder / "program/__main__.py").write_text(
        "import os, sys, pulumi, beside\n"
        "pulumi.export('out', [os.getcwd(), beside.WORD, sys.argv])\n"
    )
    (plain_stack.folder / "program/beside.py").write_text("WORD = 'found'\n")
    plain_stack.up()
    folder = str(plain_stack.folder / "program")
    assert plain_stack.outputs() == {"out": [folder, "found", [folder]]}


def test_virtualenv(plain_stack: Stack) -> None:
    """The option's interpreter runs the program; one that is missing is named."""
    options = "name: conformance\nruntime:\n  name: python\n  options:\n    virtualenv: env\n"
    (plain_stack.folder / "Pulumi.yaml").write_text(options)
    assert "no Python in" in plain_stack.fail("", verb="preview")
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", plain_stack.folder / "env"], check=True
    )
    inside = next((plain_stack.folder / "env/lib").glob("python3*/site-packages"))
    (inside / "outside.pth").write_text(packages)
    plain_stack.up("import sys\npulumi.export('out', sys.prefix)")
    assert plain_stack.outputs() == {"out": str(plain_stack.folder / "env")}


def test_other_toolchains_are_refused(plain_stack: Stack) -> None:
    """Rather than running with packages that are not the program's."""
    options = "name: conformance\nruntime:\n  name: python\n  options:\n    toolchain: poetry\n"
    (plain_stack.folder / "Pulumi.yaml").write_text(options)
    assert "toolchain: poetry" in plain_stack.fail("", verb="preview")


def test_component_plugin(plain_stack: Stack, tmp_path: Path) -> None:
    """A component package in Python is started by the engine through us, and is gone after."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "PulumiPlugin.yaml").write_text("runtime: python\n")
    (package / "__main__.py").write_text(
        """
import os
from pathlib import Path
from typing import Optional, TypedDict
import pulumi
from pulumi.provider.experimental import component_provider_host

class GreeterArgs(TypedDict):
    word: pulumi.Input[str]

class Greeter(pulumi.ComponentResource):
    greeting: pulumi.Output[str]
    def __init__(self, name: str, args: GreeterArgs,
                 opts: Optional[pulumi.ResourceOptions] = None):
        super().__init__("greetings:index:Greeter", name, {}, opts)
        Path(os.environ["HERE"], "pid").write_text(str(os.getpid()))
        self.greeting = pulumi.Output.concat("hello ", args["word"])
        self.register_outputs({"greeting": self.greeting})

component_provider_host(components=[Greeter], name="greetings")
"""
    )
    (plain_stack.folder / "Pulumi.yaml").write_text(
        "name: conformance\nruntime: python\n"
        f"plugins:\n  providers:\n    - name: greetings\n      path: {package}\n"
    )
    plain_stack.up(
        """
        class Greeter(pulumi.ComponentResource):
            greeting: Output[str]
            def __init__(self, name, word):
                super().__init__("greetings:index:Greeter", name,
                                 {"word": word, "greeting": None}, None, remote=True)
        pulumi.export("out", Greeter("g", Output.secret("world")).greeting)
        """
    )
    assert plain_stack.outputs() == {"out": "hello world"}
    pid = (plain_stack.here / "pid").read_text()
    wait_for(lambda: not Path("/proc", pid).exists(), "the package's process is gone")


def test_about(plain_stack: Stack) -> None:
    """`pulumi about` names the interpreter and what is installed."""
    plain_stack.write("")
    text = plain_stack.cli("about", "--transitive")
    assert "lab.standin" in text
    assert re.search(r"pulumi[-_]command +1\.", text)


def test_nothing_is_left(plain_stack: Stack) -> None:
    """Ctrl-C ends the program, and an engine that is killed takes its plugins along."""
    program = """
    import time
    local.Command("c", create="true")
    (here / "running").touch()
    time.sleep(60)
    """
    running = plain_stack.here / "running"
    mine = plain_stack.environment["HERE"].encode()
    for stop in (interrupt, subprocess.Popen.kill):
        process, _ = plain_stack.begin("up", program)
        wait_for(running.exists, "the program runs")
        stop(process)
        process.communicate(timeout=30)
        wait_for(lambda: not processes_with(mine), "all processes are gone")
        running.unlink()


def processes_with(text: bytes) -> list[str]:
    """Processes whose environment has a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            pass  # It has just ended, or is not ours to see.
    return found


def test_many_resources(plain_stack: Stack) -> None:
    """Three hundred are registered, and compared."""
    program = """
    for n in range(300):
        local.Command(f"c{n}", create="true", stdin=f"{n}")
    """
    assert list(plain_stack.up(program).steps.values()) == ["create"] * 300
    assert list(plain_stack.up().steps.values()) == ["same"] * 300
