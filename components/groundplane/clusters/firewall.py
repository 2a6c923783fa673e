"""What the step `firewall` of a host is given."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from groundplane.spec import Firewall, Host, Spec

__all__ = ["firewall"]

API_SERVER = 6443
NODE_PORTS = "30000-32767"


def firewall(spec: Spec, host: Host, port: int | None) -> dict[str, Any]:
    """Who may come, for the scripts to write as rules. `port`: the host's own that SSH comes to,
    where it is known; behind a translation of addresses it is another than the one asked for."""
    cluster = spec.cluster
    given = cluster.firewall or Firewall()
    here = sorted((h for h in spec.hosts if h.state != "lost"), key=lambda h: h.name)
    controls = [h for h in here if h.role == "control-plane"]
    managed = cluster.endpoint.mode == "managed"
    # Who carries the endpoint may speak by its address.
    carried = [cluster.endpoint.address] if managed else []
    api = [API_SERVER, *([cluster.endpoint.port] if managed else [])]
    return {
        "role": host.role,
        "network": cluster.network,
        "nodes": _addresses(here) + carried,
        "control_planes": _addresses(controls) + carried,
        "pod_cidrs": cluster.pod_cidrs,
        "service_cidrs": cluster.service_cidrs,
        "ssh_ports": sorted({host.port, port or host.port}),
        "ssh": _ranges(given.ssh),
        "api_ports": api if host.role == "control-plane" else None,
        "api": _ranges(given.api) if host.role == "control-plane" else None,
        "node_port_range": cluster.api_server.extra_args.get("service-node-port-range", NODE_PORTS),
        "node_ports": _ranges(given.node_ports),
        "allow": [
            {"protocol": each.protocol, "port": each.port, "sources": _ranges(each.sources)}
            for each in given.allow
        ],
    }


def _addresses(hosts: Sequence[Host]) -> list[Any]:
    """Those by which nodes speak to each other; some may be Outputs."""
    both = [(host.node_address, host.second_node_address) for host in hosts]
    return [address for pair in both for address in pair if address is not None]


def _ranges(given: Sequence[str]) -> list[str]:
    """Those that lie in none of the others, which nft would refuse; IPv4 first."""
    networks = [ipaddress.ip_network(text) for text in given]
    four = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    six = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    return [
        *map(str, ipaddress.collapse_addresses(four)),
        *map(str, ipaddress.collapse_addresses(six)),
    ]
