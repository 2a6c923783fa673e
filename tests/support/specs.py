"""Specifications, and what a step of theirs is given on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from groundplane.catalogue import Catalogue, product
from groundplane.clusters import data
from groundplane.clusters.firewall import firewall
from groundplane.remote.step import canonical
from groundplane.spec import Cluster, Endpoint, Host, Hypervisor, Kubernetes, Spec

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJf6nD1a9m8hS7YJxkqo1x0B0E4g0m8w7i8Wm3k5y2V"
SECRET = bytes(range(32)).hex()
"""The cluster's secret, as it lies at PKI/groundplane.key."""
SECRET_FILE = "/etc/kubernetes/pki/groundplane.key"


def hosts(control_planes: int = 3, workers: int = 2, **fields: Any) -> list[Host]:
    """cp1, cp2, ... at 192.0.2.11 and on; w1, w2, ... at 192.0.2.101 and on, as far as they go."""
    return [
        host(f"{prefix}{n}", f"192.0.{2 + (first + n) // 256}.{(first + n) % 256}", role, **fields)
        for prefix, role, count, first in (
            ("cp", "control-plane", control_planes, 10),
            ("w", "worker", workers, 100),
        )
        for n in range(1, count + 1)
    ]


def host(name: str, address: str, role: str, **fields: Any) -> Host:
    """One host. `node_address` and `second_node_address` may be the beginning of an IPv6 address,
    which ends like `address`."""
    last = address.rpartition(".")[2]
    for key in ("node_address", "second_node_address"):
        if key in fields:
            fields[key] += last
    return Host(**{"name": name, "address": address, "role": role, "host_key": KEY, **fields})


# Of K3s, of which the product's catalogue holds no version: digests that no file has.
K3S_VERSIONS = ("1.35.8+k3s1", "1.36.4+k3s1")
K3S_DIGESTS = {
    "parts": {
        "k3s": {
            "sha256": {
                version: {"amd64": dict.fromkeys(("binary", "images"), "0" * 64)}
                for version in K3S_VERSIONS
            }
        }
    }
}
K3S_CATALOGUE = product().merge(K3S_DIGESTS)
DISTRIBUTIONS = ("kubeadm", "k3s")


def of(distribution: str, machines: list[Host] | None = None, **cluster: Any) -> Spec:
    """The usual specification, for a distribution."""
    if distribution == "kubeadm":
        return spec(machines, **cluster)
    usual = {"distribution": "k3s", "kubernetes": Kubernetes(version=K3S_VERSIONS[-1])}
    return spec(machines, catalogue=K3S_CATALOGUE, **{**usual, **cluster})


def spec(
    machines: list[Host] | None = None,
    stack: str = "metal",
    hypervisors: Iterable[Hypervisor] = (),
    catalogue: Catalogue | None = None,
    **cluster: Any,
) -> Spec:
    """A specification with these fields of the cluster in place of the usual ones."""
    usual: dict[str, Any] = {
        "name": "metal",
        "kubernetes": Kubernetes(version="1.36.4"),
        "pod_cidrs": ["10.244.0.0/16"],
        "service_cidrs": ["10.96.0.0/16"],
        "endpoint": Endpoint(address="192.0.2.10", router_id=51),
    }
    made = Cluster(**{**usual, **cluster})
    known = catalogue or product()
    return Spec(stack, machines or hosts(), made, known, hypervisors=list(hypervisors))


def on_the_wire(made: Spec, step: str, name: str = "") -> dict[str, Any]:
    """What the step of this name is given on stdin for the host, without its token."""
    head = {"stack": made.stack, "step": step, "revision": 1}
    if step in ("membership", "nodes"):
        given = getattr(data, step)(made)
    else:
        host = next(host for host in made.hosts if host.name == name)
        of_host = {
            "prepare": lambda: data.prepare(made, host, "amd64", "apt"),
            "firewall": lambda: firewall(made, host, None),
            "patch": lambda: data.patch(made, host),
            "node": lambda: data.node(made, host),
        }
        given = of_host[step]()
    return dict(json.loads(canonical({**head, **given})))
