"""A component of a team's own: a website on whatever cluster it is given."""

import json
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_command import local

from groundplane import KubeadmCluster

# The kubeconfig reaches kubectl as a file that never is on a disk, and no command line shows it.
KUBECTL = 'kubectl --kubeconfig <(printf %s "$ACCESS")'


@dataclass
class WebsiteArgs:
    """What a website needs to be told."""

    image: str
    """Its container image, by digest or exact version; it must answer on port 8080."""
    replicas: int = 2
    """How many pods there are, on nodes of their own where there are enough."""


class Website(pulumi.ComponentResource):
    """A Deployment and a Service, there once the cluster's nodes are Ready."""

    rolled_out: pulumi.Resource
    """Once it is there all pods answer."""

    def __init__(
        self,
        name: str,
        cluster: KubeadmCluster,
        args: WebsiteArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("example:index:Website", name, None, opts)
        access = {
            "interpreter": ["/bin/bash", "-c"],
            "environment": {"ACCESS": cluster.kubeconfig},
            "logging": local.Logging.STDERR,
        }
        applied = local.Command(
            f"{name}-objects",
            create=f"{KUBECTL} apply -f -",
            delete=f"{KUBECTL} delete --ignore-not-found --timeout 120s -f -",
            stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(name, args)}),
            **access,
            # Not the kubeconfig alone: it is there while nodes still join, and pods would wait.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[cluster.nodes_ready]),
        )
        self.rolled_out = local.Command(
            f"{name}-rollout",
            create=f"{KUBECTL} rollout status --timeout 300s deployment/{name}",
            triggers=[applied.stdin],
            **access,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[applied]),
        )
        self.register_outputs({})


def objects(name: str, args: WebsiteArgs) -> list[dict[str, Any]]:
    """What it is in Kubernetes."""
    labels = {"app.kubernetes.io/name": name}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    container = {
        "name": name,
        "image": args.image,
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": args.replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "topologySpreadConstraints": [spread]},
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]
