"""Add-ons of a whole stack under Pulumi's mocks: one provider, in order, on the cluster."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi
import pytest
from support.addons import before
from support.program import PEM, Resource, register
from support.seen import standing
from support.specs import spec

from groundplane.clusters import shared
from groundplane.platform import Platform
from groundplane.registry import addon_of
from groundplane.spec.addons import Chosen

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def there() -> dict[str, Resource]:
    """A platform with both add-ons."""
    names = ("metrics-server", "local-path")
    made = replace(spec(), addons=[Chosen(name, addon_of(name).args()) for name in names])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "survey", lambda _: standing(made))
        return register(lambda: Platform("metal", made))


def test_a_platform_without_addons_needs_no_provider() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "survey", lambda _: standing(spec()))
        found = register(lambda: Platform("metal", spec()))
    assert not [r for r in found.values() if "kubernetes:" in r.type or "providers" in r.type]


def test_one_provider_which_another_kubeconfig_does_not_replace(
    there: dict[str, Resource],
) -> None:
    (provider,) = [r for r in there.values() if r.type == "pulumi:providers:kubernetes"]
    assert provider.inputs["clusterIdentifier"] == "metal/metal"
    assert provider.inputs["enableServerSideApply"] == "true"
    assert "kubeconfig" in provider.secrets
    assert PEM not in provider.plain
    on_it = [r for r in there.values() if r.type.startswith("kubernetes:")]
    assert on_it
    assert {r.provider for r in on_it} == {provider.name}


FULL = """
import re, sys
from pathlib import Path
sys.path[:0] = ["tests"]
from dataclasses import replace
from support.addons import cases
from support.program import register
from support.seen import blank
from support.specs import spec
from groundplane.clusters import shared
from groundplane.platform import Platform
from groundplane.spec.addons import Chosen, in_profile

first = {}
for case in cases():
    first.setdefault(case.addon, case.parsed)
names = [*in_profile("full"), "local-path"]  # on which storage is for each stack to choose
made = replace(spec(), addons=[Chosen(name, first[name]) for name in names])
shared.survey = lambda _: blank(made)
register(lambda: Platform("metal", made), preview=True, blank=True)
# Not getrusage's, which begins with what the parent had.
peak = re.search("VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1]
print(len(made.addons), int(peak) >> 10)
"""


def test_everything_there_is_shows_in_a_preview() -> None:
    """With the first case of each add-on, which must go together."""
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    addons, mib = map(int, done.stdout.split())
    assert addons > 0
    assert mib < 400


def test_addons_come_when_all_nodes_are_ready_and_go_with_the_cluster(
    there: dict[str, Resource],
) -> None:
    for resource in there.values():
        if resource.type.startswith("kubernetes:"):
            assert "metal-nodes" in before(there, resource.name)
            assert resource.deleted_with == "metal"


def test_a_bucket_has_one_key_for_who_gives_and_who_asks() -> None:
    args: dict[str, dict[str, Any]] = {
        "seaweedfs": {},
        "velero": {
            "external": {"url": "https://s3.example.org", "bucket": "b", "access_key": "k"},
            "in_cluster": True,
            "volumes": "files",
        },
        "local-path": {},
    }

    def program() -> None:
        args["velero"]["secret_key"] = pulumi.Output.secret("canary-secret")
        chosen = [Chosen(name, addon_of(name).args(**given)) for name, given in args.items()]
        Platform("metal", replace(spec(), addons=chosen))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "survey", lambda _: standing(spec()))
        found = register(program)
    assert found["metal-bucket-velero"].type == "random:index/randomPassword:RandomPassword"
    for secret in ("seaweedfs-secret-seaweedfs-users", "velero-secret-in-cluster"):
        assert "metal-bucket-velero" in before(found, f"metal-{secret}")
    # Who asks comes after who gives.
    assert "metal-seaweedfs-seaweedfs" in before(found, "metal-velero-velero")
