"""Which plugins the lab's engine gets: official ones where they are to be had."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from lab import parts
from lab.engine import install
from lab.parts import fetch

STANDINS = ["pulumi-language-python", "pulumi-resource-command", "pulumi-resource-random"]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No download server answers."""
    monkeypatch.setattr(fetch, "answers", lambda url: False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A download server of our own, which has the command plugin; what it was asked for."""
    asked: list[str] = []
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("pulumi-resource-command")
        entry.mode = 0o755
        tar.addfile(entry)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = "pulumi-resource-command-" in self.path
            body = archive.getvalue() if found else b""
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setenv("PULUMI_PLUGIN_DOWNLOAD_URL_OVERRIDES", f"^.*$={address}")
        monkeypatch.setattr(fetch, "answers", lambda url: True)
        yield asked
        http.shutdown()


@pytest.mark.usefixtures("closed")
def test_standins_where_nothing_answers(cli: Path, tmp_path: Path) -> None:
    """All three; done again, the same."""
    folder, home = tmp_path / "bin", tmp_path / "home"
    assert install(cli, folder, home) == STANDINS
    before = {path: path.lstat().st_size for path in tmp_path.rglob("*")}
    assert install(cli, folder, home) == STANDINS
    assert {path: path.lstat().st_size for path in tmp_path.rglob("*")} == before
    assert os.access(folder / "pulumi-language-python", os.X_OK)


def test_official_where_it_answers(cli: Path, tmp_path: Path, server: list[str]) -> None:
    """The provider that the server has is official, and takes the place of its stand-in."""
    folder, home = tmp_path / "bin", tmp_path / "home"
    standin = home / f"plugins/resource-command-v{version('pulumi_command')}+lab.standin"
    standin.mkdir(parents=True)
    assert install(cli, folder, home) == ["pulumi-language-python", "pulumi-resource-random"]
    assert not standin.exists()
    asked = len(server)
    install(cli, folder, home)
    assert not [path for path in server[asked:] if "command" in path]


@pytest.mark.usefixtures("closed")
def test_official_language_host(cli: Path, tmp_path: Path) -> None:
    """It comes with the CLI's own download, and is taken from there."""
    beside = tmp_path / "download"
    beside.mkdir()
    for name in ("pulumi", "pulumi-language-python", "pulumi-language-python-exec"):
        (beside / name).write_text(name)
    used = install(beside / "pulumi", tmp_path / "bin", tmp_path / "home")
    assert "pulumi-language-python" not in used
    for name in ("pulumi-language-python", "pulumi-language-python-exec"):
        assert (tmp_path / "bin" / name).read_text() == name


@pytest.mark.usefixtures("closed")
def test_a_newer_cli_is_taken(tmp_path: Path) -> None:
    """The hard link of an old build does not stay."""
    cli = tmp_path / "pulumi"
    for text in ("old", "new"):
        cli.unlink(missing_ok=True)
        cli.write_text(text)
        os.utime(cli, (0, len(text) + ord(text[0])))
        install(cli, tmp_path / "bin", tmp_path / "home")
        assert (tmp_path / "bin/pulumi").read_text() == text


@pytest.mark.usefixtures("closed")
def test_the_kubernetes_plugin_is_the_one_that_was_built(
    cli: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no stand-in: where it was not built, there is none."""
    built = tmp_path / "built"
    monkeypatch.setattr(parts, "binary", lambda name: built)
    folder = tmp_path / f"home/plugins/resource-kubernetes-v{version('pulumi_kubernetes')}"
    plugin = folder.with_name(f"{folder.name}+lab.source") / "pulumi-resource-kubernetes"
    assert install(cli, tmp_path / "bin", tmp_path / "home") == STANDINS
    assert not plugin.parent.exists()
    built.touch()
    assert install(cli, tmp_path / "bin", tmp_path / "home") == STANDINS
    assert plugin.resolve() == built
