"""What add-ons stand on, and what they install with: the one place that registers anything with
Pulumi's Kubernetes provider.

Everything goes through one provider a cluster, server side. An add-on hands on plain data; what is
secret reaches a chart as the name of a Secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi

from groundplane.catalogue import AddonSource
from groundplane.registry import Addon
from groundplane.spec import Spec
from groundplane.spec.addons import Need

__all__ = [
    "ADDONS",
    "LOCKED",
    "NOBODY",
    "SMALL",
    "Ground",
    "account",
    "chart",
    "dashboard",
    "data_source",
    "finish",
    "gate_check",
    "install",
    "labels",
    "manifests",
    "namespace",
    "network_policy",
    "objects",
    "password",
    "random_text",
    "script",
    "script_pod",
    "spread",
]

# Helm's own bound is 300 s; images come over slow links, and Ceph takes its time.
TIMEOUT = 900  # seconds


@dataclass(frozen=True)
class Ground:
    """A cluster as an add-on finds it."""

    spec: Spec
    """What the stack is to be: hosts, cluster, size and all add-ons."""
    cluster: pulumi.Resource
    """The cluster, with which goes what is on it."""
    provider: pulumi.ProviderResource
    """Pulumi's Kubernetes provider for it."""
    entry: Addon
    """The add-on that stands here."""
    joined: pulumi.Resource
    """There once all nodes are in the cluster, Ready or not."""
    after: tuple[pulumi.Resource, ...] = ()
    """What must be there before the add-on begins."""
    buckets: Mapping[str, pulumi.Output[str]] = field(default_factory=dict)
    """The buckets of the cluster's object store, each with the secret key of its one user. The
    user, and its access key, are called as the bucket."""

    @property
    def lab(self) -> bool:
        """Whether to be small: one replica, and few resources."""
        return self.spec.size == "lab"

    @property
    def replicas(self) -> int:
        """How many replicas keep a service up while a node is away: two, or one in a lab."""
        return 1 if self.lab else 2

    def has(self, need: Need) -> bool:
        """Whether something gives this; those that `use` it come after it."""
        return any(need in one.provides for one in self.spec.addons)

    def url(self, need: Need) -> str | None:
        """The URL, for pods, of what gives this; None where nothing does."""
        return next((url for one in self.spec.addons if (url := one.args.urls().get(need))), None)

    @property
    def erases(self) -> bool:
        """Whether the add-on is to erase what of it outlives the cluster."""
        return any(one.args.erases() for one in self.spec.addons if one.name == self.entry.name)

    def image(self, source: str, key: str) -> str:
        """An image of the catalogue's entry."""
        return self.spec.catalogue.addon(source).images[key]

    def child(
        self, parent: pulumi.Resource, after: Sequence[pulumi.Resource] = ()
    ) -> pulumi.ResourceOptions:
        """The options of everything that an add-on makes."""
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            depends_on=[*self.after, *after],
            # The machines are reset as a whole: to take each object out before would need an API
            # that answers to the end. Only who is to erase what would be left must do so before.
            deleted_with=None if self.erases else self.cluster,
        )


def install(spec: Spec, cluster: Any, opts: pulumi.ResourceOptions) -> dict[str, Any]:
    """All add-ons of a specification on its cluster, in the order of their needs; by name."""
    if not spec.addons:
        return {}
    from pulumi_kubernetes import Provider  # a third of a second, and only needed with add-ons

    name = spec.cluster.name
    provider = Provider(
        f"{name}-kubernetes",
        kubeconfig=cluster.kubeconfig,
        # Without it another kubeconfig would replace everything that is on the cluster.
        cluster_identifier=f"{spec.stack}/{name}",
        enable_server_side_apply=True,
        opts=opts,
    )
    buckets = _buckets(spec, opts)
    made: dict[str, Any] = {}
    for one in spec.addons:
        entry = one.entry
        # Both are resources with nothing below them: depending on a component would draw a line
        # to each of its children.
        after = (getattr(cluster, entry.starts), *(made[other].ready for other in one.after))
        ground = Ground(spec, cluster, provider, entry, cluster.nodes_ready, after, buckets)
        made[one.name] = entry.component(f"{name}-{one.name}", ground, one.args, opts)
    return made


