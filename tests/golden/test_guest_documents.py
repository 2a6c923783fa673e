"""Every document of a guest, byte for byte, and what libvirt's own schema says of its domain."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import guests
from support.host import Host
from syrupy.assertion import SnapshotAssertion

from groundplane.hosts import libvirt
from groundplane.remote import guests as sightings
from groundplane.remote.step import canonical
from groundplane.spec import Hypervisor

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
FUNCTIONS = {
    "domain.xml": "domain_xml",
    "installing.xml": "domain_xml /run/groundplane-seeds/metal.w1.iso",
    "meta-data.json": "seed_meta_data",
    "network-config.json": "seed_network_config",
    "user-data.json": "seed_user_data /run/key | tail -n +2",
}
# What is said of the guest, of its hypervisor, and how it runs.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "usual": ({}, {}, "kvm"),
    "emulated": ({}, {}, "qemu"),
    "user": ({"user": "admin", "gateway": "192.0.2.1", "dns": ["192.0.2.53"]}, {}, "kvm"),
    "macvtap": ({}, {"macvtap": "eno1"}, "kvm"),
    "tuned": (
        {
            "cpu": {
                "mode": "Cascadelake-Server",
                "shares": 2048,
                "limit": 1.5,
                "pin": ["2", "4-5"],
            },
            "memory": {
                "hard_limit_mib": 6144,
                "soft_limit_mib": 2048,
                "hugepages_kib": 2048,
                "numa_nodes": "0",
            },
            "disk": {"throttle": {"bytes_per_second": 209715200, "iops": 2000}},
            "iothreads": 2,
            "disks": [
                {"name": "osd0", "size_gib": 100},
                {"name": "osd1", "size_gib": 100, "cache": "writeback", "discard": "ignore"},
            ],
            "devices": [
                {"pci": "0000:3b:00.0"},
                {"mediated": "c2177883-f1bb-47f0-914d-32a22e3a8804"},
            ],
            "mac_address": "52:54:00:12:34:56",
        },
        {},
        "kvm",
    ),
    "plain": ({"cpu": {"mode": "host-model"}, "iothreads": 0}, {}, "kvm"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    guests.key_file(tmp_path)
    return tmp_path


def documents(case: str, folder: Path, arch: str = "amd64") -> dict[str, str]:
    """All documents of a guest, by their names."""
    own, machine, accelerator = CASES[case]
    hypervisor: Hypervisor = guests.hypervisor(**machine)
    made = guests.virtual(guests.guest("cp1"), guests.guest("w1", **own), hypervisors=[hypervisor])
    planned = sightings.Guest(
        "hv1", sightings.State.ABSENT, arch=arch, own={"accelerator": accelerator}
    )
    head = {"stack": "metal", "step": "machine.metal.w1", "token": "0123456789abcdef"}
    host = Host(folder / f"host-{case}-{arch}")
    script = "echo PRIVATE >/run/key; echo PUBLIC >/run/key.pub\n"
    script += "".join(f"echo '=== {name}'; {function}\n" for name, function in FUNCTIONS.items())
    data = canonical({**head, **libvirt.machine(made, made.hosts[1], planned)})
    done = host.bash(script, json.loads(data))
    assert done.status == 0, done.err
    parts = re.split(r"^=== (.*)\n", done.out, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("case", CASES)
def test_documents(case: str, here: Path, snapshot: SnapshotAssertion) -> None:
    usual = documents("usual", here) if case != "usual" else {}
    for name, text in documents(case, here).items():
        if text != usual.get(name):
            assert readable(name, text) == snapshot(name=name)


def test_an_arm_machine(here: Path, snapshot: SnapshotAssertion) -> None:
    assert documents("usual", here, "arm64")["domain.xml"] == snapshot


@pytest.mark.skipif(
    not (SCHEMA.exists() and shutil.which("xmllint")), reason="no libvirt, or no xmllint here"
)
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
@pytest.mark.parametrize("case", CASES)
def test_libvirt_knows_all_that_is_in_it(case: str, arch: str, here: Path) -> None:
    for name, text in documents(case, here, arch).items():
        if name.endswith(".xml"):
            done = subprocess.run(
                ["xmllint", "--noout", "--relaxng", str(SCHEMA), "-"],
                input=text, text=True, capture_output=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr


def readable(name: str, text: str) -> str:
    return json.dumps(json.loads(text), indent=2) + "\n" if name.endswith(".json") else text
