"""What an applied step leaves on its host, and what of it no longer holds.

On the host, under /var/lib/groundplane/ledger: STEP.json (who applied what) and STEP.facts (what
it rests on, a fact a line). The facts are compared on the host, by scripts/observe.sh; only
those that differ come back, as `Drift`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

LEDGER = "/var/lib/groundplane/ledger"
RECORD = "/var/lib/groundplane/cluster.json"


@dataclass(frozen=True)
class Entry:
    """A step that was applied on a host.

    `stack` and `cluster` say whose it is, `digest` is the SHA-256 of its data without the token,
    `at` when it was applied (RFC 3339), `generation` which one of a step that counts them.
    """

    stack: str
    cluster: str
    step: str
    revision: int
    token: str
    digest: str
    at: datetime | None
    generation: int = 1


@dataclass(frozen=True)
class Drift:
    """A fact of a step that no longer holds: what it was when applied, what is there now."""

    step: str
    fact: str
    was: str
    now: str


def entry(text: str) -> Entry | None:
    """Read one STEP.json. None for one that cannot be read: its step then counts as not applied."""
    try:
        data = json.loads(text)
    except ValueError:
        return None
    if not isinstance(data, Mapping) or not isinstance(data.get("token"), str):
        return None
    revision, generation = data.get("revision"), data.get("generation")
    return Entry(
        stack=str(data.get("stack", "")),
        cluster=str(data.get("cluster") or ""),
        step=str(data.get("step", "")),
        revision=revision if isinstance(revision, int) else 0,
        token=data["token"],
        digest=str(data.get("digest", "")),
        at=_time(data.get("at")),
        generation=generation if isinstance(generation, int) else 1,
    )


def _time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None
