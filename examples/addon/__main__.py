"""A cluster, and on it what a team runs there, in one program and one update."""

import pulumi
from website import Website, WebsiteArgs

from groundplane import Cluster, Endpoint, Host, KubeadmCluster, Kubernetes, Spec

key = pulumi.Config().require_object("hostKeys")
n1 = Host(name="n1", address="192.0.2.11", host_key=key["n1"], role="control-plane")
n2 = Host(name="n2", address="192.0.2.12", host_key=key["n2"], role="worker")
cluster = Cluster(
    name="team",
    kubernetes=Kubernetes(version="1.36.4"),
    pod_cidrs=["10.244.0.0/16"],
    service_cidrs=["10.96.0.0/16"],
    endpoint=Endpoint(address="192.0.2.10", router_id=51),
)
team = KubeadmCluster("team", Spec(pulumi.get_stack(), [n1, n2], cluster))
Website("hello", team, WebsiteArgs(image="registry.example.org/hello:1.4.2"))
pulumi.export("kubeconfig", team.kubeconfig)
