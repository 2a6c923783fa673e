"""A resource provider of any kind: the engine's protocol around a table of resources."""

# ruff: noqa: N802 - the methods have the names of the protocol.

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf import empty_pb2

from lab.engine import serve
from lab.engine.properties import (
    UNKNOWN,
    Properties,
    Secret,
    Unknown,
    diff,
    dump,
    load,
    reveal,
)
from lab.engine.protos import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
)


class OperationError(Exception):
    """An operation failed; the text is what the user reads."""


@dataclass
class Call:
    """What an operation may use besides its inputs.

    status: shows a line beside the resource while it is being worked on.
    warn, error: leave a message in the update's diagnostics.
    cancelled: set when the user has interrupted the update.
    """

    status: Callable[[str], Awaitable[None]]
    warn: Callable[[str], Awaitable[None]]
    error: Callable[[str], Awaitable[None]]
    cancelled: asyncio.Event


@dataclass(frozen=True)
class Resource:
    """One resource type.

    inputs: the names of its inputs, each of which is an output of the same name as well.
    outputs: the names of the outputs that its operations compute.
    secret: outputs that are always secret.
    check: completes the inputs and returns them, with a reason for each that is refused.
    replaces: whether a change at this property path makes a new resource.
    create: `(call, inputs)` to `(id or None, outputs)`; None lets the provider choose one.
    update: `(call, inputs, old state)` to outputs; None when every change replaces.
    delete: `(call, state)`; None when there is nothing to do.
    """

    inputs: frozenset[str]
    outputs: frozenset[str]
    check: Callable[[Properties], tuple[Properties, dict[str, str]]]
    replaces: Callable[[str], bool]
    create: Callable[[Call, Properties], Awaitable[tuple[str | None, Properties]]]
    update: Callable[[Call, Properties, Properties], Awaitable[Properties]] | None = None
    delete: Callable[[Call, Properties], Awaitable[None]] | None = None
    secret: frozenset[str] = field(default_factory=frozenset)


def main(name: str, version: str, resources: Mapping[str, Resource], engine: str) -> None:
    """Serve the provider `name` to the engine listening on the address `engine`."""

    def register(server: grpc.aio.Server) -> None:
        # Opened here, not earlier: a channel belongs to the event loop it is made in.
        channel = grpc.aio.insecure_channel(engine, options=serve.MESSAGE_SIZE)
        servicer = _Provider(name, version, resources, engine_pb2_grpc.EngineStub(channel))
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)

    serve.run(register)


