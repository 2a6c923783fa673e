"""Pulumi from a program of your own: `python examples/automation preview|up|destroy STACK`.

No project folder and no `pulumi` typed by hand: a portal, a pipeline or a test makes clusters this
way. It needs the Pulumi CLI on the PATH, logged in, as any program with the Automation API.
"""

import sys
from collections.abc import Callable
from typing import Any

import pulumi
from pulumi import automation

from groundplane import Cluster, Endpoint, Host, KubeadmCluster, Kubernetes, Spec

# What the caller knows of its machines; a real one reads it from where it keeps them.
KEYS = {
    "n1": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKnwNmOHWSgtY1wG5hZi01OXz2AhlrkFr9So6Hu1f1KS",
    "n2": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB5YQWUBCOVshKCXlLQWUY4CPAKbB+8xzQff9aTWDK+2",
}
MACHINES: list[dict[str, Any]] = [
    {"name": "n1", "address": "192.0.2.11", "host_key": KEYS["n1"], "role": "control-plane"},
    {"name": "n2", "address": "192.0.2.12", "host_key": KEYS["n2"], "role": "worker"},
]


def program_for(machines: list[dict[str, Any]]) -> Callable[[], None]:
    """What Pulumi runs: a cluster on these machines."""

    def program() -> None:
        cluster = Cluster(
            name="team",
            kubernetes=Kubernetes(version="1.36.4"),
            pod_cidrs=["10.244.0.0/16"],
            service_cidrs=["10.96.0.0/16"],
            endpoint=Endpoint(address="192.0.2.10", router_id=51),
            protect=False,
        )
        hosts = [Host(**machine) for machine in machines]
        team = KubeadmCluster("team", Spec(pulumi.get_stack(), hosts, cluster))
        pulumi.export("endpoint", team.endpoint)
        pulumi.export("kubeconfig", team.kubeconfig)

    return program


def main(verb: str, name: str) -> None:
    """Do it, and say what Pulumi says while it does."""
    stack = automation.create_or_select_stack(name, "automation", program_for(MACHINES))
    if verb == "preview":
        stack.preview(on_output=print)
    elif verb == "up":
        print("the API:", stack.up(on_output=print).outputs["endpoint"].value)
    elif verb == "destroy":
        stack.destroy(on_output=print)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:3])
    except automation.CommandError:
        sys.exit(1)  # what was wrong has been printed
