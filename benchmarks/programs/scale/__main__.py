"""A cluster of $BENCHMARK_HOSTS hosts, all of which are one SSH server that does nothing."""

import os
from unittest import mock

import pulumi

from benchmarks.scale import wanted
from groundplane import Platform
from groundplane.clusters import shared
from tests.support.seen import blank

# In place of the look: such hosts have nothing to show.
mock.patch.object(shared, "survey", blank).start()
cluster = Platform("scale", wanted(int(os.environ["BENCHMARK_HOSTS"]))).cluster

# As stacks/__main__.py does.
pulumi.export("endpoint", cluster.endpoint)
pulumi.export("nodes", cluster.nodes)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("identity", cluster.identity)
