"""The shell environment in which plain `pulumi`, `groundplane` and `kubectl` work on the lab.

`.lab/env` is for people to source; the wrappers in `.lab/bin` enter the lab's network by
themselves, so that nobody has to know about it.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab import parts
from lab.config import CHECKOUT, TWINS, Lab, Twin
from lab.engine import install
from lab.parts.store import write_whole

VENV = CHECKOUT / ".venv" / "bin"

WRAPPER = """#!/bin/sh
# Enters the lab's network, unless already there.
namespace=/run/netns/{name}
if [ "$(stat -Lc %i /proc/self/ns/net)" = "$(stat -Lc %i "$namespace" 2>/dev/null)" ]; then
  exec {command} "$@"
fi
[ -e "$namespace" ] || {{ echo "the lab is not up: make lab" >&2; exit 1; }}
exec nsenter --net="$namespace" {command} "$@"
"""


def variables(lab: Lab) -> Mapping[str, str]:
    """What a process needs beside its own environment; PATH comes last first."""
    return {
        "PATH": f"{lab.folder}/bin:{VENV}:{os.environ['PATH']}",
        "PULUMI_BACKEND_URL": f"file://{lab.folder}/state",
        "PULUMI_CONFIG_PASSPHRASE_FILE": f"{lab.folder}/passphrase",
        "PULUMI_HOME": f"{lab.folder}/pulumi",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        # kubectl takes several files as one, and passes over those that are not there.
        "KUBECONFIG": ":".join(str(kubeconfig(lab, twin)) for twin in TWINS),
    }


def kubeconfig(lab: Lab, twin: Twin) -> Path:
    """Where the access to a stack's cluster is kept."""
    return lab.folder / f"kubeconfig-{twin.name}"


def write(lab: Lab) -> None:
    """Write `.lab/env`, the wrappers, and what they rely on. Again: the same files."""
    (lab.folder / "state").mkdir(parents=True, exist_ok=True)
    passphrase = lab.folder / "passphrase"
    if not passphrase.exists():
        _write_private(passphrase, secrets.token_urlsafe(24))
    # Not from the PATH: a stand-in there would hide an official plugin.
    install(parts.binary("pulumi"), lab.folder / "engine", lab.folder / "pulumi")
    programs = {
        "pulumi": str(lab.folder / "engine" / "pulumi"),
        "kubectl": str(parts.binary("kubectl", lab.size.kubernetes)),
        "groundplane": str(VENV / "groundplane"),
    }
    for name, program in programs.items():
        _wrapper(lab, name, shlex.quote(program))
    ssh = f"ssh -F {shlex.quote(str(lab.folder / 'ssh' / 'config'))}"
    _wrapper(lab, "lab-ssh", ssh)
    write_whole(lab.folder / "env", _env(lab))


def _write_private(path: Path, text: str) -> None:
    """A file for its owner only, whole or not at all: an empty passphrase would be used."""
    draft = path.with_name(path.name + ".part")
    draft.unlink(missing_ok=True)
    draft.touch(0o600)
    draft.write_text(text)
    draft.rename(path)


def _wrapper(lab: Lab, name: str, command: str) -> None:
    path = lab.folder / "bin" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, WRAPPER.format(name=lab.name, command=command))
    path.chmod(0o755)


def _env(lab: Lab) -> str:
    lines = [f"# source this: pulumi, groundplane and kubectl for the lab {lab.name}"]
    for name, value in variables(lab).items():
        if name == "PATH":
            value = f"{lab.folder}/bin:{VENV}:$PATH"
            lines.append(f'export PATH="{value}"')
        else:
            lines.append(f"export {name}={shlex.quote(value)}")
    return "\n".join(lines) + "\n"


def in_lab(lab: Lab) -> dict[str, str]:
    """The whole environment for a process that this program starts."""
    return {**os.environ, **variables(lab)}


def write_ssh_config(
    lab: Lab, addresses: Mapping[str, str], guests: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """Names for `lab-ssh NAME`; host keys are those that the lab made. `guests`: name -> address
    and the host key that their hypervisor made."""
    guests = guests or {}
    keys = "".join(f"{address} {key}\n" for address, key in guests.values())
    known = lab.folder / "ssh" / "known_guests"
    write_whole(known, keys)
    addresses = {**addresses, **{name: address for name, (address, _) in guests.items()}}
    lines = [
        "User root",
        f"IdentityFile {lab.key}",
        f"UserKnownHostsFile {lab.known_hosts} {known}",
        "StrictHostKeyChecking yes",
        "IdentitiesOnly yes",
    ]
    for name, address in addresses.items():
        lines.append(f"Host {name}\n  HostName {address}")
    write_whole(lab.folder / "ssh" / "config", "\n".join(lines) + "\n")


def forget(lab: Lab) -> None:
    """Take away what `write` wrote, the stack's state with it: its machines are gone."""
    for name in ("bin", "engine", "state", "pulumi"):
        shutil.rmtree(lab.folder / name, ignore_errors=True)
    for name in ("env", "passphrase", *(kubeconfig(lab, twin).name for twin in TWINS)):
        (lab.folder / name).unlink(missing_ok=True)
    # Their salt belongs to that passphrase: the next lab's would be "incorrect".
    for stack in CHECKOUT.glob("stacks/Pulumi.lab-*.yaml"):
        if str(lab.folder / "catalogue.yaml") in stack.read_text():
            stack.unlink()
