"""`groundplane review` on previews that the real engine makes now, and that it made when they were
recorded for tests/review. GROUNDPLANE_RECORD=1 records them anew."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from engine_harness import Stack, keygen

from groundplane.review import review, table

HERE = Path(__file__).parent
PREVIEWS = HERE.parent / "review" / "previews"
PROGRAM = """
from groundplane.clusters import shared
from groundplane.platform import Platform
from support.seen import drifted, standing
from support.specs import hosts, spec

def listed(control_planes, workers, without=()):
    made = hosts(control_planes, workers, key={key!r})
    return [host for host in made if host.name not in without]

def platform(machines, change=lambda seen: seen, new=(), **cluster):
    made = spec(machines, protect=False, max_unavailable=2, **cluster)
    shared.survey = lambda _: change(standing(made, new=new))
    Platform("metal", made)

def thing(kind, name, **props):
    pulumi.CustomResource(f"kubernetes:{{kind}}", name, props)

def shop(namespace=True, claim="orders", image="web:1.0.0", replicas=2):
    if namespace:
        thing("core/v1:Namespace", "shop", metadata={{"name": "shop"}})
    thing("core/v1:PersistentVolumeClaim", "orders", metadata={{"name": claim}})
    template = {{"spec": {{"containers": [{{"image": image}}]}}}}
    thing("apps/v1:Deployment", "web", spec={{"replicas": replicas, "template": template}})
    local.Command("disk", create="true", delete="true", stdin=claim)

"""
SCENES = {
    "unchanged": "platform(listed(3, 3)); shop()",
    "settings": 'platform(listed(3, 3), kubelet={"maxPods": 200}); shop(replicas=3)',
    "members": 'platform(listed(4, 3, without=("cp3", "w3")), new=["cp4"]); shop()',
    "workloads": """
platform(listed(3, 3), lambda seen: drifted(seen, "w1", "node"))
shop(namespace=False, claim="orders-2", image="web:2.0.0")
""",
    "destroyed": "",
}


def test_reviews_of_real_previews(idle_stack: Stack, tmp_path: Path) -> None:
    stack = idle_stack
    stack.environment["PYTHONPATH"] = ":".join(sys.path)
    keygen(tmp_path / "key")
    program = PROGRAM.format(key=str(tmp_path / "key"))
    stack.up(program + SCENES["unchanged"])
    for name, scene in SCENES.items():
        stack.write(program + scene)
        process = stack.start("preview", "--json")
        text, _ = process.communicate(timeout=300)
        assert process.returncode == 0, text
        recorded = PREVIEWS / f"{name}.json"
        if os.environ.get("GROUNDPLANE_RECORD"):
            recorded.write_text(json.dumps(trimmed(json.loads(text)), indent=1) + "\n")
        assert table(review(text)) == table(review(recorded.read_text())), name


def trimmed(preview: dict[str, Any]) -> dict[str, Any]:
    """Without what a review does not read, is long, or tells of this computer."""
    for step in preview["steps"]:
        for state in (step.get("oldState"), step.get("newState")):
            for key in ("outputs", "sourcePosition", "stackTrace", "created", "modified"):
                (state or {}).pop(key, None)
            (state or {}).get("inputs", {}).pop("source", None)
    return {"steps": preview["steps"], "changeSummary": preview["changeSummary"]}