class _Provider(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[misc]
    def __init__(
        self, name: str, version: str, resources: Mapping[str, Resource], engine: Any
    ) -> None:
        self.name = name
        self.version = version
        self.resources = resources
        self.engine = engine
        self.cancelled = asyncio.Event()

    # What the plugin is and can do.

    async def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    async def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.version)

    async def GetSchema(self, request: Any, context: Any) -> Any:
        """Only names, no types: enough to list what the stand-in knows."""
        resources = {
            token: {
                "inputProperties": {key: {"$ref": "pulumi.json#/Any"} for key in r.inputs},
                "properties": {key: {"$ref": "pulumi.json#/Any"} for key in r.inputs | r.outputs},
            }
            for token, r in self.resources.items()
        }
        schema = {"name": self.name, "version": self.version, "resources": resources}
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema))

    async def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    async def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    async def Cancel(self, request: Any, context: Any) -> Any:
        self.cancelled.set()
        return empty_pb2.Empty()

    # The life of a resource.

    async def Check(self, request: Any, context: Any) -> Any:
        resource = await self._resource(request.urn, context)
        inputs, failures = resource.check(load(request.news))
        return provider_pb2.CheckResponse(
            inputs=dump(inputs),
            failures=[
                provider_pb2.CheckFailure(property=key, reason=reason)
                for key, reason in failures.items()
            ],
        )

    async def Diff(self, request: Any, context: Any) -> Any:
        resource = await self._resource(request.urn, context)
        changes = diff(load(request.old_inputs), load(request.news))
        response = provider_pb2.DiffResponse(
            changes=(
                provider_pb2.DiffResponse.DIFF_SOME
                if changes
                else provider_pb2.DiffResponse.DIFF_NONE
            ),
            hasDetailedDiff=True,
        )
        replaced = {path for path in changes if resource.replaces(path)}
        response.diffs.extend(sorted({_head(path) for path in changes}))
        response.replaces.extend(sorted({_head(path) for path in replaced}))
        for path, kind in changes.items():
            kind = f"{kind}_replace" if path in replaced else kind
            response.detailedDiff[path].kind = provider_pb2.PropertyDiff.Kind.Value(kind.upper())
        return response

    async def Create(self, request: Any, context: Any) -> Any:
        resource = await self._resource(request.urn, context)
        inputs = load(request.properties)
        state = _mirrored(resource, inputs)
        if request.preview:
            state |= dict.fromkeys(resource.outputs, UNKNOWN)
            return provider_pb2.CreateResponse(properties=dump(_hidden(resource, state)))
        async with _reported(context):
            identity, outputs = await resource.create(self._call(request.urn), reveal(inputs))
            state |= outputs
        return provider_pb2.CreateResponse(
            id=identity or _new_id(request.urn), properties=dump(_hidden(resource, state))
        )

    async def Update(self, request: Any, context: Any) -> Any:
        resource = await self._resource(request.urn, context)
        assert resource.update is not None, "a change that cannot be an update was not a replace"
        olds, inputs = load(request.olds), load(request.news)
        state = _mirrored(resource, inputs)
        if request.preview:
            changed = _changed(resource, olds, inputs)
            state |= {key: UNKNOWN if changed else olds.get(key) for key in resource.outputs}
            return provider_pb2.UpdateResponse(properties=dump(_hidden(resource, state)))
        async with _reported(context):
            state |= await resource.update(self._call(request.urn), reveal(inputs), reveal(olds))
        return provider_pb2.UpdateResponse(properties=dump(_hidden(resource, state)))

    async def Read(self, request: Any, context: Any) -> Any:
        """As it is recorded: like the official plugins, there is nothing to look at."""
        return provider_pb2.ReadResponse(
            id=request.id, properties=request.properties, inputs=request.inputs
        )

    async def Delete(self, request: Any, context: Any) -> Any:
        resource = await self._resource(request.urn, context)
        if resource.delete is not None:
            async with _reported(context):
                await resource.delete(self._call(request.urn), reveal(load(request.properties)))
        return empty_pb2.Empty()

    async def _resource(self, urn: str, context: Any) -> Resource:
        token = urn.split("::")[2].split("$")[-1]
        if token not in self.resources:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{token}: not a type of the lab's stand-in for {self.name}.\n"
                f"It has only {', '.join(sorted(self.resources))}.\n"
                f"Install the official plugin: pulumi plugin install resource {self.name}",
            )
        return self.resources[token]

    def _call(self, urn: str) -> Call:
        async def log(severity: Any, message: str, ephemeral: bool) -> None:
            await self.engine.Log(
                engine_pb2.LogRequest(
                    severity=severity, message=message, urn=urn, ephemeral=ephemeral
                )
            )

        return Call(
            status=lambda message: log(engine_pb2.INFO, message, ephemeral=True),
            warn=lambda message: log(engine_pb2.WARNING, message, ephemeral=False),
            error=lambda message: log(engine_pb2.ERROR, message, ephemeral=False),
            cancelled=self.cancelled,
        )


@asynccontextmanager
async def _reported(context: Any) -> AsyncIterator[None]:
    """Turns a failed operation into the error that the engine shows."""
    try:
        yield
    except OperationError as error:
        await context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _head(path: str) -> str:
    """The property that a path begins with."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _mirrored(resource: Resource, inputs: Properties) -> Properties:
    return {key: value for key, value in inputs.items() if key in resource.inputs}


def _changed(resource: Resource, olds: Properties, inputs: Properties) -> bool:
    """Whether an update may give other outputs: an input of old is another one or unknown."""
    return any(
        isinstance(reveal(inputs.get(key)), Unknown)
        or (key in olds and olds[key] != inputs.get(key))
        for key in resource.inputs
    )


def _hidden(resource: Resource, state: Properties) -> Properties:
    """The state with what is always secret marked so."""
    return {
        key: Secret(value) if key in resource.secret and not isinstance(value, Secret) else value
        for key, value in state.items()
    }


def _new_id(urn: str) -> str:
    import secrets

    return urn.split("::")[-1] + secrets.token_hex(4)
