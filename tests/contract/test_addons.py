"""What every add-on promises, whoever wrote it. Cases of its own stand in tests/addons/cases."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from support.addons import Case, before, cases, installed
from support.charts import FOLDER, kinds, parts, short, without_kinds, wrong_object, wrong_values
from support.program import CANARIES, SECRET, UNKNOWN, Resource

from groundplane import registry
from groundplane.catalogue import product
from groundplane.spec.addons import AddonArgs, in_profile

NAMES = registry.addon_names()
CASES = sorted(cases(), key=str)
CHART, RELEASE = "kubernetes:helm.sh/v4:Chart", "kubernetes:helm.sh/v3:Release"
CLUSTER_WIDE = {
    "APIService", "ClusterRole", "ClusterRoleBinding", "CSIDriver", "CustomResourceDefinition",
    "IngressClass", "MutatingWebhookConfiguration", "Namespace", "Node", "PersistentVolume",
    "PriorityClass", "RuntimeClass", "StorageClass", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding", "ValidatingWebhookConfiguration", "VolumeAttributesClass",
}  # fmt: skip
"""Of Kubernetes' own kinds."""
OF_KUBERNETES = (
    "v1", "apps/", "autoscaling/", "batch/", "policy/", "admissionregistration.k8s.io/",
    "apiextensions.k8s.io/", "apiregistration.k8s.io/", "coordination.k8s.io/",
    "networking.k8s.io/", "node.k8s.io/", "rbac.authorization.k8s.io/", "scheduling.k8s.io/",
    "storage.k8s.io/",
)  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=str)
def there(request: pytest.FixtureRequest) -> tuple[Case, dict[str, Resource]]:
    """An add-on, installed."""
    return request.param, installed(request.param)


_BLANK: dict[str, dict[str, Resource]] = {}


def blank(case: Case) -> dict[str, Resource]:
    """What the preview shows where nothing was created yet."""
    if str(case) not in _BLANK:
        _BLANK[str(case)] = installed(case, preview=True, blank=True)
    return _BLANK[str(case)]


def own(found: dict[str, Resource]) -> Iterator[Resource]:
    """What the add-on itself registers in the cluster."""
    for resource in found.values():
        if resource.type.startswith("kubernetes:"):
            yield resource


def objects(found: dict[str, Resource]) -> Iterator[Resource]:
    """Of those the Kubernetes objects."""
    for resource in own(found):
        if "metadata" in resource.inputs:
            yield resource


def charts(found: dict[str, Resource]) -> Iterator[Resource]:
    return (resource for resource in own(found) if resource.type in (CHART, RELEASE))


def custom(resource: Resource) -> bool:
    return not resource.inputs["apiVersion"].startswith(OF_KUBERNETES)


def cluster_wide(resource: Resource) -> bool:
    given = resource.inputs
    if custom(resource):
        _, crd = kinds()[f"{given['apiVersion']} {given['kind']}"]
        return str(crd["scope"]) == "Cluster"
    return given["kind"] in CLUSTER_WIDE


# ---- what is said of it ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_an_addon_is_documented(name: str) -> None:
    entry = registry.addon_of(name)
    assert issubclass(entry.args, AddonArgs)
    for cls in (entry.component, entry.args):
        assert cls.__doc__, cls
    for field, about in entry.args.model_fields.items():
        assert about.description, f"{entry.args.__name__}.{field}"
    assert inspect.signature(entry.component).parameters.keys() == {
        "name",
        "ground",
        "args",
        "opts",
    }
    assert entry.profile is None or entry.profile in registry.PROFILES


@pytest.mark.parametrize("name", NAMES)
def test_an_addons_module_holds_that_one_addon(name: str) -> None:
    entry = registry.addon_of(name)
    module = f"groundplane.addons.{name.replace('-', '_')}"
    assert entry.component.__module__ == entry.args.__module__ == module


def test_the_catalogues_addons_are_those_that_are_installed() -> None:
    used = [source for name in NAMES for source in registry.addon_of(name).sources]
    assert sorted(used) == sorted(product().addons())


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_there_in_short_and_installed_as_its_hooks_want(name: str) -> None:
    for source in registry.addon_of(name).sources:
        entry = product().addon(source)
        if entry.kind == "objects":
            continue
        assert (FOLDER / f"{source}.json").is_file(), "python -m groundplane.charts, see the guide"
        chart = short(source)
        assert chart["version"] == entry.version
        if entry.kind in ("chart", "release"):
            assert chart["hooks"] is not None, (
                f"{source}: make it again from a folder with templates"
            )
            assert entry.kind == ("release" if chart["hooks"] else "chart"), chart["hooks"]


