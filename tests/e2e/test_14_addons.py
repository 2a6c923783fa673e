"""Add-ons on a cluster: the guide's own, a chart with hooks, from its install to the cluster's end.

What runs is what the lab has: the chart's pods are its probe. The provider is the official one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Stack, until

from lab import parts
from lab.config import CHECKOUT

GUIDE = CHECKOUT / "docs/operations/add-an-add-on.md"
CHART = CHECKOUT / "tests/greeter"
CATALOGUE = "groundplane/catalogue.yaml"


@pytest.fixture(scope="module")
def project(session_stack: Stack) -> Iterator[Stack]:
    """A project of its own, whose library has the guide's add-on."""
    if not parts.binary("pulumi-resource-kubernetes").exists():
        pytest.skip("needs the plugin: python -m lab.parts.build pulumi-kubernetes")
    place = session_stack.lab.folder / "e2e-addons"
    shutil.rmtree(place, ignore_errors=True)
    (place / "stacks").mkdir(parents=True)
    about = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())
    about["runtime"]["options"]["virtualenv"] = str(CHECKOUT / ".venv")
    (place / "Pulumi.yaml").write_text(yaml.safe_dump(about))
    for name in ("__main__.py", "platform.yaml"):
        shutil.copy(CHECKOUT / "stacks" / name, place / "stacks")
    shutil.copytree(CHART, place / "charts/greeter")

    def change(library: Path) -> None:
        (code,) = (part.partition("```")[0] for part in GUIDE.read_text().split("```python\n")[1:])
        (library / "addons/greeter.py").write_text(code)

    stack = replace(session_stack, project=place, begun=[], variables={})
    with stack.release(change):
        offer(stack, "1.2.0")
        yield stack
        stack.stop_all()


def offer(stack: Stack, version: str, **values: Any) -> None:
    """The catalogue's version of the chart is this one, with these default values."""
    chart = stack.project / "charts/greeter"
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump({**about, "version": version}))
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    (chart / "values.yaml").write_text(yaml.safe_dump({**defaults, **values}))
    path = Path(stack.variables["PYTHONPATH"]) / CATALOGUE
    catalogue = yaml.safe_load(path.read_text())
    entry = {"kind": "release", "version": version, "chart": str(chart)}
    catalogue["addons"]["greeter"] = entry
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))


def want(stack: Stack, **addons: Any) -> None:
    """The platform has these add-ons."""
    path = stack.project / "stacks/platform.yaml"
    platform = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**platform, "size": "lab", "addons": addons}))


def greeter(stack: Stack) -> dict[str, Any]:
    """Its Deployment."""
    found = stack.kubectl("-n", "greeter", "get", "deployment", "greeter", "-o", "json")
    return dict(json.loads(found))


def greeting(stack: Stack) -> str:
    pod = greeter(stack)["spec"]["template"]
    return str(pod["metadata"]["annotations"]["greeting"])


def ready(stack: Stack) -> int:
    return int(greeter(stack)["status"].get("readyReplicas", 0))


def revisions(stack: Stack) -> list[str]:
    """The states of the release, oldest first, as Helm keeps them."""
    found = stack.get("-n", "greeter", "secrets", "-l", "owner=helm,name=greeter")
    kept = sorted(found, key=lambda secret: int(secret["metadata"]["labels"]["version"]))
    return [secret["metadata"]["labels"]["status"] for secret in kept]


def test_addons_come_with_the_cluster_in_one_update(project: Stack) -> None:
    project.fresh("cp1", "w1")
    project.configure(project.hosts("cp1", "w1"))
    want(project, greeter={})
    project.up()
    assert ready(project) == 1
    labels = json.loads(project.kubectl("get", "namespace", "greeter", "-o", "json"))["metadata"][
        "labels"
    ]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_its_hook_ran_before_it(project: Stack) -> None:
    (job,) = project.get("-n", "greeter", "jobs")
    assert job["status"]["succeeded"] == 1
    assert job["status"]["completionTime"] <= greeter(project)["metadata"]["creationTimestamp"]


def test_its_password_is_in_its_secret_and_nowhere_else(project: Stack) -> None:
    secret = json.loads(
        project.kubectl("-n", "greeter", "get", "secret", "greeter-admin", "-o", "json")
    )
    (key,) = secret["data"]
    assert key == "password"
    import base64

    plain = base64.b64decode(secret["data"]["password"]).decode()
    assert len(plain) == 32
    kept = list((project.lab.folder / "state").rglob("*.json")) + list(project.logs.glob("*.log"))
    assert kept
    assert not [path.name for path in kept if plain in path.read_text(errors="replace")]


def test_again_changes_nothing(project: Stack) -> None:
    before = project.processes()
    assert project.preview() == {}
    project.up()
    assert project.processes() == before
    assert revisions(project) == ["deployed"]


def test_an_argument_is_an_upgrade(project: Stack) -> None:
    want(project, greeter={"greeting": "good morning"})
    assert project.preview() == {"greeter-greeter": "update"}
    project.up()
    assert greeting(project) == "good morning"
    assert revisions(project) == ["superseded", "deployed"]


def test_an_upgrade_that_fails_leaves_what_was_there(project: Stack) -> None:
    """Its hook looks up a name that nobody has."""
    before = greeter(project)["metadata"]["generation"]
    offer(project, "1.3.0", check="nobody.invalid")
    want(project, greeter={"greeting": "good night"})
    project.refused("greeter")
    assert greeting(project) == "good morning"
    assert ready(project) == 1
    assert greeter(project)["metadata"]["generation"] == before
    assert revisions(project)[-1] == "deployed"


def test_the_next_version_is_taken(project: Stack) -> None:
    offer(project, "1.3.1")
    project.up()
    assert greeting(project) == "good night"
    assert revisions(project)[-1] == "deployed"
    assert project.preview() == {}


def test_what_leaves_the_list_leaves_the_cluster(project: Stack) -> None:
    want(project)
    project.up()

    def gone() -> bool:
        names = {space["metadata"]["name"] for space in project.get("namespaces")}
        return "greeter" not in names

    until(gone, "the namespace is gone", 60)
    assert not [name for name in project.resources() if "greeter" in name]


def test_a_cluster_goes_with_its_addons_though_its_api_is_dead(project: Stack) -> None:
    want(project, greeter={})
    project.up()
    assert ready(project) == 1
    # The endpoint's address is on no machine any more.
    project.shell("cp1", "systemctl stop kubelet haproxy keepalived")
    done = project.destroy()
    assert project.resources() == []
    # Nobody waited for an answer: resetting the machines is all that is done.
    assert done.seconds < 120
