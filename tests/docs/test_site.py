"""The site that `make docs` builds: nothing broken, nothing missing, nothing from the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from pages import CHECKOUT


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the site's configuration and its pages."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(CHECKOUT / "mkdocs.yml", folder)
    subprocess.run(
        [sys.executable, CHECKOUT / "docs" / "site.py", folder / "build" / "pages"], check=True
    )
    return folder


@pytest.fixture(scope="module")
def site(project: Path) -> Path:
    done = build(project)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "build" / "site"


class Page(HTMLParser):
    """What a page loads by itself, where its links lead, and what they can lead to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.anchors |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and "canonical" not in found.get("rel", ""):
            self.loads.append(found["href"])
        elif "src" in found:
            self.loads.append(found["src"])


def test_nothing_is_broken_or_from_elsewhere(site: Path) -> None:
    """Each link leads to a file, each anchor is there, and a page loads what lies beside it."""
    pages = {file: Page(file) for file in site.rglob("*.html")}
    assert len(pages) > 30
    wrong = []
    for file, page in pages.items():
        if file.name == "404.html":
            continue  # its links are from the server's root
        wrong += [f"{file.name} loads {url}" for url in page.loads if "//" in url]
        for url in [*page.links, *page.loads]:
            way, anchor = urldefrag(unquote(url))
            if "//" in way or way.startswith("mailto:"):
                continue
            target = (file.parent / way).resolve() if way else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                anchor and target in pages and anchor not in pages[target].anchors
            ):
                wrong.append(f"{file.name} leads to {url}")
    assert wrong == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert "url(http" not in styles
    assert "@import" not in styles


def test_every_page_is_found(site: Path) -> None:
    """By links alone, from the first page on."""
    waiting, found = [site / "index.html"], set()
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file() or file.suffix != ".html":
            continue
        found.add(file)
        waiting += [(file.parent / unquote(urldefrag(u)[0])).resolve() for u in Page(file).links]
    assert set(site.rglob("*.html")) - found == {site / "404.html"}
    written = {p.stem for p in (CHECKOUT / "docs").rglob("*.md") if p.name != "README.md"}
    assert written <= {file.stem for file in found}


@pytest.mark.parametrize("bad", ["[x](nowhere.md)", "[x](faults.md#nowhere)"])
def test_a_broken_link_ends_the_build(project: Path, tmp_path: Path, bad: str) -> None:
    there = tmp_path / "project"
    shutil.copytree(project, there, ignore=shutil.ignore_patterns("site", ".cache"))
    with (there / "build" / "pages" / "architecture.md").open("a") as page:
        page.write(f"\n{bad}\n")
    done = build(there)
    assert done.returncode != 0
    assert "architecture.md" in done.stdout + done.stderr


def test_a_file_that_is_not_there_ends_it(tmp_path: Path) -> None:
    """The generator itself would let it pass."""
    for name in ("docs", "README.md", "CHANGELOG.md"):
        here = CHECKOUT / name
        (shutil.copytree if here.is_dir() else shutil.copy)(here, tmp_path / name)
    page = tmp_path / "docs" / "architecture.md"
    page.write_text(page.read_text() + "\n![x](images/none.svg)\n")
    command = [sys.executable, tmp_path / "docs" / "site.py", tmp_path / "pages"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "images/none.svg" in done.stderr
