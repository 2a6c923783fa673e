"""Kubernetes by kubeadm, with etcd on the control planes."""

from collections.abc import Sequence

import pulumi

from groundplane.clusters import data
from groundplane.clusters.distribution import Distribution
from groundplane.clusters.shared import KubernetesCluster
from groundplane.hosts import HostSource
from groundplane.registry import distribution
from groundplane.spec import Host, Spec

__all__ = ["KubeadmCluster"]


def parts(spec: Spec, host: Host) -> dict[str, str]:
    """Kubernetes' own programs, and a container runtime."""
    return {
        "kubernetes": data.version_of(spec, host),
        "containerd": data.containerd(spec),
        "runc": spec.catalogue.default("runc"),
    }


KUBEADM = Distribution(
    name="kubeadm",
    component="KubeadmCluster",
    parts=parts,
    pki=("/etc/kubernetes/pki/",),
    ca="ca.crt",
    etcd="/var/lib/etcd/member",
)


@distribution("kubeadm")
class KubeadmCluster(KubernetesCluster):
    """A Kubernetes cluster on given hosts, made and kept by kubeadm.

    Looks at all hosts first and raises GroundplaneError, with every finding, before anything is
    registered.
    """

    facts = KUBEADM

    def __init__(
        self,
        name: str,
        spec: Spec,
        opts: pulumi.ResourceOptions | None = None,
        sources: Sequence[HostSource] = (),
    ):
        """`sources` make those hosts that are guests."""
        super().__init__(name, spec, KUBEADM, opts, sources)
