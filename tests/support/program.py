"""A program under Pulumi's mocks: what it registers, with all options."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pulumi
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import reset_options
from pulumi.runtime.stack import wait_for_rpcs
from pulumi.runtime.sync_await import _sync_await
from pulumi_command import local

# How secrets and what is not known yet look on the wire.
SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"

PEM = "-----BEGIN CANARY-----\nnever-in-plain-sight\n-----END CANARY-----\n"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKnwNmOHWSgtY1wG5hZi01OXz2AhlrkFr9So6Hu1f1KS"
"""Of every guest that is made."""
CANARIES = ("never-in-plain-sight", "canary-secret")
IDENTITY = ("ca.crt", "ca.key", "sa.key", "sa.pub", "front-proxy-ca.key", "etcd/ca.key")
BOOTSTRAP = json.dumps(
    {
        "cluster": "0123456789abcdef",
        "identity": {**dict.fromkeys(IDENTITY, PEM), "groundplane.key": "canary-secret"},
    }
)


@dataclass(frozen=True)
class Resource:
    """One registration. Resources are named here by their names and not by their URNs."""

    type: str
    name: str
    inputs: dict[str, Any]
    """As the engine gets them: with marks around secrets, and for what is not known yet."""
    after: frozenset[str]
    deleted_with: str
    parent: str
    protect: bool
    retain: bool
    ignores: frozenset[str]
    provider: str = ""

    @property
    def secrets(self) -> set[str]:
        """The inputs that are secret as a whole."""
        return {k for k, v in self.inputs.items() if _is_secret(v)}

    @property
    def plain(self) -> str:
        """All that the engine keeps and shows in plain text."""
        return json.dumps(_veiled(self.inputs))

    @property
    def stored(self) -> int:
        """About how many bytes the engine keeps of its inputs, and of its outputs, which repeat
        them; tests/engine measures it."""
        return 2 * len(json.dumps(_encrypted(self.inputs), separators=(",", ":")))

    @property
    def connection(self) -> dict[str, Any]:
        """Where it goes; as a whole a secret, since it holds the key."""
        return dict(_bare(self.inputs["connection"]))

    @property
    def data(self) -> dict[str, Any]:
        """What a step is given, a secret one too."""
        text = _bare(self.inputs["stdin"])
        return dict(json.loads(text))

    @property
    def known(self) -> bool:
        return UNKNOWN not in json.dumps(self.inputs)

    @property
    def effective(self) -> dict[str, Any]:
        """Those inputs whose change the engine would see."""
        return {k: v for k, v in self.inputs.items() if k not in self.ignores}


def _is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def _veiled(value: Any) -> Any:
    if isinstance(value, dict):
        return "SECRET" if _is_secret(value) else {k: _veiled(v) for k, v in value.items()}
    return [_veiled(v) for v in value] if isinstance(value, list) else value


def _encrypted(value: Any) -> Any:
    """A secret with a nonce and a tag in base64, an asset with its hash."""
    if _is_secret(value):
        plain = len(json.dumps(value["value"]))
        return {SIGNATURE: SECRET, "ciphertext": "v1:" + "." * (17 + (plain + 18) // 3 * 4)}
    if isinstance(value, dict):
        own = {"hash": "." * 64} if SIGNATURE in value else {}
        return own | {k: _encrypted(v) for k, v in value.items()}
    return [_encrypted(v) for v in value] if isinstance(value, list) else value


def _bare(value: Any) -> Any:
    return value["value"] if _is_secret(value) else value


def _secret(value: str) -> dict[str, str]:
    return {SIGNATURE: SECRET, "value": value}


class _Monitor(mocks.MockMonitor):
    """Keeps each registration, and answers as the engine would."""

    def __init__(self, outputs: Callable[[str, str], dict[str, Any]]) -> None:
        self.outputs = outputs
        self.found: list[Resource] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name in the protocol
        urn = self.make_urn(request.parent, request.type, request.name)
        inputs = json_format.MessageToDict(request.object)
        # A chart is a component whose inside only its plugin knows.
        if request.custom or request.remote:
            self.found.append(
                Resource(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    after=frozenset(map(_name, request.dependencies)),
                    deleted_with=_name(request.deletedWith),
                    parent=_name(request.parent),
                    protect=request.protect,
                    retain=request.retainOnDelete,
                    ignores=frozenset(request.ignoreChanges),
                    provider=_name(request.provider.rpartition("::")[0]),
                )
            )
        given = self.outputs(request.type, request.name)
        for name in request.additionalSecretOutputs:
            if name in given:
                given[name] = _secret(given[name])
        answer = json_format.ParseDict({**inputs, **given}, Struct())
        return resource_pb2.RegisterResourceResponse(urn=urn, id=request.name, object=answer)


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _outputs(kind: str, name: str) -> dict[str, Any]:
    if kind == "command:remote:Command":
        stdout = {"bootstrap": BOOTSTRAP, "kubeconfig": PEM}.get(name.rpartition("-")[2], "")
        if name.endswith("-machine"):
            stdout = HOST_KEY
        return {"stdout": stdout, "stderr": ""}
    if name.startswith("vm "):
        return {"stdout": name.removeprefix("vm ")}
    if kind == "random:index/randomPassword:RandomPassword":
        return {"result": "canary-secret", "bcryptHash": "canary-secret"}
    return {}


def vm(address: str) -> pulumi.Output[str]:
    """The address that another resource of the program gives once it is made."""
    return local.Command(f"vm {address}", create="true").stdout


def _nothing(kind: str, name: str) -> dict[str, Any]:
    return {}


def register(
    program: Callable[[], object], *, preview: bool = False, blank: bool = False
) -> dict[str, Resource]:
    """Runs the program and returns what it registered, by name; without components, but
    for those that a plugin makes.

    `blank`: nothing is created, so that no outputs are known.
    """
    asyncio.set_event_loop(asyncio.new_event_loop())
    reset_options()  # Or what a program before left undone when it failed would be waited for.
    monitor = _Monitor(_nothing if blank else _outputs)
    mocks.set_mocks(
        _Mocks(), project="groundplane", stack="metal", preview=preview, monitor=monitor
    )
    program()
    _sync_await(wait_for_rpcs())
    # Registrations race each other; what must be in order says so.
    found = {r.name: r for r in sorted(monitor.found, key=lambda r: r.name)}
    assert len(found) == len(monitor.found), "two resources have one name"
    return found


class _Mocks(mocks.Mocks):
    """Not asked: the monitor answers by itself."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        raise NotImplementedError

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise NotImplementedError


def resolved(output: pulumi.Output[Any]) -> tuple[Any, bool]:
    """The value of an Output of the program that was run last, and whether it is a secret."""
    return _sync_await(output.future()), _sync_await(output.is_secret())
