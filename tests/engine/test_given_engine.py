"""A Python program whose host another resource gives, on the real engine: it waits within."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from engine_harness import Stack, keygen

PROGRAM = """
import json
from groundplane import preflight, survey
from groundplane.clusters import kubeadm
from groundplane.remote.facts import HostSeen
from groundplane.remote.observation import Observation
from groundplane.spec import Host
from support.specs import hosts, spec

def observe(machines, expect):
    # What is looked at is there: its file was made by the resource that gives its address.
    made = (here / "machine").exists()
    pulumi.log.info(f"looked at {','.join(host.address for host in machines)}; made: {made}")
    seen = {host.name: HostSeen(host.name, arch="amd64", packager="apt") for host in machines}
    return Observation(expect.stack, seen)

survey.observe, preflight.require = observe, lambda *_: []
one, two = hosts(1, 1, key=KEY)
machine = local.Command("machine", create=f"sleep 1; touch {here}/machine; printf 192.0.2.101")
two = Host(**{**dict(two), "address": machine.stdout, "node_address": machine.stdout})
made = kubeadm.KubeadmCluster("metal", spec([one, two], protect=False))
local.Command("after", create="true", opts=ResourceOptions(depends_on=[made.nodes_ready]))
"""


def test_an_update_waits_for_the_machine(idle_stack: Stack, tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    idle_stack.environment["PYTHONPATH"] = ":".join(sys.path)
    program = f"KEY = {str(tmp_path / 'key')!r}\n{PROGRAM}"
    shown = idle_stack.preview(program)
    assert "looked at 192.0.2.11; made: False" in shown.text
    assert {"metal-w1-node", "metal-nodes", "after"} <= set(shown.steps)
    done = idle_stack.up()
    assert "looked at 192.0.2.11,192.0.2.101; made: True" in done.text
    assert set(done.steps) == set(shown.steps)
    data = json.loads(idle_stack.resource("metal-w1-node")["inputs"]["stdin"])
    assert data["address"] == "192.0.2.101"
    assert "looked at 192.0.2.11,192.0.2.101; made: True" in idle_stack.preview().text
