"""alloy: whose logs it brings, to whom, and what it may read."""

from __future__ import annotations

from typing import Any

from support.addons import URLS, Case, installed

from groundplane.addons.alloy import CONFIG
from groundplane.spec.addons import Need


def values(case: Case) -> dict[str, Any]:
    (chart,) = [r for r in installed(case).values() if "chart" in r.inputs]
    return dict(chart.inputs["values"])


def test_it_writes_to_the_store_that_there_is() -> None:
    alloy = values(Case("alloy"))["alloy"]
    env = {each["name"]: each["value"] for each in alloy["extraEnv"]}
    assert env == {"LOGS_URL": f"{URLS[Need.LOGS]}/loki/api/v1/push", "CLUSTER": "metal"}
    for name in env:
        assert f'sys.env("{name}")' in alloy["configMap"]["content"]


def test_it_is_on_every_node_and_goes_on_where_it_was() -> None:
    given = values(Case("alloy"))
    assert given["controller"]["type"] == "daemonset"
    assert given["controller"]["tolerations"] == [{"operator": "Exists"}]
    (volume,) = given["controller"]["volumes"]["extra"]
    (mount,) = given["alloy"]["mounts"]["extra"]
    assert volume["name"] == mount["name"]
    assert mount["mountPath"] == given["alloy"]["storagePath"]


def test_it_may_look_at_pods_and_nothing_else() -> None:
    rbac = values(Case("alloy"))["rbac"]
    assert [rule["resources"] for rule in rbac["rules"] + rbac["clusterRules"]] == [["pods"]]


def test_what_it_names_is_defined() -> None:
    text = CONFIG.read_text()
    blocks = {
        ".".join(line.split(" {")[0].replace('"', "").split())
        for line in text.splitlines()
        if line[:1].isalpha() and line.endswith("{")
    }
    for used in ("discovery.kubernetes.pods", "discovery.relabel.pods", "local.file_match.pods"):
        assert used in blocks and text.count(used) == 1
    for used in ("loki.process.pods", "loki.write.store"):
        assert used in blocks and text.count(f"{used}.receiver") == 1
