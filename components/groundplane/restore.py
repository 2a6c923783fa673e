"""A cluster rebuilt: from a snapshot on blank hosts, or from the one control plane that is left.

Both end with a cluster of one control plane that the stack's state knows already; the next
`pulumi up` lets the other hosts join, as it does with any host that is new.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import mmap
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from groundplane import snapshots
from groundplane.clusters import data
from groundplane.errors import Finding, GroundplaneError, SpecError
from groundplane.registry import distribution_of, distributions
from groundplane.remote.bundle import LIBRARY, bundle, installer
from groundplane.remote.connect import (
    Done,
    HostError,
    HostUnreachable,
    Kind,
    as_root,
    attempt,
    dialler,
    exit_status,
    finish,
    last_line,
    run_all,
)
from groundplane.remote.observation import Observation
from groundplane.snapshots import Snapshot
from groundplane.spec import Host, Spec
from groundplane.spec.load import REGISTRY_PASSWORD
from groundplane.survey import look_around

__all__ = ["from_snapshot", "from_survivor", "identity_of_stack", "read_identity"]

STATE = "/var/lib/groundplane"
RESTORING = f"{STATE}/restoring"  # as in scripts/steps/restore.sh
UPLOADED = f"{STATE}/restore.db"
STEP_SECONDS = 3700  # a step ends itself after an hour
UPLOAD_SECONDS = 3600
# What the API server writes before each Secret: which key reads it.
WRITTEN_WITH = re.compile(rb"k8s:enc:secretbox:v1:key([0-9]{1,4}):")

Say = Callable[[str], None]
Reset = Callable[[Sequence[Host], str], Iterable[str]]
"""Makes hosts of a stack what they were before."""


# ---- the cluster's identity ------------------------------------------------------------------


def identity_of_stack(stack: str) -> dict[str, Any]:
    """The identity that the stack's state holds. Raises GroundplaneError."""
    got = snapshots.pulumi("stack", "output", "identity", "--show-secrets", "--stack", stack)
    if got.returncode != 0:
        raise GroundplaneError(
            f"stack {stack}",
            f"its state gives no identity: {last_line(got.stderr)}",
            "Without the cluster's CAs and keys a snapshot is of no use",
            "Name a copy with --identity FILE, made while the stack stood by: pulumi stack output "
            "identity --show-secrets",
        )
    return read_identity(got.stdout, f"stack {stack}, output identity")


def read_identity(text: str, place: str) -> dict[str, Any]:
    """The identity from its JSON {cluster, identity: {path: text}}.

    Raises GroundplaneError for one that is not whole.
    """
    try:
        found = json.loads(text)
        found = json.loads(found) if isinstance(found, str) else found
        # Of whichever distribution: they call their roots differently.
        roots = [distribution_of(name).facts.ca for name in distributions()]
        ca = next(path for path in roots if path in found["identity"])
        missing = [p for p in (ca, f"{ca[:-4]}.key", data.SECRET) if not found["identity"][p]]
        cluster = cluster_id(found["identity"][ca])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration):
        missing, cluster, found = ["all of it"], "", {}
    if missing or cluster != found["cluster"]:
        raise GroundplaneError(
            place,
            f"is no identity of a cluster: {', '.join(missing) or 'its CA is that of another'}",
            "It holds the CAs that every part of the cluster trusts, and the secret of its keys",
            "Write it anew: pulumi stack output identity --show-secrets > identity.json",
        )
    return dict(found)


def cluster_id(ca: str) -> str:
    """A cluster's id, from its CA in PEM: as `cluster_id` in scripts/steps/bootstrap.sh."""
    body = "".join(line for line in ca.strip().splitlines() if not line.startswith("-----"))
    try:
        return hashlib.sha256(base64.b64decode(body, validate=True)).hexdigest()[:16]
    except binascii.Error:
        return ""


# ---- from a snapshot -------------------------------------------------------------------------


