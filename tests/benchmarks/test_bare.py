"""The bare cluster's scripts, without machines: what they are told, and in which order they act."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml
from support.guests import PUBLIC, guest, key_file, virtual
from support.specs import hosts, spec

from benchmarks.bare import FOLDER, Bare
from groundplane.spec import Component, Containerd, Mirrors, Spec, Tuning
from groundplane.spec.guests import mac_address
from lab import parts
from lab.config import Lab
from lab.stack import CONTAINERS, MIRROR

# In place of ssh: notes which verb begins and ends on which host. What is to go on side by side
# waits for its neighbours, and would wait for ever were they to come after it.
SSH = """\
#!/bin/bash
host=$3
verb=$(tail -n 1)
verb=${verb% </dev/null}
note() { echo "$1 $host $verb" >>"$JOURNAL"; }
await() { timeout 20 bash -c 'until grep -q "$0" "$JOURNAL"; do sleep 0.02; done' "$1" || exit 1; }
note begin
case "$host $verb" in
  "$FAILS "*) echo "it went wrong"; exit 1 ;;
  "cp1 prepare") for name in cp1 cp2 cp3 w1 w2; do await "begin $name prepare"; done ;;
  cp*prepare) await "begin w2 join"; sleep 0.2 ;;
  *prepare) await "begin cp1 found" ;;
  w*join) for name in cp3 w1 w2; do await "begin $name join"; done ;;
  *fetch* | *installed) for name in cp1 cp2 cp3 w1 w2; do await "begin $name ${verb%% *}"; done ;;
