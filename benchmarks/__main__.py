"""`python -m benchmarks`: measures, keeps the results, writes the page. `make bench` calls it."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click

from benchmarks import measured, page
from benchmarks.benchmark import Session
from groundplane.errors import GroundplaneError
from lab.config import CHECKOUT


def described() -> str:
    """The names, for --help."""
    return "\n".join(
        f"  {name:9} {benchmark.title}: {benchmark.runs} runs, about {benchmark.minutes} min"
        for name, benchmark in page.BENCHMARKS.items()
    )


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"\b\n{described()}\n\nAll but the last two make machines, which takes root.",
)
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(page.BENCHMARKS)))
@click.option("--runs", type=click.IntRange(min=1), help="How often, instead of what is usual.")
@click.option("--keep", is_flag=True, help="Leave the lab's machines up, to look at what failed.")
@click.option("--page-only", is_flag=True, help="Measure nothing, write docs/performance.md.")
def cli(names: tuple[str, ...], runs: int | None, keep: bool, page_only: bool) -> None:
    """Measure what is named, or everything, and write benchmarks/results.json and
    docs/performance.md. Each benchmark's results are kept as soon as it ends."""
    if not page_only:
        with ExitStack() as ends:
            session = Session(ends, keep)
            for name in names or page.BENCHMARKS:
                benchmark = page.BENCHMARKS[name]
                session.say(f"{name}: {benchmark.title}")
                conditions = measured.conditions()
                samples = benchmark.measure(runs or benchmark.runs, session)
                measured.keep(name, conditions, samples)
                page.write(measured.load())
    page.write(measured.load())
    click.echo(f"written: {page.PAGE.relative_to(CHECKOUT)}")


def main() -> None:
    """Run it; what was foreseen is a message and status 1."""
    try:
        cli()
    except (GroundplaneError, AssertionError) as error:  # the latter from the tests' harness
        sys.exit(str(error))


if __name__ == "__main__":
    main()
