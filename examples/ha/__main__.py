"""Three control planes and two workers with settings of their own, made by a loop over plain data.

The machines stand in Pulumi.STACK.yaml; what every cluster of this team has in common stands here.
"""

from typing import Any

import pulumi

from groundplane import Cluster, Endpoint, Host, KubeadmCluster, Kubernetes, Spec
from groundplane.spec import ApiServer, Audit, Backup, SshTarget, Taint, Target

config = pulumi.Config()
DEDICATED = Taint(key="example.org/dedicated", value="batch", effect="NoSchedule")


def host(name: str, machine: dict[str, Any]) -> Host:
    """A machine as the stack lists it: {address, hostKey, role, rack, batch}."""
    batch = machine.get("batch", False)
    return Host(
        name=name,
        address=machine["address"],
        host_key=machine["hostKey"],
        user="admin",
        role=machine["role"],
        failure_domain=machine["rack"],
        labels={"example.org/batch": "true"} if batch else {},
        taints=[DEDICATED] if batch else [],
    )


hosts = [host(name, machine) for name, machine in config.require_object("machines").items()]
cluster = Cluster(
    name="ha",
    kubernetes=Kubernetes(version="1.36.4"),
    pod_cidrs=["10.244.0.0/16"],
    service_cidrs=["10.96.0.0/16"],
    endpoint=Endpoint(address="192.0.2.10", router_id=52),
    kubelet={"maxPods": 200, "shutdownGracePeriod": "60s"},
    api_server=ApiServer(
        extra_args={"max-requests-inflight": 800},
        cert_sans=["api.example.org"],
    ),
    audit=Audit(level="request"),
    max_unavailable=2,
    backup=Backup(
        recipient=config.require("backupRecipient"),
        target=Target(
            ssh=SshTarget(
                address="192.0.2.200",
                user="backup",
                key=config.require("backupKey"),
                host_key=config.require("backupHostKey"),
                path="/srv/backup/ha",
            )
        ),
    ),
)
ha = KubeadmCluster("ha", Spec(pulumi.get_stack(), hosts, cluster))

pulumi.export("endpoint", ha.endpoint)
pulumi.export("kubeconfig", ha.kubeconfig)
pulumi.export("identity", ha.identity)