esac
note end
"""


MIRRORS = Mirrors(downloads=f"{MIRROR}:8080", images={"registry.k8s.io": f"{MIRROR}:5000"})


def made() -> Spec:
    return spec(
        hosts(),
        mirrors=MIRRORS,
        containerd=Containerd(restrict_oom_score_adj=True),
        kubelet=CONTAINERS["kubelet"],
        kube_proxy=CONTAINERS["kubeProxy"],
        ignore_preflight=CONTAINERS["ignorePreflight"],
        scheduler=Component(extra_args={"leader-elect-lease-duration": "120s", "v": 2}),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings"
    path.write_text(Bare(Lab("bench", tmp_path)).settings(made()))
    return path


# ---- in which order ----------------------------------------------------------------------------


def journal(
    tmp_path: Path, settings: Path, verb: str, fails: str = "-"
) -> tuple[int, str, list[str]]:
    noted = tmp_path / "journal"
    noted.touch()
    done = subprocess.run(
        ["bash", FOLDER / "cluster.sh", settings, verb],
        env={**in_place_of(tmp_path, ssh=SSH), "JOURNAL": str(noted), "FAILS": fails},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, noted.read_text().splitlines()


def in_place_of(folder: Path, **programs: str) -> dict[str, str]:
    """The environment of a process that finds these scripts under the names of programs."""
    for name, script in programs.items():
        path = folder / "bin" / name.replace("_", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}


def before(lines: Sequence[str], *wanted: str) -> None:
    """These lines are there, in this order."""
    places = [lines.index(line) for line in wanted]
    assert places == sorted(places), lines


def test_a_cluster_in_the_least_time(tmp_path: Path, settings: Path) -> None:
    status, text, lines = journal(tmp_path, settings, "up")
    assert status == 0, text
    assert len(lines) == 2 * (5 + 1 + 4 + 1)
    for host in ("cp2", "cp3", "w1", "w2"):
        before(lines, "end cp1 found", f"begin {host} join")
        before(lines, f"end {host} prepare", f"begin {host} join", f"end {host} join")
    before(lines, "end cp1 prepare", "begin cp1 found", "end cp2 prepare")
    before(lines, "end cp2 join", "begin cp3 join")
    assert set(lines[:-2]) == set(lines) - {"begin cp1 ready", "end cp1 ready"}


def test_an_upgrade_one_node_after_the_other(tmp_path: Path, settings: Path) -> None:
    status, text, lines = journal(tmp_path, settings, "upgrade")
    assert status == 0, text
    fetching, one_by_one = lines[:10], [line for line in lines[10:] if line.startswith("begin")]
    assert sorted(fetching[:5]) == [
        f"begin {host} fetch kubeadm kubelet kubectl" for host in ("cp1", "cp2", "cp3", "w1", "w2")
    ]
    assert one_by_one == [
        f"begin {line}"
        for host in ("cp1", "cp2", "cp3", "w1", "w2")
        for line in (
            f"{host} upgrade {'apply' if host == 'cp1' else 'node'}",
            f"cp1 drain {host}",
            f"{host} renew_kubelet",
            f"cp1 take_back {host}",
        )
    ]


@pytest.mark.parametrize(("host", "last"), [("cp1", "prepare"), ("w2", "prepare")])
def test_what_fails_ends_it_with_what_was_said(
    tmp_path: Path, settings: Path, host: str, last: str
) -> None:
    status, text, lines = journal(tmp_path, settings, "up", host)
    assert status == 1
    assert f"{host}: {last}: failed" in text
    assert "it went wrong" in text
    assert "begin cp1 ready" not in lines
    assert (tmp_path / f"{host}-{last}.log").read_text() == "it went wrong\n"


# ---- what a host is told -----------------------------------------------------------------------


def printed(settings: Path, host: str, verb: str) -> str:
    """What a function of host.sh prints on the host of this name."""
    script = (FOLDER / "host.sh").read_text().replace("$(uname -n)", host)
    done = subprocess.run(
        ["bash", "-s"],
        input=f"{settings.read_text()}{script}{verb} </dev/null\n",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(settings: Path, host: str, verb: str) -> dict[str, Any]:
    return {part["kind"]: part for part in yaml.safe_load_all(printed(settings, host, verb))}


def test_documents_of_the_first(settings: Path) -> None:
    found = documents(settings, "cp1", "init_documents")
    cluster = found["ClusterConfiguration"]
    assert cluster["kubernetesVersion"] == f"v{made().cluster.kubernetes.version}"
    assert cluster["controlPlaneEndpoint"] == "192.0.2.10:8443"
    assert found["KubeletConfiguration"]["cgroupDriver"] == "cgroupfs"
    assert found["KubeProxyConfiguration"]["mode"] == "nftables"
    assert found["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0, "min": 0}
    assert cluster["scheduler"]["extraArgs"] == [
        {"name": "leader-elect-lease-duration", "value": "120s"},
        {"name": "v", "value": "2"},
    ]
    assert cluster["controllerManager"]["extraArgs"] == []
    init = found["InitConfiguration"]
    assert init["localAPIEndpoint"]["advertiseAddress"] == "192.0.2.11"
    assert init["nodeRegistration"]["ignorePreflightErrors"] == CONTAINERS["ignorePreflight"]
    assert isinstance(init["bootstrapTokens"][0]["token"], str)


def test_documents_of_those_that_join(settings: Path) -> None:
    token = documents(settings, "cp1", "init_documents")["InitConfiguration"]["bootstrapTokens"]
    for host in ("cp2", "w1"):
        found = documents(settings, host, "join_document")["JoinConfiguration"]
        assert [{"token": found["discovery"]["bootstrapToken"]["token"]}] == token
        assert ("controlPlane" in found) == (host == "cp2")


@pytest.mark.parametrize(
    ("host", "verb"),
    [("cp1", "init_documents"), ("cp2", "join_document"), ("w1", "join_document")],
)
def test_kubeadm_takes_its_documents(settings: Path, host: str, verb: str, tmp_path: Path) -> None:
    kubeadm = parts.binary("kubeadm")
    if not kubeadm.exists():
        pytest.skip("no kubeadm here; the lab makes one")
    (tmp_path / "kubeadm.yaml").write_text(printed(settings, host, verb))
    done = subprocess.run(
        [kubeadm, "config", "validate", "--config", tmp_path / "kubeadm.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_endpoint_leads_to_all_control_planes(settings: Path) -> None:
    text = printed(settings, "cp2", "haproxy_config")
    assert "  bind :8443\n" in text
    for n in (1, 2, 3):
        assert f"  server cp{n} 192.0.2.1{n}:6443\n" in text


def test_the_first_has_the_address_from_the_start(settings: Path) -> None:
    found = {host: printed(settings, host, "keepalived_config") for host in ("cp1", "cp2")}
    assert "state MASTER" in found["cp1"] and "priority 101" in found["cp1"]
    assert "state BACKUP" in found["cp2"] and "priority 100" in found["cp2"]
    assert "    192.0.2.10\n" in found["cp2"]
    assert "    192.0.2.12\n" not in found["cp2"]


def test_each_host_has_a_range_of_pods_of_its_own(settings: Path) -> None:
    found = [
        yaml.safe_load(printed(settings, host.name, "pod_network"))["plugins"][0]["ipam"]["subnet"]
        for host in made().hosts
    ]
    assert found == [f"10.244.{n}.0/24" for n in range(1, 6)]


def test_parts_come_from_the_mirror(settings: Path) -> None:
    urls = printed(settings, "w1", 'printf "%s\\n" "${!URL[@]}" "${URL[@]}"').split()
    assert {"kubeadm", "kubelet", "kubectl", "containerd", "runc", "cni-plugins"} == set(urls[:6])
    assert all(url.startswith(f"{MIRROR}:8080/") for url in urls[6:])


STUBS = """
kubeadm() { echo registry.k8s.io/pause:3.10; }
systemctl() { echo "$@"; }
parts() { echo all parts; }
ctr() { case $4 in ls) echo "$IN_STORE" ;; *) echo pulled >&3; esac; }
"""
THERE = {
    "a blank host": ("IN_STORE=''", "all parts\npulled\n"),
    "an image with all of it": (
        "IN_STORE=registry.k8s.io/pause:3.10; containerd() { :; }",
        "start containerd\n",
    ),
}


@pytest.mark.parametrize("case", THERE)
def test_what_an_image_has_is_not_fetched(settings: Path, case: str) -> None:
    there, said = THERE[case]
    # What ctr says of a pull is nobody's to read.
    assert printed(settings, "w1", f"exec 3>&1; {STUBS}{there}; runtime; images") == said


# ---- guests ------------------------------------------------------------------------------------

# Notes what the hypervisor is told, and lets in who asks a guest for the second time.
DOOR = """\
#!/bin/bash
case "$*" in
  *" hv1 bash -s") tail -n 1 >>"$JOURNAL" ;;
  *" true")
    host=${*: -2:1}
    echo "$host" >>"$JOURNAL"
    [ "$(grep -c "^$host$" "$JOURNAL")" -gt 1 ] ;;
