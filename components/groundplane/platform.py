"""A whole platform from one specification: hosts and a cluster on them."""

import pulumi

from groundplane.clusters.kubeadm import KubeadmCluster
from groundplane.spec import Spec

__all__ = ["Platform"]


class Platform(pulumi.ComponentResource):
    """What `stacks/` makes of a stack's configuration."""

    cluster: KubeadmCluster
    """The cluster on the stack's hosts."""

    def __init__(self, name: str, spec: Spec, opts: pulumi.ResourceOptions | None = None):
        super().__init__("groundplane:index:Platform", name, None, opts)
        self.cluster = KubeadmCluster(spec.cluster.name, spec, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"endpoint": self.cluster.endpoint})
