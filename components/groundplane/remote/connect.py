"""SSH to hosts: the recorded host key or nothing, every wait bounded, every failure named.

A host that cannot be worked with is an ordinary result here (`HostUnreachable`), never an
exception: callers look at many hosts at once and report all failures together.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import shlex
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncssh

# asyncssh costs 0.2 s to import; it is imported where a connection is really made.

CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 5
KEEPALIVE_MISSES = 3
HOST_KEY_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
DIALS = 3  # sshd drops handshakes beyond MaxStartups; a fourth refusal is not chance

T = TypeVar("T")


class Hop(Protocol):
    """Where SSH goes. `key` is a private key file, None for agent and default keys."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def key(self) -> str | Path | None: ...
    @property
    def host_key(self) -> str: ...


class Host(Hop, Protocol):
    """A host as the spec describes it.

    `sudo`: commands run as root by `sudo -n`. `state` "lost": nothing tries to reach it.
    """

    @property
    def name(self) -> str: ...
    @property
    def jump(self) -> Hop | None: ...
    @property
    def sudo(self) -> bool: ...
    @property
    def state(self) -> str: ...


class Kind(StrEnum):
    """Why a host cannot be worked with."""

    LOST = "lost"  # the spec says so; it was not tried
    UNREACHABLE = "unreachable"
    HOST_KEY_CHANGED = "host-key-changed"
    AUTH_REFUSED = "auth-refused"
    SUDO_REFUSED = "sudo-refused"
    COMMAND_FAILED = "command-failed"
    STOPPED = "stopped"  # a guest that its hypervisor does not run; the update starts it
    HYPERVISOR = "hypervisor"  # a guest whose hypervisor could not be looked at


@dataclass(frozen=True)
class HostUnreachable:
    """A host that could not be worked with: what kind of failure, its cause, its remedy."""

    name: str
    kind: Kind
    cause: str
    remedy: str


@dataclass(frozen=True)
class Done:
    """A command that ran to its end; `status` is its exit status (-1: killed by a signal)."""

    name: str
    status: int
    stdout: str
    stderr: str


class HostError(Exception):
    """Raised where a connection is used, and turned into `HostUnreachable` by `attempt`."""

    def __init__(self, kind: Kind, cause: str, remedy: str):
        super().__init__(cause)
        self.kind, self.cause, self.remedy = kind, cause, remedy


Dial = Callable[[Host], Awaitable["asyncssh.SSHClientConnection"]]


@asynccontextmanager
async def dialler() -> AsyncIterator[Dial]:
    """A function that connects to hosts; all its connections are closed at the end.

    A jump host is dialled once, whatever the number of hosts behind it.
    """
    jumps: dict[tuple[Any, ...], asyncio.Task[asyncssh.SSHClientConnection]] = {}
    opened: list[asyncssh.SSHClientConnection] = []

    async def dial(host: Host) -> asyncssh.SSHClientConnection:
        tunnel = None
        if (jump := host.jump) is not None:
            key = address_of(jump)
            if key not in jumps:
                jumps[key] = asyncio.create_task(_dial(jump, None))
            try:
                # Shielded: one host that runs out of time must not take the jump from the others.
                tunnel = await asyncio.shield(jumps[key])
            except HostError as error:
                raise HostError(error.kind, f"jump host: {error.cause}", error.remedy) from None
        connection = await _dial(host, tunnel)
        opened.append(connection)
        return connection

    try:
        yield dial
    finally:
        for connection in opened:
            connection.abort()
        for task in jumps.values():
            task.cancel()
            for result in await asyncio.gather(task, return_exceptions=True):
                if not isinstance(result, BaseException):
                    result.abort()


def address_of(hop: Hop) -> tuple[str, int, str, str, str]:
    """What tells one SSH target from another: address, port, user, key, host key."""
    return (hop.address, hop.port, hop.user, str(hop.key or ""), hop.host_key)


