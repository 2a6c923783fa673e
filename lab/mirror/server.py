"""The download server: files under a folder over HTTP/1.1, ranges, and faults on demand.

Faults are rules in a JSON file that is read at every request, so a test changes them while the
server runs. The first rule whose "path" pattern (as in a shell) matches the request decides:

    [{"path": "/dl.k8s.io/*/kubelet", "status": 503, "times": 2},   twice, then served as usual
     {"path": "*.tgz", "truncate": 1000},     the connection ends after 1000 bytes of the body
     {"path": "*.tgz", "corrupt": 12},        byte 12 of the file is another one
     {"path": "*", "off": true}]              the connection is reset without an answer

"times" counts from the moment at which the file was last changed; without it a rule stays.
"retry_after" (seconds) goes with "status".
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import socket
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO, TypedDict
from urllib.parse import unquote, urlsplit

from lab.parts.store import write_whole

CHUNK = 1 << 20


class Fault(TypedDict, total=False):
    path: str
    times: int
    status: int
    retry_after: int
    truncate: int
    corrupt: int
    off: bool


def set_faults(file: Path, faults: list[Fault]) -> None:
    """Puts these rules in place of the old, at once; none to serve as usual again."""
    write_whole(file, json.dumps(faults))


class Server(ThreadingHTTPServer):
    """Serves `root`, reads faults from `faults`, appends a line a request to `log`."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], root: Path, faults: Path, log: Path):
        self.root, self.faults, self.log = root.resolve(), faults, log
        self.lock = threading.Lock()
        self.changed = 0  # when the rules were last changed, in ns
        self.used: dict[int, int] = {}  # how often each rule, by its position, has applied
        super().__init__(address, Handler)

    def fault(self, path: str) -> Fault:
        """The fault to show for a request of `path`; empty for none."""
        if not self.faults.exists():
            return {}
        with self.lock, self.faults.open() as file:
            changed = os.fstat(file.fileno()).st_mtime_ns
            if changed != self.changed:
                self.changed, self.used = changed, {}
            rules: list[Fault] = json.load(file)
            for position, rule in enumerate(rules):
                used = self.used.get(position, 0)
                if fnmatch.fnmatchcase(path, rule["path"]) and used < rule.get("times", used + 1):
                    self.used[position] = used + 1
                    return rule
        return {}

    def record(self, line: str) -> None:
        with self.lock, self.log.open("a") as log:
            log.write(line)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "groundplane-lab"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        try:
            self.respond(path, self.server.fault(path))
        except (BrokenPipeError, ConnectionResetError):  # the client went away
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the name by which http.server calls it

    def respond(self, path: str, fault: Fault) -> None:
        """Answers the request as the file and the fault say."""
        if fault.get("off"):
            return self.reset()
        if "status" in fault:
            return self.refuse(fault["status"], fault.get("retry_after"))
        file = (self.server.root / path.lstrip("/")).absolute()
        if ".." in file.parts or not file.is_file():
            return self.refuse(HTTPStatus.NOT_FOUND)
        size = file.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, size - 1
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2] or last), last)
            if first > last:
                return self.refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        length = last - first + 1
        sent = min(length, fault.get("truncate", length)) if self.command == "GET" else 0
        status = HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK
        self.record(status, sent)
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(length))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "GET":
            self.close_connection = sent < length
            with file.open("rb") as content:
                self.send_body(content, first, sent, fault.get("corrupt"))

    def send_body(self, content: BinaryIO, first: int, length: int, corrupt: int | None) -> None:
        """`length` bytes of the file from `first` on, that at `corrupt` changed."""
        content.seek(first)
        for position in range(first, first + length, CHUNK):
            chunk = bytearray(content.read(min(CHUNK, first + length - position)))
            if corrupt is not None and 0 <= corrupt - position < len(chunk):
                chunk[corrupt - position] ^= 0xFF
            self.wfile.write(chunk)

    def refuse(self, status: int, retry_after: int | None = None) -> None:
        self.record(status, 0)
        self.send_response(status)
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def reset(self) -> None:
        """Drops the connection as a dead server's would be: lingering for no time sends a RST."""
        self.record(0, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def record(self, status: int, size: int) -> None:
        """A line of the access log, before the client sees an answer, so that whoever has one
        finds the line. The form is the registry's log's: Apache's."""
        self.server.record(
            f"{self.client_address[0]} - - [{self.log_date_time_string()}] "
            f'"{self.requestline}" {int(status)} {size}\n'
        )

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `record` keeps the log."""


class Running:
    """A server in this process, for tests: its URL, its faults, what was asked of it."""

    def __init__(self, server: Server):
        self.server = server
        self.url = f"http://127.0.0.1:{server.server_port}"

    def set_faults(self, faults: list[Fault]) -> None:
        set_faults(self.server.faults, faults)

    @property
    def log(self) -> list[str]:
        """The access log's lines so far."""
        return self.server.log.read_text().splitlines() if self.server.log.exists() else []


@contextlib.contextmanager
def running(root: Path, state: Path) -> Iterator[Running]:
    """Serves `root` on a free port of the loopback; faults.json and access.log are in `state`."""
    server = Server(("127.0.0.1", 0), root, state / "faults.json", state / "access.log")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Running(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
