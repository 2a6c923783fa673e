"""What of a cluster must not be lost, nor read: backups, encryption, the audit log, hardening."""

from __future__ import annotations

from datetime import UTC, date, datetime

from rules.clusters import CLUSTERS, plan
from rules.rule import ADVISORY, MANDATORY, Found, Settings, View, need, rule


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Set cluster.backup, with a target that is none of the cluster's hosts.",
)
def backups_scheduled(plan: View, settings: Settings) -> Found:
    """Snapshots of etcd are made by a schedule, and leave the hosts.

    Without one, what is lost with a quorum is lost for good; on the hosts alone it goes with them.
    """
    if not plan["backup"]["schedule"].text:
        yield "no backup is scheduled"
    elif not plan["backup"]["target"].text:
        yield "its snapshots stay on the control planes"


@rule(
    ADVISORY,
    on=CLUSTERS,
    each=plan,
    remedy="Restore a snapshot on spare hosts (docs/operations/backup-and-restore.md), and write "
    "the day into the stack's levels: lastDrill.",
    settings={
        "lastDrill": {
            "type": "string",
            "default": "",
            "description": "The day of the last restore that was tried, as 2026-11-02.",
        },
        "everyDays": {
            "type": "integer",
            "default": 90,
            "minimum": 1,
            "description": "How many days a drill is good for.",
        },
    },
)
def backups_drilled(plan: View, settings: Settings) -> Found:
    """A restore was tried not long ago.

    A backup that nobody restored is a hope. Only people know that they did: the day stands in the
    stack's levels.
    """
    try:
        last = date.fromisoformat(settings["lastDrill"])
    except ValueError:
        yield "no day of a restore is written down"
        return
    days = (datetime.now(UTC).date() - last).days
    if days > settings["everyDays"]:
        yield f"the last restore was tried {days} days ago, on {last}"


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Use a distribution that encrypts them; groundplane's kubeadm clusters do.",
)
def secrets_encrypted_at_rest(plan: View, settings: Settings) -> Found:
    """Secrets are encrypted in etcd.

    Otherwise whoever gets a disk or a snapshot of a control plane has all passwords in the cluster.
    """
    if plan["encryption"]["provider"].text in ("", "identity"):
        yield "Secrets lie in etcd as they are"


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Set cluster.audit.level to metadata or request.",
)
def audit_log_on(plan: View, settings: Settings) -> Found:
    """The API server writes an audit log.

    After a break-in, or a mistake, it is the only record of who did what.
    """
    if plan["audit"].text in ("", "none"):
        yield "no audit log is written"


@rule(
    ADVISORY,
    on=CLUSTERS,
    each=plan,
    remedy="Set cluster.protect: true.",
)
def cluster_protected(plan: View, settings: Settings) -> Found:
    """A destroy refuses to take the cluster down.

    One command in the wrong folder would reset every host.
    """
    if plan["protect"].value is not True:
        yield "nothing holds up a destroy"


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Set cluster.hardening.level (docs/operations/hardening.md).",
    settings={
        "level": {
            "type": "string",
            "enum": ["baseline", "cis"],
            "default": "baseline",
            "description": "The lowest level that passes.",
        },
        "exemptions": {
            "type": "integer",
            "default": 10,
            "minimum": 0,
            "description": "How many checks may be exempt.",
        },
    },
)
def hosts_hardened(plan: View, settings: Settings) -> Found:
    """Hosts and cluster are hardened, and few checks of that are exempt.

    As they come, they are made for everybody's convenience, an intruder's too.
    """
    level, exempt = plan["hardening"]["level"].text, plan["hardening"]["exempt"]
    if level not in (settings["level"], "cis"):
        told = level or "not told"
        yield f"its level of hardening is {told}, and {settings['level']} is asked for"
    need(exempt)
    count = len(list(exempt))
    if count > settings["exemptions"]:
        yield f"{count} checks of its hardening are exempt"
