"""The components for other languages: the same as in Python, and described as the models are."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest
from pydantic.alias_generators import to_camel
from support.program import Resource, register
from support.seen import blank
from support.specs import KEY, spec

from groundplane.clusters import kubeadm, shared
from groundplane.errors import GroundplaneError
from groundplane.provider import component, generate, inputs
from groundplane.provider.component import provider
from groundplane.spec.load import SECRETS, SITE_KEYS

TOKEN = "groundplane:index:KubeadmCluster"
MODELS = {model.__name__: model for model in generate._inner_first()}


# ---- what it says of itself ------------------------------------------------------------------


def test_the_generated_files_are_current() -> None:
    remedy = "run: python -m groundplane.provider.generate"
    assert generate.INPUTS.read_text() == generate.inputs(), remedy
    assert generate.SCHEMA.read_text() == generate.schema(), remedy


@pytest.mark.parametrize("name", MODELS)
def test_keys_are_those_of_the_model(name: str) -> None:
    """By the typed dictionary as Python has it, and by the schema as other languages get it."""
    fields = {to_camel(key): f for key, f in MODELS[name].model_fields.items() if not f.exclude}
    kind = getattr(inputs, name)
    assert set(kind.__annotations__) == set(fields)
    assert kind.__required_keys__ == {key for key, f in fields.items() if f.is_required()}
    described = json.loads(generate.schema())["types"][f"groundplane:index:{name}"]
    assert set(described["properties"]) == set(fields)
    assert set(described.get("required") or ()) == kind.__required_keys__
    assert all(about["description"] for about in described["properties"].values())


def test_the_component_is_a_stacks_file() -> None:
    resources = json.loads(generate.schema())["resources"]
    assert list(resources) == [TOKEN]
    beside = {"place", "addons", "size"}  # add-ons are the platform's, and no cluster's
    assert set(resources[TOKEN]["inputProperties"]) == {*SITE_KEYS, *SECRETS} - beside
    outputs = set(resources[TOKEN]["properties"])
    assert outputs == {"endpoint", "identity", "kubeconfig", "nodes"}
    assert all(about["description"] for about in resources[TOKEN]["properties"].values())


# ---- what it does ----------------------------------------------------------------------------

HOSTS = [
    {"name": "cp1", "address": "192.0.2.11", "hostKey": KEY, "role": "control-plane"},
    {"name": "w1", "address": "192.0.2.101", "hostKey": KEY, "role": "worker", "port": 22.0},
]
CLUSTER: dict[str, Any] = {
    "name": "metal",
    "kubernetes": {"version": "1.36.4"},
    "podCidrs": ["10.244.0.0/16"],
    "serviceCidrs": ["10.96.0.0/16"],
    "endpoint": {"address": "192.0.2.10", "routerId": 51.0},
    "kubelet": {"maxPods": 200.0, "imageGCHighThresholdPercent": 90.0},
    "apiServer": {"extraArgs": {"max-requests-inflight": 800.0}},
}


@pytest.fixture(autouse=True)
def blank_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "survey", blank)


def construct(given: dict[str, Any]) -> dict[str, Resource]:
    """What the plugin registers for a program's component `metal`, numbers as they are on the wire:
    all of them floating."""
    return register(lambda: provider().construct("metal", TOKEN, given))


def test_it_registers_what_the_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(component, "version", lambda _: "0.1.0")
    made = construct({"hosts": HOSTS, "cluster": CLUSTER})
    own = spec(
        [spec().hosts[0], spec().hosts[3]],
        kubelet={"maxPods": 200, "imageGCHighThresholdPercent": 90},
        api_server={"extra_args": {"max-requests-inflight": 800}},
    )
    there = register(lambda: kubeadm.KubeadmCluster("metal", own))
    assert without_tokens(made) == without_tokens(there)


def without_tokens(found: dict[str, Resource]) -> dict[str, Any]:
    """All that was registered; tokens are random, and stand in the data of each step."""

    def known(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: known(inner) for key, inner in value.items()}
        if isinstance(value, str) and value.startswith("{"):
            return {k: v for k, v in json.loads(value).items() if k != "token"}
        return value

    return {
        name: (made.after, made.deleted_with, made.protect, known(made.inputs.get("stdin")))
        for name, made in found.items()
        if not name.endswith(("-scripts", "-bundle"))
    }


def test_secrets_come_apart_and_stay_secret() -> None:
    registry = {"address": "registry.example.org", "username": "u"}
    given = {"hosts": HOSTS, "cluster": {**CLUSTER, "registry": registry}}
    made = construct({**given, "registryPassword": "canary-secret"})
    assert not [name for name, one in made.items() if "canary-secret" in one.plain]
    assert [name for name, one in made.items() if "canary-secret" in json.dumps(one.inputs)] == [
        "metal-cp1-secrets",
        "metal-w1-secrets",
    ]
    with pytest.raises(pulumi.InputPropertiesError, match="registryPassword"):
        construct(given)


def test_all_errors_at_once_and_no_traceback() -> None:
    bad = [{**HOSTS[0], "role": "boss"}, {**HOSTS[1], "hostKey": "ssh-rsa"}]
    with pytest.raises(pulumi.InputPropertiesError) as found:
        construct({"hosts": bad, "cluster": {**CLUSTER, "podCidrs": ["10.244.0.1/16"]}})
    text = str(found.value.message)
    for place in ("hosts.0.role (cp1)", "hosts.1.hostKey (w1)", "cluster.podCidrs.0"):
        assert f"metal: {place}" in text
    assert "Traceback" not in text


def test_a_defect_is_no_error_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shared, "survey", broken)
    with pytest.raises(Exception) as found:
        construct({"hosts": HOSTS, "cluster": CLUSTER})
    assert not isinstance(found.value, GroundplaneError | pulumi.InputPropertiesError)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(3.0, 3), (0.5, 0.5), (True, True), ("3.0", "3.0"), ([{"a": 2.0}], [{"a": 2}])],
)
def test_whole_numbers(given: Any, wanted: Any) -> None:
    found = component.whole_numbers(given)
    assert (found, type(found)) == (wanted, type(wanted))
