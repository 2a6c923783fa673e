"""The lab's stand-in for `pulumi-language-python`: runs Python programs and plugins.

What it does not do: other tool chains than pip, debuggers, and code generation.
"""

# ruff: noqa: N802 - the methods have the names of the protocol.

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from google.protobuf import empty_pb2

from lab.engine import serve
from lab.engine.protos import language_pb2, language_pb2_grpc, plugin_pb2

VERSION = "3.259.0+lab.standin"
PROGRAM = str(Path(__file__).with_name("program.py"))

# What program.py ends with when it has told the user what went wrong.
REPORTED = 32

LIST_DISTRIBUTIONS = """
import importlib.metadata, json
found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
print(json.dumps(sorted(found.items())))
"""


def main() -> None:
    """Serve the language host."""
    host = _Host()
    serve.run(
        lambda server: language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server),
        on_stop=host.stop,
    )


def environment_folder(info: Any) -> Path | None:
    """The virtual environment that a program's options name, if any.

    Raises:
        ValueError: the options name a tool chain that the stand-in does not have.
    """
    options = dict(info.options.items())
    toolchain = options.get("toolchain") or "pip"
    if toolchain != "pip":
        raise ValueError(
            f"{info.root_directory}: runtime.options.toolchain: {toolchain}.\n"
            "The lab's stand-in for the Python language host only has pip.\n"
            "Use `toolchain: pip`, or install Pulumi with its own language host."
        )
    folder = options.get("virtualenv")
    return Path(info.root_directory, folder) if folder else None


def interpreter(info: Any) -> str:
    """The Python that runs a program: of its virtual environment, else our own."""
    folder = environment_folder(info)
    if folder is None:
        return sys.executable
    python = folder / "bin" / "python"
    if not python.exists():
        raise ValueError(
            f"{info.root_directory}: runtime.options.virtualenv: no Python in {folder}.\n"
            "The program cannot run without it.\n"
            "Make it: pulumi install"
        )
    return str(python)


class _Host(language_pb2_grpc.LanguageRuntimeServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.children: set[Process] = set()

    def stop(self) -> None:
        """End what still runs, for a killed engine ends nobody."""
        for process in self.children:
            if process.returncode is None:
                process.terminate()

    async def Handshake(self, request: Any, context: Any) -> Any:
        return language_pb2.LanguageHandshakeResponse()

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    async def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        """None: the engine would go and download them before anything needs them."""
        return language_pb2.GetRequiredPackagesResponse()

    async def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    async def Template(self, request: Any, context: Any) -> Any:
        return language_pb2.TemplateResponse()

    async def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    async def About(self, request: Any, context: Any) -> Any:
        python = interpreter(request.info)
        version = await _output(python, "-c", "import platform; print(platform.python_version())")
        return language_pb2.AboutResponse(executable=python, version=version.strip())

    async def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        found = json.loads(await _output(interpreter(request.info), "-c", LIST_DISTRIBUTIONS))
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version) for name, version in found
            ]
        )

    async def InstallDependencies(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Make the virtual environment that the options name, and fill it."""
        folder = environment_folder(request.info)
        commands = []
        if folder is not None and not folder.exists():
            commands.append([sys.executable, "-m", "venv", str(folder)])
        if Path(request.info.program_directory, "requirements.txt").exists():
            python = str(folder / "bin" / "python") if folder else sys.executable
            commands.append([python, "-m", "pip", "install", "-r", "requirements.txt"])
        for command in commands:
            async for name, data in self._stream(command, cwd=request.info.program_directory):
                if name == "exitcode" and data != 0:
                    raise RuntimeError(f"{' '.join(command)}: exit status {data}")
                if name != "exitcode":
                    yield language_pb2.InstallDependenciesResponse(**{name: data})

    async def Run(self, request: Any, context: Any) -> Any:
        """Run a program in a process of its own; what it prints, the engine reads from us."""
        try:
            python = interpreter(request.info)
        except ValueError as error:
            return language_pb2.RunResponse(error=str(error))
        process = await asyncio.create_subprocess_exec(
            python, "-u", PROGRAM, stdin=PIPE, cwd=request.pwd or None
        )
        self.children.add(process)
        # By stdin, for the configuration in it may be secret.
        await process.communicate(request.SerializeToString())
        self.children.discard(process)
        if process.returncode in (0, REPORTED):
            return language_pb2.RunResponse(bail=process.returncode == REPORTED)
        how = "killed by signal" if (process.returncode or 0) < 0 else "exited with code"
        return language_pb2.RunResponse(error=f"Program {how} {abs(process.returncode or 0)}")

    async def RunPlugin(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Run a provider or a policy pack that is written in Python."""
        program = str(Path(request.info.program_directory, request.info.entry_point))
        command = [interpreter(request.info), "-u"]
        if request.kind == "analyzer":
            command += ["-m", "pulumi.policy", *request.args, program]
        else:
            command += [program, *request.args]
        environment = dict(entry.split("=", 1) for entry in request.env if "=" in entry)
        async for name, data in self._stream(
            command, cwd=request.pwd or None, env=environment or None
        ):
            yield language_pb2.RunPluginResponse(**{name: data})

    async def _stream(self, command: list[str], **options: Any) -> AsyncIterator[tuple[str, Any]]:
        """What a command says, as (`stdout` or `stderr`, bytes), and at last (`exitcode`, number).

        The command is stopped when nobody listens any more: so the engine ends a plugin.
        """
        pieces: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, **options
        )

        async def read(name: str, stream: asyncio.StreamReader) -> None:
            while data := await stream.read(1 << 16):
                pieces.put_nowait((name, data))

        async def follow() -> None:
            assert process.stdout and process.stderr
            await asyncio.gather(read("stdout", process.stdout), read("stderr", process.stderr))
            pieces.put_nowait(("exitcode", await process.wait()))

        self.children.add(process)
        follower = asyncio.create_task(follow())
        try:
            while True:
                name, data = await pieces.get()
                yield name, data
                if name == "exitcode":
                    return
        finally:
            self.children.discard(process)
            follower.cancel()
            if process.returncode is None:
                process.terminate()


async def _output(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    stdout, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[0]}: exit status {process.returncode}")
    return stdout.decode()
