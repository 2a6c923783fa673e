"""Taking a whole cluster down: one resource whose delete resets all hosts at once.

It is registered first and everything on hosts is `deleted_with` it, so in a whole destroy the
engine runs this one delete and no other; a host that left the list is deleted alone, by its own
steps, through the gate. A dead host would fail its own steps' deletes for ever; here it is only
reported.
"""

import json
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import local

from groundplane.spec import Host, Jump, Spec

__all__ = ["teardown"]


def teardown(name: str, spec: Spec, opts: pulumi.ResourceOptions) -> local.Command:
    """The resource. `protect` on it makes `destroy` refuse."""
    # Secret as a whole: it holds the keys by which the hosts are reached.
    # Not guests: their machines go, and all that is on them.
    hosts = [host for host in spec.hosts if host.state != "lost" and host.guest is None]
    text = pulumi.Output.all(*map(_host, hosts)).apply(
        lambda all: json.dumps({"stack": spec.stack, "hosts": all}, sort_keys=True)
    )
    given: pulumi.Output[str] = pulumi.Output.secret(text)
    return local.Command(
        f"{name}-teardown",
        create=":",
        # By the name on PATH: an absolute path would differ from one computer to the next.
        delete="groundplane reset --all --from-stdin",
        stdin=given,
        add_previous_output_in_env=False,
        logging=local.Logging.STDOUT_AND_STDERR,
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(protect=spec.cluster.protect)
        ),
    )


def _host(host: Host) -> dict[str, Any]:
    return {
        # Without a warning of each address that another resource gives.
        **host.model_dump(exclude={"labels", "taints", "jump", "guest"}, warnings=False),
        **_key(host),
        "jump": _jump(host),
    }


def _jump(host: Host) -> dict[str, Any] | None:
    jump = host.jump
    return None if jump is None else {**jump.model_dump(warnings=False), **_key(jump)}


def _key(hop: Host | Jump) -> dict[str, Any]:
    """The key's text too: whoever destroys may sit at another computer."""
    return {"key_text": Path(hop.key).expanduser().read_text() if hop.key else None}