def from_snapshot(
    spec: Spec,
    chosen: str,
    key: Path | None,
    identity: Mapping[str, Any],
    wipe: bool,
    reset: Reset,
    say: Say,
) -> Host:
    """Rebuild the cluster on the first control plane; returns it.

    `chosen`: a file, the name of a snapshot at the target or on a host, or "latest". `key`: the
    recipient's private key, None for a snapshot that is not encrypted. `wipe`: control planes that
    are not blank are reset, else refused. Everything that can be known beforehand is
    checked before a host is touched. Raises GroundplaneError.
    """
    controls = [host for host in spec.control_planes if host.state != "lost"]
    founder = controls[0]
    with tempfile.TemporaryDirectory(prefix="groundplane-") as folder:
        database = obtain(spec, chosen, key, identity, Path(folder), say)
        keys_reach(spec, database, chosen)
        seen = blank_hosts(spec, controls, wipe, reset, say)
        on(founder, f"mkdir -p -m 0700 {STATE} && touch {RESTORING}", seconds=60)
        install(spec, founder)
        say(f"{founder.name}: scripts installed")
        upload(founder, database, UPLOADED)
        say(f"{founder.name}: snapshot uploaded, {database.stat().st_size / (1 << 20):.1f} MiB")
    found = seen.seen(founder.name)
    assert found is not None  # blank_hosts saw all of them
    step(spec, founder, "prepare", data.prepare(spec, founder, found.arch, found.packager))
    say(f"{founder.name}: packages and parts are there")
    step(spec, founder, "secrets", _secrets(spec, identity))
    say(f"{founder.name}: has the cluster's identity")
    blank = [host.name for host in spec.hosts if host != founder and seen.blank(host.name)]
    step(spec, founder, "restore", restore_data(spec, founder, identity, blank))
    say(f"{founder.name}: the API answers at {spec.cluster.endpoint.url}")
    return founder


def restore_data(
    spec: Spec, founder: Host, identity: Mapping[str, Any], blank: Sequence[str]
) -> dict[str, Any]:
    """What the step `restore` is told: all that founding takes, and where the snapshot lies."""
    node = data.node(spec, founder)
    return {
        **node,
        "cluster": identity["cluster"],
        "snapshot": UPLOADED,
        "blank": list(blank),
        # The data are there before kubeadm comes; that is the whole point.
        "ignore_preflight": [*node["ignore_preflight"], "DirAvailable--var-lib-etcd"],
    }


def _secrets(spec: Spec, identity: Mapping[str, Any]) -> dict[str, Any]:
    """As the first update gave them; where backups go, the next one says."""
    registry = spec.cluster.registry
    login = registry and {
        "address": registry.address,
        "ca": registry.ca,
        "username": registry.username,
        "password": registry.username and snapshots.stack_secret(spec.stack, REGISTRY_PASSWORD),
    }
    return {
        "role": "control-plane",
        "identity": identity["identity"],
        "encryption": spec.cluster.encryption_generation,
        "registry": login,
    }


def obtain(
    spec: Spec,
    chosen: str,
    key: Path | None,
    identity: Mapping[str, Any],
    folder: Path,
    say: Say,
) -> Path:
    """The snapshot as a plain, whole etcd database in `folder`. Raises GroundplaneError."""
    file = Path(chosen)
    if chosen != "latest" and file.is_file():
        named = snapshots.named(file.name, file.stat().st_size, "here")
        encrypted = named.encrypted if named else file.suffix == ".cms"
    else:
        named = _choose(spec, chosen, identity, say)
        encrypted = named.encrypted
        file = folder / named.name
        snapshots.place_named(spec, named.place).fetch(named.name, file)
        say(f"{named.name}: fetched from {named.place}")
    if named:
        _is_of(named, identity)
        if not snapshots.sha256(file).startswith(named.digest):
            raise GroundplaneError(
                named.name,
                "is not the file that was written under this name",
                "Its SHA-256 is another",
                "Take another copy of it, or another snapshot.",
            )
    if encrypted:
        if key is None:
            raise GroundplaneError(
                file.name, "is encrypted", "", "Name the recipient's private key: --key FILE."
            )
        plain = folder / "snapshot.db"
        snapshots.decrypt(file, key, plain)
        say(f"{file.name}: decrypted")
    else:
        plain = file
    if not snapshots.intact(plain):
        raise GroundplaneError(
            file.name,
            "is no whole etcd snapshot",
            "It does not end with the SHA-256 of what is before it",
            "Take another one; `groundplane snapshots` lists them.",
        )
    return plain


def keys_reach(spec: Spec, database: Path, chosen: str) -> None:
    """Raise for a snapshot whose Secrets were written with a later key than the stack asks for: no
    API server would become ready upon it."""
    with database.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        newest = max((int(found[1]) for found in WRITTEN_WITH.finditer(text)), default=0)
    asked = spec.cluster.encryption_generation
    if newest > asked:
        raise GroundplaneError(
            f"snapshot {chosen}",
            f"holds Secrets written with the key of generation {newest}",
            f"cluster.encryptionGeneration is {asked}, and keys are worked out up to that",
            f"Set cluster.encryptionGeneration: {newest}.",
        )


