"""The engine's gRPC messages, without the SDK around them.

The Pulumi SDK ships the generated modules in `pulumi/runtime/proto`, but importing them from
there runs the whole SDK first, which more than doubles the time a plugin takes to start. This
package only borrows the folder: `from lab.engine.protos import provider_pb2`.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

_sdk = find_spec("pulumi")
if _sdk is None or _sdk.origin is None:
    raise ImportError(
        "lab.engine: the Pulumi SDK is not installed for this interpreter.\n"
        "The stand-ins take the engine's protocol from it.\n"
        "Install the project's requirements into .venv (make does)."
    )
__path__ = [str(Path(_sdk.origin).parent / "runtime" / "proto")]

# For type checkers only: at run time these are modules of that folder.
engine_pb2: Any
engine_pb2_grpc: Any
language_pb2: Any
language_pb2_grpc: Any
plugin_pb2: Any
provider_pb2: Any
provider_pb2_grpc: Any
