"""The plugin for other languages, started and asked by the real engine.

The program is what an SDK that Pulumi generates makes of one: a component that is registered as
remote. It is in Python, whose language host is here; a YAML program is run where its host is too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from engine_harness import Stack
from support.specs import KEY

from groundplane.graph import graph
from groundplane.provider import generate
from lab import parts

PLUGIN = Path(__file__).parents[2] / "plugin"
HOSTS = [
    {"name": "cp1", "address": "192.0.2.11", "hostKey": KEY, "role": "control-plane"},
    {"name": "w1", "address": "192.0.2.101", "hostKey": KEY, "role": "worker"},
]
CLUSTER = {
    "name": "metal",
    "kubernetes": {"version": "1.36.4"},
    "podCidrs": ["10.244.0.0/16"],
    "serviceCidrs": ["10.96.0.0/16"],
    "endpoint": {"address": "192.0.2.10", "routerId": 51},
    "registry": {"address": "registry.example.org", "username": "u"},
}
STEPS = {
    *("teardown", "bootstrap", "membership", "kubeconfig", "nodes"),
    *(f"{host}-{step}" for host in ("cp1", "w1") for step in
      ("scripts", "bundle", "prepare", "secrets", "node")),
}  # fmt: skip

# The plugin as it is, but for hosts that only look blank.
BLANK = """
import pulumi
from groundplane import preflight, survey
from groundplane.provider.component import main
from groundplane.remote.facts import HostSeen
from groundplane.remote.observation import Observation

def observe(hosts, expect):
    pulumi.log.info("looked at " + ",".join(host.address for host in hosts))
    seen = {host.name: HostSeen(host.name, arch="amd64", packager="apt") for host in hosts}
    return Observation(expect.stack, seen)

survey.observe, preflight.require = observe, lambda *_: []
main()
"""
PROGRAM = """
class KubeadmCluster(pulumi.ComponentResource):
    kubeconfig: Output[str]
    nodes: Output[dict]
    def __init__(self, name, inputs):
        outputs = dict.fromkeys(["endpoint", "identity", "kubeconfig", "nodes"])
        token = "groundplane:index:KubeadmCluster"
        super().__init__(token, name, {{**outputs, **inputs}}, None, remote=True)

inputs = json.loads({inputs!r})
vm = local.Command("vm", create="printf 192.0.2.101")
inputs["hosts"][1]["address"] = vm.stdout
team = KubeadmCluster("metal", {{**inputs, "registryPassword": Output.secret("canary-secret")}})
pulumi.export("nodes", team.nodes)
local.Command("addon", create="true", opts=ResourceOptions(depends_on=[team]))
"""


@pytest.fixture
def blank_plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "PulumiPlugin.yaml").write_text("runtime: python\n")
    (folder / "__main__.py").write_text(BLANK)
    return folder


def project(plugin: Path, runtime: str = "python") -> dict[str, object]:
    providers = [{"name": "groundplane", "path": str(plugin)}]
    return {"name": "conformance", "runtime": runtime, "plugins": {"providers": providers}}


def write(stack: Stack, found: dict[str, object]) -> None:
    (stack.folder / "Pulumi.yaml").write_text(yaml.safe_dump(found))


def test_the_schema_is_the_one_that_is_shipped(plain_stack: Stack) -> None:
    """As `pulumi package add` asks for it, of the plugin's own folder."""
    text = plain_stack.cli("package", "get-schema", str(PLUGIN))
    given = json.loads(text[text.index("{") :])
    shipped = json.loads(generate.SCHEMA.read_text())
    assert given["version"] == shipped["version"]
    assert set(given["resources"]) == set(shipped["resources"])
    for name, kind in shipped["types"].items():
        assert set(given["types"][name]["properties"]) == set(kind["properties"])
        assert set(given["types"][name].get("required") or ()) == set(kind.get("required") or ())


def test_a_program_is_previewed(plain_stack: Stack, blank_plugin: Path) -> None:
    """All steps of the library are in it, under their names, and the secret is not; also while the
    address of a host is not known yet."""
    write(plain_stack, project(blank_plugin))
    inputs = json.dumps({"hosts": HOSTS, "cluster": CLUSTER})
    outcome = plain_stack.preview(PROGRAM.format(inputs=inputs))
    made = {name for name, verb in outcome.steps.items() if verb == "create"}
    assert {f"metal-{step}" for step in STEPS} | {"metal", "addon"} <= made
    assert "canary-secret" not in outcome.text
    assert_looked_at(outcome.text, "192.0.2.11")
    assert "w1: where to reach them is known to the update only" in outcome.text