def _choose(spec: Spec, chosen: str, identity: Mapping[str, Any], say: Say) -> Snapshot:
    every = snapshots.found(spec, say)
    if chosen == "latest":
        # A cluster of the same name that was founded anew has snapshots too, and another id.
        every = [s for s in every if str(identity["cluster"]).startswith(s.id)]
    else:
        every = [s for s in every if s.name == chosen]
    if not every:
        raise GroundplaneError(
            f"snapshot {chosen}",
            f"no such snapshot of {spec.cluster.name} (cluster {identity['cluster']}), and no file",
            "",
            "`groundplane snapshots` lists what there is.",
        )
    return every[0]


def _is_of(snapshot: Snapshot, identity: Mapping[str, Any]) -> None:
    if not str(identity["cluster"]).startswith(snapshot.id):
        raise GroundplaneError(
            snapshot.name,
            f"is of the cluster {snapshot.id}..., and the identity of {identity['cluster']}",
            "Nothing in it would trust that identity",
            "Take the identity and a snapshot of the same cluster.",
        )


def blank_hosts(
    spec: Spec, controls: Sequence[Host], wipe: bool, reset: Reset, say: Say
) -> Observation:
    """Look at all hosts; the control planes must be blank, or with `wipe` are made so.

    What an earlier restore left half done is cleared without asking.
    """
    seen = look_around(spec, again=True)
    _answer(seen, controls)
    full = [host for host in controls if not seen.blank(host.name)]
    if clear := full if wipe else _begun(full):
        reset(clear, spec.stack)
        say(f"{', '.join(host.name for host in clear)}: reset")
        seen = look_around(spec, again=True)
        _answer(seen, controls)
        full = [host for host in controls if not seen.blank(host.name)]
    if full:
        raise SpecError(
            Finding(
                host.name,
                f"is not blank: {_what_is_there(seen, host)}",
                "A restore begins a new life of the cluster, and this would be the old one",
                "Install it anew, or give --wipe to have it reset. To revive what it holds: "
                "groundplane restore --from-survivor",
            )
            for host in full
        )
    return seen


def _answer(seen: Observation, hosts: Sequence[Host]) -> None:
    """Raise for control planes that do not answer: an old member that lives unseen would make two
    clusters of one."""
    silent = [f for h in hosts if isinstance(f := seen.hosts[h.name], HostUnreachable)]
    if silent:
        raise SpecError(
            Finding(
                failure.name,
                f"does not answer: {failure.cause}",
                "If it lives unseen, there will be two clusters of one identity",
                f"{failure.remedy} A control plane that is gone: take it out of hosts, or mark it "
                "state: lost.",
            )
            for failure in silent
        )


def _what_is_there(seen: Observation, host: Host) -> str:
    found = seen.seen(host.name)
    assert found is not None
    steps = [f"the step {name} of stack {entry.stack}" for name, entry in found.ledger.items()]
    return ", ".join([*found.cluster_data, *steps][:4]) or "a cluster's record"


def _begun(hosts: Sequence[Host]) -> list[Host]:
    """Those on which an earlier restore did not end."""
    done = run_all(hosts, ["test", "-e", RESTORING])
    return [h for h in hosts if isinstance(r := done[h.name], Done) and r.status == 0]


# ---- from a survivor -------------------------------------------------------------------------


def from_survivor(spec: Spec, name: str, wipe: bool, reset: Reset, say: Say) -> Host:
    """Found etcd anew from what one surviving control plane holds; returns that host.

    Refuses while etcd has a quorum, and where another control plane that answers knows more.
    `wipe`: those others are reset; without it they are refused. Raises GroundplaneError.
    """
    controls = [host for host in spec.control_planes if host.state != "lost"]
    survivor = next((host for host in controls if host.name == name), None)
    if survivor is None:
        raise GroundplaneError(
            name,
            "is no control plane of this stack",
            "",
            f"Name one of {', '.join(host.name for host in controls)}.",
        )
    seen = look_around(spec, again=True)
    _answer(seen, [survivor])
    found = seen.seen(name)
    assert found is not None
    if not seen.joined(name) or found.record is None:
        raise GroundplaneError(
            name, "holds no member of this stack's cluster", "", "Name one that does."
        )
    if found.etcd is not None and found.etcd.healthy:
        raise GroundplaneError(
            name,
            "etcd has a quorum there",
            "Founding it anew would throw away what the others know",
            "Run `pulumi up`: it replaces control planes that are dead.",
        )
    others = [h for h in controls if h != survivor and seen.joined(h.name)]
    known = _revisions([survivor, *others])
    say(", ".join(f"{host}: revision {revision}" for host, revision in known.items()))
    ahead = [h.name for h in others if known.get(h.name, 0) > known.get(name, 0)]
    if ahead:
        raise GroundplaneError(
            name,
            f"is behind {', '.join(ahead)}",
            "What was written there and not here would be lost",
            f"Take {ahead[0]} as the survivor.",
        )
    if others and not wipe:
        raise GroundplaneError(
            ", ".join(host.name for host in others),
            "still holds etcd data of the cluster",
            "Beside one that was founded anew it would be a second cluster of the same identity",
            "Give --wipe to have it reset; `pulumi up` lets it join again.",
        )
    if others:
        reset(others, spec.stack)
        say(f"{', '.join(host.name for host in others)}: reset")
    install(spec, survivor)
    cluster = str(found.record.get("cluster", ""))
    step(spec, survivor, "restore", {"cluster": cluster, **data.node(spec, survivor)}, "refound")
    say(f"{name}: the only member of etcd, healthy")
    return survivor


