"""The programs in examples/, run as they are under Pulumi's mocks, on hosts that look blank."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from click.testing import CliRunner
from pulumi.runtime import mocks

import groundplane.clusters.shared as shared
from groundplane.cli import cli
from groundplane.remote.facts import HostSeen
from groundplane.remote.observation import Observation
from groundplane.spec import Spec, load

EXAMPLES = Path(__file__).parents[2] / "examples"
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


class Engine(mocks.Mocks):
    """Remembers what was registered, and answers as the hosts would."""

    def __init__(self) -> None:
        self.made: dict[str, mocks.MockResourceArgs] = {}

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[args.name] = args
        out = dict(args.inputs)
        if args.typ == "command:remote:Command":
            identity = {"ca.crt": "CA", "ca.key": "KEY", "groundplane.key": "SECRET"}
            out |= {"stdout": json.dumps({"cluster": "c1", "identity": identity}), "stderr": ""}
        return f"{args.name}-id", out

    def call(self, args: mocks.MockCallArgs) -> dict[str, Any]:
        return {}

    def data(self, name: str) -> dict[str, Any]:
        """What a step is given on stdin."""
        stdin = self.made[name].inputs["stdin"]
        found: dict[str, Any] = json.loads(stdin)
        return found


def blank(spec: Spec) -> Observation:
    hosts = {host.name: HostSeen(host.name, arch="amd64", packager="apt") for host in spec.hosts}
    return Observation(spec.stack, hosts)


Run = Callable[[str, str, Mapping[str, str]], tuple[Engine, dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs examples/NAME with a stack's example configuration; what it registered and exports."""

    def run(name: str, stack: str, instead: Mapping[str, str]) -> tuple[Engine, dict[str, Any]]:
        engine, exported = Engine(), {}
        folder = EXAMPLES / name
        written = yaml.safe_load((folder / f"Pulumi.{stack}.yaml.example").read_text())["config"]
        settings = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in {**written, **instead}.items()
        }
        mocks.set_mocks(engine, project=name, stack=stack, preview=False)
        pulumi.runtime.set_all_config(settings)
        monkeypatch.setattr(shared, "survey", blank)
        monkeypatch.setattr(pulumi, "export", exported.__setitem__)
        monkeypatch.syspath_prepend(folder)

        @pulumi.runtime.test
        def program() -> None:  # returns once everything is registered
            runpy.run_path(str(folder / "__main__.py"), run_name="__main__")

        program()
        return engine, exported

    return run


def test_minimal(run: Run) -> None:
    engine, exported = run("minimal", "dev", {})
    assert set(exported) == {"kubeconfig"}
    assert engine.data("team-n2-node")["role"] == "worker"
    assert engine.data("team-n1-node")["endpoint"]["address"] == "192.0.2.10"
    assert engine.data("team-n1-prepare")["stack"] == "dev"


def test_minimal_is_short() -> None:
    """Ten statements, as the README says, the imports and the docstring aside."""
    body = ast.parse((EXAMPLES / "minimal" / "__main__.py").read_text()).body
    statements = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(statements) - 1 <= 10


def test_ha(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("the backup's private key\n")
    engine, exported = run("ha", "prod", {"ha:backupRecipient": PEM, "ha:backupKey": str(key)})
    assert set(exported) == {"endpoint", "kubeconfig", "identity"}
    nodes = [name for name in engine.made if name.endswith("-node")]
    assert len(nodes) == 5
    control, worker = engine.data("ha-rack1-n1-node"), engine.data("ha-rack2-n2-node")
    assert control["settings"]["api_server"]["args"]["max-requests-inflight"] == "800"
    assert control["settings"]["kubelet"]["maxPods"] == worker["settings"]["kubelet"]["maxPods"]
    assert control["backup"]["keep"] == 28
    assert "api_server" not in worker["settings"], "a worker knows nothing of API servers"
    batch = engine.data("ha-nodes")["nodes"]["rack2-n2"]
    assert batch["taints"][0]["key"] == "example.org/dedicated"
    assert batch["labels"]["topology.kubernetes.io/zone"] == "rack2"


def test_addon(run: Run) -> None:
    """A team's component comes when all nodes are Ready, and its access stays a secret."""
    order: list[str] = []
    keep = Engine.new_resource

    def new_resource(self: Engine, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        order.append(args.name)
        return keep(self, args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "new_resource", new_resource)
        engine, exported = run("addon", "dev", {})
    assert set(exported) == {"kubeconfig"}
    assert order.index("team-nodes") < order.index("hello-objects") < order.index("hello-rollout")
    made = engine.made["hello-objects"].inputs
    kinds = [found["kind"] for found in json.loads(made["stdin"])["items"]]
    assert kinds == ["Deployment", "Service"]
    for name in ("hello-objects", "hello-rollout"):
        commands = {k: v for k, v in engine.made[name].inputs.items() if k in ("create", "delete")}
        assert not any("identity" in text for text in commands.values())


@pytest.mark.parametrize(("stack", "other"), [("trial", "live"), ("live", "trial")])
def test_twins(run: Run, tmp_path: Path, stack: str, other: str) -> None:
    """One program, and what both have from one file; each knows the other as its sibling."""
    shutil.copytree(EXAMPLES / "twins", tmp_path / "twins")
    for name in (stack, other):
        file = tmp_path / "twins" / f"Pulumi.{name}.yaml.example"
        shutil.copy(file, file.with_suffix(""))
    engine, exported = run(str(tmp_path / "twins"), stack, {})
    assert set(exported) == {"endpoint", "kubeconfig"}
    node = engine.data(f"{stack}-{stack[0]}1-node")
    assert node["settings"]["kubelet"]["maxPods"] == 150
    (sibling,) = load(stack, tmp_path / "twins").siblings
    assert (sibling.stack, sibling.near) == (other, True)
    assert sibling.cluster.kubelet == load(stack, tmp_path / "twins").cluster.kubelet


def test_exemptions() -> None:
    """Each names a rule that there is, and a reason; tests/engine has them judge examples/twins."""
    levels = ["--levels", str(EXAMPLES / "policies" / "exemptions.json")]
    pack = ["--pack", str(EXAMPLES.parent / "policies")]
    done = CliRunner().invoke(cli, ["policies", *pack, *levels])
    assert done.exit_code == 0, done.exception
    assert "exempt: trial (nothing on it is worth a backup" in done.output


def test_automation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program that it hands to Pulumi, and what it asks of Pulumi."""
    example = runpy.run_path(str(EXAMPLES / "automation" / "__main__.py"))
    engine, exported, asked = Engine(), {}, []
    monkeypatch.setattr(shared, "survey", blank)
    monkeypatch.setattr(pulumi, "export", exported.__setitem__)

    class Stack:
        def __init__(self, name: str, project: str, program: Callable[[], None]) -> None:
            asked.append((project, name))
            self.program = program

        def preview(self, **options: Any) -> None:
            mocks.set_mocks(engine, project="automation", stack="dev", preview=True)
            pulumi.runtime.test(self.program)()

    monkeypatch.setattr(pulumi.automation, "create_or_select_stack", Stack)
    example["main"]("preview", "dev")
    assert asked == [("automation", "dev")]
    assert set(exported) == {"endpoint", "kubeconfig"}
    assert {"team-bootstrap", "team-n1-node", "team-n2-node", "team-nodes"} <= set(engine.made)
    with pytest.raises(SystemExit, match="the Pulumi CLI on the PATH"):
        example["main"]("install", "dev")
