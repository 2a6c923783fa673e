"""Twins: what both are stands in platform.yaml, where each of them is in Pulumi.STACK.yaml.

A change is tried on `trial`, and comes to `live` by the file that both share. The policies say
where they differ: docs/operations/twins.md.
"""

from pathlib import Path

import pulumi

from groundplane import Platform, from_pulumi_config

twin = Platform(pulumi.get_stack(), from_pulumi_config(Path(__file__).parent))
pulumi.export("endpoint", twin.cluster.endpoint)
pulumi.export("kubeconfig", twin.cluster.kubeconfig)
