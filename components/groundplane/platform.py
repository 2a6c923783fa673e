"""A whole platform from one specification: hosts, a cluster on them, and what runs there."""

import pulumi

from groundplane.clusters.shared import KubernetesCluster
from groundplane.ground import install
from groundplane.hosts import HostSource
from groundplane.registry import distribution_of
from groundplane.spec import Spec
from groundplane.survey import sources

__all__ = ["Platform"]


class Platform(pulumi.ComponentResource):
    """What `stacks/` makes of a stack's configuration."""

    hosts: list[HostSource]
    """What makes those of the stack's hosts that are guests."""
    cluster: KubernetesCluster
    """The cluster on the stack's hosts."""
    addons: dict[str, pulumi.ComponentResource]
    """What runs on the cluster, by name."""
    host_keys: dict[str, pulumi.Input[str]]
    """The public SSH host keys of those hosts that are guests, by name: nobody knew them before."""

    def __init__(self, name: str, spec: Spec, opts: pulumi.ResourceOptions | None = None):
        super().__init__("groundplane:index:Platform", name, None, opts)
        own = pulumi.ResourceOptions(parent=self)
        cluster = spec.cluster.name
        self.hosts = [source(cluster, spec, own) for source in sources(spec)]
        self.cluster = distribution_of(spec.cluster.distribution)(cluster, spec, own, self.hosts)
        self.addons = install(spec, self.cluster, own)
        made = [guest for source in self.hosts for guest in source.hosts.values()]
        self.host_keys = {guest.name: guest.host_key for guest in made}
        self.register_outputs({"endpoint": self.cluster.endpoint})
