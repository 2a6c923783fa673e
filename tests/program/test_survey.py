"""The look at all hosts: what it is told, and that it is not over while it is open whether one
that left the list is dead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.seen import standing
from support.specs import host, spec

from groundplane import survey
from groundplane.clusters import data
from groundplane.remote.observation import Observation
from groundplane.spec import Proxy


def departed(ready: bool) -> Observation:
    """cp9 left the list, and the cluster calls its Node ready, or not."""
    seen = standing(spec(), gone=[host("cp9", "192.0.2.19", "control-plane")])
    hosts = {
        name: replace(
            found, nodes=tuple(replace(n, ready=n.ready or ready) for n in found.nodes or ())
        )
        for name, found in seen.hosts.items()
    }
    return replace(seen, hosts=hosts)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """What each further look shows."""
    later: list[Observation] = []
    monkeypatch.setattr(survey, "PAUSE", 0)
    monkeypatch.setattr(survey, "answers", lambda address: False)
    monkeypatch.setattr(survey, "observe", lambda *_: departed(ready=True))
    monkeypatch.setattr(survey, "look", lambda *_: later.pop(0))
    return later


def test_a_verdict_is_waited_for(looks: list[Observation]) -> None:
    looks += [departed(ready=True), departed(ready=False), departed(ready=True)]
    seen = survey.settled(spec())
    assert [n.name for n in survey.silent_leavers(spec(), seen) if not n.ready] == ["cp9"]
    assert len(looks) == 1


def test_one_that_answers_is_alive(
    looks: list[Observation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "answers", lambda address: True)
    assert survey.silent_leavers(spec(), survey.settled(spec())) == []


def test_the_wait_ends(looks: list[Observation], monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, and only we cannot reach it."""
    monkeypatch.setattr(survey, "VERDICT", -1)
    assert [n.ready for n in survey.silent_leavers(spec(), survey.settled(spec()))] == [True]


def test_mirrors_are_tried_as_they_will_be_asked() -> None:
    """The exceptions of the cluster itself count in both."""
    made = spec(proxy=Proxy(http="http://192.0.2.5:3128", no_proxy=[".example.org"]))
    tried, asked = survey.expectation(made).proxy, data.proxy(made.cluster)
    assert asked is not None
    assert tried == {f"{k}_proxy" if k != "no_proxy" else k: v for k, v in asked.items()}
    assert set(tried["no_proxy"].split(",")) == {
        ".example.org",
        *("10.244.0.0/16", "10.96.0.0/16", "192.0.2.10"),
        *("localhost", "127.0.0.1", ".svc", ".cluster.local"),
    }
    assert survey.expectation(spec()).proxy == {}
