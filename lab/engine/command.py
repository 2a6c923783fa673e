"""The lab's stand-in for the official `command` plugin: commands, local and remote, and uploads.

It does the same work from the same inputs; tests/engine holds both to one suite. It copies files
and texts, one at a time: archives, remote assets, `assetPaths` and `archivePaths` are refused.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lab.engine import provider
from lab.engine.gotext import quote
from lab.engine.properties import Asset, Properties, Secret, Unknown, reveal
from lab.engine.provider import Call, OperationError, Resource

VERSION = "1.2.1+lab.standin"

COMMON = frozenset(
    {
        "create", "update", "delete", "triggers", "stdin", "environment", "logging",
        "addPreviousOutputInEnv",
    }
)  # fmt: skip
OUTPUTS = frozenset({"stdout", "stderr"})
SECRETS = ("password", "privateKey", "privateKeyPassword")
# Lines; a call to the engine for each would take longer than the command.
FLOOD = 100
# Bytes.
LONGEST_LOGGED = 64 * 1024
CONNECTION_DEFAULTS = {"user": "root", "port": 22.0, "dialErrorLimit": 10.0, "perDialTimeout": 15.0}


class Record:
    """What a command says: for the outputs, for the log as it comes, for a failure's text."""

    def __init__(self, logging: str | None) -> None:
        self.logged = {
            None: (True, True),
            "stdoutAndStderr": (True, True),
            "stdout": (True, False),
            "stderr": (False, True),
        }.get(logging, (False, False))
        self.streams = bytearray(), bytearray()
        self.both = bytearray()
        self.unlogged = bytearray()
        self.arrived = asyncio.Event()
        self.ended = False

    def add(self, data: bytes, of_stderr: bool) -> None:
        self.streams[of_stderr].extend(data)
        self.both.extend(data)
        if self.logged[of_stderr]:
            self.unlogged.extend(data)
            self.arrived.set()

    async def log(self, call: Call) -> None:
        """Show lines as they come, until the command has ended; of a flood, many in one call."""
        ended = False
        while not ended:
            await self.arrived.wait()
            self.arrived.clear()
            ended = self.ended
            # The last line may have no end of its own.
            complete = len(self.unlogged) if ended else self.unlogged.rfind(b"\n") + 1
            lines = _text(self.unlogged[:complete]).splitlines()
            del self.unlogged[:complete]
            for line in lines if len(lines) <= FLOOD else ["\n".join(lines)]:
                await call.status(line)

    def outputs(self) -> Properties:
        """Both streams as properties.

        Raises:
            OperationError: what the official plugin would come to grief over, or its user.
        """
        outputs = {}
        for name, stream, logged in zip(
            ("stdout", "stderr"), self.streams, self.logged, strict=True
        ):
            try:
                outputs[name] = stream.decode().removesuffix("\n")
            except UnicodeDecodeError as error:
                raise OperationError(
                    f"{name}: not UTF-8 at byte {error.start}.\n"
                    "With the official plugin the Python program fails on such an output.\n"
                    "Encode it in the command: base64"
                ) from error
            if logged and any(len(line) >= LONGEST_LOGGED for line in stream.split(b"\n")):
                raise OperationError(
                    f"{name}: a line of 64 KiB or more, while it is logged.\n"
                    "The official plugin hangs on such a line for ever.\n"
                    'Break the line, or set logging="none".'
                )
        return outputs


@asynccontextmanager
async def _recorded(call: Call, inputs: Properties) -> AsyncIterator[Record]:
    """A record whose lines are shown until the end of the block, and all of them then."""
    record = Record(inputs.get("logging"))
    logger = asyncio.create_task(record.log(call))
    try:
        yield record
    finally:
        record.ended = True
        record.arrived.set()
        await logger


def _result(command: str, failure: str | None, record: Record) -> Properties:
    """The outputs of a command that has ended, or the text of its failure."""
    if failure is None:
        return record.outputs()
    raise OperationError(f"{failure}: running {quote(command)}:\n{_text(record.both)}")