def _revisions(hosts: Sequence[Host]) -> dict[str, int]:
    """Each host's etcd revision, from its member, which answers this without a quorum too."""
    script = f'. {LIBRARY}/current/lib.sh; load; etcd_at "$(etcd_here)" endpoint status -w json'
    found = {}
    for name, done in run_all(hosts, ["bash", "-c", script]).items():
        try:
            answer = json.loads(done.stdout) if isinstance(done, Done) else []
            found[name] = int(answer[0]["Status"]["header"]["revision"])
        except (ValueError, KeyError, IndexError, TypeError):
            continue  # stopped, or damaged: then it knows nothing that could be had
    return found


# ---- on a host -------------------------------------------------------------------------------


def on(host: Host, command: str, stdin: str = "", seconds: float = STEP_SECONDS) -> Done:
    """Run a shell command as root. Raises GroundplaneError when it fails."""
    return _done(host, run_all([host], ["sh", "-c", command], stdin, seconds)[host.name])


def install(spec: Spec, host: Host) -> None:
    """Bring this release's scripts onto a host, as the update does."""
    scripts = bundle()
    head = f"{scripts.digest} {spec.stack} {token_hex(8)}\n"
    on(host, installer(), head + scripts.archive, seconds=900)


def step(
    spec: Spec, host: Host, script: str, fields: Mapping[str, Any], verb: str = "apply"
) -> None:
    """Run a step as the update does, with a new token: the next update runs it once more."""
    from groundplane.remote.step import canonical  # with it comes Pulumi, half a second

    head = {"stack": spec.stack, "step": script, "revision": 1, "token": token_hex(8)}
    on(host, f"{LIBRARY}/current/run {script} {verb}", canonical({**head, **fields}))


def _done(host: Host, result: Done | HostUnreachable) -> Done:
    if isinstance(result, HostUnreachable):
        raise GroundplaneError(host.name, result.cause, "", result.remedy)
    if result.status != 0:
        said = result.stderr.strip() or result.stdout.strip() or f"status {result.status}"
        raise GroundplaneError(
            host.name,
            "\n".join(line for line in said.splitlines()[-30:] if not line.startswith("changed ")),
            "",
            "Then run the same command again: it clears what this one left.",
        )
    return result


def upload(host: Host, file: Path, to: str) -> None:
    """Copy a file into a place that only root may read, whole or not at all."""
    digest = snapshots.sha256(file)
    part = shlex.quote(f"{to}.part")
    script = (
        f"umask 077; cat >{part} && sync {part} && "
        f'[ "$(sha256sum <{part} | cut -d" " -f1)" = {digest} ] && mv {part} {shlex.quote(to)} || '
        f"{{ rm -f {part}; echo 'the snapshot did not arrive whole' >&2; exit 1; }}"
    )

    async def work() -> HostUnreachable | None:
        async with dialler() as dial:

            async def send() -> None:
                connection = await dial(host)
                command = as_root(host, ["sh", "-c", script])
                process = await connection.run(command, stdin=file, encoding=None)
                if exit_status(process) != 0:
                    said = last_line(snapshots.text(process.stderr))
                    raise HostError(Kind.COMMAND_FAILED, said, f"Has its disk room? df -h {STATE}")

            return await attempt(host, UPLOAD_SECONDS, send)

    failure = finish(work())
    if failure is not None:
        raise GroundplaneError(host.name, failure.cause, "", failure.remedy)


def stopwatch(say: Say) -> Say:
    """`say` with the seconds since now before each line."""
    began = time.monotonic()
    return lambda line: say(f"{time.monotonic() - began:6.1f} s  {line}")
