"""A cluster's plan: what it is to be and what it is, as plain data for policies to judge.

The cluster registers what is wanted as its inputs, which an unchanged program leaves as they are.
What was observed changes by itself, and what other stacks are to be by other hands, so they stand
among the outputs, of which no preview speaks.
Nothing here is secret: policies may say all of it.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic.alias_generators import to_camel

from groundplane.remote.observation import Observation
from groundplane.spec import Cluster, Host, Spec
from groundplane.spec.siblings import Sibling

__all__ = ["beside", "observed", "wanted"]

# What is equal wherever a platform stands; twins must not differ in it.
SETTINGS = (
    "kubernetes",
    "containerd",
    "network",
    "domain",
    "kubelet",
    "api_server",
    "controller_manager",
    "scheduler",
    "kube_proxy",
    "audit",
    "hardening",
)


def wanted(spec: Spec) -> dict[str, Any]:
    """The cluster as it is described; under the keys of the configuration, where it has them."""
    cluster = spec.cluster
    return {
        "stack": spec.stack,
        "name": cluster.name,
        "hosts": {host.name: _host(host) for host in spec.hosts},
        "endpoint": {
            "mode": cluster.endpoint.mode,
            "address": cluster.endpoint.address,
            "port": cluster.endpoint.port,
        },
        "podCidrs": cluster.pod_cidrs,
        "serviceCidrs": cluster.service_cidrs,
        "settings": _settings(cluster),
        "hypervisors": {
            hypervisor.name: {"overcommit": hypervisor.overcommit.model_dump()}
            for hypervisor in spec.hypervisors
        },
        "kubernetes": {
            "version": cluster.kubernetes.version,
            "workers": cluster.kubernetes.workers,
        },
        "network": cluster.network,
        # Always there: the step `secrets` brings the key, and the API server's flag is refused.
        "encryption": {"provider": "secretbox", "generation": cluster.encryption_generation},
        "audit": _audit(cluster),
        "hardening": {
            "level": cluster.hardening.level,
            "exempt": sorted(cluster.hardening.exempt),
        },
        "backup": _backup(cluster),
        "protect": cluster.protect,
    }


def _host(host: Host) -> dict[str, Any]:
    return {
        "role": host.role,
        "address": host.node_address,
        "failureDomain": host.failure_domain or "",
        "hypervisor": host.guest.hypervisor if host.guest else "",
        "state": host.state,
    }


def _settings(cluster: Cluster) -> dict[str, str]:
    """A digest of each setting; without those that are wrong in a sibling's file."""
    given = {name: getattr(cluster, name) for name in SETTINGS}
    return {to_camel(name): _digest(value) for name, value in given.items() if value is not None}


def _digest(setting: Any) -> str:
    plain = setting.model_dump() if hasattr(setting, "model_dump") else setting
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _audit(cluster: Cluster) -> str:
    """The level; of a policy of the user's own, the highest that it names."""
    if cluster.audit.policy is None:
        return cluster.audit.level
    rules = cluster.audit.policy.get("rules") or []
    levels = ["None", "Metadata", "Request", "RequestResponse"]
    named = [rule.get("level") for rule in rules if isinstance(rule, dict)]
    return max((name for name in named if name in levels), key=levels.index, default="None").lower()


def _backup(cluster: Cluster) -> dict[str, Any]:
    if cluster.backup is None:
        return {}
    target = cluster.backup.target
    kind = "" if target is None else "ssh" if target.ssh else "s3"
    return {"schedule": cluster.backup.schedule, "keep": cluster.backup.keep, "target": kind}


def beside(siblings: Sequence[Sibling]) -> dict[str, Any]:
    """The stacks beside this one, as their files have them: their settings; and of those in the
    same network, addresses and ranges. Elsewhere equal ones are somebody else's."""
    return {
        each.stack: {"settings": _settings(each.cluster), **(_place(each) if each.near else {})}
        for each in siblings
    }


def _place(sibling: Sibling) -> dict[str, Any]:
    endpoint = sibling.cluster.endpoint
    hosts = [host for host in sibling.hosts if host.name and host.node_address]
    return {
        "hosts": {host.name: {"address": host.node_address} for host in hosts},
        "endpoint": {"address": endpoint.address} if endpoint else {},
        "podCidrs": sibling.cluster.pod_cidrs or [],
        "serviceCidrs": sibling.cluster.service_cidrs or [],
    }


def observed(seen: Observation) -> dict[str, Any]:
    """The cluster as it was found: etcd's members, the Nodes, the hosts that did not answer."""
    return {
        "members": {
            member.name or member.id: {"healthy": member.healthy is True, "learner": member.learner}
            for member in seen.members
        },
        "nodes": {
            node.name: {
                "version": node.version,
                "ready": node.ready,
                "controlPlane": node.control_plane,
            }
            for node in seen.nodes
        },
        "silent": sorted(name for name in seen.hosts if seen.unreachable(name)),
    }
