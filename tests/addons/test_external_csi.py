"""external-csi: whose chart it is, and what of it is secret."""

from __future__ import annotations

from typing import Any

import pytest
from support.addons import Case, installed
from support.program import SECRET, Resource

from groundplane.addons.external_csi import CsiChart, ExternalCsiArgs
from groundplane.errors import SpecError
from groundplane.spec.addons import Need

SOURCE = {"chart": "csi", "version": "1.2.3", "repository": "https://charts.example.org"}


def case(**args: Any) -> Case:
    usual = {"source": SOURCE, "driver": "csi.example.org", "classes": {"san": {}}}
    return Case("external-csi", {**usual, **args})


def chart(found: dict[str, Resource]) -> dict[str, Any]:
    (made,) = [r.inputs for r in found.values() if "chart" in r.inputs]
    return made


def test_the_chart_is_the_users() -> None:
    made = chart(installed(case(values={"someKey": {"deeper_key": [1]}})))
    assert (made["chart"], made["version"]) == ("csi", "1.2.3")
    assert made["repositoryOpts"] == {"repo": "https://charts.example.org"}
    assert made["values"] == {"someKey": {"deeper_key": [1]}}
    oci = {"chart": "oci://registry.example.org/charts/csi", "version": "1.2.3"}
    made = chart(installed(case(source=oci)))
    assert made["chart"] == oci["chart"]
    assert "repositoryOpts" not in made


@pytest.mark.parametrize(
    "source, why",
    [
        ({"chart": "csi"}, "a chart by its name has no repository"),
        ({**SOURCE, "chart": "oci://x/csi"}, "a chart of an OCI registry has a repository, too"),
    ],
)
def test_a_chart_that_is_nowhere_is_refused(source: dict[str, str], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        CsiChart(**{"version": "1.2.3", **source})


def test_what_it_logs_in_with_is_the_stacks_secret() -> None:
    secret = {"name": "backend", "key": "password", "plain": {"username": "kubernetes"}}
    assert case().parsed.secrets() == []
    assert case(secret=secret).parsed.secrets() == ["credential"]
    found = installed(case(secret=secret))
    (made,) = [r.inputs for r in found.values() if r.inputs.get("kind") == "Secret"]
    assert made["metadata"] == {"name": "backend", "namespace": "external-csi"}
    assert made["stringData"].keys() == {"username", "password"}
    assert SECRET in str(made["stringData"]["password"])


def test_its_classes_are_of_its_driver() -> None:
    found = installed(case(classes={"b": {}, "a": {"manyWriters": True}}, default="a"))
    made = [r.inputs for r in found.values() if r.inputs.get("kind") == "StorageClass"]
    assert {each["provisioner"] for each in made} == {"csi.example.org"}
    key = "storageclass.kubernetes.io/is-default-class"
    assert {each["metadata"]["name"]: each["metadata"]["annotations"][key] for each in made} == {
        "a": "true",
        "b": "false",
    }
    with pytest.raises(SpecError, match="the default 'c' is none of the classes"):
        ExternalCsiArgs(**{**case().args, "default": "c"})


def test_what_there_is_follows_from_the_classes() -> None:
    assert case().parsed.also_provides() == []
    assert case(classes={"a": {"manyWriters": True}}).parsed.also_provides() == [
        Need.SHARED_STORAGE
    ]
    assert case(snapshots=True).parsed.also_needs() == [Need.SNAPSHOTS]
