"""Hosts that are guests: what is refused, and what becomes of what is written."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from spec_support import KEY, SITE, Write, at, cases

from groundplane.errors import SpecError
from groundplane.spec import Host, load
from groundplane.spec.guests import mac_address

GUEST = {"hypervisor": "hv1", "vcpus": 2, "memoryMib": 4096, "diskGib": 20}


def host(name: str, address: str, role: str) -> dict[str, Any]:
    return {"name": name, "address": address, "role": role, "key": "key", "guest": dict(GUEST)}


VIRTUAL: dict[str, Any] = {
    "hosts": [host("cp1", "192.0.2.61", "control-plane"), host("w1", "192.0.2.71", "worker")],
    "hypervisors": [{"name": "hv1", "address": "192.0.2.31", "hostKey": KEY, "bridge": "br0"}],
    "guests": {"prefix": 24, "gateway": "192.0.2.1"},
}


@pytest.fixture
def virtual(write: Write) -> Write:
    """Writes a stack of guests with a case's changes."""

    def written(case: dict[str, Any]) -> Any:
        made = copy.deepcopy(VIRTUAL)
        folder = write({**case, "site": {**made, **case.get("site", {})}})
        (folder / "key").touch()
        return folder

    return written


@pytest.mark.parametrize("case", cases("guests"))
def test_refused(case: dict[str, Any], virtual: Write) -> None:
    with pytest.raises(SpecError) as caught:
        load("metal", virtual(case))
    findings = caught.value.findings
    lines = [str(finding).partition("\n")[0] for finding in findings]
    said = [re.sub(r"^Pulumi\.metal\.yaml(:\d+)?: ", "", line) for line in lines]
    assert sorted(said) == sorted(case["says"])
    assert case.get("remedy", "") in findings[0].remedy
    assert all(finding.remedy for finding in findings)


def test_a_guest_has_what_all_guests_have_unless_it_says_otherwise(virtual: Write) -> None:
    own = {"hosts/1/guest/image": "debian-13", "hosts/1/guest/cpu": {"shares": 512}}
    both = {"guests/cpu": {"limit": 1.5, "shares": 2048}, "guests/dns": ["192.0.2.53"]}
    spec = load("metal", virtual({"site": {**own, **both}}))
    for path, value in {
        "hosts/0/guest/image": "debian-12",
        "hosts/1/guest/image": "debian-13",
        "hosts/0/guest/cpu/shares": 2048,
        "hosts/1/guest/cpu/shares": 512,
        "hosts/1/guest/cpu/limit": 1.5,
        "hosts/1/guest/dns": ["192.0.2.53"],
        "hosts/0/guest/gateway": "192.0.2.1",
        "hosts/0/host_key": "",
        "hypervisors/0/pool": "/var/lib/groundplane/guests",
    }.items():
        assert at(spec, path) == value, path
    assert [host.name for host in spec.guests] == ["cp1", "w1"]


def test_control_planes_together(virtual: Write) -> None:
    """Refused, unless it is wanted."""
    hosts = [host(f"cp{n}", f"192.0.2.6{n}", "control-plane") for n in (1, 2, 3)]
    with pytest.raises(SpecError) as caught:
        load("metal", virtual({"site": {"hosts": hosts}}))
    assert [finding.what for finding in caught.value.findings] == [
        "hv1 runs the control plane cp1 already"
    ] * 2
    assert "allowTogether" in caught.value.findings[0].remedy
    together = {"hosts": hosts, "hypervisors/0/allowTogether": True}
    assert len(load("metal", virtual({"site": together})).control_planes) == 3


def test_an_address_of_its_own_for_each_guest_of_each_stack() -> None:
    one, two = (Host.model_validate({**SITE["hosts"][n]}) for n in (0, 1))
    addresses = {mac_address(stack, host) for stack in ("a", "b") for host in (one, two)}
    assert len(addresses) == 4
    assert mac_address("a", one) in addresses
    # Locally administered, of one interface.
    assert all(int(address[:2], 16) & 3 == 2 for address in addresses)
