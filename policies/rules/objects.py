"""Where the parts of Kubernetes objects are, as pulumi-kubernetes registers them."""

from __future__ import annotations

from collections.abc import Iterator

from rules.rule import Resource, View

TEMPLATE = ("spec", "template", "spec")
PODS = {
    "core/v1:Pod": ("spec",),
    "core/v1:ReplicationController": TEMPLATE,
    "apps/v1:DaemonSet": TEMPLATE,
    "apps/v1:Deployment": TEMPLATE,
    "apps/v1:ReplicaSet": TEMPLATE,
    "apps/v1:StatefulSet": TEMPLATE,
    "batch/v1:Job": TEMPLATE,
    "batch/v1:CronJob": ("spec", "jobTemplate", *TEMPLATE),
}
"""What makes pods -> where the pod's specification stands."""

WORKLOADS = tuple(f"kubernetes:{kind}" for kind in PODS)
LASTING = tuple(kind for kind in WORKLOADS if kind.endswith(("Deployment", "Set")))
"""Workloads whose pods run until they are told to end."""
RELEASES = ("kubernetes:helm.sh/v3:Release",)


def pods(resource: Resource) -> Iterator[View]:
    """The specification of the pods that a workload makes."""
    view = resource.props
    for key in PODS[resource.type.partition(":")[2]]:
        view = view[key]
    yield view


def containers(resource: Resource) -> Iterator[View]:
    """Each container of the pods that a workload makes, those that run before it too."""
    for pod in pods(resource):
        for kind in ("initContainers", "containers", "ephemeralContainers"):
            yield from pod[kind]


def main_containers(resource: Resource) -> Iterator[View]:
    """Each container that runs as long as the pod does."""
    for pod in pods(resource):
        yield from pod["containers"]
        for first in pod["initContainers"]:
            if first["restartPolicy"].text == "Always":
                yield first


def chart_values(resource: Resource) -> Iterator[View]:
    """Each mapping in the values of a Helm release, as deep as they go."""
    yield from mappings(resource.props["values"])


def mappings(view: View) -> Iterator[View]:
    """Each mapping in a value, itself included; and what is not known, so that it is told."""
    if not view.known:
        yield view
    elif isinstance(view.value, dict):
        yield view
        for _, inner in view.items():
            yield from mappings(inner)
    else:
        for inner in view:
            yield from mappings(inner)


def namespace(resource: Resource) -> str:
    """The namespace that an object is in."""
    return resource.props["metadata"]["namespace"].text or "default"
