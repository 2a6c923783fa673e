"""From the specification to the JSON that each step is given. Pure: equal specs, equal data."""

import hashlib
import ipaddress
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from groundplane.catalogue import with_mirror
from groundplane.clusters.distribution import Distribution
from groundplane.registry import distribution_of
from groundplane.remote.guests import Guest
from groundplane.spec import Cluster, Host, Spec, hardening, immutable

__all__ = [
    "SECRET",
    "backup",
    "containerd",
    "facts_of",
    "join_token",
    "membership",
    "node",
    "nodes",
    "patch",
    "prepare",
    "release",
    "token_id",
    "version_of",
]

SECRET = "groundplane.key"
"""The part of a cluster's identity that keys and tokens come from; see scripts/lib/keys.sh."""

PACKAGES = ["conntrack", "ethtool", "iproute2", "iptables", "kmod", "nftables", "openssl", "socat"]
ENDPOINT_PACKAGES = ["haproxy", "keepalived"]
ZONE = "topology.kubernetes.io/zone"
# Names that RHEL gives to the same packages.
RED_HAT = {
    "conntrack": "conntrack-tools",
    "iproute2": "iproute",
    "iptables": "iptables-nft",
    "openssh-client": "openssh-clients",
}


def facts_of(cluster: Cluster) -> Distribution:
    """What is true of the cluster's distribution."""
    found: Distribution = distribution_of(cluster.distribution).facts
    return found


def version_of(spec: Spec, host: Host) -> str:
    """The Kubernetes version that the host's role is to have."""
    kubernetes = spec.cluster.kubernetes
    return kubernetes.version if host.role == "control-plane" else kubernetes.workers


def prepare(spec: Spec, host: Host, arch: str, packager: str) -> dict[str, Any]:
    """Packages and parts of a host; `arch` amd64 | arm64, `packager` apt | dnf."""
    managed = spec.cluster.endpoint.mode == "managed" and host.role == "control-plane"
    packages = PACKAGES + (ENDPOINT_PACKAGES if managed else []) + _backup_packages(spec, host)
    if packager == "dnf":
        packages = [RED_HAT.get(name, name) for name in packages]
    # Only what is got ready: a change of anything else must not show here.
    kubeadm = spec.cluster.distribution == "kubeadm"
    return {
        # Hosts of before there were two know of none.
        "distribution": None if kubeadm else spec.cluster.distribution,
        **_host(spec, host),
        "settings": {"pod_cidrs": spec.cluster.pod_cidrs},
        "packages": packages,
        "parts": _parts(spec, host, arch),
    }


def _backup_packages(spec: Spec, host: Host) -> list[str]:
    backup = spec.cluster.backup
    to_ssh = backup is not None and backup.target is not None and backup.target.ssh is not None
    return ["openssh-client"] if to_ssh and host.role == "control-plane" else []


def _parts(spec: Spec, host: Host, arch: str) -> dict[str, Any]:
    versions = {
        **facts_of(spec.cluster).parts(spec, host),
    }
    if spec.cluster.reference_plugins:
        versions["cni-plugins"] = spec.catalogue.default("cni-plugins")
    if host.role == "control-plane":
        versions["etcd"] = spec.catalogue.default("etcd")
    return {
        part: {
            "version": version,
            "files": {
                key: [with_mirror(file.url, spec.cluster.mirrors), file.digest]
                for key, file in spec.catalogue.files(part, version, arch).items()
            },
        }
        for part, version in versions.items()
    }


def containerd(spec: Spec) -> str:
    """The version of the container runtime."""
    return spec.cluster.containerd.version or spec.catalogue.default("containerd")


def _host(spec: Spec, host: Host) -> dict[str, Any]:
    """What prepare and node both need: who the host is, its version, its runtime's settings."""
    return {
        "name": host.name,
        "address": host.node_address,
        "second_address": host.second_node_address,
        "role": host.role,
        "kubernetes": version_of(spec, host),
        "runtime": _runtime(spec, host),
        "hardening": hardening.on_hosts(spec.cluster.hardening),
    }


