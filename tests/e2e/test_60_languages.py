"""A team's program in YAML, and its own component from Python, on machines.

The address of the worker comes from another resource of the program, as a machine's does that is
made there: the first preview does not know it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import PROBE, Stack, merged, until

from lab import parts
from lab import stack as lab_stack
from lab.config import CHECKOUT

NAME = "lab-team"
ALL = ("cp1", "w1")
STEPS = ("scripts", "bundle", "prepare", "secrets", "node")

# examples/addon as it is, on this lab's machines and image, which wants to be told what to do.
ADDON = """
import json, os, sys
import pulumi
from pulumi_command import local

sys.path.insert(0, os.environ["ADDON"])
import website
from groundplane import KubeadmCluster
from groundplane.spec.load import from_values
from pathlib import Path

plain = website.objects
def serving(name, args):
    made = plain(name, args)
    made[0]["spec"]["template"]["spec"]["containers"][0]["args"] = ["serve"]
    return made
website.objects = serving

values = json.loads(Path("site.json").read_text())
where = local.Command("where", create=values.pop("create"))
values["hosts"][1]["address"] = where.stdout
team = KubeadmCluster("lab-team", from_values("team", pulumi.get_stack(), Path.cwd(), values, {}))
args = website.WebsiteArgs(image=os.environ["IMAGE"], replicas=int(os.environ["REPLICAS"]))
website.Website("hello", team, args)
pulumi.export("kubeconfig", team.kubeconfig)
"""


@dataclass
class Team(Stack):
    """A project of its own beside the checkout, whose program is written anew for each test."""

    name: str = NAME
    values: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def file(self) -> Path:
        return self.project / f"Pulumi.{self.name}.yaml"

    def describe(self, **cluster: Any) -> None:
        """What both programs give: the lab's site, without what it shares with other stacks."""
        site = lab_stack.site(self.lab, self.hosts(*ALL))
        site.pop("place")
        site["cluster"] = merged({**site["cluster"], "name": self.name}, cluster)
        self.values = {**site, "create": f"printf {site['hosts'][1]['address']}"}

    def write(self, runtime: str, **more: Any) -> None:
        text = yaml.safe_dump({"name": "team", "runtime": runtime, **more})
        (self.project / "Pulumi.yaml").write_text(text)

    def in_yaml(self) -> None:
        (self.project / "__main__.py").unlink(missing_ok=True)
        values = {key: value for key, value in self.values.items() if key != "create"}
        first, second = values["hosts"]
        hosts = [first, {**second, "address": "${where.stdout}"}]
        where = {
            "type": "command:local:Command",
            "properties": {"create": self.values["create"]},
        }
        team = {"type": "groundplane:KubeadmCluster", "properties": {**values, "hosts": hosts}}
        self.write(
            "yaml",
            packages={"groundplane": str(CHECKOUT / "plugin")},
            resources={"where": where, NAME: team},
            outputs={"kubeconfig": f"${{{NAME}.kubeconfig}}"},
        )

    def in_python(self, replicas: int) -> None:
        (self.project / "__main__.py").write_text(ADDON)
        (self.project / "site.json").write_text(json.dumps(self.values))
        (self.project / "site.json").chmod(0o600)
        self.variables |= {
            "ADDON": str(CHECKOUT / "examples" / "addon"),
            "IMAGE": PROBE,
            "REPLICAS": str(replicas),
        }
        self.write("python")


@pytest.fixture(scope="module")
def module_team(session_stack: Stack) -> Iterator[Team]:
    lab = session_stack.lab
    folder = lab.folder / "team"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Pulumi's host for YAML would take it for the schema of today.
    (CHECKOUT / "plugin" / "schema-groundplane.json").unlink(missing_ok=True)
    team = Team(lab, project=folder)
    host = parts.ensure_one("pulumi-yaml", print)
    path = f"{host}:{lab.folder}/bin:{CHECKOUT}/.venv/bin:{os.environ['PATH']}"
    team.variables["PATH"] = path
    yield team
    if not os.environ.get("GROUNDPLANE_KEEP"):
        team.forget()
        shutil.rmtree(folder)


@pytest.fixture
def team(module_team: Team, stack: Stack) -> Iterator[Team]:
    yield module_team
    module_team.stop_all()


def test_a_preview_before_the_address_is_known(team: Team) -> None:
    """The other machine was looked at; of this one all steps are to come."""
    team.write("yaml")
    team.fresh(*ALL)
    team.describe()
    team.in_yaml()
    team.pulumi("stack", "select", "--create", NAME)
    shown = team.preview()
    assert {f"{name}-{step}" for name in ALL for step in STEPS} <= shown.keys()
    assert set(shown.values()) == {"create"}
    text = team.pulumi("preview").text
    assert "w1: where to reach them is known to the update only" in text


def test_an_update_in_yaml(team: Team) -> None:
    """From nothing, then again without a change, then with one."""
    team.up()
    assert team.nodes() == dict.fromkeys(ALL, True)
    before = team.processes()
    assert team.preview() == {}
    team.up()
    assert team.processes() == before
    team.describe(kubelet={"maxPods": 99})
    team.in_yaml()
    assert team.preview() == {f"{name}-node": "update" for name in ALL}
    team.up()
    assert {n["status"]["capacity"]["pods"] for n in team.get("nodes")} == {"99"}
    assert team.preview() == {}


def test_the_same_stack_in_python(team: Team) -> None:
    """Steps have the same names and data in any language; what is new is the team's component."""
    before = team.processes()
    team.in_python(replicas=2)
    assert team.preview() == dict.fromkeys(("hello", "hello-objects", "hello-rollout"), "create")
    team.up()
    assert ready(team) == 2
    assert team.processes() == before
    service = team.kubectl("get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}")
    pod = team.get("pods", "-l", "app.kubernetes.io/name=hello")[0]["metadata"]["name"]
    answer = team.kubectl("exec", pod, "--", "/probe", "get", f"http://{service}")
    assert answer.startswith("hello-")
    assert team.preview() == {}


def ready(team: Team) -> int:
    (found,) = team.get("deployments", "--field-selector", "metadata.name=hello")
    return int(found["status"].get("readyReplicas", 0))


def test_the_component_changes_and_goes(team: Team) -> None:
    team.in_python(replicas=3)
    assert team.preview() == {"hello-objects": "update", "hello-rollout": "replace"}
    team.up()
    assert ready(team) == 3
    # Its access is nowhere to be read.
    key = team.output("kubeconfig").split("client-key-data: ")[1].split()[0][40:80]
    assert not [log.name for log in team.logs.glob(f"{NAME}-*-up.log") if key in log.read_text()]
    team.in_yaml()
    team.up()
    until(lambda: not team.get("pods"), "its pods are gone", 60, 1)
    assert team.get("services", "--field-selector", "metadata.name=hello") == []


def test_destroy_in_yaml(team: Team) -> None:
    done = team.destroy()
    assert team.resources() == []
    assert all(f"{name}: reset" in done.text for name in ALL)
    assert team.processes() == {name: [] for name in ALL}
