"""The keys of Secrets at rest: all can read before one writes, and none is forgotten."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.host import Done, Host
from support.specs import SECRET, SECRET_FILE

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "encryption.yaml").read_text())
FILE = "/etc/kubernetes/groundplane/encryption.json"
RELOADING = "/run/groundplane/encryption-reloading"


def keys(host: Host) -> dict[int, str]:
    """Generation -> key, the one that is written with first."""
    if not host.there(FILE):
        return {}
    (resources,) = json.loads(host.read(FILE))["resources"]
    assert resources["resources"] == ["secrets"]
    made = resources["providers"][0]["secretbox"]["keys"]
    return {int(key["name"].removeprefix("key")): key["secret"] for key in made}


def secrets(host: Host, asked: int, loaded: str = ":") -> Done:
    """That part of the step `secrets`; `loaded` is what the API server answers."""
    data = {"role": "control-plane", "encryption": asked, "identity": {"groundplane.key": SECRET}}
    return host.bash(f"encryption_loaded() {{ {loaded}; }}; apply", data, step="secrets")


def node(host: Host, asked: int) -> Done:
    """That part of the step `node`, for a host that joins and for one that changes."""
    return host.bash("encryption_apply", {"encryption": asked})


@pytest.fixture
def control_plane(host: Host) -> Host:
    host.write(SECRET_FILE, SECRET, 0o600)
    return host


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_what_each_step_leaves(control_plane: Host, case: dict[str, Any]) -> None:
    host, before = control_plane, case["before"]
    if before:
        assert node(host, max(before)).status == 0
        made = json.loads(host.read(FILE))
        box = made["resources"][0]["providers"][0]["secretbox"]
        box["keys"].sort(key=lambda key: before.index(int(key["name"].removeprefix("key"))))
        host.write(FILE, json.dumps(made, separators=(",", ":")) + "\n", 0o600)
    done = secrets(host, case["asked"])
    assert done.status == 0, done.err
    assert list(keys(host)) == case["secrets"]
    assert done.changes == ([FILE] if before != case["secrets"] else [])
    done = node(host, case["asked"])
    assert list(keys(host)) == case["node"]
    assert done.changes == ([FILE] if case["secrets"] != case["node"] else [])


def test_keys_are_the_secrets_and_nobody_elses(tmp_path: Path) -> None:
    """Two hosts of a cluster have the same, another cluster has others, and all are 32 bytes."""
    made = []
    for name, secret in {"cp1": SECRET, "cp2": SECRET, "theirs": "ff" * 32}.items():
        host = Host(tmp_path / name)
        host.write(SECRET_FILE, secret, 0o600)
        node(host, 3)
        made.append(keys(host))
        assert host.path(FILE).stat().st_mode & 0o777 == 0o600
    assert made[0] == made[1]
    different = {*made[0].values(), *made[2].values()}
    assert len(different) == 6
    assert {len(base64.b64decode(key)) for key in different} == {32}


def test_without_the_secret_there_is_no_key(host: Host) -> None:
    done = host.bash("from_secret encryption:1 | base64", {})
    assert done.status != 0
    assert done.out == ""
    assert "groundplane.key" in done.err


def test_whatever_happens_everybody_reads_what_anybody_wrote(tmp_path: Path) -> None:
    """Updates that end anywhere, each for a generation that preflight lets pass."""
    dice = random.Random(12)
    hosts = [Host(tmp_path / f"cp{n}") for n in (1, 2, 3)]
    for host in hosts:
        host.write(SECRET_FILE, SECRET, 0o600)
        node(host, 1)
    written: set[int] = set()

    def look() -> int:
        first = {next(iter(keys(host))) for host in hosts}
        written.update(first)
        assert all(written <= keys(host).keys() for host in hosts)
        return max(first)

    for _ in range(6):
        asked = look() + dice.choice((0, 1, 1, 2))
        ready = dice.choice((2, 3, 3, 3))
        for host in hosts[:ready]:
            secrets(host, asked)
            look()
        # The first of the nodes waits for the secrets of all.
        for host in hosts[: dice.choice((1, 2, 3)) if ready == 3 else 0]:
            node(host, asked)
            look()
    assert len(written) > 2


def test_a_new_key_is_waited_for_until_the_api_server_has_it(control_plane: Host) -> None:
    host = control_plane
    node(host, 1)
    looks = "echo look >>/run/looks; [ $(wc -l </run/looks) -ge 3 ]"
    done = secrets(host, 2, looks)
    assert done.status == 0, done.err
    assert host.path("/run/looks").read_text().count("look") == 3
    # Cut off before it had, it is waited for by the next.
    host.write(RELOADING, "")
    assert secrets(host, 2, looks).changes == []
    assert host.path("/run/looks").read_text().count("look") == 4
    assert secrets(host, 2, looks).changes == []
    assert host.path("/run/looks").read_text().count("look") == 4


def test_it_is_this_hosts_own_api_server_that_is_asked(control_plane: Host) -> None:
    """Behind the endpoint there may be one that has the key already."""
    host = control_plane
    node(host, 1)
    host.fake(
        "kubectl",
        """
        [[ " $* " == *" --server=https://localhost:6443 "* ]] || exit 1
        metric=apiserver_encryption_config_controller
        echo "${metric}_automatic_reloads_total{status=\"success\"} 1"
        echo "${metric}_last_config_info{hash=\"sha256:$(cat /run/has)\"} 1"
        """,
    )
    ask = "encryption_loaded && echo loaded || echo not"
    for has, answer in (("0" * 64, "not\n"), (None, "loaded\n")):
        host.write("/run/has", has or host.bash(f"digest <{FILE}").out.strip())
        assert host.bash(ask, {}, step="secrets").out == answer
