"""The registry: one name, one class."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from groundplane import registry
from groundplane.errors import GroundplaneError


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type]]:
    table: dict[str, type] = {}
    monkeypatch.setattr(registry, "DISTRIBUTIONS", table)
    yield table


def test_a_class_is_found_by_its_name(empty: dict[str, type]) -> None:
    @registry.distribution("kubeadm")
    class One:
        pass

    assert empty == {"kubeadm": One}
    assert registry.distribution("kubeadm")(One) is One


def test_a_name_means_one_class(empty: dict[str, type]) -> None:
    @registry.distribution("kubeadm")
    class One:
        pass

    with pytest.raises(GroundplaneError, match=r"'kubeadm' is taken by .*One"):

        @registry.distribution("kubeadm")
        class Two:
            pass


def test_everything_is_discovered() -> None:
    registry.discover()
