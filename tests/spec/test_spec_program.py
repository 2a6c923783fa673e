"""The specification in a program: the models' constructors, Outputs, the stack's own program."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
from pulumi.runtime import set_all_config
from spec_support import KEY, SITE, Write

from groundplane.errors import SpecError
from groundplane.spec import (
    Backup,
    Cluster,
    Endpoint,
    Host,
    Kubernetes,
    PrivateRegistry,
    Spec,
    Target,
    from_pulumi_config,
    immutable,
)


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """An event loop for Outputs: asyncio.run of another test has left none."""
    here = asyncio.new_event_loop()
    asyncio.set_event_loop(here)
    yield


def cluster(**changes: Any) -> Cluster:
    given: dict[str, Any] = {
        "name": "metal",
        "kubernetes": Kubernetes(version="1.36.4"),
        "pod_cidrs": ["10.244.0.0/16"],
        "service_cidrs": ["10.96.0.0/16"],
        "endpoint": Endpoint(address="192.0.2.10", router_id=51),
    }
    return Cluster(**{**given, **changes})


def hosts(count: int = 3) -> list[Host]:
    return [
        Host(name=f"cp{n}", address=f"192.0.2.1{n}", host_key=KEY, role="control-plane")
        for n in range(1, count + 1)
    ]


REFUSED = {
    "all at once, by their names in Python": (
        lambda: Host(name="w1", node_address="10.0.0.300", role="boss", hostkey=KEY),
        [
            "Host.address (w1): missing.",
            "Host.node_address (w1): '10.0.0.300' is not an IP address.",
            "Host.host_key (w1): missing.",
            "Host.role (w1): 'boss' is not known here.",
            "Host.hostkey (w1): unknown key.",
            "Did you mean host_key?",
        ],
    ),
    "in what stands inside": (
        lambda: Host(
            name="w1",
            address="192.0.2.1",
            host_key=KEY,
            role="worker",
            labels={"a": True},
            taints=[{"key": "b", "effect": "Never"}],
        ),
        [
            "Host.labels.a (w1): true is not text.",
            "Host.taints.0.effect (w1): 'Never' is not known",
        ],
    ),
    "with an example": (
        lambda: Endpoint(address="192.0.2.10", port="many"),
        ["Endpoint.port: 'many' is not a whole number."],
    ),
    "an example as Python has it": (
        lambda: Backup(target=None),
        [
            "Backup.recipient: missing.",
            "Add recipient, such as 'backup-recipient.pem'.",
        ],
    ),
    "the object as a whole": (Target, ["Target: names both ssh and s3, or neither."]),
    "a secret, without showing it": (
        lambda: PrivateRegistry(address="r.example.org", password="hunter2"),
        ["PrivateRegistry.password: a secret in plain text."],
    ),
}


@pytest.mark.parametrize("make, says", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_object(make: Callable[[], object], says: list[str]) -> None:
    with pytest.raises(SpecError) as raised:
        make()
    text = str(raised.value)
    assert [part for part in says if part not in text] == []
    # Nothing else is found, and nothing of pydantic's is said.
    assert len(raised.value.findings) == len([part for part in says if ": " in part])
    assert "hunter2" not in text and "pydantic" not in text
    assert all(finding.remedy for finding in raised.value.findings)


def test_a_specification_in_a_program() -> None:
    spec = Spec("metal", hosts(), cluster())
    assert [host.name for host in spec.control_planes] == ["cp1", "cp2", "cp3"]
    assert spec.workers == []
    assert spec.catalogue.default("kubernetes")


def test_it_is_checked_as_a_whole() -> None:
    with pytest.raises(SpecError) as caught:
        Spec("metal", hosts(2), cluster(endpoint=Endpoint(address="192.0.2.12", router_id=1)))
    assert [finding.place for finding in caught.value.findings] == [
        "hosts",
        "cluster.endpoint.address",
    ]


def test_addresses_that_are_known_later() -> None:
    host = Host(
        name="vm1",
        address=pulumi.Output.from_input("192.0.2.11"),  # type: ignore[arg-type]
        host_key=pulumi.Output.secret(KEY),  # type: ignore[arg-type]
        role="control-plane",
    )
    assert isinstance(host.node_address, pulumi.Output)
    assert Spec("metal", [host], cluster()).hosts == [host]


def test_a_password_is_an_output() -> None:
    with pytest.raises(SpecError, match="a secret in plain text"):
        PrivateRegistry(address="r.example.org", username="me", password="geheim")
    registry = PrivateRegistry(
        address="r.example.org", username="me", password=pulumi.Output.secret("geheim")
    )
    assert "geheim" not in repr(registry)
    assert "password" not in registry.model_dump()


def test_what_cannot_change() -> None:
    assert immutable(cluster()) == {
        "name": "metal",
        "distribution": "kubeadm",
        "etcd": "stacked",
        "podCidrs": ["10.244.0.0/16"],
        "serviceCidrs": ["10.96.0.0/16"],
        "nodeCidrMasks": [24],
        "domain": "cluster.local",
        "endpoint": "192.0.2.10:8443",
        "network": "plain",
    }


class Mocks(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        return args.name, {}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {}


@pytest.fixture
def engine() -> None:
    pulumi.runtime.set_mocks(Mocks(), project="groundplane", stack="metal")


@pytest.mark.usefixtures("engine")
def test_the_engines_configuration_is_the_truth(write: Write) -> None:
    folder = write({})
    site = {**SITE, "cluster": {**SITE["cluster"], "maxUnavailable": 2}}
    set_all_config({"groundplane:site": json.dumps(site)})
    assert from_pulumi_config(folder).cluster.max_unavailable == 2


@pytest.mark.usefixtures("engine")
def test_lines_come_from_the_file_when_it_says_the_same(write: Write) -> None:
    folder = write({"site": {"cluster/maxUnavailable": 0}})
    config = json.loads((folder / "Pulumi.metal.yaml").read_text())["config"]
    set_all_config({"groundplane:site": json.dumps(config["groundplane:site"])})
    with pytest.raises(SpecError, match=r"Pulumi.metal.yaml:1: cluster.maxUnavailable: 0 should"):
        from_pulumi_config(folder)


@pytest.mark.usefixtures("engine")
def test_secrets_are_outputs(write: Write) -> None:
    folder = write({"site": {"cluster/registry": {"address": "r.example.org", "username": "me"}}})
    config = json.loads((folder / "Pulumi.metal.yaml").read_text())["config"]
    set_all_config(
        {
            "groundplane:site": json.dumps(config["groundplane:site"]),
            "groundplane:registryPassword": "geheim",
        },
        ["groundplane:registryPassword"],
    )
    registry = from_pulumi_config(folder).cluster.registry
    assert registry and isinstance(registry.password, pulumi.Output)
    set_all_config({"groundplane:site": json.dumps(config["groundplane:site"])})
    with pytest.raises(SpecError, match="no secret groundplane:registryPassword"):
        from_pulumi_config(folder)


@pytest.mark.usefixtures("engine")
def test_no_site_at_all(tmp_path: Path) -> None:
    set_all_config({})
    with pytest.raises(SpecError, match="no hosts"):
        from_pulumi_config(tmp_path)


def test_the_models_import_no_engine() -> None:
    code = (
        "import sys, groundplane.spec;"
        "print([m for m in ('pulumi', 'yaml', 'asyncssh', 'click') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
