"""A `kubernetes` plugin that knows every kind and makes nothing: for what the engine hands on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.engine import provider

# fmt: off
INPUTS = frozenset({
    "apiVersion", "chart", "data", "kind", "metadata", "repositoryOpts", "roleRef", "spec",
    "stringData", "subjects", "values", "version",
})
# fmt: on


async def create(call: provider.Call, inputs: Any) -> tuple[str | None, Any]:
    return None, {}


async def update(call: provider.Call, inputs: Any, state: Any) -> Any:
    return {}


class Every(dict[str, provider.Resource]):
    """One and the same for every type."""

    def __contains__(self, token: object) -> bool:
        return True

    def __missing__(self, token: str) -> provider.Resource:
        return provider.Resource(
            inputs=INPUTS,
            outputs=frozenset(),
            check=lambda inputs: (inputs, {}),
            replaces=lambda path: path == "metadata.name",
            create=create,
            update=update,
        )


if __name__ == "__main__":
    provider.main("kubernetes", "4.34.2", Every(), sys.argv[-1])
