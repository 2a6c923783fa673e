"""Serving a plugin to the engine: print a port, answer on it, go when the engine goes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

# The engine's own limit; gRPC's default of 4 MB is too small for a big stdin or stdout.
MESSAGE_SIZE = [
    ("grpc.max_receive_message_length", 400 * 1024 * 1024),
    ("grpc.max_send_message_length", 400 * 1024 * 1024),
]


def run(register: Callable[[Any], None], on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve on a free port of the loopback until the engine stops us, or is gone itself.

    Args:
        register: adds the plugin's service to the gRPC server it is given.
        on_stop: called at the end.
    """
    asyncio.run(_serve(register, on_stop))


async def _serve(register: Callable[[Any], None], on_stop: Callable[[], None]) -> None:
    server = grpc.aio.server(options=MESSAGE_SIZE)
    register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    _on_end_of_stdin(loop, stop)
    await stop.wait()
    on_stop()
    # A command still running would hold up the interpreter's exit; nobody waits for its answer.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _on_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """The engine holds our stdin open and never writes to it: its end means a killed engine."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def read() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    loop.add_reader(0, read)
