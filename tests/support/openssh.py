"""OpenSSH's server without installing it, which would start a daemon on this computer."""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from lab.parts import debian, store
from support.host import cannot

PACKAGE = "openssh-server"
# As root sshd wants a user and a folder that only an installation makes. It finds them in mounts of
# its own, which end with it.
ENTER = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
{ cat /etc/passwd; echo sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin; } >/run/passwd
mount --bind /run/passwd /etc/passwd
exec "$@"
"""


def sshd() -> list[str]:
    """How sshd is called here; skips the test where it cannot be."""
    root = os.geteuid() == 0
    if root and cannot():
        pytest.skip(f"no namespaces here: {cannot()}")
    installed = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    program = [installed] if installed else unpacked()
    if not program or not shutil.which("ssh-keygen"):
        pytest.skip("needs OpenSSH's sshd and ssh-keygen")
    return ["unshare", "--mount", "sh", "-c", ENTER, "enter", *program] if root else program


@cache
def unpacked() -> list[str]:
    """The one of the distribution's package, from the cache; empty where it cannot be had."""
    try:
        home = store.cache() / PACKAGE / debian.upstream(debian.candidate(PACKAGE))
        if not home.exists():
            fill(home)
    except (FileNotFoundError, store.PartError):  # another distribution; no network
        return []
    libraries = ":".join(map(str, home.glob("usr/lib/*-linux-gnu")))
    # Newer ones are several programs, and look for the others where an installation puts them.
    parts = {name: home / f"usr/lib/openssh/sshd-{name.lower()}" for name in ("Session", "Auth")}
    where = [f"-oSshd{name}Path={path}" for name, path in parts.items() if path.exists()]
    return ["env", f"LD_LIBRARY_PATH={libraries}", f"{home}/usr/sbin/sshd", *where]


def fill(home: Path) -> None:
    with store.locked(print):
        if not home.exists():  # or another run was first
            with store.whole(home) as draft:
                debian.unpack(debian.lacking(PACKAGE), draft)
