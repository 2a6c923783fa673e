"""`groundplane catalogue check`: whether charts are still as add-ons were written for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from groundplane.catalogue import AddonSource, product
from groundplane.charts import Short, moved, shorten
from groundplane.errors import GroundplaneError

PATIENCE = 120  # seconds for one chart


@dataclass(frozen=True)
class Compared:
    """A chart beside its file: `kept` is what the tests know, `now` what was looked at."""

    name: str
    kept: str
    now: str
    moved: list[str]

    @property
    def wrong(self) -> bool:
        """The same version, and another chart: what the tests hold add-ons against is not it."""
        return self.kept == self.now and bool(self.moved)


@click.group()
def catalogue() -> None:
    """What add-ons install."""


@catalogue.command()
@click.option(
    "--charts",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of charts, each as its project has it. Otherwise the newest of each is fetched "
    "by helm.",
)
@click.option(
    "--short",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("tests/charts"),
    show_default=True,
    help="The charts in short that add-ons are tested against.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def check(charts: Path | None, short: Path, as_json: bool) -> None:
    """Compare charts with what add-ons were written for, and say what a newer version moved.

    Exit status 0: they are as they were, or newer. 1: a chart of the same version is another one.
    2: one could not be looked at.
    """
    found: list[Compared] = []
    failed: list[GroundplaneError] = []
    for name, entry in product().addons().items():
        if not entry.chart or not (short / f"{name}.json").is_file():
            continue
        try:
            with looked_at(name, entry, charts) as folder:
                found.append(compare(name, short, shorten(folder)))
        except GroundplaneError as error:
            failed.append(error)
    if as_json:
        click.echo(json.dumps([vars(each) for each in found], indent=2))
    else:
        for each in found:
            to = "" if each.kept == each.now else f" -> {each.now}"
            click.echo(f"{each.name} {each.kept}{to}: {len(each.moved) or 'nothing'} moved")
            for line in each.moved:
                click.echo(f"  {line}")
    for silent in failed:
        click.echo(f"{silent}", err=True)
    raise SystemExit(2 if failed else 1 if any(each.wrong for each in found) else 0)


def compare(name: str, short: Path, now: Short) -> Compared:
    """A chart, and the file that the tests know it by."""
    before = json.loads((short / f"{name}.json").read_text(encoding="utf-8"))
    return Compared(name, before["version"], now["version"], moved(before, now))


@contextmanager
def looked_at(name: str, entry: AddonSource, charts: Path | None) -> Iterator[Path]:
    """The folder of a chart: among these, or fetched."""
    if charts is not None:
        folder = charts / name
        if not (folder / "Chart.yaml").is_file():
            raise GroundplaneError(
                f"{folder}",
                "there is no chart here",
                "It is among the catalogue's add-ons, and was not compared",
                "Put it there, or leave --charts out where its repository can be reached.",
            )
        yield folder
        return
    helm = shutil.which("helm")
    if helm is None:
        raise GroundplaneError(
            name,
            "helm is not on the PATH",
            "It fetches charts from their repositories",
            "Install it, or name a folder of charts with --charts.",
        )
    repository = ["--repo", entry.repository] if entry.repository else []
    with tempfile.TemporaryDirectory() as place:
        command = [helm, "pull", entry.chart, *repository, "--untar", "--destination", place]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:
            raise _silent(name, entry, f"no answer in {PATIENCE} s") from None
        folders = [path for path in Path(place).iterdir() if path.is_dir()]
        if done.returncode != 0 or len(folders) != 1:
            raise _silent(name, entry, done.stderr.strip().rpartition("\n")[2] or "no chart came")
        yield folders[0]


def _silent(name: str, entry: AddonSource, what: str) -> GroundplaneError:
    return GroundplaneError(
        f"{name} ({entry.repository or entry.chart})",
        what,
        "It was not compared",
        "Try again where it can be reached, or name a folder of charts with --charts.",
    )
