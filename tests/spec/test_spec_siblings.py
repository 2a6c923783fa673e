"""Stacks beside each other: what collides, what does not, and one that is broken itself."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from spec_support import KEY, Write, cases, put

from groundplane.errors import SpecError
from groundplane.spec import load

TWIN: dict[str, Any] = {
    "hosts": [
        {"name": "v1", "address": "192.0.2.51", "role": "control-plane", "hostKey": KEY},
        {"name": "v2", "address": "192.0.2.52", "role": "worker", "hostKey": KEY},
    ],
    "cluster": {
        "name": "vm",
        "podCidrs": ["10.245.0.0/16"],
        "serviceCidrs": ["10.97.0.0/16"],
        "endpoint": {"address": "192.0.2.50", "routerId": 52},
    },
}
RECIPIENT = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"


def keyed(value: Any) -> Any:
    """The value with a real host key wherever it says KEY."""
    return json.loads(json.dumps(value).replace('"KEY"', json.dumps(KEY)))


def beside(folder: Path, changes: dict[str, Any], name: str = "vm") -> None:
    site = copy.deepcopy(TWIN)
    for path, value in keyed(changes).items():
        put(site, path, value)
    config = {"config": {"groundplane:site": site}}
    (folder / f"Pulumi.{name}.yaml").write_text(json.dumps(config))


def said(stack: str, folder: Path) -> list[str]:
    """The first line of each error, in their order."""
    try:
        load(stack, folder)
    except SpecError as error:
        assert all(finding.why and finding.remedy for finding in error.findings)
        return [str(finding).partition("\n")[0] for finding in error.findings]
    return []


@pytest.mark.parametrize("case", cases("siblings"))
def test_collisions(case: dict[str, Any], write: Write) -> None:
    case = {"site": {}, "vm": {}, **case}
    platform = {}
    if any("backup" in path for path in case["vm"]):
        platform = {"cluster/backup": {"recipient": RECIPIENT}}
    secret = {"groundplane:backupSecretKey": {"secure": "x"}}
    folder = write({"site": keyed(case["site"]), "platform": platform, "config": secret})
    (folder / "id").touch()
    beside(folder, case["vm"])
    assert said("metal", folder) == case["says"]


def test_either_stack_is_refused(write: Write) -> None:
    folder = write({})
    beside(folder, {"hosts/1/address": "192.0.2.21"})
    assert said("metal", folder) == [
        "Pulumi.metal.yaml:1: hosts.3.address (w1): 192.0.2.21 is taken by "
        "Pulumi.vm.yaml:1: hosts.1.address (v2)."
    ]
    assert said("vm", folder) == [
        "Pulumi.vm.yaml:1: hosts.1.address (v2): 192.0.2.21 is taken by "
        "Pulumi.metal.yaml:1: hosts.3.address (w1)."
    ]


def test_each_sibling_is_compared_and_both_lines_are_named(write: Write) -> None:
    folder = write({})
    (folder / "Pulumi.a.yaml").write_text(
        "config:\n  groundplane:site:\n    cluster:\n      name: metal\n      endpoint:\n"
        "        address: 192.0.2.10\n"
    )
    beside(folder, {"cluster/endpoint/address": "192.0.2.10"}, "b")
    assert said("metal", folder) == [
        "Pulumi.metal.yaml:1: cluster.name: metal is also Pulumi.a.yaml:4: cluster.name.",
        "Pulumi.metal.yaml:1: cluster.endpoint.address: 192.0.2.10 is taken by "
        "Pulumi.a.yaml:6: cluster.endpoint.address.",
        "Pulumi.metal.yaml:1: cluster.endpoint.address: 192.0.2.10 is taken by "
        "Pulumi.b.yaml:1: cluster.endpoint.address.",
    ]


def test_collisions_stand_in_the_order_of_the_own_file(write: Write) -> None:
    folder = write({})
    site = json.loads((folder / "Pulumi.metal.yaml").read_text())["config"]["groundplane:site"]
    lines = ["config:", "  groundplane:site:", "    hosts:"]
    lines += [f"      - {json.dumps(host)}" for host in site["hosts"]]
    lines += ["    cluster:"]
    lines += [f"      {key}: {json.dumps(value)}" for key, value in site["cluster"].items()]
    (folder / "Pulumi.metal.yaml").write_text("\n".join(lines))
    beside(folder, {"hosts/1/address": "192.0.2.12", "cluster/name": "metal"})
    assert [text.partition(": ")[0] for text in said("metal", folder)] == [
        "Pulumi.metal.yaml:5",
        "Pulumi.metal.yaml:9",
    ]


def test_a_collision_reads_as_a_person_would_write_it(write: Write) -> None:
    folder = write({})
    beside(folder, {"cluster/endpoint/routerId": 51})
    with pytest.raises(SpecError) as caught:
        load("metal", folder)
    assert str(caught.value) == (
        "Pulumi.metal.yaml:1: cluster.endpoint.routerId: 51 is also "
        "Pulumi.vm.yaml:1: cluster.endpoint.routerId.\n"
        "In one network segment their keepalived would take the address from each other.\n"
        "Write another number from 1 to 255."
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("config: [", "not YAML"),
        ("config: {groundplane:site: 7}", "not a mapping"),
        ("\xff", "not a text in UTF-8"),
    ],
)
def test_a_broken_sibling_is_a_notice(text: str, what: str, write: Write) -> None:
    folder = write({})
    (folder / "Pulumi.vm.yaml").write_bytes(text.encode("latin-1"))
    (notice,) = load("metal", folder).notices
    assert notice.place.startswith("Pulumi.vm.yaml")
    assert notice.what.startswith(what)
    assert notice.what.endswith("so metal was not compared with vm")


def test_what_is_good_of_a_bad_sibling_is_compared(write: Write) -> None:
    folder = write({})
    changes = {"hosts/0/role": "master", "hosts/1/address": "192.0.2.21", "nonsense": 1}
    beside(folder, {**changes, "cluster/podCidrs": 7, "place": ["x"]})
    assert len(said("metal", folder)) == 1


def test_files_without_a_site_are_no_siblings(write: Write) -> None:
    folder = write({})
    (folder / "Pulumi.other.yaml").write_text("config: {aws:region: x}\n")
    (folder / "Pulumi.empty.yaml").write_text("")
    assert load("metal", folder).notices == ()


@pytest.mark.parametrize("place", [7, " ", ["x"]])
def test_a_place_that_is_none(place: object, write: Write) -> None:
    with pytest.raises(SpecError, match=r"place: .* is no name\."):
        load("metal", write({"site": {"place": place}}))