def test_every_chart_in_short_is_used() -> None:
    """Or holds the custom kinds of one that is."""
    used = {source for name in NAMES for source in registry.addon_of(name).sources}
    used |= {part for name in used for part in parts().get(name, {}).values()}
    assert {p.stem for p in FOLDER.glob("*.json") if not short(p.stem)["crds"]} <= used


def test_no_kind_has_two_owners() -> None:
    """Among all that the largest profile installs."""
    owners: dict[str, str] = {}
    for name in in_profile("full"):
        for source in registry.addon_of(name).sources:
            if (FOLDER / f"{source}.json").is_file() and source not in without_kinds():
                for kind in {re.sub("/[^ ]+", "", each) for each in short(source)["crds"]}:
                    assert owners.setdefault(kind, source) == source, kind


@pytest.mark.parametrize("case", [c for c in CASES if c.parsed.erases()], ids=str)
def test_who_erases_has_something_that_outlives_the_cluster(case: Case) -> None:
    assert case.entry.outlives


# ---- what it installs --------------------------------------------------------------------------


def test_values_exist_in_the_chart(there: tuple[Case, dict[str, Resource]]) -> None:
    case, found = there
    for chart in charts(found):
        source = chart.inputs["name"]
        if source not in case.entry.sources:
            continue  # the user's own, which nobody here knows
        entry = product().addon(source)
        assert chart.type == (RELEASE if entry.kind == "release" else CHART)
        assert chart.inputs["version"] == entry.version
        assert wrong_values(source, chart.inputs.get("values", {})) == []


def test_values_hold_no_outputs(there: tuple[Case, dict[str, Resource]]) -> None:
    """A secret among them would stand in the release, and an unknown hide the preview's diff."""
    for chart in charts(blank(there[0])):
        text = json.dumps(chart.inputs)
        assert SECRET not in text and UNKNOWN not in text


def test_custom_resources_are_as_their_definitions_want(
    there: tuple[Case, dict[str, Resource]],
) -> None:
    for resource in objects(there[1]):
        if custom(resource):
            assert wrong_object(resource.inputs) == [], resource.name


def test_every_object_names_its_namespace(there: tuple[Case, dict[str, Resource]]) -> None:
    for resource in objects(there[1]):
        assert ("namespace" in resource.inputs["metadata"]) != cluster_wide(resource), resource.name
    for chart in charts(there[1]):
        assert chart.inputs["namespace"]


def test_its_namespace_enforces_a_pod_security_standard(
    there: tuple[Case, dict[str, Resource]],
) -> None:
    case, found = there
    if not case.entry.namespace:
        assert not any("namespace" in each.inputs["metadata"] for each in objects(found))
        return
    (space,) = [
        resource
        for resource in objects(found)
        if resource.inputs["kind"] == "Namespace"
        and resource.inputs["metadata"]["name"] == case.entry.namespace
    ]
    key = "pod-security.kubernetes.io/enforce"
    assert space.inputs["metadata"]["labels"][key] == case.entry.pod_security
    for resource in own(found):
        at = resource.inputs.get("namespace") or resource.inputs.get("metadata", {}).get(
            "namespace"
        )
        if at == case.entry.namespace:
            assert space.name in before(found, resource.name), resource.name


def test_it_begins_when_the_cluster_is_there_and_ends_with_ready(
    there: tuple[Case, dict[str, Resource]],
) -> None:
    _, found = there
    for resource in own(found):
        if resource.name != "provider":
            assert "nodes-ready" in before(found, resource.name), resource.name
            assert resource.name in before(found, "behind"), f"{resource.name} comes after ready"


def test_all_goes_through_the_clusters_provider_and_goes_with_the_cluster(
    there: tuple[Case, dict[str, Resource]],
) -> None:
    case, found = there
    for resource in own(found):
        if resource.name == "provider":
            continue
        assert resource.provider == "provider", resource.name
        assert resource.deleted_with == ("" if case.parsed.erases() else "cluster"), resource.name


def test_secrets_stay_secret(there: tuple[Case, dict[str, Resource]]) -> None:
    for resource in there[1].values():
        for canary in CANARIES:
            assert canary not in resource.plain, resource.name
        if resource.inputs.get("kind") == "Secret":
            plain = [k for k in ("data", "stringData") if k in resource.inputs]
            for key in plain:
                given: dict[str, Any] = resource.inputs[key]
                assert SECRET in json.dumps(given), f"{resource.name}: {key} is in plain text"


def test_a_preview_shows_what_an_update_makes(there: tuple[Case, dict[str, Resource]]) -> None:
    case, found = there
    assert blank(case).keys() == found.keys()
