"""Two clusters beside each other: twins, until somebody changes one of them by hand.

One control plane and one worker each, in one lab. Every change is made on what runs, and found as
what it is, together with nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from harness import Run, Stack, until

from lab.machines import cgroups, stop
from lab.machines.model import recorded

ONE, OTHER = "lab-twin-one", "lab-twin-other"
MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
GATE = "WatchFromStorageWithoutResourceVersion"
"""Off unless asked for, in all versions of Kubernetes that are supported here."""


@dataclass
class Pair:
    """Both stacks, and what is known to differ so far."""

    one: Stack
    other: Stack
    known: dict[str, str] = field(default_factory=dict)

    def look(self, *arguments: str) -> Run:
        words = ("twins", self.one.name, self.other.name, *arguments)
        return self.one.run("groundplane", *words, check=False, timeout=180)

    def compared(self) -> tuple[int, dict[str, Any]]:
        """The exit status, and the comparison."""
        done = self.look("--json")
        assert done.status in (0, 1), done.text
        return done.status, json.loads(done.text[done.text.index("{") : done.text.rindex("}") + 1])


def classes(document: dict[str, Any]) -> dict[str, str]:
    return {each["path"]: each["class"] for each in document["differences"]}


@pytest.fixture(scope="module")
def pair(session_stack: Stack) -> Iterator[Pair]:
    # Their logs are numbered apart.
    both = Pair(replace(session_stack, name=ONE), replace(session_stack, name=OTHER, count=500))
    yield both
    for stack in (both.one, both.other):
        stack.stop_all()
        stack.forget()


def test_both_come_up(stack: Stack, pair: Pair) -> None:
    stack.fresh("cp1", "w1", "cp2", "w2")
    pair.one.configure(pair.one.hosts("cp1", "w1"))
    # What is bound to the place; nothing else differs.
    pair.other.configure(
        pair.other.hosts("cp2", "w2"),
        endpoint={"address": "198.18.0.30", "routerId": 52},
        podCidrs=["10.245.0.0/16"],
        serviceCidrs=["10.97.0.0/16"],
    )
    begun = [each.start_up() for each in (pair.one, pair.other)]
    for process in begun:
        done = process.wait()
        assert done.status == 0, done.text
    assert pair.one.nodes() == {"cp1": True, "w1": True}
    assert pair.other.nodes() == {"cp2": True, "w2": True}


def test_what_both_have_is_refused(pair: Pair) -> None:
    text = pair.other.file.read_text()
    try:
        pair.other.file.write_text(text.replace("198.18.0.30", "198.18.0.10"))
        done = pair.look()
        assert done.status == 2
        assert "198.18.0.10 is taken by stacks/Pulumi.lab-twin-other.yaml:" in done.text
    finally:
        pair.other.file.write_text(text)


def settled(pair: Pair) -> bool:
    """Whether all add-ons of both run; a young cluster's do not yet."""
    _, document = pair.compared()
    return all(each != "breaking" for each in classes(document).values())


def test_they_are_twins(pair: Pair) -> None:
    until(lambda: settled(pair), "nothing breaking differs", 120, 2)
    status, document = pair.compared()
    assert (status, document["verdict"]) == (0, "twins")
    assert set(classes(document).values()) == {"intended"}, classes(document)
    assert document["counts"]["equal"] > 1000
    # These machines are containers: alike, and no evidence of anything.
    assert document["evidence"] is False
    assert "neither stands on bare metal" in document["doubts"]
    assert pair.look().status == 0
    pair.known = classes(document)


def test_looking_changes_nothing(pair: Pair) -> None:
    before = pair.one.processes("cp1", "w1", "cp2", "w2")
    pair.look()
    assert pair.one.processes("cp1", "w1", "cp2", "w2") == before
    assert pair.one.preview() == {}


# ---- differences made by hand -----------------------------------------------------------------

BREAKING, TOLERABLE, INTENDED = "breaking", "tolerable", "intended"


