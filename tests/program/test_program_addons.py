"""Add-ons of a whole stack under Pulumi's mocks: one provider, in order, on the cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.addons import before
from support.program import PEM, Resource, register
from support.seen import standing
from support.specs import spec

from groundplane.clusters import kubeadm
from groundplane.platform import Platform
from groundplane.registry import addon_of
from groundplane.spec.addons import Chosen


@pytest.fixture(scope="module")
def there() -> dict[str, Resource]:
    """A platform with both add-ons."""
    names = ("metrics-server", "local-path")
    made = replace(spec(), addons=[Chosen(name, addon_of(name).args()) for name in names])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubeadm, "survey", lambda _: standing(made))
        return register(lambda: Platform("metal", made))


def test_a_platform_without_addons_needs_no_provider() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubeadm, "survey", lambda _: standing(spec()))
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


def test_addons_come_when_all_nodes_are_ready_and_go_with_the_cluster(
    there: dict[str, Resource],
) -> None:
    for resource in there.values():
        if resource.type.startswith("kubernetes:"):
            assert "metal-nodes" in before(there, resource.name)
            assert resource.deleted_with == "metal"
