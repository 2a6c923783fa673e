"""What the product relies on in the Kubernetes plugin, through the functions that add-ons use.

On a real API server without nodes: charts here hold nothing that would have to run.
"""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import Api, api, until
from engine_harness import Stack

from lab import parts
from lab.parts import build, recipes, store

TESTS = Path(__file__).parents[1]

# An add-on whose parts `settings.json` decides. The kubeconfig comes from a command, so that a
# first preview does not know it.
PROGRAM = f"""
import sys
sys.path[:0] = [{str(TESTS)!r}]
from dataclasses import replace

from pulumi_kubernetes import Provider
from support.specs import spec

from groundplane.catalogue import product
from groundplane.ground import Ground, chart, namespace, objects, password
from groundplane.registry import Addon

settings = json.loads((here / "settings.json").read_text())
cluster = pulumi.ComponentResource("test:index:Cluster", "cluster")
access = local.Command("access", create="cat " + settings["kubeconfig"], logging="none",
                       opts=ResourceOptions(parent=cluster))
provider = Provider("provider", kubeconfig=Output.secret(access.stdout),
                    cluster_identifier="test", enable_server_side_apply=True,
                    opts=ResourceOptions(parent=cluster))
made = replace(spec(), catalogue=product().merge({{"addons": settings["catalogue"]}}))
entry = Addon("trial", object, object, "trial", tuple(settings["catalogue"]))
ground = Ground(made, cluster, provider, entry, (access,))
if settings["there"]:
    trial = pulumi.ComponentResource("test:index:Trial", "trial")
    space = namespace(trial, ground)
    secret = password(trial, ground, "trial-admin", {{"password": None, "user": "me"}}, [space])
    last = [secret]
    for source, values in settings["values"].items():
        last = [chart(trial, ground, source, values, after=last, wait=settings["wait"])]
    objects(trial, ground, settings["objects"], after=last)
"""
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.example.org"},
    "spec": {
        "group": "example.org",
        "names": {"kind": "Greeting", "plural": "greetings"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"text": {"type": "string"}}}
                        },
                    }
                },
            }
        ],
    },
}
TEMPLATES = {
    "words.yaml": """\
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: {{ .Release.Name }}-words
          namespace: {{ .Release.Namespace }}
        data:
          greeting: {{ .Values.greeting | quote }}
        """,
    "service.yaml": """\
        apiVersion: v1
        kind: Service
        metadata:
          name: {{ .Release.Name }}
          namespace: {{ .Release.Namespace }}
        spec:
          ports:
            - port: {{ .Values.port }}
        """,
    "hook.yaml": """\
        apiVersion: v1
        kind: ConfigMap
        metadata:
          name: {{ .Release.Name }}-hook
          namespace: {{ .Release.Namespace }}
          annotations:
            helm.sh/hook: pre-install,pre-upgrade
        data:
          greeting: {{ .Values.greeting | quote }}
        """,
    "own.yaml": """\
        {{- if .Values.own }}
        apiVersion: example.org/v1
        kind: Greeting
        metadata:
          name: own
          namespace: {{ .Release.Namespace }}
        spec:
          text: {{ .Values.greeting | quote }}
        {{- end }}
        """,
}


@pytest.fixture(scope="module", autouse=True)
def plugin() -> None:
    if not parts.binary("pulumi-resource-kubernetes").exists():
        pytest.skip("needs the plugin: python -m lab.parts.build pulumi-kubernetes")


