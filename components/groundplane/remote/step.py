"""Steps: the only place that makes resources of `command.remote`.

A step is a script in the host's bundle, called by a constant path with its data as one JSON object
on stdin. Pulumi compares the data, so the preview shows a change field by field; the token in it
makes the step run again where the host is no longer as the step left it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi_command import remote

from groundplane.remote.bundle import LIBRARY, bundle, installer, kept
from groundplane.remote.connect import Hop, Host
from groundplane.remote.observation import Observation

__all__ = ["INPUTS", "connection", "install", "leave_alone", "step"]

# All inputs of a command and of an upload: ignoring their changes keeps a resource as it is.
INPUTS = [
    "connection",
    "create",
    "update",
    "delete",
    "stdin",
    "environment",
    "triggers",
    "logging",
    "addPreviousOutputInEnv",
    "source",
    "remotePath",
]
DIALS = 10  # refused handshakes before giving up; MaxStartups drops some when many steps begin
SECONDS_PER_DIAL = 15

# Where an archive of scripts arrives: under a name that nobody on the host knows before.
UPLOAD = "/tmp/groundplane-{}.tar"
# Gives the installer its line and then the archive, and removes it. As the user who uploaded it,
# so that root opens nothing that others could have put there.
SEND = (
    "sh -c 'read -r line; file=" + UPLOAD.format("${line##* }") + "; "
    'echo "$line"; cat "$file"; rm -f "$file"\''
)


REMOVE = f"rm -rf {LIBRARY} /var/lib/groundplane /var/log/groundplane"


def _link(seen: Observation) -> str:
    """The release that steps are called in: on a shared machine each stack has its own."""
    return f"for-{seen.stack}" if seen.shared else "current"


def connection(host: Host, dials: int | None = None) -> remote.ConnectionArgs:
    """How the command provider reaches a host. The host key is always set: unset is unchecked."""
    proxy = None
    if host.jump is not None:
        proxy = remote.ProxyConnectionArgs(**_target(host.jump))
    more = {"dial_error_limit": dials} if dials else {}
    return remote.ConnectionArgs(**{**_target(host), **more}, proxy=proxy)


def _target(host: Hop) -> dict[str, Any]:
    return {
        "host": host.address,
        "port": host.port,
        "user": host.user,
        "private_key": private_key(host),
        # To the provider an empty one means that it need not look.
        "host_key": host.host_key if host.host_key != "" else "unknown",
        "dial_error_limit": DIALS,
        "per_dial_timeout": SECONDS_PER_DIAL,
    }


def private_key(host: Hop) -> pulumi.Output[str] | None:
    """The private key's text as a secret; None leaves it to the SSH agent."""
    if host.key is None:
        return None
    return pulumi.Output.secret(Path(host.key).expanduser().read_text())


def install(
    name: str, host: Host, seen: Observation, opts: pulumi.ResourceOptions
) -> remote.Command:
    """Bring this release's scripts onto the host: NAME-scripts uploads the archive, NAME-bundle
    installs it. Apart, since of an uploaded file the state keeps the hash and not the content.

    Both run where the host has not this release, or lost something of it. The upload has no
    delete: the host may be gone.
    """
    scripts = bundle()
    token = seen.token(host.name, seen.called("bundle"), scripts.digest)
    whose, remove = seen.stack, REMOVE
    if seen.shared:
        whose, remove = f"{whose} {_link(seen)}", f"{LIBRARY}/{_link(seen)}/forget {seen.stack}"
    opts = pulumi.ResourceOptions.merge(opts, _as_the_host_stands(host, seen))
    upload = remote.CopyToRemote(
        f"{name}-scripts",
        connection=connection(host),
        source=pulumi.FileAsset(kept(scripts)),
        remote_path=UPLOAD.format(token),
        opts=opts,
    )
    return remote.Command(
        f"{name}-bundle",
        connection=connection(host),
        create=f"{SEND} | " + _as_root(host, f"sh -c '{_quoted(installer())}'"),
        delete=_as_root(host, remove),
        stdin=f"{scripts.digest} {whose} {token}\n",
        add_previous_output_in_env=False,
        logging=remote.Logging.STDERR,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[upload])),
    )


def step(
    name: str,
    host: Host,
    script: str,
    data: pulumi.Input[Mapping[str, Any]],
    seen: Observation,
    opts: pulumi.ResourceOptions,
    *,
    instance: str = "",
    deletes: bool = False,
    secret_result: bool = False,
    token: str | None = None,
    dials: int | None = None,
) -> remote.Command:
    """Run the step `script` on the host whenever its data or its token change.

    `data`: JSON-able, at most 2 KB; the stack and the step's name are added, and the token.
    `instance`: of a step that is done for several on one host, for whom.
    `deletes`: the script has a verb `destroy`, called when the resource is deleted.
    `secret_result`: what the step gives back on stdout is a secret.
    `token`: another than the one that the host's state asks for.
    `dials`: how often the host may refuse before the step fails; DIALS unless given.
    """
    called = seen.called(script, instance)
    head = {
        "stack": seen.stack,
        "step": called,
        "revision": 1,
        "token": token or seen.token(host.name, called),
    }
    run = f"{LIBRARY}/{_link(seen)}/run {called}"
    return remote.Command(
        name,
        connection=connection(host, dials),
        # Without one where it cannot be called: a step that this state never made is left unmade.
        create=None if seen.unreachable(host.name) else _as_root(host, f"{run} apply"),
        delete=_as_root(host, f"{run} destroy") if deletes else None,
        stdin=pulumi.Output.from_input(data).apply(lambda d: canonical({**head, **d})),
        add_previous_output_in_env=False,
        logging=remote.Logging.STDERR,
        opts=pulumi.ResourceOptions.merge(
            pulumi.ResourceOptions.merge(opts, _as_the_host_stands(host, seen)),
            pulumi.ResourceOptions(additional_secret_outputs=["stdout"] if secret_result else None),
        ),
    )


def leave_alone(name: str, opts: pulumi.ResourceOptions) -> remote.Command:
    """A step of a host that is gone for good: kept in the state as it is for this one update, so
    that the next forgets it without a call that could only fail."""
    return remote.Command(
        name,
        connection=remote.ConnectionArgs(host="gone"),
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(ignore_changes=INPUTS, retain_on_delete=True)
        ),
    )


def canonical(data: Mapping[str, Any]) -> str:
    """JSON whose text is the same for the same data; empty values say nothing and are left out."""
    return json.dumps(_without_empty(data), sort_keys=True, separators=(",", ":"))


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_empty(v) for k, v in value.items() if v not in (None, {}, [])}
    return value


def _as_the_host_stands(host: Host, seen: Observation) -> pulumi.ResourceOptions:
    """A host that does not answer keeps its steps as they are; one that is lost is let go of."""
    return pulumi.ResourceOptions(
        ignore_changes=INPUTS if seen.unreachable(host.name) else None,
        retain_on_delete=True if host.state == "lost" else None,
    )


def _as_root(host: Host, command: str) -> str:
    return f"sudo -n {command}" if host.sudo else command


def _quoted(script: str) -> str:
    return script.replace("'", "'\\''")
