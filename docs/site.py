"""Puts the pages of the site together: `python docs/site.py FOLDER`, which `make docs` runs.

The documentation is written to be read in the repository, where pages point at programs and tests
too. The site has no repository beside it and no network, so it carries a copy of each file that a
page names; the README is its first page, and other folders than the decisions become plain text.
What the site's generator does not check is checked here: that the files are there.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
DOCS = CHECKOUT / "docs"
CHANGES = CHECKOUT / "CHANGELOG.md"
DECISIONS = DOCS / "decisions"
FIRST = CHECKOUT / "README.md"
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
FENCE = re.compile(r"^( *)```.*?^\1```$", re.M | re.S)


def main(folder: Path) -> None:
    """Write all pages, and what they show, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    texts = {place(DECISIONS): decisions()}
    files: set[Path] = set()
    for page in [FIRST, CHANGES, *sorted(DOCS.rglob("*.md"))]:
        texts[place(page)] = rewritten(page, files)
    if missing := sorted(str(file) for file in files if not file.is_file()):
        raise SystemExit("pages name files that are not there:\n" + "\n".join(missing))
    for target in [*texts, *map(place, files)]:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
    for target, text in texts.items():
        (folder / target).write_text(text, encoding="utf-8")
    for file in files:
        shutil.copyfile(file, folder / place(file))


def decisions() -> str:
    """The page that lists the decisions, which in the repository is the folder itself."""
    pages = sorted(DECISIONS.glob("*.md"))
    titles = [page.read_text(encoding="utf-8").partition("\n")[0] for page in pages]
    lines = [f"- [{t.lstrip('# ')}]({page.name})" for t, page in zip(titles, pages, strict=True)]
    return "\n".join(["# Decisions", "", "Why it is so, and what would change it.", "", *lines, ""])


def place(file: Path) -> Path:
    """Where a file of the repository stands in the site."""
    if file == FIRST:
        return Path("index.md")
    if file == CHANGES:
        return Path("changes.md")
    if file == DECISIONS:
        return Path("decisions", "index.md")
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    # A browser shows a text, and would offer a program for download.
    return Path("repository", f"{file.relative_to(CHECKOUT)}.txt")


def rewritten(page: Path, files: set[Path]) -> str:
    """A page whose links lead to the site's own places; adds to `files` what it shows or names."""

    def link(found: re.Match[str]) -> str:
        to, text = found["to"], found["text"]
        if not to or ":" in to:
            return found[0]
        file = Path(os.path.normpath(page.parent / to))
        if file.is_dir() and file != DECISIONS:
            return text
        if file != DECISIONS and file.suffix != ".md":
            files.add(file)
        way = os.path.relpath(place(file), place(page).parent)
        return f"{found['image']}[{text}]({way}{found['anchor'] or ''})"

    text, parts, end = page.read_text(encoding="utf-8"), [], 0
    for code in FENCE.finditer(text):  # what stands in code is no link
        parts += [LINK.sub(link, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(link, text[end:])])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