def _buckets(spec: Spec, opts: pulumi.ResourceOptions) -> dict[str, pulumi.Output[str]]:
    """The buckets that add-ons ask for, with their keys: both who gives and who asks must know."""
    names = sorted({bucket for one in spec.addons for bucket in one.args.buckets()})
    return {name: random_text(f"{spec.cluster.name}-bucket-{name}", opts) for name in names}


# ---- what add-ons are made of ------------------------------------------------------------------


def labels(entry: Addon) -> dict[str, str]:
    """The labels of an add-on's namespace."""
    prefix = "pod-security.kubernetes.io"
    modes = ("enforce", "audit", "warn")
    return {
        "app.kubernetes.io/managed-by": "groundplane",
        **{f"{prefix}/{mode}": entry.pod_security for mode in modes},
    }


def namespace(parent: pulumi.Resource, ground: Ground) -> pulumi.Resource:
    """The add-on's namespace, with the labels of its Pod Security Standard."""
    made = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": ground.entry.namespace, "labels": labels(ground.entry)},
    }
    return objects(parent, ground, [made])[0]


def chart(
    parent: pulumi.Resource,
    ground: Ground,
    source: str,
    values: Mapping[str, Any],
    *,
    after: Sequence[pulumi.Resource] = (),
    wait: bool = True,
    entry: AddonSource | None = None,
) -> pulumi.Resource:
    """A chart of the catalogue, by its name there, which is also that of the release.

    `wait`: whether it is there only once its pods are Ready. `entry`: one that the add-on's
    arguments name, in place of the catalogue's.
    """
    name = f"{_called(parent)}-{source}"
    if entry is None:
        if source not in ground.entry.sources:
            raise KeyError(f"{source} is not among the sources of {ground.entry.name}")
        entry = ground.spec.catalogue.addon(source)
    from pulumi_kubernetes import helm

    given: dict[str, Any] = {
        "name": source,
        "namespace": ground.entry.namespace,
        "chart": entry.chart,
        "version": entry.version,
        "values": dict(values),
        "skip_await": not wait,
        "opts": ground.child(parent, after),
    }
    if entry.kind == "release":
        repository = helm.v3.RepositoryOptsArgs(repo=entry.repository or None)
        return helm.v3.Release(
            name,
            **given,
            repository_opts=repository if entry.repository else None,
            # An upgrade that fails leaves what was there before.
            atomic=wait,
            timeout=TIMEOUT,
        )
    return helm.v4.Chart(
        name,
        **given,
        repository_opts=helm.v4.RepositoryOptsArgs(repo=entry.repository)
        if entry.repository
        else None,
    )


def manifests(
    parent: pulumi.Resource, ground: Ground, source: str, after: Sequence[pulumi.Resource] = ()
) -> pulumi.Resource:
    """The documents at the addresses of the catalogue's entry, such as a project's CRDs."""
    from pulumi_kubernetes import yaml

    if source not in ground.entry.sources:
        raise KeyError(f"{source} is not among the sources of {ground.entry.name}")
    return yaml.v2.ConfigGroup(
        f"{_called(parent)}-{source}",
        files=ground.spec.catalogue.addon(source).urls,
        opts=ground.child(parent, after),
    )


def objects(
    parent: pulumi.Resource,
    ground: Ground,
    documents: Sequence[Mapping[str, Any]],
    after: Sequence[pulumi.Resource] = (),
    *,
    patch: bool = False,
) -> list[pulumi.Resource]:
    """Kubernetes objects as documents, those of CRDs among them. Only leaves may be Outputs.

    One that is to be waited for carries the annotation `pulumi.com/waitFor`. `patch`: somebody else
    makes them, sooner or later; these fields of them are ours.
    """
    made: list[pulumi.Resource] = []
    for document in documents:
        group = document["apiVersion"]
        kind = document["kind"] + ("Patch" if patch else "")
        token = f"kubernetes:{group if '/' in group else f'core/{group}'}:{kind}"
        name = f"{_called(parent)}-{document['kind'].lower()}-{document['metadata']['name']}"
        options = ground.child(parent, after)
        made.append(pulumi.CustomResource(token, name, dict(document), options))
    return made


