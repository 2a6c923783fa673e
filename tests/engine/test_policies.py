"""The policy pack on the real engine: each rule on its example, and what the engine hands on."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from engine_harness import Stack, keygen
from policies.policy_support import PACK, examples, settings

from rules import all_rules
from rules.rule import Secret

EXAMPLE = PACK.parent / "examples"
EXAMPLES = examples()
RULES = {rule.name: rule for rule in all_rules()}

# A resource is registered as its SDK does it: by its type and its properties.
REGISTER = """
def register(kind, name, props):
    if kind.startswith("groundplane:") or kind == "kubernetes:helm.sh/v4:Chart":
        pulumi.ComponentResource(kind, name, props).register_outputs(props)
    else:
        pulumi.CustomResource(kind, name, props)

"""
PLATFORM = """
from groundplane.clusters import shared
from groundplane.platform import Platform
from support.seen import {seen}
from support.specs import hosts, spec

shared.survey = {seen}
Platform("metal", spec(hosts(3, 1, key={key!r}), protect=False))
"""


@pytest.fixture
def stack(idle_stack: Stack) -> Stack:
    """One that the pack can judge."""
    if not (PACK / ".venv" / "bin" / "python").exists():
        pytest.fail("no policies/.venv: make it by `make policies/.venv`")
    return idle_stack


def text_of(value: Any) -> str:
    """A value of an example as program text."""
    if isinstance(value, Secret):
        return f"Output.secret({value.value!r})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {text_of(v)}" for k, v in value.items()) + "}"
    return f"[{', '.join(map(text_of, value))}]" if isinstance(value, list) else repr(value)


def program(side: str) -> str:
    """Registers all examples; each resource is called after its rule."""
    calls = [
        f"register({resource['type']!r}, {f'{name}-{number}'!r}, {text_of(resource['props'])})"
        for name, example in EXAMPLES.items()
        for number, resource in enumerate(example[side])
    ]
    return REGISTER + "\n".join(calls)


def judged(
    stack: Stack, verb: str, program: str | None = None, levels: dict[str, Any] | None = None
) -> tuple[bool, dict[tuple[str, str], tuple[str, str]], str]:
    """Runs a verb with the pack: whether it succeeded, (rule, resource) -> (level, message) of
    what was found, and all that was said."""
    if program is not None:
        stack.write(program)
    events = stack.folder / "events.json"
    events.unlink(missing_ok=True)
    (stack.folder / "levels.json").write_text(json.dumps(levels or {}))
    pack = ["--policy-pack", str(PACK), "--policy-pack-config", str(stack.folder / "levels.json")]
    options = ["--yes", "--skip-preview"] if verb == "up" else []
    process = stack.start(verb, *options, *pack, "--event-log", str(events))
    text, _ = process.communicate(timeout=300)
    found = {}
    for line in events.read_text().splitlines():
        if event := json.loads(line).get("policyEvent"):
            key = (event["policyName"], event["resourceUrn"].rpartition("::")[2])
            assert key not in found, key
            found[key] = (event["enforcementLevel"], event["message"])
    return process.returncode == 0, found, text


def levels(side: str) -> dict[str, Any]:
    return {name: settings(example, side) for name, example in EXAMPLES.items()}


def test_examples_pass(stack: Stack) -> None:
    _, found, text = judged(stack, "preview", program("passes"), levels("passes"))
    assert "@v0.1.0" in text
    assert not [key for key in found if key[1].startswith(f"{key[0]}-")]


def test_examples_fail(stack: Stack) -> None:
    """In the preview, each at its rule's level and with its message."""
    fine, found, text = judged(stack, "preview", program("fails"), levels("fails"))
    assert not fine
    own = {rule: (key, said) for (rule, key), said in found.items() if key.startswith(f"{rule}-")}
    assert own.keys() == RULES.keys()
    for name, (key, (level, message)) in own.items():
        assert key.startswith(f"{name}-")
        assert level == RULES[name].level
        first, second, *_ = message.split("\n")
        assert (first, EXAMPLES[name]["finds"] in second) == (RULES[name].summary, True)
    assert "hunter2" not in text


def test_levels_of_a_stack(stack: Stack) -> None:
    """All advisory: the preview succeeds. One that is disabled says nothing, and an exempt resource
    is left alone."""
    chosen = {
        name: {"enforcementLevel": "advisory", **given} for name, given in levels("fails").items()
    }
    chosen["probes"]["enforcementLevel"] = "disabled"
    chosen["service-types"]["exempt"] = {"service-types-*": "until the gateway is there"}
    fine, found, text = judged(stack, "preview", program("fails"), chosen)
    assert fine, text
    own = {rule for rule, key in found if key.startswith(f"{rule}-")}
    assert own == RULES.keys() - {"probes", "service-types"}


UNKNOWN = """
first = local.Command("first", create="true")
pulumi.CustomResource("kubernetes:core/v1:Service", "service", {
    "spec": {"type": first.stdout.apply(lambda _: "NodePort")},
})
local.Command("text", create=Output.concat("register ", Output.secret(first.stdout)))
"""
UNCHECKED = [("service-types", "service"), ("no-secrets-in-commands", "text")]