def assert_looked_at(text: str, *addresses: str) -> None:
    """By the plugin, which says so."""
    assert set(re.findall(r"looked at (\S+)", text)) == {",".join(addresses)}


def test_an_update_knows_the_address(idle_stack: Stack, blank_plugin: Path) -> None:
    """It looks once all addresses are there; the next preview knows them from the state."""
    write(idle_stack, project(blank_plugin))
    program = PROGRAM.format(inputs=json.dumps({"hosts": HOSTS, "cluster": CLUSTER}))
    outcome = idle_stack.up(program)
    assert {f"metal-{step}" for step in STEPS} <= set(outcome.steps)
    assert_looked_at(outcome.text, "192.0.2.11", "192.0.2.101")
    data = json.loads(idle_stack.resource("metal-w1-prepare")["inputs"]["stdin"])
    assert data["address"] == "192.0.2.101"
    assert_looked_at(idle_stack.preview().text, "192.0.2.11", "192.0.2.101")


def test_the_preview_is_drawn(plain_stack: Stack, blank_plugin: Path) -> None:
    """By `groundplane graph`, from what the engine prints: what waits for the component too."""
    write(plain_stack, project(blank_plugin))
    plain_stack.write(PROGRAM.format(inputs=json.dumps({"hosts": HOSTS, "cluster": CLUSTER})))
    text = plain_stack.cli("preview", "--json")
    shown = graph(json.JSONDecoder().raw_decode(text[text.index("{") :])[0])
    assert shown.lanes == ["metal", "cp1", "w1", "program"]  # where `vm` is, too
    (addon,) = [urn for urn, step in shown.steps.items() if step.name == "addon"]
    assert "metal-nodes" in [shown.steps[urn].name for urn in shown.after[addon]]


def test_an_error_is_shown_as_it_is(plain_stack: Stack) -> None:
    """By the plugin itself: what is wrong, all at once, without a traceback of ours."""
    write(plain_stack, project(PLUGIN))
    bad = [{**HOSTS[0], "role": "boss"}, {**HOSTS[1], "hostKey": "ssh-rsa"}]
    inputs = json.dumps({"hosts": bad, "cluster": CLUSTER})
    text = plain_stack.fail(PROGRAM.format(inputs=inputs), verb="preview")
    assert "metal: hosts.0.role (cp1): 'boss' is not known here." in text
    assert "metal: hosts.1.hostKey (w1): not a public host key" in text
    # The program may end with a traceback of its own, since its registration never comes back.
    assert "groundplane/provider" not in text, "a traceback of the plugin"
    assert "canary-secret" not in text


def yaml_host() -> Path | None:
    """The folder of Pulumi's language host for YAML, if this computer has it."""
    made = parts.binary("pulumi-language-yaml")
    found = os.environ.get("GROUNDPLANE_YAML_HOST") or shutil.which("pulumi-language-yaml")
    return Path(found).parent if found else made.parent if made.exists() else None


@pytest.mark.skipif(yaml_host() is None, reason="no YAML host; GROUNDPLANE_YAML_HOST may name one")
def test_a_yaml_program(idle_stack: Stack, blank_plugin: Path) -> None:
    """Previewed while an address is not known, updated, and unchanged."""
    idle_stack.environment["PATH"] = f"{yaml_host()}:{idle_stack.environment['PATH']}"
    properties = {
        "hosts": [HOSTS[0], {**HOSTS[1], "address": "${vm.stdout}"}],
        "cluster": CLUSTER,
        "registryPassword": {"fn::secret": "canary-secret"},
    }
    vm = {"type": "command:local:Command", "properties": {"create": "printf 192.0.2.101"}}
    team = {"type": "groundplane:KubeadmCluster", "properties": properties}
    resources = {"vm": vm, "metal": team}
    outputs = {"kubeconfig": "${metal.kubeconfig}"}
    found = project(blank_plugin, "yaml") | {"resources": resources, "outputs": outputs}
    write(idle_stack, found)
    outcome = idle_stack.preview()
    assert {f"metal-{step}" for step in STEPS} <= set(outcome.steps)
    assert_looked_at(outcome.text, "192.0.2.11")
    outcome = idle_stack.up()
    assert_looked_at(outcome.text, "192.0.2.11", "192.0.2.101")
    assert "canary-secret" not in outcome.text
    assert_looked_at(idle_stack.preview().text, "192.0.2.11", "192.0.2.101")
