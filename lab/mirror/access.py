"""The mirror's access log: what the machines asked for, downloads and images alike."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Apache's common form, which the registry and the download server both write.
LINE = re.compile(r'(\S+) \S+ \S+ \[[^]]*\] "(\S+) (\S+) [^"]*" (\d+) (\d+)')


@dataclass(frozen=True)
class Access:
    """One request. `status` is 0 where the connection was reset on purpose."""

    client: str
    method: str
    path: str
    status: int
    size: int  # bytes of the body that were sent


def accesses(log: Path) -> list[Access]:
    """Every request so far, oldest first."""
    if not log.exists():
        return []
    found = (LINE.match(line) for line in log.read_text().splitlines())
    return [
        Access(match[1], match[2], match[3], int(match[4]), int(match[5]))
        for match in found
        if match
    ]
