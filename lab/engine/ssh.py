"""SSH connections as the official command plugin makes them: same order, same retries, same words.

What was taken from its behaviour, because a program that passes here must pass there too:
- `perDialTimeout` bounds the TCP connection only; a server that accepts and then says nothing
  is waited for without end.
- Whatever goes wrong while dialling is tried again, a wrong host key or password included.
- The agent is asked only when there is no private key, but its socket must answer in any case.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from typing import Any, TypeVar

import asyncssh

from lab.engine.properties import Properties
from lab.engine.provider import Call, OperationError

T = TypeVar("T")

# Seconds before the second try, the factor of each further wait, and the longest wait.
FIRST_DELAY, BACKOFF, LONGEST_DELAY = 0.1, 1.5, 5.0
# As Go sets them on every connection: a host that is gone is noticed after two and a half minutes.
KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 9}


@asynccontextmanager
async def connected(
    call: Call, connection: Properties
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """An authenticated connection, through `connection["proxy"]` if there is one.

    Args:
        connection: the official plugin's Connection, its defaults filled in.

    Raises:
        OperationError: the last error, after `dialErrorLimit` further tries.
    """
    options = await _options(connection)
    proxy = connection.get("proxy")
    with ExitStack() as ends:
        if proxy is None:
            made = await _retry(call, "Dial", connection, lambda: _dial(connection, options))
        else:
            try:
                jump = await _proxy(call, proxy)
                ends.enter_context(closing(jump))
                made = await _retry(
                    call,
                    "Dial from proxy",
                    connection,
                    lambda: _dial_through(jump, connection, options),
                )
            except OperationError as error:
                raise OperationError(f"proxy: {error}") from error
        yield ends.enter_context(closing(made))


async def _proxy(call: Call, proxy: Properties) -> asyncssh.SSHClientConnection:
    options = await _options(proxy)
    return await _retry(call, "Dial proxy", proxy, lambda: _dial(proxy, options))


async def _options(connection: Properties) -> dict[str, Any]:
    """Arguments for asyncssh; a key or an agent that cannot be used fails here, without retry."""
    options: dict[str, Any] = {
        "username": connection["user"],
        "client_keys": None,
        "agent_path": None,
        "known_hosts": None,
        "config": None,
        "gss_host": None,
        "host_based_auth": False,
        "login_timeout": 0,
    }
    if connection.get("hostKey") is not None:
        key = _host_key(connection["hostKey"])
        options["known_hosts"] = ([key], [], [])
        options["server_host_key_algs"] = [key.get_algorithm()]
    agent = connection.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK")
    if agent:
        await _probe_agent(agent)
    if connection.get("privateKey") is not None:
        options["client_keys"] = [
            _private_key(connection["privateKey"], connection.get("privateKeyPassword"))
        ]
    elif agent:
        options |= {"client_keys": [], "agent_path": agent}
    if connection.get("password") is not None:
        options["password"] = connection["password"]
    return options


def _host_key(text: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(text)
    except asyncssh.KeyImportError as error:
        raise OperationError("failed to parse host key: ssh: no key found") from error


def _private_key(text: str, password: str | None) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(text, password)
    except asyncssh.KeyEncryptionError as error:
        raise OperationError(f"ssh: this private key is passphrase protected: {error}") from error
    except asyncssh.KeyImportError as error:
        if password is None and "passphrase" in str(error).lower():
            raise OperationError("ssh: this private key is passphrase protected") from error
        raise OperationError("ssh: no key found") from error


async def _probe_agent(path: str) -> None:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError as error:
        raise OperationError(f"dial unix {path}: connect: {_words(error)}") from error
    writer.close()


async def _dial(connection: Properties, options: dict[str, Any]) -> asyncssh.SSHClientConnection:
    host, port = connection["host"], int(connection["port"])
    endpoint = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        stream = await asyncio.wait_for(
            _tcp(host, port), timeout=connection["perDialTimeout"] or None
        )
    except TimeoutError as error:
        raise OperationError(f"dial tcp {endpoint}: i/o timeout") from error
    except socket.gaierror as error:
        raise OperationError(f"dial tcp: lookup {host}: {error.strerror}") from error
    except OSError as error:
        raise OperationError(f"dial tcp {endpoint}: connect: {_words(error)}") from error
    return await _handshake(sock=stream, host=host, port=port, **options)


async def _tcp(host: str, port: int) -> socket.socket:
    """A connected socket, on the first of the host's addresses that answers."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        stream = socket.socket(family, kind, protocol)
        stream.setblocking(False)
        for option, value in KEEPALIVE.items():
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
        try:
            await loop.sock_connect(stream, address)
            return stream
        except OSError as error:
            failure = error
            stream.close()
        except asyncio.CancelledError:
            stream.close()
            raise
    assert failure is not None
    raise failure


