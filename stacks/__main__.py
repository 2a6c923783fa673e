"""The program of every stack: stacks/platform.yaml over the stack's own hosts."""

import pulumi
from groundplane import Platform, load

cluster = Platform(pulumi.get_stack(), load(pulumi.get_stack())).cluster

pulumi.export("endpoint", cluster.endpoint)
pulumi.export("nodes", cluster.nodes)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("identity", cluster.identity)
