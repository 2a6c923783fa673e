"""The machines that run guests."""

from __future__ import annotations

from rules.clusters import CLUSTERS, plan
from rules.rule import MANDATORY, Found, Settings, View, rule


@rule(
    MANDATORY,
    on=CLUSTERS,
    each=plan,
    remedy="Lower the hypervisor's overcommit, and give guests less or another hypervisor; or "
    "raise the limit in the stack's levels.",
    settings={
        "cpu": {
            "type": "number",
            "default": 2,
            "description": "The highest ratio of the guests' processors to the hypervisor's.",
        },
        "memory": {
            "type": "number",
            "default": 1,
            "description": "The highest ratio of the guests' memory to the hypervisor's.",
        },
    },
)
def overcommit_limited(plan: View, settings: Settings) -> Found:
    """Hypervisors promise their guests no more than the limit.

    Beyond its memory a hypervisor ends guests, and with starved processors etcd loses its leader.
    """
    for name, hypervisor in plan["hypervisors"].items():
        for what in ("cpu", "memory"):
            allowed = hypervisor["overcommit"][what].number
            if allowed > settings[what]:
                yield (
                    f"{name} may be overcommitted {allowed:g} times in {what}, beyond "
                    f"{settings[what]:g}"
                )