def _text(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")


def _previous_output(inputs: Properties, state: Properties) -> dict[str, str]:
    """The last run's output, as variables for the next."""
    if inputs.get("addPreviousOutputInEnv") is False:
        return {}
    named = {"PULUMI_COMMAND_STDOUT": "stdout", "PULUMI_COMMAND_STDERR": "stderr"}
    return {variable: state[key] for variable, key in named.items() if state.get(key)}


async def run_remote(call: Call, command: str, inputs: Properties, state: Properties) -> Properties:
    """Run on the host of `inputs["connection"]`, over a connection of its own."""
    # Loaded on the first command, so that an update without change does not pay for it.
    from lab.engine import ssh

    async def refused(name: str, needed: bool) -> None:
        await (call.error if needed else call.warn)(
            f"Unable to set '{name}': the host's SSH server does not take it (AcceptEnv).\n"
            "Set it in the command itself: VAR=value command"
        )
        if needed:
            raise OperationError(f'could not set environment variable "{name}": ssh: setenv failed')

    environment = [(k, v, True) for k, v in (inputs.get("environment") or {}).items()]
    environment += [(k, v, False) for k, v in _previous_output(inputs, state).items()]
    async with (
        ssh.connected(call, inputs["connection"]) as connection,
        _recorded(call, inputs) as record,
    ):
        failure = await ssh.execute(
            connection,
            command,
            stdin=(inputs.get("stdin") or "").encode(),
            environment=environment,
            refused=refused,
            received=record.add,
        )
    return _result(command, failure, record)


async def run_local(call: Call, command: str, inputs: Properties, state: Properties) -> Properties:
    """Run on this computer; an interrupted update kills it."""
    async with _recorded(call, inputs) as record:
        failure = await _run_process(call, command, inputs, state, record)
    return _result(command, failure, record)


async def _run_process(
    call: Call, command: str, inputs: Properties, state: Properties, record: Record
) -> str | None:
    interpreter = inputs.get("interpreter") or ["/bin/sh", "-c"]
    directory = inputs.get("dir")
    try:
        process = await asyncio.create_subprocess_exec(
            *interpreter,
            command,
            cwd=directory,
            env=os.environ | (inputs.get("environment") or {}) | _previous_output(inputs, state),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        if directory is not None and error.filename == directory:
            return f"chdir {directory}: {words}"
        if "/" not in interpreter[0]:
            return f"exec: {quote(interpreter[0])}: executable file not found in $PATH"
        return f"fork/exec {interpreter[0]}: {words}"

    async def collect(stream: asyncio.StreamReader, of_stderr: bool) -> None:
        while data := await stream.read(1 << 16):
            record.add(data, of_stderr)

    async def feed(stream: asyncio.StreamWriter) -> None:
        try:
            stream.write((inputs.get("stdin") or "").encode())
            await stream.drain()
            stream.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The command ended without reading its input.

    async def kill_when_cancelled() -> None:
        await call.cancelled.wait()
        process.kill()

    assert process.stdin and process.stdout and process.stderr
    killer = asyncio.create_task(kill_when_cancelled())
    feeder = asyncio.create_task(feed(process.stdin))
    await asyncio.gather(collect(process.stdout, False), collect(process.stderr, True))
    status = await process.wait()
    killer.cancel()
    await feeder
    if status < 0:
        return f"signal: {_SIGNAL_WORDS.get(-status, f'signal {-status}')}"
    return None if status == 0 else f"exit status {status}"


# What Go calls the signals that commonly end a process.
_SIGNAL_WORDS = {
    1: "hangup", 2: "interrupt", 3: "quit", 6: "aborted", 9: "killed", 11: "segmentation fault",
    13: "broken pipe", 15: "terminated",
}  # fmt: skip


def _command(inputs: frozenset[str], check: Any, run: Any) -> Resource:
    """Either kind of command: they differ only in where they run."""

    async def create(call: Call, given: Properties) -> tuple[None, Properties]:
        if given.get("create") is None:
            return None, {"stdout": "", "stderr": ""}
        return None, await run(call, given["create"], given, {})

    async def update(call: Call, given: Properties, state: Properties) -> Properties:
        command = given.get("update") if given.get("update") is not None else given.get("create")
        if command is None:
            return {key: state.get(key) for key in OUTPUTS}
        outputs: Properties = await run(call, command, given, state)
        return outputs

    async def delete(call: Call, state: Properties) -> None:
        if state.get("delete") is not None:
            await run(call, state["delete"], state, state)

    return Resource(
        inputs=inputs,
        outputs=OUTPUTS,
        check=check,
        replaces=_of_triggers,
        create=create,
        update=update,
        delete=delete,
    )


def _of_triggers(path: str) -> bool:
    return path.partition("[")[0] == "triggers"


async def copy(call: Call, inputs: Properties) -> None:
    """Copy `inputs["source"]` to the host of `inputs["connection"]`."""
    from lab.engine import sftp, ssh

    async with ssh.connected(call, inputs["connection"]) as connection:
        await sftp.copy(connection, inputs["source"].source, inputs["remotePath"])


async def create_copy(call: Call, given: Properties) -> tuple[None, Properties]:
    await copy(call, given)
    return None, {}


async def update_copy(call: Call, given: Properties, state: Properties) -> Properties:
    """What another connection leads to has the file already, as far as anyone knows."""
    if any(given[key] != state[key] for key in ("source", "remotePath")):
        await copy(call, given)
    return {}


def check_remote(inputs: Properties) -> tuple[Properties, dict[str, str]]:
    """Fill in the connection's defaults and hide it: whole, whatever part of it is secret."""
    connection = reveal(inputs.get("connection"))
    if connection is None:
        return inputs, {"connection": "missing; a remote command needs a host"}
    if isinstance(connection, Unknown):
        return inputs | {"connection": Secret(connection)}, {}
    complete = _connection(connection)
    if isinstance(complete.get("proxy"), dict):
        complete["proxy"] = _connection(complete["proxy"])
    failures = {} if complete.get("host") is not None else {"connection.host": "missing"}
    return inputs | {"connection": Secret(complete)}, failures


def check_copy(inputs: Properties) -> tuple[Properties, dict[str, str]]:
    """The connection as for a command; and refuse what the stand-in does not copy."""
    inputs, failures = check_remote(inputs)
    source = reveal(inputs.get("source"))
    if isinstance(source, Asset) and (source.archive or "uri" in source.source):
        failures["source"] = (
            "the lab's stand-in for command copies files and texts, no archives and nothing from "
            "elsewhere; install the official plugin"
        )
    return inputs, failures


def _connection(given: Properties) -> Properties:
    """With defaults, and its secrets marked a second time, as the official plugin leaves them.

    A state made with either plugin then shows no change with the other.
    """
    complete = CONNECTION_DEFAULTS | {k: v for k, v in given.items() if v is not None}
    return complete | {key: Secret(complete[key]) for key in SECRETS if key in complete}


def check_local(inputs: Properties) -> tuple[Properties, dict[str, str]]:
    """Refuse what the stand-in does not do, rather than leave it out in silence."""
    return inputs, {
        key: "the lab's stand-in for command collects no files; install the official plugin"
        for key in ("assetPaths", "archivePaths")
        if inputs.get(key)
    }


RESOURCES = {
    "command:remote:Command": _command(COMMON | {"connection"}, check_remote, run_remote),
    "command:local:Command": _command(COMMON | {"dir", "interpreter"}, check_local, run_local),
    "command:remote:CopyToRemote": Resource(
        inputs=frozenset({"connection", "source", "remotePath", "triggers"}),
        outputs=frozenset(),
        check=check_copy,
        replaces=_of_triggers,
        create=create_copy,
        update=update_copy,
    ),
}


def main() -> None:
    """Serve the plugin; the engine's address is the last argument."""
    provider.main("command", VERSION, RESOURCES, sys.argv[-1])