def random_text(name: str, opts: pulumi.ResourceOptions) -> pulumi.Output[str]:
    """A password: made once, and kept, encrypted, in the stack's state."""
    from pulumi_random import RandomPassword

    # It goes through shells, URLs and INI files on its way.
    return RandomPassword(name, length=32, special=False, opts=opts).result


def finish(
    parent: pulumi.Resource,
    ground: Ground,
    documents: Sequence[Mapping[str, Any]],
    after: pulumi.Resource,
) -> pulumi.Resource:
    """Objects that end an add-on, and what is there last: one of them that comes when all others
    are there, or what they come after where there are none."""
    if not documents:
        return after
    made = objects(parent, ground, documents[:-1], [after])
    return objects(parent, ground, documents[-1:], [after, *made])[0]


def data_source(ground: Ground, kind: str, name: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """A data source of the cluster's Grafana, as the ConfigMap by which Grafana finds it; `more`
    are its further fields, such as `url`. Its id is its kind."""
    source = {"name": name, "type": kind, "uid": kind, "access": "proxy", **more}
    # JSON is YAML.
    text = json.dumps({"apiVersion": 1, "datasources": [source]})
    return _for_grafana(ground, "datasource", f"{kind}.yaml", text)


def dashboard(ground: Ground, path: Path) -> dict[str, Any]:
    """A dashboard of the cluster's Grafana, as the ConfigMap by which Grafana finds it, from a file
    such as Grafana itself gives."""
    return _for_grafana(ground, "dashboard", path.name, path.read_text(encoding="utf-8"))


def _for_grafana(ground: Ground, what: str, key: str, text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{ground.entry.name}-{what}",
            "namespace": ground.entry.namespace,
            "labels": {f"grafana_{what}": "1"},
        },
        "data": {key: text},
    }


def password(
    parent: pulumi.Resource,
    ground: Ground,
    secret: str,
    data: Mapping[str, pulumi.Input[str] | None],
    after: Sequence[pulumi.Resource] = (),
) -> pulumi.Resource:
    """A Secret of this name for a chart to use; each None becomes a password of its own.

    Passwords are made once and stay, encrypted, in the stack's state.
    """
    own = pulumi.ResourceOptions(parent=parent)
    filled = {
        key: random_text(f"{_called(parent)}-{secret}-{key}".lower(), own)
        if value is None
        else pulumi.Output.secret(value)
        for key, value in data.items()
    }
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret, "namespace": ground.entry.namespace},
        "stringData": filled,
    }
    return objects(parent, ground, [made], after)[0]


def network_policy(
    parent: pulumi.Resource,
    ground: Ground,
    *,
    ingress: Sequence[Mapping[str, Any]] = (),
    egress: Sequence[Mapping[str, Any]] | None = None,
    after: Sequence[pulumi.Resource] = (),
) -> pulumi.Resource:
    """What may reach the pods of the add-on's namespace, which may always reach each other; where
    `egress` is given, also what they may reach besides DNS. The rest is denied.

    Each entry is a rule of networking.k8s.io/v1 NetworkPolicy. Something must enforce it: the
    network `plain` does not.
    """
    own: dict[str, Any] = {"podSelector": {}}
    dns = {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}
    spec: dict[str, Any] = {
        "podSelector": {},
        "policyTypes": ["Ingress"] if egress is None else ["Ingress", "Egress"],
        "ingress": [{"from": [own]}, *map(dict, ingress)],
    }
    if egress is not None:
        spec["egress"] = [{"to": [own]}, dns, *map(dict, egress)]
    made = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": ground.entry.name, "namespace": ground.entry.namespace},
        "spec": spec,
    }
    return objects(parent, ground, [made], after)[0]


NOBODY = {
    "runAsNonRoot": True,
    "runAsUser": 65534,
    "runAsGroup": 65534,
    "fsGroup": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""A pod of ours under the Pod Security Standard `restricted`."""
LOCKED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""Its containers."""
SMALL = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}}


