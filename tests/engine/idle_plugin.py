"""The command plugin, with hosts that answer and on which nothing is done.

For the product's own programs: what the engine keeps of them can be looked at here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.engine import command, sftp, ssh

# What steps give back, as long as with kubeadm.
KEYS = dict.fromkeys(["ca.key", "sa.key", "front-proxy-ca.key", "etcd/ca.key"], "k" * 1675)
CERTIFICATES = dict.fromkeys(["ca.crt", "sa.pub", "front-proxy-ca.crt", "etcd/ca.crt"], "c" * 1107)
IDENTITY = {**KEYS, **CERTIFICATES, "groundplane.key": "s" * 64}
RESULTS = {
    "bootstrap": json.dumps({"cluster": "0123456789abcdef", "identity": IDENTITY}),
    "kubeconfig": "y" * 5600,
}


@asynccontextmanager
async def connected(*_: Any) -> AsyncIterator[None]:
    yield None


async def execute(_: None, text: str, received: Callable[[bytes, bool], None], **how: Any) -> None:
    step = text.split()[-2]
    received(RESULTS.get(step, "").encode(), False)


async def copy(*_: Any) -> None:
    pass


if __name__ == "__main__":
    ssh.connected, ssh.execute, sftp.copy = connected, execute, copy  # type: ignore[assignment]
    command.main()
