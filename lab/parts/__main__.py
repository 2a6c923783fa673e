"""python -m lab.parts: make all parts that are missing, then list what there is."""

from __future__ import annotations

import sys

from lab import parts
from lab.parts import build, images


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    try:
        parts.ensure(say, others=True)
    except parts.PartError as error:
        print(error, file=sys.stderr)
        return 1
    for made in sorted(parts.cache().glob("parts/*/*/*/made.json")):
        name, version = made.parts[-4:-2]
        build.report(made.parent, f"{name} {version}", say)
    for image in images.images():
        say(f"{image.reference}: {build.size(image.folder) >> 20} MB")
    return 0


sys.exit(main())
