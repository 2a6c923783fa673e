"""What happens to the machines, in the order it happens; whatever the distribution.

A distribution is a file of this folder: its class, and what is true of it. What its hosts do stands
in `remote/scripts/distributions/`.
"""

import gc
import hashlib
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from secrets import token_hex
from typing import Any

import pulumi
from pulumi_command import local, remote

from groundplane.clusters import data
from groundplane.clusters.distribution import Distribution
from groundplane.clusters.firewall import firewall
from groundplane.clusters.plan import beside, observed, wanted
from groundplane.clusters.teardown import teardown
from groundplane.errors import GroundplaneError
from groundplane.hosts import HostSource
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.observation import Observation
from groundplane.remote.step import INPUTS, install, leave_alone, step
from groundplane.spec import Host, Spec, hardening
from groundplane.survey import silent_leavers, survey

__all__ = ["KubernetesCluster"]

# Certificates live a year; renewed this long before their end, a quarter of them is left.
RENEWED_BEFORE = timedelta(days=90)
# Refused connections to a host that restarts: a server's firmware takes its minutes.
AFTER_RESTART = 60
# Made between two walks of Python's collector: what a hundred hosts are, 10 MB more at most.
OBJECTS = 500_000


class KubernetesCluster(pulumi.ComponentResource):
    """A Kubernetes cluster on given hosts; see the distributions' own classes."""

    endpoint: pulumi.Output[str]
    """The URL of the API."""
    kubeconfig: pulumi.Output[str]
    """An administrator's kubeconfig; a secret."""
    nodes: pulumi.Output[dict[str, str]]
    """Node name -> address."""
    identity: pulumi.Output[str]
    """What `groundplane restore` needs to rebuild the cluster from a snapshot; a secret. JSON:
    {cluster, identity: {path: text}}."""

    def __init__(
        self,
        name: str,
        spec: Spec,
        distribution: Distribution,
        opts: pulumi.ResourceOptions | None,
        sources: Sequence[HostSource],
    ):
        if spec.cluster.distribution != distribution.name:
            raise RefusedError(
                "cluster.distribution",
                f"{spec.cluster.distribution}, and this is a {distribution.component}",
                "The hosts would be made into another kind of cluster than is asked for",
                f"Write distribution: {distribution.name}, or take the other class.",
            )
        view = wanted(spec)
        kind = f"groundplane:index:{distribution.component}"
        super().__init__(kind, name, {"plan": view}, opts)
        # What is registered lives to the program's end, and Python's collector would walk through
        # all of it again and again: half of the time for 100 hosts (docs/performance.md).
        gc.freeze()
        if 0 < gc.get_threshold()[0] < OBJECTS:
            gc.set_threshold(OBJECTS)
        seen = survey(spec)
        plan = _Plan(self, name, spec, distribution, seen, sources)

        # First, so that everything else is deleted with it when the whole cluster goes.
        plan.undo = teardown(name, spec, plan.child())
        # A machine that changes under a member waits for the member's turn; the others need not.
        for host in spec.guests:
            if not plan.disturbs(host):
                plan.make(host)
        early = [host for host in spec.hosts if not plan.renews(host)]
        prepared = {host.name: plan.prepare(host) for host in early}
        founded = plan.bootstrap(prepared[plan.founder.name])
        secrets = {host.name: plan.secrets(host, founded, prepared[host.name]) for host in early}
        plan.tell_adoption(founded)
        members = plan.membership(secrets)

        # One after the other: etcd takes one new member at a time, and a roll that fails stops.
        # The first waits for the secrets of all: it may write with a key that is new to them.
        turn: list[pulumi.Resource] = [
            members,
            *(secrets[host.name] for host in spec.control_planes if host in early),
        ]
        controls: list[pulumi.Resource] = []
        # Members first: they must know of a newcomer before it may carry the endpoint's address.
        for host in sorted(spec.control_planes, key=lambda host: not plan.seen.joined(host.name)):
            controls.append(plan.turn(host, turn, founded, secrets))
            # What the founder has left to do after founding disturbs nobody.
            if not (plan.blank and host is plan.founder):
                turn = [controls[-1]]

        # A worker's kubelet may never be newer than an API server, and reads its settings from
        # what the control planes uploaded; only where all is new need it not wait for them.
        barrier = members if plan.blank else controls[-1]
        workers: list[pulumi.Resource] = []
        lanes: list[pulumi.Resource] = [barrier] * spec.cluster.max_unavailable
        for host in spec.workers:
            if plan.seen.joined(host.name):
                lane = lanes.pop(0)
                workers.append(plan.turn(host, [lane], founded, secrets))
                lanes.append(workers[-1])
            else:
                workers.append(plan.turn(host, [barrier], founded, secrets))

        gone = plan.let_go()
        config = plan.kubeconfig(founded, controls[:1])
        # Annotated here, since on the class they would be outputs to the provider's analyzer, which
        # knows no resource without a type of its own.
        self.api_ready: pulumi.Resource = config
        """Once it is there the API answers: a pod network may come."""
        self.nodes_ready: pulumi.Resource = plan.nodes([*controls, *workers, *gone, config])
        """Once it is there all nodes are Ready: anything may come."""
        plan.report([self.nodes_ready])
        self.endpoint = pulumi.Output.from_input(spec.cluster.endpoint.url)
        self.kubeconfig = pulumi.Output.secret(config.stdout)
        self.nodes = pulumi.Output.from_input({h.name: h.node_address for h in spec.hosts})
        self.identity = pulumi.Output.secret(founded.stdout)
        self.register_outputs(
            {
                "endpoint": self.endpoint,
                "nodes": self.nodes,
                "kubeconfig": self.kubeconfig,
                "plan": {**view, "siblings": beside(spec.siblings), "observed": observed(seen)},
            }
        )