@dataclass(frozen=True)
class Change:
    """A script in a machine of the other cluster, or words for kubectl; and what must be found."""

    finds: dict[str, str]
    machine: str = ""
    script: str = ""
    kubectl: tuple[str, ...] = ()
    stdin: str = ""


def api_server(*flags: str) -> str:
    # Not `sed -i`: the kubelet would take its draft for another pod.
    lines = "".join(f"\\n    - {flag}" for flag in flags)
    edit = f"s|^    - --advertise-address=.*|&{lines}|"
    return f"sed '{edit}' {MANIFEST} >/etc/kubernetes/draft && mv /etc/kubernetes/draft {MANIFEST}"


IMAGES = "[plugins.'io.containerd.cri.v1.images']"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "more", "namespace": "default"},
    "spec": {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "more"}},
        "template": {
            "metadata": {"labels": {"app": "more"}},
            "spec": {
                "containers": [
                    {
                        "name": "more",
                        "image": "groundplane.test/probe:1",
                        "env": [{"name": "PASSWORD", "value": "found-if-it-is-there"}],
                    }
                ]
            },
        },
    },
}
STORAGE = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "more"},
    "provisioner": "example.org/none",
}
CHANGES = {
    "a sysctl": Change(
        {"sysctl/net.core.somaxconn": BREAKING}, "w2", "sysctl -qw net.core.somaxconn=128"
    ),
    "a sysctl of one interface": Change({}, "w2", "sysctl -qw net.ipv4.conf.host0.log_martians=1"),
    "a field of the kubelet": Change(
        {
            "kubelet/config/maxPods": BREAKING,
            "node/capacity/pods": BREAKING,
            "node/allocatable/pods": BREAKING,
        },
        "w2",
        "sed -i '/^maxPods:/d' /var/lib/kubelet/config.yaml"
        " && echo 'maxPods: 99' >>/var/lib/kubelet/config.yaml && systemctl restart kubelet",
    ),
    "a setting of containerd": Change(
        {"containerd/plugins/io.containerd.cri.v1.images/max_concurrent_downloads": BREAKING},
        "w2",
        f'printf "\\n%s\\n  max_concurrent_downloads = 7\\n" "{IMAGES}"'
        " >>/etc/containerd/config.toml && systemctl restart containerd",
    ),
    "a limit of the runtime": Change(
        {"process/containerd/limits/open": BREAKING},
        "w2",
        "prlimit --nofile=4096:4096 --pid $(systemctl show -p MainPID --value containerd)",
    ),
    # At once: each start of an API server takes a while until its kubelet tells of it.
    "a flag of the API server, a feature gate, and how much it logs": Change(
        {
            "kube-apiserver/--max-requests-inflight": BREAKING,
            f"kube-apiserver/--feature-gates/{GATE}": BREAKING,
            f"gates/{GATE}": BREAKING,
            "kube-apiserver/--v": TOLERABLE,
        },
        "cp2",
        api_server("--max-requests-inflight=800", f"--feature-gates={GATE}=true", "--v=3"),
    ),
    "an image's name with another digest": Change(
        {"store/registry.k8s.io/kube-proxy:v{kubernetes}": BREAKING},
        "w2",
        "ctr -n k8s.io images tag --force $(ctr -n k8s.io images ls -q | grep '/pause:')"
        " registry.k8s.io/kube-proxy:v{kubernetes}",
    ),
    "a workload": Change(
        {"workload/default/Deployment/more": BREAKING},
        kubectl=("apply", "--server-side", "-f", "-"),
        stdin=json.dumps(DEPLOYMENT),
    ),
    "an object of an add-on": Change(
        {"object/StorageClass/more": BREAKING},
        kubectl=("apply", "--server-side", "-f", "-"),
        stdin=json.dumps(STORAGE),
    ),
    "replicas of an add-on": Change(
        {"workload/kube-system/Deployment/coredns/replicas": BREAKING},
        kubectl=("-n", "kube-system", "scale", "deployment/coredns", "--replicas", "1"),
    ),
    "MTU": Change({"nic/mtu": BREAKING}, "w2", "ip link set host0 mtu 1400"),
    "a label": Change(
        {"node/labels/example.org/disk": TOLERABLE},
        kubectl=("label", "node", "w2", "example.org/disk=ssd"),
    ),
    "a failure domain": Change(
        {"node/labels/topology.kubernetes.io/zone": INTENDED},
        kubectl=("label", "node", "w2", "topology.kubernetes.io/zone=r1"),
    ),
    "a taint": Change(
        {"node/taints/example.org/x:PreferNoSchedule": BREAKING},
        kubectl=("taint", "node", "w2", "example.org/x=y:PreferNoSchedule"),
    ),
    "a node that takes no pods": Change(
        {
            "node/unschedulable": BREAKING,
            "node/taints/node.kubernetes.io/unschedulable:NoSchedule": BREAKING,
        },
        kubectl=("cordon", "w2"),
    ),
    "another runtime": Change(
        {"program/runc": BREAKING},
        "w2",
        "cp --remove-destination $(readlink -f /usr/local/bin/runc) /usr/local/bin/runc"
        " && echo >>/usr/local/bin/runc",
    ),
    "a plugin of the pod network less": Change(
        {"program/vlan": BREAKING}, "w2", "rm /opt/cni/bin/vlan"
    ),
    "where images come from": Change(
        {"registry/registry.k8s.io": INTENDED},
        "w2",
        "echo '# mine' >>/etc/containerd/certs.d/registry.k8s.io/hosts.toml",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_as_what_it_is(name: str, pair: Pair) -> None:
    change = CHANGES[name]
    version = pair.one.lab.size.kubernetes
    if change.machine:
        pair.other.shell(change.machine, change.script.replace("{kubernetes}", version))
    else:
        pair.other.kubectl(*change.kubectl, stdin=change.stdin)
    finds = {path.replace("{kubernetes}", version): cls for path, cls in change.finds.items()}
    assert_found(pair, finds)


def assert_found(pair: Pair, finds: dict[str, str]) -> None:
    """These differ now besides what did before, and nothing else, once what was restarted is up."""
    expected = pair.known | finds
    found: dict[str, str] = {}

    def as_expected() -> bool:
        done = pair.look("--json")
        if done.status == 2:
            return False  # the API server is starting
        found.clear()
        found.update(
            classes(json.loads(done.text[done.text.index("{") : done.text.rindex("}") + 1]))
        )
        return found == expected and done.status == int(BREAKING in expected.values())

    try:
        until(as_expected, "found", 240, 1)
    except AssertionError:
        odd = {p: (found.get(p), expected.get(p)) for p in found | expected}
        odd = {path: pair for path, pair in odd.items() if pair[0] != pair[1]}
        pytest.fail(f"path -> found, expected: {odd}")
    pair.known = expected


def test_a_machine_of_another_size(pair: Pair) -> None:
    lab = pair.one.lab
    cgroups.make(lab, replace(recorded(lab, "w2"), memory=1536, cpus=0.5))
    assert_found(pair, {"memory/limit": BREAKING, "processor/limit": BREAKING})


def test_what_may_be_secret_is_not_shown(pair: Pair) -> None:
    assert "found-if-it-is-there" in pair.other.kubectl("get", "deployment", "more", "-o", "yaml")
    for arguments in ([], ["--json"], ["--all"]):
        assert "found-if-it-is-there" not in pair.look(*arguments).text


def test_the_table_begins_with_what_breaks(pair: Pair) -> None:
    done = pair.look()
    assert done.status == 1
    lines = done.text.splitlines()
    assert lines[1].startswith("breaking: ")
    assert lines[-1].startswith("not comparable: ")


def test_a_host_that_is_silent_is_not_seen(pair: Pair) -> None:
    stop(pair.one.lab, "w2")
    done = pair.look()
    assert done.status == 2
    assert "lab-twin-other w2: 198.18.0.22:22: " in done.text
    assert done.text.endswith("not seen: 1 host could not be looked at\n")
