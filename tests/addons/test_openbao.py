"""openbao: how its servers find and trust each other, and what opens them."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from support.addons import Case, before, installed

CASE = Case("openbao")
BY_HAND = Case("openbao", {"opensItself": False})


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def kinds(case: Case, kind: str) -> list[dict[str, Any]]:
    return [r.inputs for r in installed(case).values() if r.inputs.get("kind") == kind]


@pytest.mark.parametrize(("size", "servers"), [("production", 3), ("lab", 1)])
def test_servers_look_for_each_other_by_names_in_their_certificate(size: str, servers: int) -> None:
    case = Case("openbao", size=size)
    ha = values(case)["server"]["ha"]
    lines = [line for line in ha["raft"]["config"].splitlines() if "leader_api_addr" in line]
    assert ha["replicas"] == len(lines) == servers
    (certificate,) = kinds(case, "Certificate")
    names = certificate["spec"]["dnsNames"]
    for url in [*(line.split('"')[1] for line in lines), ha["apiAddr"]]:
        host = url.removeprefix("https://").rpartition(":")[0]
        assert any(fnmatchcase(host, name) for name in names), host
    assert ha["disruptionBudget"]["enabled"] == (servers > 1)


def test_what_is_mounted_is_there_before() -> None:
    found = installed(CASE)
    (chart,) = [name for name, r in found.items() if "chart" in r.inputs]
    mounted = {each["secret"]["secretName"] for each in values(CASE)["server"]["volumes"]}
    made = {
        r.inputs["spec"]["secretName"] if r.inputs["kind"] == "Certificate" else name
        for r in found.values()
        if r.inputs.get("kind") in ("Certificate", "Secret")
        and r.name in before(found, chart)
        and (name := r.inputs["metadata"]["name"])
    }
    assert mounted == made == {"openbao-tls", "openbao-seal"}


def test_one_that_is_opened_by_hand_has_no_key_anywhere() -> None:
    assert kinds(BY_HAND, "Secret") == []
    server = values(BY_HAND)["server"]
    assert 'seal "static"' not in server["ha"]["raft"]["config"]
    assert [each["name"] for each in server["volumes"]] == ["tls"]
    assert 'seal "static"' in values(CASE)["server"]["ha"]["raft"]["config"]


def test_nothing_goes_in_plain_text() -> None:
    given = values(CASE)
    assert given["global"]["tlsDisable"] is False
    assert "tls_disable" not in given["server"]["ha"]["raft"]["config"]


def test_nobody_waits_for_pods_that_wait_for_somebody() -> None:
    (chart,) = [r for r in installed(CASE).values() if "chart" in r.inputs]
    assert chart.inputs["skipAwait"] is True