def script(name: str, namespace: str, path: Path) -> dict[str, Any]:
    """The ConfigMap that `script_pod` reads."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-script", "namespace": namespace},
        "data": {"script": path.read_text(encoding="utf-8")},
    }


def script_pod(
    ground: Ground, source: str, name: str, env: Mapping[str, str], *, at_end: bool = False
) -> dict[str, Any]:
    """The spec of a pod that runs a script with kubectl, as the account of this name: at once, or
    `at_end`: when the pod is deleted, which then takes as long as the script.

    kubectl comes out of its own image, which has no shell, and is copied: nothing need be run from
    such a volume. The catalogue's entry has the images `shell` and `kubectl`.
    """
    begin = ["sh", "-c", "cp /kubectl/bin/kubectl /work/kubectl && exec sh /script/script"]
    given = {**env, "PATH": "/work:/bin:/usr/bin", "HOME": "/work"}
    container: dict[str, Any] = {
        "name": name,
        "image": ground.image(source, "shell"),
        "command": ["sleep", "2147483647"] if at_end else begin,
        "env": [{"name": key, "value": value} for key, value in given.items()],
        "securityContext": LOCKED,
        "resources": SMALL,
        "volumeMounts": [
            {"name": "kubectl", "mountPath": "/kubectl", "readOnly": True},
            {"name": "script", "mountPath": "/script", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
    }
    if at_end:
        container["lifecycle"] = {"preStop": {"exec": {"command": begin}}}
    return {
        "serviceAccountName": name,
        "securityContext": NOBODY,
        "containers": [container],
        "volumes": [
            {"name": "kubectl", "image": {"reference": ground.image(source, "kubectl")}},
            {"name": "script", "configMap": {"name": f"{name}-script"}},
            {"name": "work", "emptyDir": {}},
        ],
    }


def account(name: str, namespace: str, rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An account, and what it may do in its namespace."""
    here = {"name": name, "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": here, "rules": list(rules)},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": here,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", **here}],
        },
    ]


def gate_check(
    parent: pulumi.Resource,
    ground: Ground,
    resource: str,
    *,
    jsonpath: str,
    refuses: str,
    why: str,
    after: Sequence[pulumi.Resource] = (),
) -> pulumi.Resource:
    """What the hosts' gate asks before a healthy node is disturbed: an object in the add-on's
    namespace, KIND.GROUP/NAME in the plural, and an extended regular expression that what is read
    of it must not match."""
    space = ground.entry.namespace
    kinds, _, name = resource.partition("/")
    plural, _, group = kinds.partition(".")
    called = f"groundplane:gate:{ground.entry.name}"
    own = {"name": called, "namespace": space}
    rbac = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [group], "resources": [plural], "resourceNames": [name], "verbs": ["get"]}
    ]
    documents: list[dict[str, Any]] = [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": own, "rules": rules},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": own,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": called},
            # Workers come with their kubelet's credential.
            "subjects": [{"apiGroup": rbac, "kind": "Group", "name": "system:nodes"}],
        },
    ]
    rights = objects(parent, ground, documents, after)
    check = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"check-{ground.entry.name}",
            "namespace": "groundplane",
            "labels": {"groundplane.io/gate": "check"},
        },
        "data": {
            "namespace": space,
            "resource": resource,
            "jsonpath": jsonpath,
            "refuses": refuses,
            "why": why,
        },
    }
    return objects(parent, ground, [check], [*after, *rights])[0]


ADDONS = {"namespaceSelector": {"matchLabels": {"app.kubernetes.io/managed-by": "groundplane"}}}
"""The pods of all add-ons, in a network policy: who may ask what asks nobody who they are."""


def spread(labels: Mapping[str, str]) -> dict[str, Any]:
    """What keeps pods with these labels on different nodes, as far as there are enough: one of a
    pod's `topologySpreadConstraints`."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(labels)},
    }


def _called(parent: pulumi.Resource) -> str:
    """The name that a component was given."""
    return str(parent._name)
