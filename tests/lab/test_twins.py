"""What the lab's two stacks are told: as much as is equal, and nothing that only one can have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from groundplane.begin import write_stack
from groundplane.spec import Spec
from lab import environment, machines, stack, together
from lab.config import METAL, TWINS, VM, Lab, Size, Twin
from lab.guests import accelerator, hypervisor, image

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture(params=[True, False], ids=["KVM", "emulated"])
def kvm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(accelerator, "kvm", lambda: request.param)
    monkeypatch.setattr(machines, "host_key", lambda lab, name: KEY)
    return bool(request.param)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab("gp", tmp_path / "lab")
    catalogue = {"parts": {"containerd": {"default": "2.3.4"}}}
    digest = {"amd64": "0" * 64}
    catalogue["guestImages"] = {
        image.NAME: {"url": "https://groundplane.test/i", "sha256": digest, "system": "debian 12"}
    }
    made.folder.mkdir()
    (made.folder / "catalogue.yaml").write_text(json.dumps(parts_of_the_product(catalogue)))
    machines.ssh_key(made)
    return made


def parts_of_the_product(overlay: dict[str, Any]) -> dict[str, Any]:
    """An overlay whose containerd is the product's own, so that its files have digests."""
    from groundplane.catalogue import product

    version = product().default("containerd")
    file = product().file("containerd", version, "archive", "amd64")
    overlay["parts"]["containerd"] = {
        "default": version,
        "files": {"archive": file.url},
        "sha256": {version: {"amd64": {"archive": file.digest}}},
    }
    return overlay


def hosts(lab: Lab, twin: Twin, kvm: bool) -> list[dict[str, Any]]:
    if twin is VM:
        return [stack.guest(lab, vm) for vm in stack.vms(lab, kvm)]
    return [stack.host(lab, machine) for machine in machines.default_machines()[:5]]


def written(lab: Lab, twin: Twin, kvm: bool, folder: Path) -> Spec:
    site = stack.site(lab, hosts(lab, twin, kvm), twin)
    site["cluster"]["kubernetes"]["version"] = "1.36.4"  # of the product's own catalogue
    return write_stack(folder, twin.name, site)


def test_they_share_nothing(lab: Lab, kvm: bool, tmp_path: Path) -> None:
    metal, vm = (written(lab, twin, kvm, tmp_path) for twin in TWINS)
    for what in (METAL, VM):
        assert what.name not in {other.name for other in TWINS if other is not what}
    addresses = [host.address for spec in (metal, vm) for host in spec.hosts]
    addresses += [spec.cluster.endpoint.address for spec in (metal, vm)]
    addresses += [hypervisor.ADDRESS, image.ADDRESS, machines.GATEWAY]
    assert len(addresses) == len(set(addresses))
    for read in (
        lambda spec: spec.cluster.name,
        lambda spec: spec.cluster.endpoint.router_id,
        lambda spec: spec.cluster.pod_cidrs,
        lambda spec: spec.cluster.service_cidrs,
    ):
        assert read(metal) != read(vm)


def test_guests_are_told_nothing_of_containers(lab: Lab, kvm: bool, tmp_path: Path) -> None:
    vm = written(lab, VM, kvm, tmp_path).cluster
    assert (vm.kubelet, vm.kube_proxy, vm.ignore_preflight) == ({}, {}, [])
    assert not vm.containerd.restrict_oom_score_adj


def test_fewer_guests_where_they_are_emulated(lab: Lab, kvm: bool, tmp_path: Path) -> None:
    spec = written(lab, VM, kvm, tmp_path)
    roles = [host.role for host in spec.hosts]
    assert roles.count("control-plane") == (3 if kvm else 1)
    assert roles.count("worker") == (2 if kvm else 1)
    assert [h.emulation for h in spec.hypervisors] == [not kvm]
    assert [h.allow_together for h in spec.hypervisors] == [kvm]


def test_a_size_that_was_asked_for(lab: Lab) -> None:
    asked = Lab(lab.name, lab.folder, Size(guest_control_planes=1, guest_workers=3))
    assert [vm.name for vm in stack.vms(asked, True)] == ["vcp1", "vw1", "vw2", "vw3"]


def test_what_the_image_is_made_for_is_what_guests_are_told(
    lab: Lab, kvm: bool, tmp_path: Path
) -> None:
    """Or prepare would find something to do on every guest."""
    from groundplane.clusters import data

    sample = stack.sample(lab, "1.36.4")
    vm = written(lab, VM, kvm, tmp_path)
    baked, wanted = (
        data.prepare(spec, spec.control_planes[0], "amd64", "apt") for spec in (sample, vm)
    )
    who = {"name", "address"}
    assert {k: v for k, v in baked.items() if k not in who} == {
        k: v for k, v in wanted.items() if k not in who
    }


def test_another_content_is_another_image(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another setting, another version, and one version more; nothing of other versions."""
    monkeypatch.setattr(image.images, "wanted", lambda version: [])
    one, other = {"kubernetes": "1", "a": 1}, {"kubernetes": "1", "a": 2}
    keys = {image._key(each) for each in ([one], [other], [one, other])}
    assert len(keys) == 3


def test_kubectl_finds_both(lab: Lab) -> None:
    files = environment.variables(lab)["KUBECONFIG"].split(":")
    assert files == [str(environment.kubeconfig(lab, twin)) for twin in TWINS]


def test_lab_ssh_knows_guests(lab: Lab) -> None:
    environment.write_ssh_config(lab, {"hv1": "198.18.0.31"}, {"vcp1": ("198.18.0.61", KEY)})
    config = (lab.folder / "ssh" / "config").read_text()
    assert "Host hv1\n  HostName 198.18.0.31" in config
    assert "Host vcp1\n  HostName 198.18.0.61" in config
    known = next(line for line in config.splitlines() if line.startswith("UserKnownHostsFile"))
    assert known.split()[2] == str(lab.folder / "ssh" / "known_guests")
    assert (lab.folder / "ssh" / "known_guests").read_text() == f"198.18.0.61 {KEY}\n"


LINES = """\
 +  command:remote:Command lab-vm-vcp1-prepare creating (0s)
 +  command:remote:Command lab-vm-vcp1-prepare created (12s)
 +  command:remote:Command lab-vm-vw1-node created (0.51s)
 ~  command:remote:Command lab-vm-nodes updated (3s)
"""


def test_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {
        m[1]: float(m[2]) for line in LINES.splitlines() if (m := together.MADE.search(line))
    }
    assert seconds == {"lab-vm-vcp1-prepare": 12, "lab-vm-vw1-node": 0.51, "lab-vm-nodes": 3}
    together.where_time_went([together.Up(VM, 20, 0, {"vcp1-prepare": 12, "nodes": 3})])
    assert "lab-vm: 20 s, of it vcp1-prepare 12, nodes 3" in capsys.readouterr().out
