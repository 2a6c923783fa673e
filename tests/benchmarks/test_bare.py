"""The bare cluster's scripts, without machines: what they are told, and in which order they act."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.specs import hosts, spec

from benchmarks.bare import FOLDER, Bare
from groundplane.spec import Containerd, Mirrors, Spec
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
  *fetch*) for name in cp1 cp2 cp3 w1 w2; do await "begin $name fetch"; done ;;
esac
note end
"""


def made() -> Spec:
    return spec(
        hosts(),
        mirrors=Mirrors(downloads=f"{MIRROR}:8080", images={"registry.k8s.io": f"{MIRROR}:5000"}),
        containerd=Containerd(restrict_oom_score_adj=True),
        kubelet=CONTAINERS["kubelet"],
        kube_proxy=CONTAINERS["kubeProxy"],
        ignore_preflight=CONTAINERS["ignorePreflight"],
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
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(SSH)
    (tmp_path / "bin" / "ssh").chmod(0o755)
    noted = tmp_path / "journal"
    noted.touch()
    done = subprocess.run(
        ["bash", FOLDER / "cluster.sh", settings, verb],
        env={
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "JOURNAL": str(noted),
            "FAILS": fails,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, noted.read_text().splitlines()


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
