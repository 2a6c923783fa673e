"""The files of a stack: what is taken, what is refused and in which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from spec_support import KEY, Write, at, cases

from groundplane.errors import GroundplaneError, SpecError
from groundplane.spec import load, selected_stack, stack_folder

SITE = f"""\
encryptionsalt: v1:abc
config:
  groundplane:site:
    hosts:
      - name: cp1
        address: 192.0.2.11
        role: control-plane
        hostKey: {KEY}
      - name: w1
        address: 192.0.2.21
        rool: worker
        hostKey: {KEY}
    cluster:
      name: metal
      podCidrs: [10.244.0.0/16]
      serviceCidrs: [10.96.0.0/16]
      endpoint: {{address: 192.0.2.10, routerId: 51}}
      maxUnavailable: 0
"""


@pytest.mark.parametrize("case", cases("refused"))
def test_refused(case: dict[str, Any], write: Write) -> None:
    with pytest.raises(SpecError) as caught:
        load("metal", write(case))
    findings = caught.value.findings
    lines = [str(finding).partition("\n")[0] for finding in findings]
    said = [re.sub(r"^(Pulumi\.metal|platform)\.yaml(:\d+)?: ", "", line) for line in lines]
    assert sorted(said) == sorted(case["says"])
    assert case.get("remedy", "") in findings[0].remedy
    assert case.get("why", "") in str(findings[0])
    assert all(finding.remedy for finding in findings)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("case", cases("taken"))
def test_taken(case: dict[str, Any], write: Write) -> None:
    spec = load("metal", write(case))
    assert {path: at(spec, path) for path in case["gives"]} == case["gives"]


def test_errors_name_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "platform.yaml").write_text("cluster:\n  kubernetes:\n    version: 1.36.99\n")
    (tmp_path / "Pulumi.metal.yaml").write_text(SITE)
    with pytest.raises(SpecError) as caught:
        load("metal", tmp_path)
    assert [finding.place for finding in caught.value.findings] == [
        "platform.yaml:3: cluster.kubernetes.version",
        "Pulumi.metal.yaml:9: hosts.1.role (w1)",
        "Pulumi.metal.yaml:11: hosts.1.rool (w1)",
        "Pulumi.metal.yaml:18: cluster.maxUnavailable",
    ]


def test_an_error_reads_as_a_person_would_write_it(write: Write) -> None:
    with pytest.raises(SpecError) as caught:
        load("metal", write({"site": {"cluster/endpoint/port": 6443}}))
    assert str(caught.value) == (
        "Pulumi.metal.yaml:1: cluster.endpoint.port: 6443 is the API servers' own port.\n"
        "HAProxy stands on the same hosts and could not listen there.\n"
        "Leave it out for 8443, or write another port."
    )


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"groundplane:sites": {}}, "groundplane:sites: unknown key."),
        (
            {"groundplane:registryPassword": "geheim"},
            "groundplane:registryPassword: a secret in plain text.",
        ),
    ],
)
def test_keys_of_the_configuration(config: dict[str, Any], says: str, write: Write) -> None:
    with pytest.raises(SpecError, match=re.escape(says)) as caught:
        load("metal", write({"config": config}))
    assert "geheim" not in str(caught.value)


def test_other_keys_of_the_configuration_are_left_alone(write: Write) -> None:
    assert load("metal", write({"config": {"other:key": 1, "groundplane": 2}}))


def test_a_stack_that_is_not_there(write: Write) -> None:
    with pytest.raises(SpecError, match=r"there is no stack prod(.|\n)*There are metal"):
        load("prod", write({}))


def test_a_stack_that_cannot_be_a_file(write: Write) -> None:
    with pytest.raises(GroundplaneError, match="cannot name a stack"):
        load("../x y", write({}))


def test_paths_begin_at_the_stack(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write({"site": {"hosts/0/key": "id", "catalogue": "own.yaml"}})
    (folder / "id").write_text("a private key")
    (folder / "own.yaml").write_text("parts: {kubernetes: {default: 1.36.3}}")
    monkeypatch.chdir("/")
    spec = load("metal", folder)
    assert spec.hosts[0].key == str(folder / "id")
    assert spec.catalogue.default("kubernetes") == "1.36.3"


def test_certificates_are_read(write: Write) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    folder = write(
        {
            "site": {"cluster/registry": {"address": "r.example.org", "ca": "ca.pem"}},
            "platform": {"cluster/backup": {"recipient": "ca.pem"}},
        }
    )
    (folder / "ca.pem").write_text(pem)
    cluster = load("metal", folder).cluster
    assert cluster.registry and cluster.registry.ca == pem
    assert cluster.backup and cluster.backup.recipient == pem


def test_the_stack_and_its_folder_are_found(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write({})
    (folder / "Pulumi.yaml").write_text("name: x\nstackConfigDir: stacks\n")
    (folder / "deep").mkdir()
    assert stack_folder(folder / "deep") == folder / "stacks"
    assert selected_stack(folder) == "metal"
    (folder / "Pulumi.prod.yaml").write_text("config: {}\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GroundplaneError, match="holds 2 stacks: metal, prod"):
        selected_stack(folder)
    monkeypatch.setenv("PULUMI_STACK", "organization/x/prod")
    assert selected_stack(folder) == "prod"


def test_no_project(tmp_path: Path) -> None:
    with pytest.raises(GroundplaneError, match=r"no Pulumi\.yaml here or above"):
        stack_folder(tmp_path)
