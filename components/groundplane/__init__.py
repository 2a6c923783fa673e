"""Kubernetes on machines that you own, as Pulumi components.

Names are looked up when they are first used: a short command must not pay for Pulumi's import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundplane.clusters.k3s import K3sCluster
    from groundplane.clusters.kubeadm import KubeadmCluster
    from groundplane.errors import GroundplaneError
    from groundplane.hosts.libvirt import LibvirtHosts
    from groundplane.platform import Platform
    from groundplane.spec import (
        Cluster,
        Endpoint,
        Host,
        Kubernetes,
        Spec,
        from_pulumi_config,
        load,
    )

_HOMES = {
    "Cluster": "groundplane.spec",
    "Endpoint": "groundplane.spec",
    "GroundplaneError": "groundplane.errors",
    "Host": "groundplane.spec",
    "K3sCluster": "groundplane.clusters.k3s",
    "KubeadmCluster": "groundplane.clusters.kubeadm",
    "Kubernetes": "groundplane.spec",
    "LibvirtHosts": "groundplane.hosts.libvirt",
    "Platform": "groundplane.platform",
    "Spec": "groundplane.spec",
    "from_pulumi_config": "groundplane.spec",
    "load": "groundplane.spec",
}

__all__ = [
    "Cluster",
    "Endpoint",
    "GroundplaneError",
    "Host",
    "K3sCluster",
    "KubeadmCluster",
    "Kubernetes",
    "LibvirtHosts",
    "Platform",
    "Spec",
    "from_pulumi_config",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'groundplane' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