async def _dial_through(
    jump: asyncssh.SSHClientConnection, connection: Properties, options: dict[str, Any]
) -> asyncssh.SSHClientConnection:
    try:
        return await _handshake(
            tunnel=jump, host=connection["host"], port=int(connection["port"]), **options
        )
    except asyncssh.ChannelOpenError as error:
        raise OperationError(f"ssh: rejected: connect failed ({error.reason})") from error


async def _handshake(**arguments: Any) -> asyncssh.SSHClientConnection:
    try:
        return await asyncssh.connect(**arguments)
    except asyncssh.ChannelOpenError:
        raise
    except asyncssh.HostKeyNotVerifiable as error:
        raise OperationError("ssh: handshake failed: ssh: host key mismatch") from error
    except asyncssh.PermissionDenied as error:
        raise OperationError(
            "ssh: handshake failed: ssh: unable to authenticate, no supported methods remain"
        ) from error
    except (asyncssh.Error, OSError) as error:
        words = error.reason if isinstance(error, asyncssh.Error) else _words(error)
        # A server that has no key of the one type we ask for hangs up without a word.
        types = arguments.get("server_host_key_algs")
        hint = f" (has the server a host key of type {types[0]}?)" if types else ""
        raise OperationError(f"ssh: handshake failed: {words}{hint}") from error


async def _retry(
    call: Call, what: str, connection: Properties, attempt: Callable[[], Awaitable[T]]
) -> T:
    limit = int(connection["dialErrorLimit"])
    delay = FIRST_DELAY
    tries = 0
    while True:
        try:
            return await attempt()
        except OperationError as error:
            tries += 1
            if -1 < limit < tries:
                raise OperationError(f"after {tries - 1} failed attempts: {error}") from error
        await call.status(f"{what} {tries}/{'inf' if limit == -1 else limit} failed: retrying")
        try:
            await asyncio.wait_for(call.cancelled.wait(), delay)
        except TimeoutError:
            delay = min(delay * BACKOFF, LONGEST_DELAY)
        else:
            raise OperationError("context canceled")


def _words(error: OSError) -> str:
    """The system's words for an error, in lower case as Go has them."""
    # Not `error.strerror`: asyncio puts its own words there.
    return os.strerror(error.errno).lower() if error.errno else str(error)


class _Output(asyncssh.SSHClientSession[bytes]):
    """Collects what a command says and how it ended."""

    def __init__(self, received: Callable[[bytes, bool], None]) -> None:
        self.received = received
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.received(data, datatype == asyncssh.EXTENDED_DATA_STDERR)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class _Channel(asyncssh.channel.SSHClientChannel[bytes]):
    """A session whose environment is asked for before its command, and each answer heeded.

    asyncssh sends the variables without asking whether the server took them.
    """

    environment: list[tuple[str, str, bool]]
    refused: Callable[[str, bool], Awaitable[None]]

    async def _open(self, chantype: bytes, *args: bytes) -> Any:
        packet = await super()._open(chantype, *args)
        for name, value, needed in self.environment:
            if not await self._make_request(b"env", _string(name), _string(value)):
                await self.refused(name, needed)
        return packet


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(4, "big") + data


async def execute(
    connection: asyncssh.SSHClientConnection,
    command: str,
    *,
    stdin: bytes,
    environment: list[tuple[str, str, bool]],
    refused: Callable[[str, bool], Awaitable[None]],
    received: Callable[[bytes, bool], None],
) -> str | None:
    """Run a command to its end.

    Args:
        environment: name, value, and whether the command must not run without it.
        refused: told each variable that the server does not take, with that last flag.
        received: told each piece of output, and whether it is of stderr.

    Returns:
        None when the command succeeded, else how it ended in the official plugin's words.
    """
    loop = asyncio.get_running_loop()
    channel = _Channel(connection, loop, "strict", None, "strict", 2 << 20, 32 << 10)
    channel.environment, channel.refused = environment, refused
    try:
        session = await channel.create(
            lambda: _Output(received),
            command, None, {}, False, None, None, {}, False, None, None, False, False,
        )  # fmt: skip
    except asyncssh.ChannelOpenError as error:
        raise OperationError(f"ssh: command {command} failed") from error
    assert isinstance(session, _Output)
    try:
        channel.write(stdin)
        channel.write_eof()
    except (BrokenPipeError, OSError):
        pass  # The command ended without reading its input.
    await session.ended
    return _ending(channel)


def _ending(channel: asyncssh.channel.SSHClientChannel[bytes]) -> str | None:
    signal = channel.get_exit_signal()
    if signal is not None:
        name, _, message, _ = signal
        number = 128 + _SIGNALS.get(name, 0)
        reason = f". Reason was: {message}" if message else ""
        return f"Process exited with status {number} from signal {name}{reason}"
    status = channel.get_exit_status()
    if status is None:
        return "wait: remote command exited without exit status or exit signal"
    return None if status == 0 else f"Process exited with status {status}"


# The signals that RFC 4254 names, by their numbers on every Unix.
_SIGNALS = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11,
    "PIPE": 13, "ALRM": 14, "TERM": 15,
}  # fmt: skip
