"""local-path: volumes that are folders on the node where their pod runs."""

from __future__ import annotations

import json
from typing import Any, Literal

import pulumi
from pydantic import Field

from groundplane.ground import Ground, namespace, objects
from groundplane.registry import addon
from groundplane.spec import values as v
from groundplane.spec.addons import DEFAULT_STORAGE_CLASS, AddonArgs, Claim, Need

__all__ = ["LocalPath", "LocalPathArgs"]

NAME = "local-path-provisioner"
CLASS = "local-path"
CONFIG = "/etc/config"
PORT = 8080


class LocalPathArgs(AddonArgs):
    """Where volumes lie. What is written to them counts against the node's disk: there is no limit
    for one volume."""

    path: v.FolderPath = "/var/lib/local-path-provisioner"
    """The folder on each node that holds its volumes."""
    nodes: dict[v.Name, list[v.FolderPath]] = Field(
        default={}, examples=[{"rack1-n4": ["/mnt/disk1", "/mnt/disk2"]}]
    )
    """Nodes that hold them elsewhere, by name; an empty list keeps volumes off a node."""
    default: bool = True
    """Whether it is the class of claims that name none."""
    reclaim_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of a volume's data once its claim is deleted."""

    def claims(self) -> list[Claim]:
        """Two default classes would be one too many."""
        return [DEFAULT_STORAGE_CLASS] if self.default else []


@addon(
    "local-path",
    args=LocalPathArgs,
    namespace="local-path-storage",
    sources=["local-path"],
    # Its helper pods make and remove the folders on the nodes.
    pod_security="privileged",
    provides=[Need.BLOCK_STORAGE],
)
class LocalPath(pulumi.ComponentResource):
    """A storage class whose volumes are folders on a node. They stay on that node: a pod with such
    a volume runs nowhere else, and the data goes with the node's disk.

    Source: the objects of https://github.com/rancher/local-path-provisioner/tree/v0.0.37/deploy
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: LocalPathArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:LocalPath", name, None, opts)
        space = namespace(self, ground)
        rights = objects(self, ground, [*access(ground), config(args, ground)], after=[space])
        # Without rights it gives up, and a class that nothing serves leaves claims pending.
        (runs,) = objects(self, ground, [deployment(ground)], after=rights)
        (self.ready,) = objects(self, ground, [storage_class(args)], after=[runs])
        self.register_outputs({})


def access(ground: Ground) -> list[dict[str, Any]]:
    """Its account, and what that may do."""
    space = ground.entry.namespace
    look = ["get", "list", "watch"]
    whole = [*look, "create", "patch", "update", "delete"]
    rules = [
        {
            "apiGroups": [""],
            "resources": ["nodes", "configmaps", "pods", "pods/log"],
            "verbs": look,
        },
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": [*look, "update"]},
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": whole},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": look},
    ]
    own = [{"apiGroups": [""], "resources": ["pods"], "verbs": whole}]
    here = {"name": NAME, "namespace": space}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        _rbac("ClusterRole", {"name": NAME}, rules=rules),
        _rbac("Role", here, rules=own),
        _rbac("ClusterRoleBinding", {"name": NAME}, **_binds("ClusterRole", space)),
        _rbac("RoleBinding", here, **_binds("Role", space)),
    ]


def _rbac(kind: str, metadata: dict[str, Any], **fields: Any) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, **fields}


def _binds(role: str, space: str) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": space}],
    }


def config(args: LocalPathArgs, ground: Ground) -> dict[str, Any]:
    """Where volumes lie, and how their folders are made and removed: VOL_DIR is the folder."""
    paths = {"DEFAULT_PATH_FOR_NON_LISTED_NODES": [args.path], **args.nodes}
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "priorityClassName": "system-node-critical",
            # Volumes can be removed where the disk is full.
            "tolerations": [
                {
                    "key": "node.kubernetes.io/disk-pressure",
                    "operator": "Exists",
                    "effect": "NoSchedule",
                }
            ],
            "containers": [
                {
                    "name": "helper-pod",
                    "image": ground.image("local-path", "helper"),
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
        },
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-path-config", "namespace": ground.entry.namespace},
        "data": {
            "config.json": json.dumps(
                {"nodePathMap": [{"node": n, "paths": p} for n, p in sorted(paths.items())]}
            ),
            "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
            "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
            # JSON is YAML.
            "helperPod.yaml": json.dumps(helper),
        },
    }


def deployment(ground: Ground) -> dict[str, Any]:
    """The provisioner. One is enough: without it volumes stay usable, and no new ones are made."""
    chosen = {"app.kubernetes.io/name": NAME}
    of_itself = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    container = {
        "name": NAME,
        "image": ground.image("local-path", "provisioner"),
        "command": [
            NAME,
            "start",
            f"--config={CONFIG}/config.json",
            f"--service-account-name={NAME}",
            f"--helper-image={ground.image('local-path', 'helper')}",
        ],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": of_itself},
            {"name": "CONFIG_MOUNT_PATH", "value": CONFIG},
            {"name": "HEALTH_PORT", "value": str(PORT)},
        ],
        "ports": [{"name": "health", "containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "health"}, "periodSeconds": 5},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": "health"},
            "initialDelaySeconds": 30,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "config", "mountPath": CONFIG, "readOnly": True}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": ground.entry.namespace, "labels": chosen},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": chosen},
            "template": {
                "metadata": {"labels": chosen},
                "spec": {
                    "serviceAccountName": NAME,
                    "priorityClassName": "system-cluster-critical",
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65534,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [container],
                    "volumes": [{"name": "config", "configMap": {"name": "local-path-config"}}],
                },
            },
        },
    }


def storage_class(args: LocalPathArgs) -> dict[str, Any]:
    """The class that claims name. A volume is made where its first pod is to run."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {
                "storageclass.kubernetes.io/is-default-class": str(args.default).lower()
            },
        },
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": args.reclaim_policy,
    }