class RefusedError(GroundplaneError, pulumi.RunError):
    """A `GroundplaneError` that Pulumi shows as it is: of a RunError it prints no traceback."""


def _identity(name: str, stdout: str) -> dict[str, Any]:
    """What the step `bootstrap` gave: {cluster, identity: {path: text}}."""
    try:
        found = json.loads(stdout)
        return {key: found[key] for key in ("cluster", "identity")}
    except (ValueError, TypeError, KeyError):
        raise RefusedError(
            name,
            "the state holds no identity of the cluster, although this step is done",
            "From it is made what every host must know",
            "Run the step again; where the cluster stands it founds nothing, and gives its "
            f"identity: pulumi up --replace '**::{name}'",
        ) from None  # the other one carries the text, which is secret


class _Plan:
    """The steps of one cluster; what they share is here so that each reads as one call."""

    undo: pulumi.Resource

    def __init__(
        self,
        parent: pulumi.Resource,
        name: str,
        spec: Spec,
        distribution: Distribution,
        seen: Observation,
        sources: Sequence[HostSource],
    ):
        self.parent, self.name, self.spec, self.seen = parent, name, spec, seen
        self.distribution, self.sources = distribution, sources
        # A guest that is there is known by its key, before the turn of its machine has come.
        self.at = {
            host.name: host.model_copy(update={"host_key": guest.host_key})
            if (guest := seen.guests.get(host.name)) is not None
            else host
            for host in spec.hosts
        }
        self.machines: dict[str, pulumi.Resource] = {}
        members = [host for host in spec.control_planes if seen.joined(host.name)]
        self.members = members
        # A control plane that is not run now may hold the cluster all the same.
        self.blank = not members and not any(seen.stopped(h.name) for h in spec.control_planes)
        serving = set(seen.living(host.name for host in members))
        self.living = [host for host in members if host.name in serving]
        # Where the cluster is founded; once it stands, whoever holds it can give its identity.
        # Not one that is installed anew: the others wait for this one before its turn comes.
        staying = [host for host in self.living if not self.renews(host)]
        self.founder = (staying or self.living or members or spec.control_planes)[0]
        # Who acts for the whole cluster. Always the same one, so that a control plane which is
        # slow to answer for once changes nothing; unless there is something to do and it cannot.
        holder = next((h for h in members if seen.conforms(h.name, "membership")), self.founder)
        holder = self.founder if self.renews(holder) else holder
        able = holder in self.living or not self.membership_is_due
        self.speaker = holder if able else self.founder

    def child(self, *orders: pulumi.Resource) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self.parent, depends_on=list(orders))

    def of_host(self, host: Host, *orders: pulumi.Resource) -> pulumi.ResourceOptions:
        """Steps that a whole destroy skips: the teardown resets all hosts at once. Those on a guest
        are skipped, too, where its machine goes with all that is on it."""
        machine = self.machines.get(host.name)
        return pulumi.ResourceOptions.merge(
            self.child(self.undo, *([machine] if machine else []), *orders),
            pulumi.ResourceOptions(deleted_with=machine or self.undo),
        )

    def called(self, *words: str) -> str:
        return "-".join([self.name, *words])

    # ---- each host ---------------------------------------------------------------------------

    def make(self, host: Host, after: Sequence[pulumi.Resource] = ()) -> None:
        """A guest's machine; from here on the guest can be reached."""
        self.at[host.name], self.machines[host.name] = self.source(host).machine(host, after)

    def source(self, host: Host) -> HostSource:
        """What makes a guest's machine."""
        for source in self.sources:
            if source.makes(host):
                return source
        raise RefusedError(
            host.name,
            "it is a guest, and nothing here makes it",
            "Its machine must be there before anything can be done on it",
            "Hand the source of its hypervisor's kind to the cluster: sources=[LibvirtHosts(...)].",
        )

    def prepare(self, host: Host) -> remote.Command:
        bundle = install(self.called(host.name), self.at[host.name], self.seen, self.of_host(host))
        found = self.seen.seen(host.name)
        arch, packager = (found.arch, found.packager) if found else ("amd64", "apt")
        prepared = step(
            self.called(host.name, "prepare"),
            self.at[host.name],
            "prepare",
            data.prepare(self.spec, host, arch, packager),
            self.seen,
            self.of_host(host, bundle),
            deletes=True,
        )
        return self.guard(host, prepared) if self.spec.cluster.firewall else prepared

    def guard(self, host: Host, prepared: remote.Command) -> remote.Command:
        """The firewall, and a connection of its own that proves that it lets in new ones. All that
        follows on the host waits for that; on all hosts it is done at once."""
        found = self.seen.seen(host.name)
        loaded = step(
            self.called(host.name, "firewall"),
            self.at[host.name],
            "firewall",
            firewall(self.spec, host, found.session.port if found and found.session else None),
            self.seen,
            self.of_host(host, prepared),
            deletes=True,
        )
        # Whenever the other one runs, whatever for: it alone knows whether rules are on trial.
        ran = loaded.stdin.apply(lambda text: hashlib.sha256((text or "").encode()).hexdigest())
        return step(
            self.called(host.name, "confirm"),
            self.at[host.name],
            "confirm",
            ran.apply(lambda digest: {"firewall": digest}),
            self.seen,
            self.of_host(host, loaded),
        )

    def secrets(
        self, host: Host, founded: remote.Command, prepared: remote.Command
    ) -> remote.Command:
        registry = self.spec.cluster.registry
        login = registry and {
            "address": registry.address,
            "ca": registry.ca,
            "username": registry.username,
            "password": registry.password,
        }
        backup = data.backup(self.spec.cluster) if host.role == "control-plane" else None
        identity = self.identity.apply(lambda found: found["identity"])
        if host.role == "control-plane":
            generation = self.spec.cluster.encryption_generation
            payload = identity.apply(lambda files: {"identity": files, "encryption": generation})
        else:
            payload = identity.apply(
                lambda files: {
                    "join_token": data.join_token(files[data.SECRET], host.name),
                    "ca": files[self.distribution.ca],
                }
            )
        return step(
            self.called(host.name, "secrets"),
            self.at[host.name],
            "secrets",
            pulumi.Output.secret(
                pulumi.Output.all(payload=payload, registry=login, backup=backup).apply(
                    lambda all: {
                        "role": host.role,
                        "ssh": hardening.of_ssh(self.spec.cluster.hardening),
                        **all["payload"],
                        "registry": all["registry"],
                        "backup": all["backup"],
                    }
                )
            ),
            self.seen,
            self.of_host(host, prepared, founded),
            deletes=True,
        )

    def turn(
        self,
        host: Host,
        orders: Sequence[pulumi.Resource],
        founded: remote.Command,
        secrets: dict[str, remote.Command],
    ) -> remote.Command:
        """All that disturbs a member, in one piece; `secrets` of those that are known to it."""
        if host.guest is not None and self.disturbs(host):
            # Out of service, then the machine, then back: nobody else is disturbed meanwhile.
            known = [secrets[host.name]] if host.name in secrets else []
            self.make(host, [self.release(host, [*orders, *known])])
            if host.name not in secrets:
                secrets[host.name] = self.secrets(host, founded, self.prepare(host))
        elif host.guest is not None:
            self.release(host, [secrets[host.name]])
        if host.guest is not None and host.guest.snapshot_before_upgrade:
            orders = [self.snapshot(host, orders)]
        # Its own once more: deletes follow direct dependencies, and it leaves before they go.
        orders = [*orders, secrets[host.name]]
        if self.spec.cluster.patching and host.state == "present":
            orders = [*orders, self.patch(host, orders)]
        return self.node(host, orders)

    def disturbs(self, host: Host) -> bool:
        """Whether the machine of a member changes, so that it must be out of service before."""
        guest = self.seen.guests.get(host.name)
        return (
            guest is not None
            and self.seen.joined(host.name)
            and (guest.restarts or guest.anew)
            and host.state != "lost"
        )

    def renews(self, host: Host) -> bool:
        """Whether a member is installed anew: what is done on it waits for its new machine."""
        return self.disturbs(host) and self.seen.guests[host.name].anew

    def snapshot(self, host: Host, orders: Sequence[pulumi.Resource]) -> pulumi.Resource:
        version = data.version_of(self.spec, host)
        return self.source(host).snapshot(host, version, [*orders, self.machines[host.name]])

    def release(self, host: Host, orders: Sequence[pulumi.Resource]) -> remote.Command:
        return step(
            self.called(host.name, "release"),
            self.at[host.name],
            "release",
            data.release(self.spec, host, self.seen.guests.get(host.name)),
            self.seen,
            self.of_host(host, *orders),
            # By its data alone: what it did went with the machine.
            token="machine",
        )

    def patch(self, host: Host, orders: Sequence[pulumi.Resource]) -> remote.Command:
        """Updates of its packages. It may end with the host restarting; `node` finds it back."""
        return step(
            self.called(host.name, "patch"),
            self.at[host.name],
            "patch",
            data.patch(self.spec, host),
            self.seen,
            self.of_host(host, *orders),
        )

    def node(self, host: Host, orders: Sequence[pulumi.Resource]) -> remote.Command:
        return step(
            self.called(host.name, "node"),
            self.at[host.name],
            "node",
            self.cluster_id.apply(
                lambda cluster: {
                    "cluster": cluster,
                    **data.node(self.spec, host, self.seen.guests.get(host.name)),
                }
            ),
            self.seen,
            # Leaving is its own part, whatever becomes of its machine.
            pulumi.ResourceOptions.merge(
                self.of_host(host, *orders), pulumi.ResourceOptions(deleted_with=self.undo)
            ),
            deletes=True,
            token=token_hex(8) if self._ending(host, self.distribution.pki) else None,
            dials=AFTER_RESTART if self.spec.cluster.patching else None,
        )

    def _ending(self, host: Host, where: str | tuple[str, ...]) -> bool:
        """Whether a certificate there is to be renewed. A CA's end is only ever reported."""
        return any(
            certificate.path.startswith(where) and not certificate.path.endswith("ca.crt")
            for certificate in self.seen.expiring(host.name, RENEWED_BEFORE)
        )

    def gone(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions.merge(
            self.child(self.undo), pulumi.ResourceOptions(deleted_with=self.undo)
        )

    def let_go(self) -> list[pulumi.Resource]:
        """Hosts that left the list and are dead: their own deletes could not connect. A living
        member takes them out of the cluster (see membership); the host itself stays as it is.

        Those that membership took out stay on its record until the `nodes` step, behind these,
        ends: an update that fails in between is taken up again by the next.
        """
        named = {host.name for host in self.spec.hosts}
        record = (found := self.seen.seen(self.speaker.name)) and found.record
        gone = set(record.get("gone", [])) if record else set()
        gone |= {node.name for node in silent_leavers(self.spec, self.seen) if not node.ready}
        # Where one has a firewall, all have; to let go of what never was would make it.
        guarded = ["firewall"] if any(self.seen.applied(n, "firewall") for n in named) else []
        left: list[pulumi.Resource] = []
        for name in sorted(gone - named):
            pulumi.log.warn(f"{name} is gone: the cluster forgets it, and it is not reset")
            # Not its scripts: an upload is forgotten without a call, and made anew by one.
            for word in ("bundle", "prepare", *guarded, "secrets", "node"):
                left.append(leave_alone(self.called(name, word), self.gone()))
        return left

    # ---- the cluster -------------------------------------------------------------------------

    def bootstrap(self, prepared: remote.Command) -> remote.Command:
        """Made once and never again, whatever changes; it has no delete."""
        founded = step(
            self.called("bootstrap"),
            self.at[self.founder.name],
            "bootstrap",
            data.node(self.spec, self.founder),
            self.seen,
            pulumi.ResourceOptions.merge(
                self.child(prepared), pulumi.ResourceOptions(ignore_changes=INPUTS)
            ),
            secret_result=True,
        )
        self.identity = founded.stdout.apply(lambda text: _identity(self.called("bootstrap"), text))
        # A cluster's id is no secret: it is in every ledger, and the preview may show it.
        self.cluster_id = pulumi.Output.unsecret(
            self.identity.apply(lambda found: str(found["cluster"]))
        )
        return founded

    def tell_adoption(self, founded: remote.Command) -> None:
        """In a preview, where the cluster stands and the state never heard of it."""
        record = (found := self.seen.seen(self.founder.name)) and found.record
        if not record:
            return
        named = {host.name for host in self.spec.hosts}
        silent = [host.name for host in self.spec.hosts if self.seen.unreachable(host.name)]
        others = [node.name for node in self.seen.nodes if node.name not in named]

        def tell(stdout: str) -> None:
            # It is made once and has no update: unknown is only what was never made.
            if not pulumi.contains_unknowns(stdout):
                return
            pulumi.log.warn(
                f"the cluster {record['cluster']} of this stack stands, and this state does not "
                "know it: the update adopts it. If another state of the stack lives, use that."
            )
            if silent:
                pulumi.log.warn(
                    f"{', '.join(silent)}: cannot be adopted while silent, and the update will "
                    "fail there. Bring back what is to stay, take out of hosts what is gone."
                )
            if others:
                pulumi.log.warn(
                    f"{', '.join(others)}: in the cluster and not in hosts. Those that live stay "
                    "as they are, the others are removed. Name those that are to stay."
                )

        founded.stdout.apply(tell, run_with_unknowns=True)

    def membership(self, secrets: dict[str, remote.Command]) -> remote.Command:
        return step(
            self.called("membership"),
            self.at[self.speaker.name],
            "membership",
            data.membership(self.spec),
            self.seen,
            self.child(secrets[self.speaker.name]),
            token=token_hex(8) if self.membership_is_due else None,
        )

    @cached_property
    def membership_is_due(self) -> bool:
        """Somebody is to be let in, or is in who should not be and does not answer."""
        wanted = {host.name for host in self.spec.hosts if host.state != "lost"}
        new = any(
            not self.seen.joined(h.name) and not self.seen.unreachable(h.name)
            for h in self.spec.hosts
        )
        gone = any(n.name not in wanted and not n.ready for n in self.seen.nodes)
        ghosts = any(m.name not in wanted and not m.healthy for m in self.seen.members)
        return new or gone or ghosts

    def kubeconfig(
        self, founded: remote.Command, orders: Sequence[pulumi.Resource]
    ) -> remote.Command:
        """Its data change only when it is to be renewed, or everything above would look new.

        Its token is always another: a state that did not make the user before makes a new one,
        and takes the rights from that one.
        """
        endpoint = self.spec.cluster.endpoint.host_port
        maker = next(
            (h for h in self.members if self.seen.conforms(h.name, "kubeconfig")), self.founder
        )
        due = self._ending(maker, "/var/lib/groundplane/kubeconfig.crt") or self._asked_anew
        keep = None if self.blank or due else pulumi.ResourceOptions(ignore_changes=INPUTS)
        generation = self.spec.cluster.kubeconfig_generation
        payload = {
            "context": self.name,
            "endpoint": endpoint,
            # The first one goes without saying.
            "generation": generation if generation > 1 else None,
        }
        return step(
            self.called("kubeconfig"),
            self.at[maker.name],
            "kubeconfig",
            founded.stdout.apply(lambda _: payload),
            self.seen,
            pulumi.ResourceOptions.merge(self.child(*orders), keep),
            secret_result=True,
            token=token_hex(8),
        )

    @cached_property
    def _asked_anew(self) -> bool:
        """Whether another generation of the kubeconfig is wanted than the one in force."""
        wanted = self.spec.cluster.kubeconfig_generation
        there = self.seen.generation("kubeconfig")
        silent = [
            host.name
            for host in self.spec.control_planes
            if host.state != "lost" and self.seen.unreachable(host.name)
        ]
        if there is None and silent and wanted > 1:
            pulumi.log.warn(
                f"the kubeconfig stays as it is: {', '.join(silent)} may have made it, and "
                "without an answer its generation is not known"
            )
            return False
        return (there or 1) != wanted

    def nodes(self, orders: Sequence[pulumi.Resource]) -> remote.Command:
        # Not for guests that this update starts: they are there when this step runs.
        silent = any(
            self.seen.unreachable(h.name) and not self.seen.stopped(h.name) for h in self.spec.hosts
        )
        keep = pulumi.ResourceOptions(ignore_changes=INPUTS) if silent and not self.blank else None
        return step(
            self.called("nodes"),
            self.at[self.speaker.name],
            "nodes",
            data.nodes(self.spec),
            self.seen,
            pulumi.ResourceOptions.merge(
                # Behind everything, so that a protected cluster's destroy fails before anything is
                # let go of, even when no preview is asked for.
                pulumi.ResourceOptions.merge(
                    self.child(*orders),
                    pulumi.ResourceOptions(protect=self.spec.cluster.protect),
                ),
                keep,
            ),
        )

    def report(self, orders: Sequence[pulumi.Resource]) -> None:
        """Everything else done, the update fails for the hosts that it could not reach."""
        # What fails together is one line: a hypervisor takes its guests with it.
        silent: dict[tuple[str, str], list[str]] = {}
        for failure in self.seen.hosts.values():
            if isinstance(failure, HostUnreachable) and failure.kind not in (
                Kind.LOST,
                Kind.STOPPED,
            ):
                silent.setdefault((failure.cause, failure.remedy), []).append(failure.name)
        if silent:
            local.Command(
                self.called("unreachable"),
                create="cat >&2; exit 1",
                stdin="".join(
                    f"{', '.join(names)}: {cause}. {remedy}\n"
                    for (cause, remedy), names in silent.items()
                ),
                opts=self.child(*orders),
            )
