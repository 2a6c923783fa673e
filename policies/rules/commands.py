"""Commands on hosts, those of groundplane and those of a team's own."""

from __future__ import annotations

from collections.abc import Iterator

from rules.rule import MANDATORY, Found, Resource, Settings, View, need, rule

REMOTE = ("command:remote:Command", "command:remote:CopyToRemote", "command:remote:CopyFile")
COMMANDS = ("command:remote:Command", "command:local:Command")
LOGINS = ("password", "privateKey", "privateKeyPassword")
PRIVATE_KEY = "PRIVATE KEY-----"


def connections(resource: Resource) -> Iterator[View]:
    """How a host is reached, and how the host between is."""
    connection = resource.props["connection"]
    yield connection
    if connection.known and connection["proxy"].raw is not None:
        yield connection["proxy"]


@rule(
    MANDATORY,
    on=REMOTE,
    each=connections,
    remedy="Set hostKey, as /etc/ssh/ssh_host_ed25519_key.pub on the host has it.",
)
def host_keys_checked(connection: View, settings: Settings) -> Found:
    """Every SSH connection names the key that the host must show.

    Without it, any host key is accepted: whoever is in the network can pose as the host, and gets
    what is sent to it.
    """
    if not connection["hostKey"].text.strip():
        yield f"{connection.path}.hostKey is missing"


@rule(
    MANDATORY,
    on=COMMANDS,
    remedy="Send it by stdin, as a secret; the command reads it there.",
)
def no_secrets_in_commands(command: View, settings: Settings) -> Found:
    """No secret stands in a command's text.

    When a command fails, all of its text is printed; while it runs, every user of the host can read
    it in the list of processes.
    """
    texts = [command[key] for key in ("create", "update", "delete")]
    connection = command["connection"]
    logins = [connection[key] for key in LOGINS] if connection.known else []
    for text in texts:
        if text.secret:
            yield f"{text.path} is, or holds, a secret"
        elif text.known and PRIVATE_KEY in text.text:
            yield f"{text.path} holds a private key"
        elif text.known and any(s.known and s.text and s.text in text.text for s in logins):
            yield f"{text.path} holds what the host is logged in to with"
    need(*(text for text in texts if not text.secret))


@rule(
    MANDATORY,
    on=COMMANDS,
    remedy="Leave triggers out: put what is to cause another run into stdin, and let `create` or "
    "`update` do it again.",
)
def no_triggers_on_destroyable_steps(command: View, settings: Settings) -> Found:
    """A step that destroys something when it is deleted has no triggers.

    A changed trigger replaces the step: after the new one was created, the old one is deleted, and
    what the new one made goes with it.
    """
    if command["delete"].raw is not None and command["triggers"].value:
        yield "it has both triggers and delete"
