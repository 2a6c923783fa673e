"""An example on the real engine, with groundplane from a wheel and nothing of the checkout."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from engine_harness import Stack
from support import release

EXAMPLE = release.CHECKOUT / "examples" / "minimal"


def test_an_example_runs_from_a_wheel(plain_stack: Stack, tmp_path: Path) -> None:
    """It comes as far as the look at its hosts, which are not there, and changes nothing."""
    (tmp_path / "release").mkdir()
    environment = release.environment(release.build(tmp_path / "release"), tmp_path / "env")
    options = {"toolchain": "pip", "virtualenv": str(environment)}
    project = {"name": "minimal", "runtime": {"name": "python", "options": options}}
    (plain_stack.folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    program = (EXAMPLE / "__main__.py").read_text()
    where = "import groundplane\npulumi.log.info(f'from {groundplane.__file__}')\n"
    (plain_stack.folder / "__main__.py").write_text(program.replace("\nkey =", f"\n{where}key ="))
    plain_stack.cli("stack", "init", "dev")
    config = yaml.safe_load((EXAMPLE / "Pulumi.dev.yaml.example").read_text())["config"]
    (plain_stack.folder / "Pulumi.dev.yaml").write_text(json.dumps({"config": config}))
    text = plain_stack.fail(verb="preview")
    assert f"from {environment}/lib/" in text
    for host in ("n1  reachability  192.0.2.11:22", "n2  reachability  192.0.2.12:22"):
        assert host in text
    assert "nothing was changed" in text