esac
"""
# Its words, a line for each call.
NOTES = '#!/bin/bash\nprintf "%s\\t" "$(basename "$0")" "$@" >>"$JOURNAL"; echo >>"$JOURNAL"\n'
# What would be on the seed, kept.
SEEDS = '#!/bin/bash\ncp -r "${@: -1}" "$KEPT/$(basename "$3")"\n'


@pytest.fixture
def on_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of `guests`, as they are given to cluster.sh."""
    monkeypatch.chdir(tmp_path)
    key_file(tmp_path)
    given: list[str] = []
    bare = Bare(Lab("bench", tmp_path / "lab"))
    (tmp_path / "lab" / "ssh").mkdir(parents=True)

    def run(verb: str, made: Spec, more: str = "") -> float:
        assert verb == "guests"
        # What is there for one verb only must not be told to every host.
        assert "PRIVATE KEY" not in bare.settings(made)
        given.append(bare.settings(made) + more)
        return 1.5

    monkeypatch.setattr(bare, "run", run)
    control_plane, worker = guest("cp1", memory_mib=3072), guest("w1", vcpus=4, disk_gib=12)
    gate = {"gateway": "192.0.2.1", "dns": ["192.0.2.1"], "disk": Tuning(cache="unsafe")}
    machines = [
        each.model_copy(update={"guest": each.guest and each.guest.model_copy(update=gate)})
        for each in (control_plane, worker)
    ]
    assert bare.guests(virtual(*machines, mirrors=MIRRORS), "qemu") == 1.5
    path = tmp_path / "settings"
    path.write_text(given[0])
    return path


