"""Stacks on disk."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from spec_support import PLATFORM, SITE, Write, at, put


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes the good stack `metal` with a case's changes, and returns its folder."""
    monkeypatch.chdir(tmp_path)

    def write(case: dict[str, Any]) -> Path:
        site, platform = copy.deepcopy(SITE), copy.deepcopy(PLATFORM)
        for document, name in ((site, "site"), (platform, "platform")):
            for path, value in case.get(name, {}).items():
                put(document, path, value)
        for path in case.get("drop", ()):
            parent, _, key = path.rpartition("/")
            del (at(site, parent) if parent else site)[key]
        config = {"groundplane:site": site, **case.get("config", {})}
        # JSON is YAML, and is read alike by versions 1.1 and 1.2.
        (tmp_path / "platform.yaml").write_text(json.dumps(platform))
        (tmp_path / "Pulumi.metal.yaml").write_text(json.dumps({"config": config}))
        return tmp_path

    return write
