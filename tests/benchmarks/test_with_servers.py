"""The probe against a server with TLS, and the servers that stand for a hundred hosts."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncssh
import pytest

from benchmarks.probe import OBJECT, asker
from benchmarks.scale import address, servers


class Api(BaseHTTPRequestHandler):
    """Answers with `status`, to who has a certificate of the CA, for the object that is asked."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == OBJECT else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is for the tests."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, and a certificate for 127.0.0.1 that is a client's as well."""
    folder = tmp_path_factory.mktemp("pki")
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    ca = [*new, "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca"]
    leaf = [*new, "-nodes", "-keyout", "leaf.key", "-out", "leaf.crt", "-subj", "/CN=leaf"]
    leaf += ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1"]
    leaf += ["-addext", "basicConstraints=critical,CA:FALSE"]
    for command in (ca, leaf):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def api(pki: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A kubeconfig that leads to a running server."""
    monkeypatch.setattr(Api, "status", 200)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "leaf.crt", pki / "leaf.key")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def data(name: str) -> str:
        return base64.b64encode((pki / name).read_bytes()).decode()

    cluster = {
        "server": f"https://127.0.0.1:{server.server_port}",
        "certificate-authority-data": data("ca.crt"),
    }
    user = {"client-certificate-data": data("leaf.crt"), "client-key-data": data("leaf.key")}
    config = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path = pki / "kubeconfig"
    path.write_text(json.dumps(config))
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_probe_is_a_client_of_the_api(api: Path) -> None:
    ask = asker(api)
    ask()
    Api.status = 503
    with pytest.raises(OSError, match="status 503"):
        ask()


def test_nobody_answers(api: Path) -> None:
    config = json.loads(api.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    other = api.with_name("other")
    other.write_text(json.dumps(config))
    with pytest.raises(ConnectionRefusedError):
        asker(other)()


def test_somebody_else_answers(api: Path, pki: Path) -> None:
    """With a certificate of a CA that is not the cluster's."""
    config = json.loads(api.read_text())
    leaf = base64.b64encode((pki / "leaf.crt").read_bytes()).decode()
    config["clusters"][0]["cluster"]["certificate-authority-data"] = leaf
    other = api.with_name("other")
    other.write_text(json.dumps(config))
    with pytest.raises(ssl.SSLCertVerificationError):
        asker(other)()


def test_a_hundred_hosts_on_one_computer(tmp_path: Path) -> None:
    async def look(variables: dict[str, str], host: int) -> dict[str, str]:
        algorithm, key = variables["BENCHMARK_HOST_KEY"].split()[:2]
        async with asyncssh.connect(
            address(host),
            int(variables["BENCHMARK_PORT"]),
            username="root",
            client_keys=[variables["BENCHMARK_KEY"]],
            known_hosts=asyncssh.import_known_hosts(f"* {algorithm} {key}\n"),
            config=None,
        ) as connection:
            done = await connection.run("/usr/bin/run bootstrap apply", input="{}", check=True)
            async with (
                connection.start_sftp_client() as files,
                files.open("/usr/local/lib/new/bundle", "wb") as file,
            ):
                await file.write(b"\0scripts")
            silent = await connection.run("/usr/bin/run node apply", input="{}", check=True)
        assert silent.stdout == ""
        identity: dict[str, str] = json.loads(str(done.stdout))["identity"]
        return identity

    # Not by asyncio.run, which takes away the loop that other tests have set.
    with closing(asyncio.new_event_loop()) as loop, servers(tmp_path, 3) as variables:
        for host in (1, 3):
            identity = loop.run_until_complete(look(variables, host))
            assert len(identity["ca.crt"]) > 500
    assert (tmp_path / "files/usr/local/lib/new/bundle").read_bytes() == b"\0scripts"
    assert not Path("/usr/local/lib/new/bundle").exists()
