"""snapshot-controller: snapshots of volumes, for drivers that can make them."""

from __future__ import annotations

from typing import Any

import pulumi

from groundplane.ground import Ground, manifests, namespace, objects
from groundplane.registry import addon
from groundplane.spec.addons import AddonArgs, Need

__all__ = ["SnapshotController", "SnapshotControllerArgs"]

NAME = "snapshot-controller"
SOURCE = "external-snapshotter"
PORT = 8080


class SnapshotControllerArgs(AddonArgs):
    """There is nothing to choose: which snapshots there can be is said by the storage drivers."""


@addon(
    "snapshot-controller",
    args=SnapshotControllerArgs,
    namespace="snapshot-controller",
    sources=[SOURCE],
    provides=[Need.SNAPSHOTS],
    profile="full",
)
class SnapshotController(pulumi.ComponentResource):
    """Kubernetes' kinds for snapshots of volumes, and the controller behind them. The snapshots
    themselves are made by a storage driver, which brings a class for them.

    Source: the objects of
    https://github.com/kubernetes-csi/external-snapshotter/tree/v8.6.0/deploy/kubernetes
    """

    def __init__(
        self,
        name: str,
        ground: Ground,
        args: SnapshotControllerArgs,
        opts: pulumi.ResourceOptions | None = None,
    ):
        super().__init__("groundplane:index:SnapshotController", name, None, opts)
        space = namespace(self, ground)
        # It ends where its kinds are missing when it starts.
        kinds = manifests(self, ground, SOURCE)
        rights = objects(self, ground, access(ground), after=[space])
        # A disruption budget of one that is alone would hold up every drain.
        budget = [] if ground.lab else objects(self, ground, [disruption_budget(ground)], [space])
        (self.ready,) = objects(self, ground, [deployment(ground)], [kinds, *rights, *budget])
        """Once it is there snapshots are made."""
        self.register_outputs({})


def access(ground: Ground) -> list[dict[str, Any]]:
    """Its account, and what that may do."""
    look = ["get", "list", "watch"]
    snapshots = "snapshot.storage.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["persistentvolumes"], "verbs": look},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": [*look, "update"]},
        {
            "apiGroups": [""],
            "resources": ["events"],
            "verbs": ["list", "watch", "create", "update", "patch"],
        },
        {"apiGroups": [snapshots], "resources": ["volumesnapshotclasses"], "verbs": look},
        {
            "apiGroups": [snapshots],
            "resources": ["volumesnapshotcontents"],
            "verbs": [*look, "create", "update", "delete", "patch"],
        },
        {
            "apiGroups": [snapshots],
            "resources": ["volumesnapshotcontents/status"],
            "verbs": ["patch"],
        },
        {
            "apiGroups": [snapshots],
            "resources": ["volumesnapshots"],
            "verbs": [*look, "update", "patch", "delete"],
        },
        {
            "apiGroups": [snapshots],
            "resources": ["volumesnapshots/status"],
            "verbs": ["update", "patch"],
        },
    ]
    leases = [
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "verbs": [*look, "create", "update", "patch", "delete"],
        }
    ]
    here = {"name": NAME, "namespace": ground.entry.namespace}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        _rbac("ClusterRole", {"name": NAME}, rules=rules),
        _rbac("ClusterRoleBinding", {"name": NAME}, **_binds("ClusterRole", here)),
        _rbac("Role", here, rules=leases),
        _rbac("RoleBinding", here, **_binds("Role", here)),
    ]


def _rbac(kind: str, metadata: dict[str, Any], **fields: Any) -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, **fields}


def _binds(role: str, account: dict[str, Any]) -> dict[str, Any]:
    return {
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", **account}],
    }


def disruption_budget(ground: Ground) -> dict[str, Any]:
    """One is always there."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": NAME, "namespace": ground.entry.namespace},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": NAME}}},
    }


def deployment(ground: Ground) -> dict[str, Any]:
    """The controller: one leads, another stands by."""
    chosen = {"app.kubernetes.io/name": NAME}
    container = {
        "name": NAME,
        "image": ground.image(SOURCE, "controller"),
        "args": ["--leader-election=true", f"--http-endpoint=:{PORT}"],
        "ports": [{"name": "http", "containerPort": PORT}],
        "livenessProbe": {
            "httpGet": {"path": "/healthz/leader-election", "port": "http"},
            "initialDelaySeconds": 30,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": ground.entry.namespace, "labels": chosen},
        "spec": {
            "replicas": ground.replicas,
            # It gives up after 30 seconds where it does not find its kinds.
            "minReadySeconds": 35,
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
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": chosen},
                        }
                    ],
                    "containers": [container],
                },
            },
        },
    }
