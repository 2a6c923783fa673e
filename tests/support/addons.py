"""An add-on under Pulumi's mocks, on a cluster that stands; and its cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import yaml

from groundplane import registry
from groundplane.ground import Ground
from groundplane.registry import Addon
from groundplane.spec.addons import AddonArgs, Chosen, Need
from support.program import PEM, Resource, register
from support.specs import spec

STORE = "http://store.example.svc:8333"
URLS = {
    Need.OBJECT_STORE: STORE,
    Need.LOGS: "http://logs.example.svc:3100",
    Need.TRACES: "http://traces.example.svc:4317",
}
"""Where others give these."""
BUCKETS = ("logs", "traces")
"""Those that others ask for."""
CASES = Path(__file__).parents[1] / "addons/cases"


@dataclass(frozen=True)
class Case:
    """One way to install an add-on: arguments as YAML has them, and what else is on the cluster."""

    addon: str
    args: Mapping[str, Any] = field(default_factory=dict)
    size: str = "production"
    has: tuple[Need, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return "-".join(
            filter(None, [self.addon, self.name, self.size, *(n.name for n in self.has)])
        )

    @property
    def entry(self) -> Addon:
        """What is known of the add-on."""
        return registry.addon_of(self.addon)

    @property
    def parsed(self) -> AddonArgs:
        """Its arguments, checked."""
        made = self.entry.args.model_validate(  # type: ignore[attr-defined]
            dict(self.args), by_alias=True, by_name=False
        )
        assert isinstance(made, AddonArgs)
        return made


def cases() -> Iterator[Case]:
    """Every add-on in both sizes, alone and with all that it uses; and as its file in
    tests/addons/cases says: name -> {args, size, has}."""
    for name in registry.addon_names():
        path = CASES / f"{name}.yaml"
        written = yaml.safe_load(path.read_text()) if path.is_file() else {"": {}}
        entry = registry.addon_of(name)
        for called, case in written.items():
            args = case.get("args", {})
            for size in ("production", "lab"):
                for has in dict.fromkeys([(), tuple(sorted(Need(each) for each in entry.uses))]):
                    yield Case(name, args, size, has, called)


def installed(case: Case, **how: Any) -> dict[str, Resource]:
    """What an add-on registers, by name, and the names `nodes-ready` and `provider` beside it."""

    def program() -> None:
        bare = case.parsed
        secrets = {key: pulumi.Output.secret("canary-secret") for key in bare.secrets()}
        given = Chosen(case.addon, bare.model_copy(update=secrets))
        others = Others(frozenset(case.has) | given.needs)
        made = spec()
        object.__setattr__(made, "size", case.size)
        object.__setattr__(made, "addons", (given, others))
        cluster = pulumi.ComponentResource("groundplane:index:KubeadmCluster", "cluster")
        ready = _Ready("nodes-ready", {}, pulumi.ResourceOptions(parent=cluster))
        from pulumi_kubernetes import Provider

        provider = Provider("provider", kubeconfig=pulumi.Output.secret(PEM))
        buckets = {name: pulumi.Output.secret("canary-secret") for name in BUCKETS}
        buckets |= {name: pulumi.Output.secret("canary-secret") for name in given.args.buckets()}
        ground = Ground(made, cluster, provider, case.entry, ready, (ready,), buckets)
        component = case.entry.component(f"metal-{case.addon}", ground, given.args, None)
        _Ready("behind", {}, pulumi.ResourceOptions(depends_on=[component.ready]))

    return register(program, **how)


@dataclass(frozen=True)
class Others:
    """All other add-ons of the cluster, as one."""

    provides: frozenset[str]
    name: str = "others"

    @property
    def entry(self) -> SimpleNamespace:
        """Where it lives."""
        return SimpleNamespace(namespace="others")

    @property
    def args(self) -> AddonArgs:
        """Its arguments."""
        return _Given(there={need: URLS[need] for need in URLS if need in self.provides})


class _Given(AddonArgs):
    there: Mapping[Need, str]

    def urls(self) -> Mapping[Need, str]:
        return self.there


class _Ready(pulumi.CustomResource):
    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions):
        super().__init__("test:index:Ready", name, props, opts)


def before(found: Mapping[str, Resource], name: str) -> set[str]:
    """All that must have ended before this resource begins, directly or not."""
    done: set[str] = set()
    waiting = [name]
    while waiting:
        for other in found[waiting.pop()].after - done:
            done.add(other)
            waiting.append(other)
    return done
