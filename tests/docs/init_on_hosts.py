"""python init_on_hosts.py ADDRESS,... COMMAND...: runs a command where these addresses answer SSH.

To be started in a network namespace of its own (`unshare -rn`), where it gives the loopback
interface the addresses, answers with a host key for each, and writes their fingerprints to
fingerprints.txt. So a command from the documentation runs as it stands there.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import asyncssh


async def main(addresses: list[str], command: list[str]) -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    lines = []
    for address in addresses:
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        key = asyncssh.generate_private_key("ssh-ed25519")
        await asyncssh.listen(address, 22, server_host_keys=[key])
        lines.append(f"{address} {key.get_fingerprint()}\n")
    Path("fingerprints.txt").write_text("".join(lines))
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL)
    return await process.wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1].split(","), sys.argv[2:])))
