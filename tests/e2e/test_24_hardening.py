"""A cluster is hardened while it runs, a worker joins it then, and it is softened again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from harness import Stack, assert_pods_reach_each_other

from lab.config import CHECKOUT

HOSTS = ("cp1", "w1")
# What a level cannot be asked on machines that are containers without a source of packages.
EXEMPT = {
    "kubelet-certificate": "the lab's machines are alone in their network",
    "security-updates": "the lab's machines reach no source of packages",
    "ssh-starts": "the lab's machines let a hundred in at once",
}
CIS: dict[str, Any] = {"level": "cis", "exempt": EXEMPT}


PLATFORM = CHECKOUT / "stacks" / "platform.yaml"


@pytest.fixture(scope="module", autouse=True)
def platform() -> Iterator[None]:
    """What the platform's file says outlives the story: the checkout's other stacks share it."""
    text = PLATFORM.read_text()
    yield
    PLATFORM.write_text(text)


def configure(stack: Stack, level: dict[str, Any], *names: str) -> None:
    data = yaml.safe_load(PLATFORM.read_text())
    data["cluster"]["hardening"] = level
    PLATFORM.write_text(yaml.safe_dump(data))
    stack.configure(stack.hosts(*names))


def checked(stack: Stack, level: str) -> dict[str, dict[str, int]]:
    """Of each host: how many checks of the level came to what."""
    done = stack.run("groundplane", "hardening", "--json", "--level", level, check=False)
    text = done.text[done.text.index("{") :]
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    failed = {each["check"] for each in found["results"] if each["status"] == "failed"}
    print(json.dumps({"counts": found["counts"], "failed": sorted(failed)}))
    assert done.status == (1 if failed else 0), done.text
    counts: dict[str, dict[str, int]] = found["counts"]
    return counts


def test_from_nothing_without(stack: Stack) -> None:
    stack.fresh(*HOSTS)
    configure(stack, {"level": "none"}, *HOSTS)
    stack.up()
    before = checked(stack, "cis")
    assert all(counts["failed"] > 25 for counts in before.values())


def test_a_cluster_that_runs_is_hardened(stack: Stack) -> None:
    configure(stack, CIS, *HOSTS)
    pods = {pod["metadata"]["uid"] for pod in stack.get("pods", "-A") if not static(pod)}
    stack.up()
    assert stack.preview() == {}
    after = checked(stack, "cis")
    assert all(counts["failed"] == 0 for counts in after.values())
    assert {p["metadata"]["uid"] for p in stack.get("pods", "-A") if not static(p)} == pods
    assert_pods_reach_each_other(stack)


def static(pod: dict[str, Any]) -> bool:
    return "kubernetes.io/config.mirror" in pod["metadata"].get("annotations", {})


def test_pods_that_could_take_over_their_node_are_refused(stack: Stack) -> None:
    run = "kubectl --kubeconfig /etc/kubernetes/admin.conf run --image probe --restart Never"
    privileged = json.dumps({"spec": {"hostPID": True}})
    refused = stack.shell(
        "cp1", f"{run} --dry-run=server taken --overrides '{privileged}' 2>&1", check=False
    )
    assert 'violates PodSecurity "baseline:latest": host namespaces' in refused
    assert "created" in stack.shell("cp1", f"{run} --dry-run=server plain 2>&1")


def test_the_api_says_nothing_to_those_whom_it_does_not_know(stack: Stack) -> None:
    ask = "curl -sk -o /dev/null -w '%{http_code} ' https://localhost:6443"
    asked = f"{ask}/readyz; {ask}/version; {ask}/api"
    assert stack.shell("cp1", asked).split() == ["200", "401", "401"]


def test_a_worker_joins_a_hardened_cluster(stack: Stack) -> None:
    stack.boot("w2")
    configure(stack, CIS, *HOSTS, "w2")
    stack.up()
    assert stack.nodes() == dict.fromkeys((*HOSTS, "w2"), True)
    assert checked(stack, "cis")["w2"]["failed"] == 0
    assert stack.preview() == {}


def test_a_lower_level_takes_back(stack: Stack) -> None:
    configure(stack, {"level": "none"}, *HOSTS, "w2")
    stack.up()
    assert stack.preview() == {}
    for name in HOSTS:
        left = "find /etc -path /etc/systemd/system -prune -o -name '*groundplane*' -type f -print"
        assert "ssh" not in stack.shell(name, left)
    assert "--profiling" not in stack.shell("cp1", "cat /etc/kubernetes/manifests/*.yaml")
    assert stack.nodes() == dict.fromkeys((*HOSTS, "w2"), True)


def test_destroy(stack: Stack) -> None:
    stack.destroy()
