"""Who reaches what: network policies, kinds of services, BGP."""

from __future__ import annotations

from rules.objects import WORKLOADS, namespace
from rules.rule import MANDATORY, Found, FoundIn, Resource, Settings, View, rule

POLICIES = (
    "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    "kubernetes:projectcalico.org/v3:NetworkPolicy",
    "kubernetes:cilium.io/v2:CiliumNetworkPolicy",
)
GLOBAL = (
    "kubernetes:projectcalico.org/v3:GlobalNetworkPolicy",
    "kubernetes:cilium.io/v2:CiliumClusterwideNetworkPolicy",
)
NAMESPACE = "kubernetes:core/v1:Namespace"


@rule(
    MANDATORY,
    on=(*POLICIES, *GLOBAL, *WORKLOADS, NAMESPACE),
    each=None,
    remedy="Add one that denies all, and others that allow what is needed: DNS, the API server to "
    "webhooks, metrics. The pod network must enforce them; groundplane's `plain` does not.",
)
def network_policy_in_every_namespace(resources: list[Resource], settings: Settings) -> FoundIn:
    """Each namespace that the stack fills has a network policy.

    Without any, every pod of the cluster reaches every other one.
    """
    if any(resource.type in GLOBAL for resource in resources):
        return
    covered = {namespace(r) for r in resources if r.type in POLICIES}
    said: set[str] = set()
    for resource in resources:
        if resource.type in POLICIES:
            continue
        if resource.type == NAMESPACE:
            where = resource.props["metadata"]["name"].text or resource.name
        else:
            where = namespace(resource)
        if where not in covered and where not in said:
            said.add(where)
            yield resource, "no network policy of this stack is in its namespace"


@rule(
    MANDATORY,
    on=("kubernetes:core/v1:Service",),
    remedy="Use a ClusterIP behind a gateway, or a LoadBalancer; or add the type to the stack's "
    "levels: types.",
    settings={
        "types": {
            "type": "array",
            "items": {"type": "string"},
            "default": ["ClusterIP", "LoadBalancer"],
            "description": "The types that services may have.",
        }
    },
)
def service_types(service: View, settings: Settings) -> Found:
    """Services have only the types that the stack allows, and no external addresses.

    On metal a NodePort opens a port on every host, past the firewall of any gateway; and who may
    write externalIPs can draw other traffic to a pod of his own.
    """
    kind = service["spec"]["type"].text or "ClusterIP"
    if kind not in settings["types"]:
        yield "spec.type is not among those that are allowed"
    if any(address.value for address in service["spec"]["externalIPs"]):
        yield "spec.externalIPs is set"


CALICO = "kubernetes:projectcalico.org/v3:BGPPeer"
METALLB = "kubernetes:metallb.io/v1beta2:BGPPeer"


@rule(
    MANDATORY,
    on=(CALICO, METALLB),
    each=None,
    remedy="Let one of the two speak: Calico announces the services' addresses "
    "(serviceLoadBalancerIPs), or MetalLB announces by L2, or Calico's BGP is Disabled.",
)
def one_bgp_speaker(peers: list[Resource], settings: Settings) -> FoundIn:
    """Calico and MetalLB do not both speak BGP with one router.

    A router takes one session from an address: the two take it from each other in turn, and with it
    the routes to pods or to services.
    """
    calico = {p.props["spec"]["peerIP"].text: p for p in peers if p.type == CALICO}
    for peer in peers:
        address = peer.props["spec"]["peerAddress"].text
        if peer.type == METALLB and address and address in calico:
            yield peer, f"its peer is also that of {calico[address]}"
