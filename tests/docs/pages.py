"""The documentation as data: its pages, their fenced blocks, commands, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

CHECKOUT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its text."""

    place: str
    language: str
    text: str


def pages() -> list[Path]:
    """Every page that is written by hand, and those that are generated."""
    return [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def blocks(*languages: str) -> Iterator[Block]:
    """All blocks of these languages."""
    for page in pages():
        text = page.read_text()
        for found in FENCE.finditer(text):
            if found[2] in languages:
                line = text.count("\n", 0, found.start()) + 1
                yield Block(f"{page.relative_to(CHECKOUT)}:{line}", found[2], dedent(found[3]))


def commands() -> Iterator[tuple[str, list[str]]]:
    """(place, words) of each command in a `sh` or `console` block; of a pipe, each of its parts.

    In a `console` block commands begin with `$ ` and the rest is output.
    """
    for block in blocks("sh", "console"):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        for line in lines:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("|;&"):
                    if words:
                        yield block.place, words
                    words = []
                else:
                    words.append(word)


def anchors(page: Path) -> set[str]:
    """The names by which a page's headings can be linked to, as GitHub makes them."""
    text = FENCE.sub("", page.read_text())
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        bare = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", bare.lower()).strip().replace(" ", "-"))
    return found


def links() -> Iterator[tuple[Path, str]]:
    """(page, target) of each link and picture."""
    for page in pages():
        text = FENCE.sub("", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            yield page, target