@pytest.fixture(scope="module")
def server(plugin: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with store.locked(print):
        for name in ("kubernetes", "etcd"):
            part = recipes.part(name)
            if not build.home(part.name, part.version).exists():
                build.make(part, print)
    with api(tmp_path_factory.mktemp("api")) as made:
        yield made


class Trial:
    """The program's settings, and what is to be seen of them in the cluster."""

    def __init__(self, stack: Stack, server: Api) -> None:
        self.stack, self.server = stack, server
        self.chart = stack.folder / "charts/greeter"
        (self.chart / "templates").mkdir(parents=True)
        (self.chart / "crds").mkdir()
        (self.chart / "crds/greetings.yaml").write_text(yaml.safe_dump(CRD))
        for name, text in TEMPLATES.items():
            (self.chart / "templates" / name).write_text(textwrap.dedent(text))
        (self.chart / "values.yaml").write_text("greeting: hello\nport: 80\nown: false\n")
        self.settings: dict[str, Any] = {
            "there": True,
            "wait": True,
            "kubeconfig": str(server.folder / "kubeconfig"),
            "values": {"greeter": {}},
            "objects": [],
            "catalogue": {},
        }
        self.offer("1.0.0")
        self.set()
        stack.write(PROGRAM)

    def offer(self, version: str, kind: str = "release") -> None:
        about = {"apiVersion": "v2", "name": "greeter", "version": version}
        (self.chart / "Chart.yaml").write_text(yaml.safe_dump(about))
        entry = {"kind": kind, "version": version, "chart": str(self.chart)}
        self.set(catalogue={"greeter": entry})

    def set(self, **settings: Any) -> None:
        self.settings |= settings
        (self.stack.here / "settings.json").write_text(json.dumps(self.settings))

    def words(self, name: str = "greeter-words") -> str | None:
        found = self.server.get(f"/api/v1/namespaces/trial/configmaps/{name}")
        return found and str(found["data"]["greeting"])

    def revisions(self) -> list[str]:
        """The states of the release, oldest first."""
        path = "/api/v1/namespaces/trial/secrets?labelSelector=owner%3Dhelm"
        kept = [secret["metadata"]["labels"] for secret in self.server.get(path)["items"]]
        return [each["status"] for each in sorted(kept, key=lambda each: int(each["version"]))]


@pytest.fixture
def trial(plain_stack: Stack, server: Api) -> Iterator[Trial]:
    made = Trial(plain_stack, server)
    yield made
    if server.ready():
        made.set(there=False)
        made.stack.up()
        until(lambda: server.get("/api/v1/namespaces/trial") is None, "the namespace is gone")


def changed(steps: dict[str, str]) -> dict[str, str]:
    return {name: op for name, op in steps.items() if op != "same"}


def test_a_first_preview_knows_no_cluster(trial: Trial) -> None:
    steps = trial.stack.preview().steps
    assert steps["trial-greeter"] == steps["trial-namespace-trial"] == "create"


def test_a_releases_life(trial: Trial) -> None:
    """Installed with its hook, unchanged by the next update, upgraded by another value."""
    trial.stack.up()
    space = trial.server.get("/api/v1/namespaces/trial")["metadata"]["labels"]
    assert space["pod-security.kubernetes.io/enforce"] == "restricted"
    assert (trial.words(), trial.words("greeter-hook")) == ("hello", "hello")
    assert trial.revisions() == ["deployed"]
    assert changed(trial.stack.up().steps) == {}
    trial.set(values={"greeter": {"greeting": "good morning"}})
    assert changed(trial.stack.preview().steps) == {"trial-greeter": "update"}
    trial.stack.up()
    assert (trial.words(), trial.words("greeter-hook")) == ("good morning", "good morning")
    assert trial.revisions() == ["superseded", "deployed"]


def test_an_upgrade_that_fails_goes_back(trial: Trial) -> None:
    trial.stack.up()
    trial.offer("1.1.0")
    trial.set(values={"greeter": {"greeting": "good night", "port": 99999}})
    assert "99999" in trial.stack.fail()
    assert trial.words() == "hello"
    assert trial.revisions()[-1] == "deployed"
    trial.offer("1.1.1")
    trial.set(values={"greeter": {"greeting": "good night"}})
    trial.stack.up()
    assert trial.words() == "good night"
    assert changed(trial.stack.preview().steps) == {}


def test_a_first_install_that_fails_leaves_nothing(trial: Trial) -> None:
    trial.set(values={"greeter": {"port": 99999}})
    assert "99999" in trial.stack.fail()
    assert trial.words() is None
    trial.set(values={"greeter": {}})
    trial.stack.up()
    assert trial.words() == "hello"


def test_a_chart_without_hooks_shows_its_objects(trial: Trial) -> None:
    """Its kinds come before what is of them, and what follows the chart waits for all of it."""
    (trial.chart / "templates/hook.yaml").unlink()
    trial.offer("1.0.0", kind="chart")
    after = {
        "apiVersion": "example.org/v1",
        "kind": "Greeting",
        "metadata": {"name": "after", "namespace": "trial"},
        "spec": {"text": "hello"},
    }
    trial.set(values={"greeter": {"own": True}}, objects=[after])
    trial.stack.up()
    path = "/apis/example.org/v1/namespaces/trial/greetings"
    assert {g["metadata"]["name"] for g in trial.server.get(path)["items"]} == {"own", "after"}
    assert changed(trial.stack.up().steps) == {}
    trial.set(values={"greeter": {"own": True, "greeting": "good morning"}})
    steps = changed(trial.stack.preview().steps)
    assert sorted(steps.values()) == ["update", "update"], steps
    trial.stack.up()
    assert trial.words() == "good morning"


def test_what_is_secret_is_in_the_state_encrypted(trial: Trial) -> None:
    trial.stack.up()
    secret = trial.server.get("/api/v1/namespaces/trial/secrets/trial-admin")["data"]
    password = base64.b64decode(secret["password"]).decode()
    assert len(password) == 32
    assert password not in trial.stack.state()
    assert secret["password"] not in trial.stack.state()


def test_another_kubeconfig_replaces_nothing(trial: Trial) -> None:
    trial.stack.up()
    other = trial.server.folder / "other-kubeconfig"
    other.write_text(trial.server.kubeconfig.replace('"admin"', '"somebody"'))
    trial.set(kubeconfig=str(other))
    steps = changed(trial.stack.up().steps)
    assert "replace" not in steps.values()
    assert set(steps) == {"access"}


def test_what_somebody_else_owns_is_not_taken(trial: Trial) -> None:
    """Server side: two managers of a field are a conflict, and no silent overwrite."""
    trial.stack.up()
    own = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "greeter-words", "namespace": "trial"},
        "data": {"greeting": "mine"},
    }
    trial.set(objects=[own])
    text = trial.stack.fail()
    assert "exists" in text or "conflict" in text
    assert trial.words() == "hello"


def test_a_destroy_asks_no_api_that_is_dead(
    plain_stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All of it is deleted with the cluster."""
    with api(tmp_path_factory.mktemp("dying")) as dying:
        trial = Trial(plain_stack, dying)
        trial.stack.up()
        assert trial.words() == "hello"
        dying.stop("kube-apiserver")
        trial.stack.destroy()
    assert '"resources"' not in trial.stack.state()
