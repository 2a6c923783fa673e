"""The program of every stack: stacks/platform.yaml over what the stack's own file says."""

from pathlib import Path

import pulumi

from groundplane import Platform, from_pulumi_config

platform = Platform(pulumi.get_stack(), from_pulumi_config(Path(__file__).parent))
cluster = platform.cluster

pulumi.export("endpoint", cluster.endpoint)
pulumi.export("nodes", cluster.nodes)
pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("identity", cluster.identity)
pulumi.export("hostKeys", platform.host_keys)
