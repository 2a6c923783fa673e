"""How many control planes there are, and what is lost together."""

from __future__ import annotations

from collections import defaultdict

from rules.clusters import CLUSTERS, listed, members, minors, plan, plans, quorum, release
from rules.rule import ADVISORY, MANDATORY, Found, FoundIn, Resource, Settings, View, need, rule

# fmt: off
KEYS = [
    "stack", "name", "hosts", "kubernetes", "network", "endpoint", "podCidrs", "serviceCidrs",
    "encryption", "audit", "backup", "settings",
]
# fmt: on


@rule(
    MANDATORY,
    on=CLUSTERS,
    remedy="Use the policy pack and the library of one release of groundplane.",
)
def cluster_has_a_plan(cluster: View, settings: Settings) -> Found:
    """A cluster registers its plan.

    The rules about clusters look at nothing else; without it they would find nothing wrong.
    """
    if cluster["plan"].value is None:
        yield "registers no plan"
    elif missing := [key for key in KEYS if cluster["plan"][key].raw is None]:
        yield f"its plan says nothing of {listed(missing)}"


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="List 1, 3 or 5 hosts with role: control-plane. To replace one, exchange it in one "
    "edit.",
)
def odd_etcd_members(plan: View, settings: Settings) -> Found:
    """etcd has an odd number of members.

    An even number survives no more losses than the odd one below it, and has one machine more that
    can be lost.
    """
    if len(members(plan)) % 2 == 0:
        yield f"{len(members(plan))} control planes ({listed(sorted(members(plan)))})"


def _together(plan: View, key: str) -> dict[str, list[str]]:
    """What a host is in -> the control planes that are lost with it."""
    found = defaultdict(list)
    for name, host in members(plan).items():
        if host[key].text:
            found[host[key].text].append(name)
    return found


@rule(
    ADVISORY,
    on=CLUSTERS,
    each=plan,
    remedy="Name each host's failureDomain, and spread the control planes over at least three.",
)
def failure_domains(plan: View, settings: Settings) -> Found:
    """Control planes are spread over failure domains, so that losing one leaves etcd a quorum.

    Racks and power feeds fail as a whole; etcd stops when a majority of its members is in one.
    """
    count = len(members(plan))
    if count < 3:
        return
    unnamed = sorted(n for n, host in members(plan).items() if not host["failureDomain"].text)
    if unnamed:
        yield f"no failure domain is named for {listed(unnamed)}"
    for domain, names in _together(plan, "failureDomain").items():
        if count - len(names) < quorum(count):
            yield (
                f"{len(names)} of {count} control planes ({listed(sorted(names))}) are in the "
                f"failure domain {domain}"
            )


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Put each control plane on a hypervisor of its own.",
)
def control_planes_on_hypervisors(plan: View, settings: Settings) -> Found:
    """Losing one hypervisor leaves etcd a quorum.

    All guests of a hypervisor go when it goes, or when somebody reboots it.
    """
    count = len(members(plan))
    for hypervisor, names in _together(plan, "hypervisor").items():
        if count >= 3 and count - len(names) < quorum(count):
            yield (
                f"{len(names)} of {count} control planes ({listed(sorted(names))}) are guests of "
                f"{hypervisor}"
            )


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Have at least three control planes, and an address that is none of theirs.",
)
def endpoint_on_several_hosts(plan: View, settings: Settings) -> Found:
    """The API's endpoint outlives any one host.

    Kubelets, controllers and people reach the cluster by this address alone.
    """
    if len(members(plan)) < 2 and plan["endpoint"]["mode"].text == "managed":
        yield f"the endpoint is on one host, {listed(list(members(plan)))}"
    endpoint = plan["endpoint"]["address"].text
    addresses = {name: host["address"] for name, host in plan["hosts"].items()}
    for name, address in addresses.items():
        if address.known and address.text and address.text == endpoint:
            yield f"the endpoint's address is that of {name}"
    need(*addresses.values())


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=None,
    remedy="Bring silent members back first, and change a minority of the control planes at a "
    "time, with an update between.",
)
def quorum_kept(clusters: list[Resource], settings: Settings) -> FoundIn:
    """The planned change keeps etcd's quorum.

    What is written in etcd is only as safe as a majority of the members that hold it today.
    """
    for cluster, its in plans(clusters):
        found = {
            name: member["healthy"].value is True
            for name, member in its["observed"]["members"].items()
            if member["learner"].value is not True
        }
        now, then = set(found), set(members(its))
        serving = {
            name
            for name, healthy in found.items()
            if healthy and its["hosts"][name]["state"].text != "maintenance"
        }
        # Who joins is taken to serve then.
        after = serving & then | then - now
        if now and len(serving) < quorum(len(now)):
            yield cluster, f"{len(serving)} of {len(now)} members of etcd serve, which is no quorum"
        if now and len(now & then) < quorum(len(now)):
            yield (
                cluster,
                f"{listed(sorted(now - then))} would leave in one change, so that "
                f"{len(now & then)} of {len(now)} members stay",
            )
        elif now and len(after) < quorum(len(then)):
            yield cluster, f"after the change {len(after)} of {len(then)} members would serve"


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=None,
    remedy="Go up by one minor at a time, control planes first; workers may follow three minors "
    "behind.",
)
def version_skew(clusters: list[Resource], settings: Settings) -> FoundIn:
    """Versions stay as near to each other as Kubernetes supports.

    A kubelet is never newer than an API server and at most three minors older; API servers go up by
    one minor at a time. Source: https://kubernetes.io/releases/version-skew-policy/
    """
    for cluster, its in plans(clusters):
        version, workers = (its["kubernetes"][key].text for key in ("version", "workers"))
        if release(workers) > release(version):
            yield cluster, f"workers at {workers} would be newer than the API servers at {version}"
        if minors(version) - minors(workers) > 3:
            yield cluster, f"workers at {workers} would be too old for API servers at {version}"
        for name, node in its["observed"]["nodes"].items():
            at = node["version"].text
            behind = minors(version) - minors(at)
            if node["controlPlane"].value and behind > 1:
                yield cluster, f"{name} is at {at}: {version} would skip a minor"
            elif node["controlPlane"].value and release(version) < release(at):
                yield cluster, f"{name} is at {at}: {version} would be a downgrade"
            elif behind > 3:
                yield cluster, f"{name} is at {at}, too old for API servers at {version}"