def test_what_a_preview_does_not_know_fails_the_update(stack: Stack) -> None:
    fine, found, text = judged(stack, "preview", UNKNOWN)
    assert fine, text
    for key in UNCHECKED:
        level, message = found[key]
        assert level == "advisory"
        assert "could not be checked in this preview, since not known: " in message
    fine, found, _ = judged(stack, "up")
    assert not fine
    # The first one that is refused ends the update.
    assert [key for key in UNCHECKED if found.get(key, [""])[0] == "mandatory"]
    made = json.loads(stack.cli("stack", "export"))["deployment"]["resources"]
    names = {each["urn"].rpartition("::")[2] for each in made}
    assert "first" in names
    assert names.isdisjoint(name for _, name in UNCHECKED), "refused before they were made"


def test_a_cluster_of_ours(stack: Stack, tmp_path: Path) -> None:
    """Its steps pass all rules about commands; its plan is seen; what was observed is an output
    that changes without a word."""
    keygen(tmp_path / "key")
    stack.environment["PYTHONPATH"] = ":".join(sys.path)
    wanting = {"backups-scheduled", "backups-drilled", "failure-domains", "cluster-protected"}
    lenient = {"backups-scheduled": "advisory"}
    blank = PLATFORM.format(seen="blank", key=str(tmp_path / "key"))
    fine, found, text = judged(stack, "preview", blank, lenient)
    assert fine, text
    assert {rule for rule, _ in found} == wanting
    assert {key for _, key in found} == {"metal"}
    fine, found, text = judged(stack, "up", None, lenient)
    assert fine, text
    stack.write(PLATFORM.format(seen="standing", key=str(tmp_path / "key")))
    cluster = [
        line
        for line in stack.cli("preview", "--diff").splitlines()
        if "KubeadmCluster::metal" in line or "observed" in line
    ]
    assert not cluster
    state = json.loads(stack.cli("stack", "export"))["deployment"]["resources"]
    (plan,) = (r["outputs"]["plan"] for r in state if r["type"].endswith(":KubeadmCluster"))
    assert plan["observed"] == {"members": {}, "nodes": {}, "silent": []}
    assert plan["hosts"]["cp1"]["role"] == "control-plane"

    # The state alone, without its program: secrets in it stay closed, and that is said.
    exported = stack.folder / "state.json"
    stack.cli("stack", "export", "--file", str(exported))
    del stack.environment["PULUMI_CONFIG_PASSPHRASE"]
    process = stack.start(
        *["policy", "analyze", "--policy-pack", str(PACK), "--file", str(exported)],
        *["--policy-pack-config", str(stack.folder / "levels.json")],
    )
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    assert all(f"{rule}  (groundplane:index:KubeadmCluster: metal)" in text for rule in wanting)
    assert "since not known: connection of Command metal-cp1-node" in text
    assert "mandatory" not in text


TWIN = """
import runpy
from groundplane.clusters import shared
from support.seen import blank

shared.survey = blank
runpy.run_path(os.environ["TWINS"] + "/__main__.py", run_name="__main__")
"""


def test_twins_and_an_exemption(stack: Stack, tmp_path: Path) -> None:
    """examples/twins under examples/policies/exemptions.json: what is tried on the one alone passes
    for the reason that stands there, and what differs by mistake is found on the other, too."""
    twins = tmp_path / "twins"
    shutil.copytree(EXAMPLE / "twins", twins)
    for name in ("trial", "live"):
        (twins / f"Pulumi.{name}.yaml.example").rename(twins / f"Pulumi.{name}.yaml")
    own = twins / "Pulumi.trial.yaml"
    own.write_text(own.read_text() + "      kubelet: {maxPods: 200}\n")
    exemptions = json.loads((EXAMPLE / "policies" / "exemptions.json").read_text())
    stack.environment |= {"PYTHONPATH": ":".join(sys.path), "TWINS": str(twins)}

    def preview(name: str, levels: dict[str, Any]) -> tuple[bool, set[str]]:
        stack.cli("stack", "select", "--create", name)
        shutil.copy(twins / f"Pulumi.{name}.yaml", stack.folder)
        fine, found, text = judged(stack, "preview", TWIN, levels)
        assert "Traceback" not in text
        return fine, {rule for rule, _ in found if rule in exemptions}

    assert preview("trial", exemptions) == (True, set())
    assert preview("live", exemptions) == (False, {"backups-scheduled", "twins-equal"})


def test_a_rule_that_falls_hides_no_other(stack: Stack, tmp_path: Path) -> None:
    """A team's own pack, with a rule of its own that is broken."""
    pack = tmp_path / "pack"
    pack.mkdir()
    for path in PACK.iterdir():
        if path.name != "rules":
            (pack / path.name).symlink_to(path)
    (pack / "rules").mkdir()
    for path in (PACK / "rules").glob("*.py"):
        (pack / "rules" / path.name).write_text(path.read_text())
    (pack / "rules" / "a_team.py").write_text(
        "from rules.rule import MANDATORY, rule\n\n"
        '@rule(MANDATORY, on=("kubernetes:*",), remedy="")\n'
        "def falls(view, settings):\n"
        '    """It falls."""\n'
        '    yield str(1 / len(view["nothing"].text))\n'
    )
    stack.write(
        REGISTER + 'register("kubernetes:core/v1:Service", "s", {"spec": {"type": "NodePort"}})\n'
    )
    process = stack.start("preview", "--policy-pack", str(pack))
    text, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "Service s: the rule itself failed, so look for yourself: ZeroDivisionError at" in text
    assert "Service s: spec.type is not among those that are allowed." in text
    assert os.path.basename(pack) in text