def _runtime(spec: Spec, host: Host) -> dict[str, Any]:
    cluster, catalogue = spec.cluster, spec.catalogue
    brings_runtime = facts_of(cluster).runtime
    own = {
        "containerd": containerd(spec),
        "runc": catalogue.default("runc"),
        "pause": catalogue.image("pause", version_of(spec, host)),
    }
    return {
        **({} if brings_runtime else own),
        "cni_plugins": catalogue.default("cni-plugins") if cluster.reference_plugins else None,
        "etcd": catalogue.default("etcd"),
        "cgroup_driver": cluster.kubelet.get("cgroupDriver", "systemd"),
        "restrict_oom_score_adj": cluster.containerd.restrict_oom_score_adj or None,
        "images": cluster.mirrors.images,
        "proxy": proxy(cluster),
    }


def proxy(cluster: Cluster) -> dict[str, str] | None:
    """Proxy settings, as containerd and downloads take them."""
    if cluster.proxy is None:
        return None
    return {
        **({"http": cluster.proxy.http} if cluster.proxy.http else {}),
        **({"https": cluster.proxy.https} if cluster.proxy.https else {}),
        "no_proxy": ",".join(cluster.direct),
    }


def proxy_for(cluster: Cluster, url: str) -> str | None:
    """The proxy through which hosts ask this URL; None where they ask directly.

    Decided here and not by their curl: ranges among the exceptions are known to it since 7.86.
    """
    parts = urlsplit(url)
    given = cluster.proxy and getattr(cluster.proxy, parts.scheme)
    return given if given and not _is_direct(cluster.direct, parts) else None


def _is_direct(exceptions: Sequence[str], url: SplitResult) -> bool:
    """As Go's programs understand exceptions, containerd among them."""
    host, port = url.hostname or "", url.port or {"http": 80, "https": 443}[url.scheme]
    for exception in exceptions:
        bare = exception.lower().removeprefix("*")
        try:
            if ipaddress.ip_address(host) in ipaddress.ip_network(bare, strict=False):
                return True
            continue
        except ValueError:
            name, _, only = bare.partition(":")
        if only in ("", str(port)) and (host == name or host.endswith("." + name.lstrip("."))):
            return True
    return False


def _settings(spec: Spec, host: Host) -> dict[str, Any]:
    """The cluster's settings, as far as they are this host's: the preview must show a change of
    an API server's flag on control planes and nowhere else."""
    cluster = spec.cluster
    everywhere = {
        "network": cluster.network,
        "pod_cidrs": cluster.pod_cidrs,
        "kubelet": hardening.kubelet(cluster.hardening)
        | {k: v for k, v in cluster.kubelet.items() if k != "cgroupDriver"},
    }
    if facts_of(cluster).programs:
        # A part of the one program on each node, and no DaemonSet's.
        everywhere["kube_proxy"] = cluster.kube_proxy
    if host.role == "worker":
        return everywhere
    flags = partial(hardening.flags, cluster.hardening)
    arguments = flags("kube-apiserver", cluster.api_server.extra_args)
    if cluster.api_server.feature_gates:
        gates = sorted(cluster.api_server.feature_gates.items())
        arguments["feature-gates"] = ",".join(f"{gate}={str(on).lower()}" for gate, on in gates)
    return {
        **everywhere,
        "cluster": cluster.name,
        "domain": cluster.domain,
        "service_cidrs": cluster.service_cidrs,
        "node_masks": cluster.node_cidr_masks,
        "api_server": {"args": arguments, "sans": cluster.api_server.cert_sans},
        "admission": hardening.admission(cluster.hardening),
        "controller_manager": flags(
            "kube-controller-manager", cluster.controller_manager.extra_args
        ),
        "scheduler": flags("kube-scheduler", cluster.scheduler.extra_args),
        "kube_proxy": cluster.kube_proxy,
        "audit": cluster.audit.model_dump(exclude_defaults=True),
    }


def _endpoint(spec: Spec, host: Host) -> dict[str, Any]:
    endpoint = spec.cluster.endpoint
    where = {"address": endpoint.address, "port": endpoint.port}
    if host.role == "worker":
        return where
    return {
        **where,
        "mode": endpoint.mode,
        "router_id": endpoint.router_id,
        "interface": endpoint.interface,
        "peers": {h.name: h.node_address for h in spec.control_planes if h.state != "lost"},
    }


