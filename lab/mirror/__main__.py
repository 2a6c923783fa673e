"""python -m lab.mirror COMMAND, for direct use; `python -m lab` calls the same functions.

prepare LAB_DIR         lay out files, images and the catalogue
start NETNS LAB_DIR     both servers, in a network namespace
stop LAB_DIR
serve FOLDER PORT       the download server alone, in the foreground
"""

from __future__ import annotations

import sys
from pathlib import Path

from groundplane.errors import GroundplaneError
from lab import mirror
from lab.mirror.server import Server


def say(line: str) -> None:
    print(line, flush=True)


def serve(folder: Path, port: int) -> None:
    server = Server(
        ("0.0.0.0", port), folder / "files", folder / "faults.json", folder / "access.log"
    )
    print(f"listening on 0.0.0.0:{port}", file=sys.stderr, flush=True)
    server.serve_forever()


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["prepare", lab_dir]:
                mirror.prepare(Path(lab_dir), say)
            case ["start", netns, lab_dir]:
                mirror.start(netns, Path(lab_dir))
            case ["stop", lab_dir]:
                mirror.stop(Path(lab_dir))
            case ["serve", folder, port]:
                serve(Path(folder), int(port))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except GroundplaneError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