async def _dial(
    hop: Hop, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    """Connect, again after a dropped handshake. Raises `HostError`."""
    for attempt in range(1, DIALS + 1):
        try:
            return await _dial_once(hop, tunnel)
        except (ConnectionResetError, BrokenPipeError) as error:
            if attempt == DIALS:
                raise HostError(
                    Kind.UNREACHABLE,
                    f"{hop.address}:{hop.port} dropped {DIALS} handshakes ({error})",
                    "Look at sshd's log there; raise MaxStartups if it is at its limit.",
                ) from error
            # Spread out, so that those dropped together do not come back together.
            await asyncio.sleep(2**attempt * random.uniform(0.2, 0.5))
    raise AssertionError("unreachable")


async def _dial_once(
    hop: Hop, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHClientConnection:
    import asyncssh

    where = f"{hop.address}:{hop.port}"
    shown: list[asyncssh.SSHKey] = []

    class Client(asyncssh.SSHClient):
        # Called only for a key that is not the recorded one: kept for the message, and refused.
        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            shown.append(key)
            return False

    try:
        recorded = asyncssh.import_public_key(hop.host_key)
    except asyncssh.KeyImportError as error:
        raise HostError(
            Kind.HOST_KEY_CHANGED,
            f"the recorded host key cannot be read: {error}",
            "Record the host's key as in /etc/ssh/ssh_host_ed25519_key.pub.",
        ) from None
    # The recorded key's type first, so that a host with several shows that one; then the others,
    # so that a host without it shows what it has instead of hanging up.
    algorithms = dict(HOST_KEY_ALGORITHMS)
    first = algorithms.pop(recorded.get_algorithm(), ())
    options: dict[str, Any] = {}
    if hop.key is not None:
        options = {"client_keys": [str(Path(hop.key).expanduser())], "agent_path": None}
    try:
        return await asyncssh.connect(
            hop.address,
            hop.port,
            username=hop.user,
            known_hosts=([recorded], [], []),
            server_host_key_algs=[*first, *itertools.chain(*algorithms.values())],
            client_factory=Client,
            tunnel=tunnel or (),
            config=None,  # the user's ~/.ssh/config must not change what the stack says
            preferred_auth="publickey",
            connect_timeout=CONNECT_SECONDS,
            keepalive_interval=KEEPALIVE_SECONDS,
            keepalive_count_max=KEEPALIVE_MISSES,
            **options,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        now = _fingerprint(shown[0]) if shown else f"none that can be used ({error})"
        raise HostError(
            Kind.HOST_KEY_CHANGED,
            f"{where} shows {now}, recorded is {_fingerprint(recorded)}",
            "If the host was installed anew: read the new key on its console and record it as "
            "host_key. If not, someone may be posing as this host.",
        ) from None
    except (asyncssh.PermissionDenied, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as e:
        raise HostError(
            Kind.AUTH_REFUSED,
            f"{where} lets nobody in as {hop.user} with {hop.key or 'the agent or default keys'}"
            f" ({e})",
            f"Put the public key into {hop.user}'s authorized_keys on the host, or name the "
            "right user and key.",
        ) from None
    except FileNotFoundError as error:
        raise HostError(
            Kind.AUTH_REFUSED,
            f"the key {hop.key} is not there ({error.strerror})",
            "Name the private key's file that the host accepts.",
        ) from None
    except (ConnectionResetError, BrokenPipeError):
        raise
    except asyncssh.ConnectionLost as error:
        raise ConnectionResetError(str(error)) from error
    except (TimeoutError, asyncssh.Error, OSError) as error:
        what = str(error) or f"no answer within {CONNECT_SECONDS} s"
        if isinstance(error, OSError) and error.errno:
            what = os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
        raise HostError(
            Kind.UNREACHABLE,
            f"{where}: {what}",
            "Check power, network and firewall. A host that is gone for good: state: lost.",
        ) from None


def _fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


async def attempt(
    host: Host, seconds: float, work: Callable[[], Awaitable[T]]
) -> T | HostUnreachable:
    """Do `work` within `seconds`; what goes wrong becomes the host's failure."""
    import asyncssh

    try:
        async with asyncio.timeout(seconds):
            return await work()
    except HostError as error:
        return HostUnreachable(host.name, error.kind, error.cause, error.remedy)
    except TimeoutError:
        return HostUnreachable(
            host.name,
            Kind.UNREACHABLE,
            f"{host.address}:{host.port} did not finish within {seconds:g} s",
            "Look at the host's load and disks on its console.",
        )
    except (asyncssh.Error, OSError) as error:
        return HostUnreachable(
            host.name,
            Kind.UNREACHABLE,
            f"{host.address}:{host.port}: the connection was lost ({error})",
            "Run the same again: what the host did meanwhile is looked at first.",
        )


def as_root(host: Host, argv: Sequence[str]) -> str:
    """The command line for the host's shell, by `sudo -n` where the host says so."""
    return shlex.join(["sudo", "-n", *argv] if host.sudo else argv)


def sudo_refused(host: Host, stderr: str) -> HostError:
    """The failure for a host where `sudo -n` did not start the command."""
    return HostError(
        Kind.SUDO_REFUSED,
        f"{host.user} may not become root: {last_line(stderr) or 'sudo gave no reason'}",
        f"Allow it on the host: echo '{host.user} ALL=(ALL) NOPASSWD: ALL' "
        "> /etc/sudoers.d/groundplane",
    )


def exit_status(
    process: asyncssh.SSHCompletedProcess | asyncssh.SSHClientProcess[str],
) -> int:
    """An ended command's status, -1 for a signal. Raises ConnectionResetError when none came."""
    if process.exit_status is None:
        raise ConnectionResetError("the command's outcome is unknown")
    return process.exit_status


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1].strip()


async def run(
    dial: Dial, host: Host, argv: Sequence[str], stdin: str = "", seconds: float = 60
) -> Done | HostUnreachable:
    """Run one command as root on one host. A non-zero status is a result, not a failure."""
    import asyncssh

    async def work() -> Done:
        connection = await dial(host)
        # Without input asyncssh would leave stdin open, and the command waiting for its end.
        source: dict[str, Any] = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
        result = await connection.run(as_root(host, argv), check=False, **source)
        status, stderr = exit_status(result), str(result.stderr or "")
        if host.sudo and status in (1, 127) and "sudo: " in stderr.partition("\n")[0]:
            raise sudo_refused(host, stderr)
        return Done(host.name, status, str(result.stdout or ""), stderr)

    return await attempt(host, seconds, work)


def run_all(
    hosts: Sequence[Host], argv: Sequence[str], stdin: str = "", seconds: float = 60
) -> dict[str, Done | HostUnreachable]:
    """Run one command as root on all hosts at once; the results by host name, in their order."""

    async def work() -> list[Done | HostUnreachable]:
        async with dialler() as dial:
            return await asyncio.gather(*(run(dial, h, argv, stdin, seconds) for h in hosts))

    return {result.name: result for result in finish(work())}


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from plain code, also inside a Pulumi program's own loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def answers(address: str, port: int = 22, seconds: float = 3) -> bool:
    """Whether a host is alive there. For hosts whose keys and ports nobody knows any more."""
    try:
        socket.create_connection((address, port), seconds).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