def node(spec: Spec, host: Host, guest: Guest | None = None) -> dict[str, Any]:
    """All that a host is to be as a member of the cluster; `guest` where its machine is made."""
    cluster = spec.cluster
    control_plane = {
        "certificates": cluster.certificates_generation,
        "encryption": cluster.encryption_generation,
    }
    return {
        **_host(spec, host),
        **(control_plane if host.role == "control-plane" else {}),
        "settings": _settings(spec, host),
        "state": host.state,
        "endpoint": _endpoint(spec, host),
        "max_unavailable": cluster.max_unavailable,
        "ignore_preflight": cluster.ignore_preflight,
        "immutable": immutable(cluster),
        "backup": _schedule(cluster, host),
        "machine": dict(guest.machine) if guest else None,
        "patched": cluster.patching.round if cluster.patching else None,
    }


def patch(spec: Spec, host: Host) -> dict[str, Any]:
    """What a host must know to go out of service for the updates of its packages."""
    return {
        "name": host.name,
        "address": host.node_address,
        "role": host.role,
        "endpoint": _endpoint(spec, host),
        "max_unavailable": spec.cluster.max_unavailable,
        "patching": spec.cluster.patching.model_dump() if spec.cluster.patching else None,
    }


def release(spec: Spec, host: Host, guest: Guest | None) -> dict[str, Any]:
    """What a guest must know to go out of service before its machine changes."""
    return {
        "name": host.name,
        "address": host.node_address,
        "role": host.role,
        "endpoint": _endpoint(spec, host),
        "max_unavailable": spec.cluster.max_unavailable,
        "machine": dict(guest.machine) if guest else None,
    }


def _schedule(cluster: Cluster, host: Host) -> dict[str, Any] | None:
    if cluster.backup is None or host.role != "control-plane":
        return None
    return {"schedule": cluster.backup.schedule, "keep": cluster.backup.keep}


def backup(cluster: Cluster) -> dict[str, Any] | None:
    """For whom snapshots are encrypted, where they are copied, with the credentials for it, and
    through which proxy.

    The SSH key is its text; the S3 secret may be an Output.
    """
    if cluster.backup is None:
        return None
    target = cluster.backup.target
    ssh, s3 = (target.ssh, target.s3) if target else (None, None)
    return {
        "recipient": cluster.backup.recipient,
        "target": {
            "ssh": ssh and {**ssh.model_dump(), "key": Path(ssh.key).expanduser().read_text()},
            "s3": s3 and {**s3.model_dump(), "secret_key": s3.secret_key},
        },
        "proxy": proxy_for(cluster, s3.endpoint) if s3 else None,
    }


def membership(spec: Spec) -> dict[str, Any]:
    """Who belongs to the cluster, and what guests are installed from. A lost host does not."""
    here = [host for host in spec.hosts if host.state != "lost"]
    known = spec.catalogue.guest_images()
    images = {h.name: known[h.guest.image] for h in here if h.guest and h.role == "worker"}
    return {
        "images": {
            name: hashlib.sha256(image.model_dump_json().encode()).hexdigest()[:16]
            for name, image in images.items()
        },
        "control_planes": {h.name: h.node_address for h in here if h.role == "control-plane"},
        "workers": [h.name for h in here if h.role == "worker"],
    }


def nodes(spec: Spec) -> dict[str, Any]:
    """What is done once for all Nodes, at the end: labels, taints, that all be Ready; and what
    follows when the encryption key or kube-proxy's settings are new."""
    return {
        "network": spec.cluster.network,
        "encryption": spec.cluster.encryption_generation,
        "kube_proxy": spec.cluster.kube_proxy,
        "nodes": {host.name: _node(spec, host) for host in spec.hosts if host.state != "lost"},
    }


def _node(spec: Spec, host: Host) -> dict[str, Any]:
    domain = spec.failure_domain(host)
    zone = {ZONE: domain} if domain else {}
    taints = [taint.model_dump(exclude_defaults=True) for taint in host.taints]
    return {"labels": {**zone, **host.labels}, "taints": taints, "ready": host.state == "present"}


def token_id(host: str) -> str:
    """The public half of a worker's join token; scripts/steps/membership.sh works out the same."""
    return hashlib.sha256(f"id:{host}".encode()).hexdigest()[:6]


def join_token(secret: str, host: str) -> str:
    """A worker's join token, from the cluster's secret. It works only while the membership step
    lets it, for two hours at a time."""
    return f"{token_id(host)}.{hashlib.sha256(f'join:{host}:{secret}'.encode()).hexdigest()[:16]}"
