"""The firewall of hosts: who may come, besides what the cluster itself needs."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from groundplane.spec import values as v
from groundplane.spec.model import Model


class Allow(Model):
    """Something of your own that hosts let in."""

    port: v.Ports = Field(examples=[9100, "8000-8100"])
    """The port, or a range of ports as `8000-8100`."""
    protocol: Literal["tcp", "udp", "sctp"] = "tcp"
    """The protocol."""
    sources: list[v.Cidr] = Field(default=[], examples=[["192.0.2.0/24"]])
    """The ranges that it may come from. From anywhere unless given."""


class Firewall(Model):
    """What may come to hosts: what nodes need of each other, pods, and what is named here. What
    hosts forward, as the traffic of pods and services, is not touched."""

    ssh: list[v.Cidr] = Field(default=[], examples=[["192.0.2.0/24"]])
    """The ranges that SSH may come from, with the computers that run Pulumi among them. From
    anywhere unless given."""
    api: list[v.Cidr] = Field(default=[], examples=[["192.0.2.0/24"]])
    """The ranges that may reach the cluster's API, besides nodes and pods. Anybody unless given."""
    node_ports: list[v.Cidr] = Field(default=[], examples=[["192.0.2.0/24"]])
    """The ranges that may reach NodePorts, besides nodes and pods. Nobody unless given."""
    allow: list[Allow] = Field(default=[])
    """What else is let in, on every host."""

    def lets_in(self, client: str) -> bool:
        """Whether SSH may come from this address."""
        address = ipaddress.ip_address(client)
        return not self.ssh or any(address in ipaddress.ip_network(text) for text in self.ssh)
