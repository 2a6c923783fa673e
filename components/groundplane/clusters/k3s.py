"""Kubernetes by K3s, with its embedded etcd on the control planes."""

from collections.abc import Sequence

import pulumi

from groundplane.clusters import data
from groundplane.clusters.distribution import Distribution
from groundplane.clusters.shared import KubernetesCluster
from groundplane.hosts import HostSource
from groundplane.registry import distribution
from groundplane.spec import Host, Spec

__all__ = ["K3sCluster"]


def parts(spec: Spec, host: Host) -> dict[str, str]:
    """One program, and an archive of the images that it starts."""
    return {"k3s": data.version_of(spec, host)}


K3S = Distribution(
    name="k3s",
    component="K3sCluster",
    parts=parts,
    pki=("/var/lib/rancher/k3s/", "/etc/rancher/k3s/groundplane/"),
    ca="server-ca.crt",
    etcd="/var/lib/rancher/k3s/server/db/etcd/member",
    runtime=True,
    programs=("k3s-server", "k3s-agent"),
)


@distribution("k3s")
class K3sCluster(KubernetesCluster):
    """A Kubernetes cluster on given hosts, made of K3s and kept.

    Looks at all hosts first and raises GroundplaneError, with every finding, before anything is
    registered. What K3s brings along and is no part of Kubernetes stays off.
    """

    facts = K3S

    def __init__(
        self,
        name: str,
        spec: Spec,
        opts: pulumi.ResourceOptions | None = None,
        sources: Sequence[HostSource] = (),
    ):
        """`sources` make those hosts that are guests."""
        super().__init__(name, spec, K3S, opts, sources)