def made_guests(tmp_path: Path, settings: Path) -> tuple[list[list[str]], Path]:
    """What guests.sh runs, and the folder with the seeds' files."""
    journal = tmp_path / "journal"
    programs = dict.fromkeys(("curl", "virsh", "qemu_img", "virt_install"), NOTES)
    env = in_place_of(tmp_path, genisoimage=SEEDS, **programs)
    done = subprocess.run(
        ["bash", "-s"],
        input=f"{settings.read_text()}{(FOLDER / 'guests.sh').read_text()}guests </dev/null\n",
        env={**env, "JOURNAL": str(journal), "KEPT": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split("\t")[:-1] for line in journal.read_text().splitlines()], tmp_path


def test_guests_are_awaited_once_they_were_made(tmp_path: Path, on_guests: Path) -> None:
    journal = tmp_path / "journal"
    done = subprocess.run(
        ["bash", FOLDER / "cluster.sh", on_guests, "guests"],
        env={**in_place_of(tmp_path, ssh=DOOR), "JOURNAL": str(journal)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *asked = journal.read_text().splitlines()
    assert first == "guests </dev/null"
    assert sorted(asked) == ["cp1", "cp1", "w1", "w1"]
    assert "cp1: answers" in done.stdout and "w1: answers" in done.stdout


def test_all_guests_are_awaited_side_by_side(tmp_path: Path, settings: Path) -> None:
    status, text, lines = journal(tmp_path, settings, "installed")
    assert status == 0, text
    assert sorted(lines[:5]) == [
        f"begin {host} installed" for host in ("cp1", "cp2", "cp3", "w1", "w2")
    ]


def test_both_guests_are_as_groundplane_would_make_them(tmp_path: Path, on_guests: Path) -> None:
    calls, _ = made_guests(tmp_path, on_guests)
    assert [call[0] for call in calls[:2]] == ["curl", "virsh"]
    assert calls[0][-1].startswith(f"{MIRROR}:8080/")
    told = {call[call.index("--name") + 1]: call for call in calls if call[0] == "virt-install"}
    disks = {call[-2]: call[-1] for call in calls if call[0] == "qemu-img"}
    pool = "/var/lib/libvirt/images"
    assert disks == {f"{pool}/cp1.qcow2": "20G", f"{pool}/w1.qcow2": "12G"}
    for name, vcpus, memory in (("cp1", "2", "3072"), ("w1", "4", "4096")):
        words = told[name]
        options = dict(pairwise(words))
        assert options["--vcpus"] == vcpus
        assert options["--memory"] == memory
        assert options["--virt-type"] == "qemu"
        assert options["--cpu"] == "mode=maximum"
        mac = mac_address("metal", guest(name))
        assert options["--network"] == f"bridge=br0,mac={mac},model=virtio"
        reached = "cache=unsafe,io=threads,discard=unmap"
        assert words[words.index("--disk") + 1] == f"{pool}/{name}.qcow2,{reached}"
        assert options["--disk"].startswith(f"{pool}/{name}.iso,")


def test_a_guest_is_known_by_the_key_in_its_seed(tmp_path: Path, on_guests: Path) -> None:
    _, seeds = made_guests(tmp_path, on_guests)
    known = (tmp_path / "lab/ssh/known_guests").read_text().splitlines()
    for name, address in (("cp1", "192.0.2.61"), ("w1", "192.0.2.71")):
        user, meta, network = (
            yaml.safe_load((seeds / f"{name}.iso" / part).read_text())
            for part in ("user-data", "meta-data", "network-config")
        )
        key = asyncssh.import_private_key(user["ssh_keys"]["ed25519_private"])
        assert f"{address} {user['ssh_keys']['ed25519_public']}" in known
        assert (
            key.convert_to_public()
            .export_public_key("openssh")
            .decode()
            .startswith(user["ssh_keys"]["ed25519_public"])
        )
        assert user["users"] == [{"name": "root", "ssh_authorized_keys": [PUBLIC]}]
        assert meta["local-hostname"] == name
        assert network["ethernets"]["nic0"]["addresses"] == [f"{address}/24"]
        assert network["ethernets"]["nic0"]["gateway4"] == "192.0.2.1"
