"""scripts/twins.sh, run by this computer's own bash, with a cluster made up; what is read of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.sshd import Host as SshHost
from support.sshd import Sshd, run_sshd

from groundplane.remote import portrait
from groundplane.remote.connect import HostUnreachable, Kind
from groundplane.remote.portrait import Answer, NotSeenError, arguments, assemble, flat, read, size

SCRIPT = Path(portrait.__file__).parent / "scripts" / "twins.sh"
EMPTY: dict[str, Any] = {"items": []}


def output(before: str = "", api: str = "") -> str:
    """What the script prints here. It gets no room for even a byte in any file."""
    text = f"NODE_ADDRESS=127.0.0.1 API={api}\n{before}{SCRIPT.read_text()}"
    done = subprocess.run(
        ["bash", "-c", "ulimit -f 0; exec bash -s"], input=text, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def here() -> Answer:
    return read(output())


def test_this_computer(here: Answer) -> None:
    facts = here.facts
    assert facts["kernel/release"] == os.uname().release
    assert facts["system/architecture"] == os.uname().machine
    assert facts["processor/count"] == str(len(os.sched_getaffinity(0)))
    assert facts["memory/size"] == str(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    assert facts["cgroup/version"] in ("1", "2")
    assert facts["nic/mtu"] == Path("/sys/class/net/lo/mtu").read_text().strip()
    assert facts["program/kubelet"] == "does not run"
    assert int(facts["disk_/size"]) > 0
    assert any(path.startswith("processor/flags/") for path in facts)
    swappiness = Path("/proc/sys/vm/swappiness").read_text().strip()
    assert facts["sysctl/vm.swappiness"] == swappiness


def test_keys_of_the_kernel_stay_there(here: Answer) -> None:
    assert not [path for path in here.facts if "fastopen_key" in path or "stable_secret" in path]
    assert not [path for path in here.facts if path.startswith("sysctl/kernel.random.")]


def test_a_second_look_tells_the_same(here: Answer) -> None:
    """But for what the rules leave out."""
    from groundplane.twins import Class, known_rules

    again = read(output())
    differ = {p for p in here.facts | again.facts if here.facts.get(p) != again.facts.get(p)}
    assert [p for p in differ if known_rules().of(p).cls is not Class.LEFT_OUT] == []


def test_a_script_cut_off_on_its_way_runs_nothing() -> None:
    text = SCRIPT.read_text()
    for part in (1 / 3, 2 / 3, 0.99):
        cut = "NODE_ADDRESS=x\n" + text[: int(len(text) * part)]
        done = subprocess.run(["bash", "-s"], input=cut, capture_output=True, text=True)
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "said nothing"),
        ("bash: no such thing\n", "said nothing"),
        ("portrait 1\nfact a\tb\n", "cut off"),
        ("portrait 1\ndoc a\tx\nend\n", "damaged"),
    ],
)
def test_half_an_answer_is_none(text: str, why: str) -> None:
    with pytest.raises(NotSeenError, match=why):
        read(text)


# ---- a cluster ----------------------------------------------------------------------------------


def node(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "x": ""}},
        "spec": spec,
        "status": {
            "capacity": {"cpu": "4", "memory": "16374560Ki", "ephemeral-storage": "101430960Ki"},
            "allocatable": {"cpu": "4", "ephemeral-storage": "93478772582"},
            "nodeInfo": {"kubeletVersion": "v1.36.4", "machineID": "7", "bootID": "8"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "kube-system", **more},
        "spec": {"nodeName": "cp1", "containers": []},
        "status": {"phase": "Running", "containerStatuses": []},
    }


API_SERVER = pod("kube-apiserver-cp1", annotations={"kubernetes.io/config.mirror": "x"})
API_SERVER["spec"]["containers"] = [
    {
        "name": "kube-apiserver",
        "image": "registry.k8s.io/kube-apiserver:v1.36.4",
        "command": ["kube-apiserver", "--feature-gates=B=true,A=false", "--v=2"],
        "volumeMounts": [{"name": "pki"}],
    }
]
COREDNS = {
    "kind": "Deployment",
    "metadata": {"name": "coredns", "namespace": "kube-system"},
    "status": {"readyReplicas": 1},
    "spec": {
        "replicas": 2,
        "template": {
            "metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "then"}},
            "spec": {"containers": [{"name": "coredns", "env": [{"name": "A", "value": "b"}]}]},
        },
    },
}
OF_COREDNS = pod("coredns-1", ownerReferences=[{"kind": "ReplicaSet"}])
OF_COREDNS["status"]["containerStatuses"] = [
    {"image": "registry.k8s.io/coredns:1", "imageID": "registry.k8s.io/coredns@sha256:12"}
]
ANSWERS = {
    "get nodes": {
        "items": [
            node("w1", taints=[{"key": "a", "effect": "NoSchedule"}], unschedulable=True),
            node("cp1"),
        ]
    },
    "cp1/proxy/configz": {"kubeletconfig": {"maxPods": 110, "evictionHard": {"a": "1"}}},
    "w1/proxy/configz": {"kubeletconfig": {"maxPods": 250}},
    "/version": {"gitVersion": "v1.36.4"},
    "get deployments": {"items": [API_SERVER, COREDNS, OF_COREDNS, pod("alone")]},
    "get customresource": {
        "items": [{"kind": "StorageClass", "metadata": {"name": "local"}, "spec": {}}]
    },
    "get configmaps": {
        "items": [
            {
                "metadata": {"name": "kube-proxy"},
                "data": {"config.conf": "mode: nftables\niptables: {minSyncPeriod: 1s}\n"},
            },
            {"metadata": {"name": "coredns"}, "data": {"Corefile": ".:53 {\n    errors\n}\n"}},
        ]
    },
}
METRICS = (
    '# HELP\nkubernetes_feature_enabled{name="X",stage="BETA"} 1\n'
    'kubernetes_feature_enabled{name="Y",stage=""} 0\nother 7\n'
)


def cluster(answers: dict[str, Any]) -> str:
    """A kubectl that answers so, as a function before the script."""
    cases = "".join(
        f"  *'{words}'*) base64 -d <<< {base64.b64encode(json.dumps(data).encode()).decode()} ;;\n"
        for words, data in answers.items()
    )
    metrics = base64.b64encode(METRICS.encode()).decode()
    return (
        'kubectl() {\n  case "$* " in\n'
        f"  *'/metrics'*) base64 -d <<< {metrics} ;;\n{cases}"
        "  *) echo 'no answer' >&2; return 1 ;;\n  esac\n}\n"
        "ctr() { echo 'REF TYPE DIGEST SIZE'; echo 'r.io/a:1 t sha256:7 1 MB';\n"
        "  echo 'sha256:7 t sha256:7 1'; echo 'r.io/a@sha256:7 t sha256:7 1'; }\n"
        "containerd() { printf 'version = 3\\n[plugins]\\n[plugins.\"a.b\"]\\nx = [1, 2]\\n'; }\n"
        'timeout() { shift; "$@"; }\n'
        "systemctl() { if [[ $* == *containerd ]]; then echo $$; else echo 0; fi; }\n"
    )


@dataclass(frozen=True)
class Host(SshHost):
    node_address: str = "127.0.0.1"
    role: str = "worker"


def host(name: str, role: str = "worker") -> Any:
    return Host("127.0.0.1", 22, "root", None, "", name, role=role)


HOSTS = [host("cp1", "control-plane"), host("w1")]


def seen(answers: dict[str, Any]) -> portrait.Portrait:
    on_control_plane = read(output(cluster(answers), "1"))
    return assemble(HOSTS, [on_control_plane, read(output())])


def test_a_cluster() -> None:
    found = seen(ANSWERS)
    assert [(name, role) for name, (role, _) in found.nodes.items()] == [
        ("cp1", "control-plane"),
        ("w1", "worker"),
    ]
    (_, cp1), (_, w1) = found.nodes.values()
    some = {
        "node/info/kubeletVersion": "v1.36.4",
        "node/labels/x": "there",
        "node/capacity/memory": "15.62 GiB",
        "node/allocatable/ephemeral-storage": "87.06 GiB",
        "kubelet/config/maxPods": "110",
        "kubelet/config/evictionHard/a": "1",
        "kube-apiserver/image": "registry.k8s.io/kube-apiserver:v1.36.4",
        "kube-apiserver/--feature-gates/A": "false",
        "kube-apiserver/--feature-gates/B": "true",
        "kube-apiserver/--v": "2",
        "gates/X": "1",
        "gates/Y": "0",
        "store/r.io/a:1": "sha256:7",
        "containerd/version": "3",
        "containerd/plugins/a.b/x": "1, 2",
        "containerd/-s": "true",
    }
    assert {path: cp1.get(path) for path in some} == some
    assert not [path for path in cp1 if path.startswith(("store/sha256", "store/r.io/a@"))]
    assert not [path for path in cp1 if "machineID" in path or "bootID" in path]
    assert len(cp1["program/containerd"]) == 64
    assert {path: w1.get(path) for path in ("kubelet/config/maxPods", "node/unschedulable")} == {
        "kubelet/config/maxPods": "250",
        "node/unschedulable": "true",
    }
    assert w1["node/taints/a:NoSchedule"] == "there"
    assert found.cluster == {
        "version/kubernetes": "v1.36.4",
        "workload/kube-system/Deployment/coredns": "there",
        "workload/kube-system/Deployment/coredns/ready": "false",
        "workload/kube-system/Deployment/coredns/replicas": "2",
        "workload/kube-system/Deployment/coredns/template/spec/containers/coredns/name": "coredns",
        "workload/kube-system/Deployment/coredns/template/spec/containers/coredns/env/A/name": "A",
        "workload/kube-system/Deployment/coredns/template/spec/containers/coredns/env/A/value": "b",
        "workload/kube-system/Pod/alone": "there",
        "image/registry.k8s.io/coredns:1": "sha256:12",
        "object/StorageClass/local": "there",
        "kube-proxy/config/mode": "nftables",
        "kube-proxy/config/iptables/minSyncPeriod": "1s",
        "coredns/Corefile": ".:53 { errors }",
    }
    assert found.silent == ()


def test_nodes_and_hosts_that_are_not_the_same() -> None:
    found = seen({**ANSWERS, "get nodes": {"items": [node("cp1"), node("x1"), node("x2")]}})
    assert list(found.nodes) == ["cp1"]
    assert found.cluster["nodes/without a host"] == "2"
    assert found.cluster["nodes/not joined"] == "1"


def test_no_api_server_is_not_seen() -> None:
    found = seen({})
    (silent,) = found.silent
    assert (silent.name, silent.kind) == ("cp1", Kind.COMMAND_FAILED)
    assert "no answer" in silent.cause


def test_a_host_that_is_silent_is_told() -> None:
    dead = HostUnreachable("w1", Kind.UNREACHABLE, "no answer", "Look.")
    found = assemble(HOSTS, [read(output(cluster(ANSWERS), "1")), dead])
    assert found.silent == (dead,)


# ---- by SSH -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with run_sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def test_both_stacks_by_ssh(sshd: Sshd) -> None:
    def one(name: str, **changes: Any) -> Any:
        return Host(**{**vars(sshd.host), "name": name, **changes})

    stacks = [
        [one("a1"), one("a2", state="lost")],
        [one("b1"), one("b2", port=1)],
    ]
    first, second = portrait.portraits(stacks)
    # Neither is a cluster. Who is lost was not asked; who did not answer is told.
    assert [(h.name, h.kind) for h in first.silent] == [("a1", Kind.COMMAND_FAILED)]
    assert [(h.name, h.kind) for h in second.silent] == [
        ("b2", Kind.UNREACHABLE),
        ("b1", Kind.COMMAND_FAILED),
    ]


# ---- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        (["a"], {}),
        (["a", "--x=1", "--y"], {"--x": "1", "--y": "true"}),
        (["a", "--x", "1", "-v", "--z=a=b"], {"--x": "1", "-v": "true", "--z": "a=b"}),
        (["a", "serve", "--x"], {"serve": "there", "--x": "true"}),
        (["a", "--empty="], {"--empty": ""}),
    ],
)
def test_arguments(command: list[str], flags: dict[str, str]) -> None:
    assert dict(arguments(command)) == flags


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("1073741824", "1.00 GiB"),
        ("16374560Ki", "15.62 GiB"),
        ("9223372036854771712", "none"),
        ("0", "0.00 GiB"),
        ("x", "x"),
    ],
)
def test_size(value: str, shown: str) -> None:
    assert size(value) == shown


def test_flat() -> None:
    data = {
        "a": {"b": None, "c": "", "d": True},
        "list": [1, "x"],
        "none": [],
        "named": [{"name": "n", "v": 1}, {"key": "k", "v": 2}],
        "deep": [[1, 2], {"v": 3}],
    }
    assert flat(data, "p") == {
        "p/a/d": "true",
        "p/list": "1, x",
        "p/named/n/name": "n",
        "p/named/n/v": "1",
        "p/named/k/key": "k",
        "p/named/k/v": "2",
        "p/deep/0": "1, 2",
        "p/deep/1/v": "3",
    }


# ---- machines that were looked at -------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "is_a"),
    [("emulated", "emulated (qemu)"), ("container", "container (systemd-nspawn)")],
)
def test_what_real_machines_stand_on(recorded: str, is_a: str) -> None:
    """What the script said on Debian's cloud kernel in QEMU without KVM, and on a lab's machine."""
    from groundplane.twins import substrate

    text = (Path(__file__).parent / "recorded" / f"{recorded}.txt").read_text()
    assert substrate(read(text).facts) == is_a
