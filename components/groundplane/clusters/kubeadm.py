"""Kubernetes by kubeadm, with etcd on the control planes."""

from collections.abc import Sequence

import pulumi

from groundplane.clusters.shared import Distribution, KubernetesCluster
from groundplane.hosts import HostSource
from groundplane.registry import distribution
from groundplane.spec import Spec

__all__ = ["KubeadmCluster"]

KUBEADM = Distribution(component="KubeadmCluster", pki="/etc/kubernetes/pki/", ca="ca.crt")


@distribution("kubeadm")
class KubeadmCluster(KubernetesCluster):
    """A Kubernetes cluster on given hosts, made and kept by kubeadm.

    Looks at all hosts first and raises GroundplaneError, with every finding, before anything is
    registered.
    """

    def __init__(
        self,
        name: str,
        spec: Spec,
        opts: pulumi.ResourceOptions | None = None,
        sources: Sequence[HostSource] = (),
    ):
        """`sources` make those hosts that are guests."""
        super().__init__(name, spec, KUBEADM, opts, sources)
