"""What distributions share is written once: all of them, held against kubeadm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.program import CANARIES, PEM, Resource, register
from support.seen import blank, standing
from support.specs import DISTRIBUTIONS, of

from groundplane import registry, survey
from groundplane.clusters import data, shared
from groundplane.errors import SpecError
from groundplane.platform import Platform
from groundplane.remote.observation import Observation
from groundplane.spec import Spec

Run = Callable[..., dict[str, Resource]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Registers a specification's platform, with hosts as an observation shows them."""

    def run(made: Spec, seen: Observation, **how: bool) -> dict[str, Resource]:
        monkeypatch.setattr(shared, "survey", lambda _: seen)
        monkeypatch.setattr(survey, "answers", lambda address: False)
        # Every distribution finds its root among what was founded.
        ca = data.facts_of(made.cluster).ca
        monkeypatch.setattr(shared, "_identity", lambda name, text: identity(ca))
        return register(lambda: Platform("metal", made), **how)

    return run


def identity(ca: str) -> dict[str, object]:
    return {"cluster": "0123456789abcdef", "identity": {ca: PEM, data.SECRET: "canary-secret"}}


def test_each_is_registered_and_tested() -> None:
    assert sorted(DISTRIBUTIONS) == registry.distributions()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("make", [blank, standing], ids=["blank", "standing"])
def test_the_same_in_the_same_order(run: Run, name: str, make: Callable[..., Observation]) -> None:
    """By another distribution the steps' data are others, and nothing else."""

    def shape(made: Spec) -> list[object]:
        found = run(made, make(made))
        return [
            (r.name, sorted(r.after), r.deleted_with, r.protect, sorted(r.ignores))
            for r in found.values()
        ]

    assert shape(of(name)) == shape(of("kubeadm"))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_engine_knows_it_by_its_class(name: str) -> None:
    made = registry.distribution_of(name)
    assert (made.facts.name, made.facts.component) == (name, made.__name__)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_secrets_stay_secret(run: Run, name: str) -> None:
    made = of(name)
    for resource in run(made, blank(made)).values():
        assert not any(canary in resource.plain for canary in CANARIES), resource.name


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_same_again_changes_nothing(run: Run, name: str) -> None:
    made = of(name)
    once = run(made, standing(made))
    again = run(made, standing(made), preview=True)
    assert {n: r.effective for n, r in once.items()} == {n: r.effective for n, r in again.items()}


def test_another_class_than_the_specification_asks_for_is_refused(run: Run) -> None:
    from groundplane.clusters.kubeadm import KubeadmCluster

    with pytest.raises(shared.RefusedError, match=r"k3s, and this is a KubeadmCluster"):
        register(lambda: KubeadmCluster("metal", of("k3s")))


def test_no_version_is_installed_whose_digest_is_not_known() -> None:
    with pytest.raises(SpecError, match="the catalogue has no k3s"):
        Spec("metal", of("k3s").hosts, of("k3s").cluster)
