"""The firewall on machines of the lab, from their neighbours: over SSH, packets and a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.bare import Bare
from support.inside import inside
from support.specs import host, on_the_wire, spec

from groundplane.remote.facts import HostSeen, Session
from groundplane.remote.observation import Expect, Observation, look
from groundplane.spec import Allow, Endpoint, Firewall, Host
from lab import machines
from lab.machines import Lab, Machine

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

ADDRESSES = {"cp1": "198.18.0.11", "w1": "198.18.0.21", "stranger": "198.18.0.29"}
OPEN = (22, 1022, 2379, 6443, 8443, 9100, 10250, 6789, 30080)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    machines.make_rootfs(print)
    made = Lab(f"gpfw{os.getpid()}", tmp_path_factory.mktemp("lab"))
    try:
        machines.network_up(made)
        machines.boot_all(made, [Machine(name, where) for name, where in ADDRESSES.items()])
        yield made
    finally:
        machines.destroy_all(made)


@pytest.fixture(scope="module")
def cp1(lab: Lab) -> Bare:
    bare = Bare(lab, Machine("cp1", ADDRESSES["cp1"]))
    ports = " ".join(f"-l {port}" for port in OPEN if port != 22)
    bare.shell(f"systemd-run -q -u ports systemd-socket-activate --accept {ports} /bin/cat")
    for name, address in ADDRESSES.items():
        six = f"fd00:1::{address.rpartition('.')[2]}/64"
        machines.exec(lab, name, ["ip", "address", "add", six, "dev", "host0", "nodad"], check=True)
    return bare


def hosts(lab: Lab) -> list[Host]:
    roles = {"cp1": "control-plane", "w1": "worker"}
    return [
        host(
            name, ADDRESSES[name], role, second_node_address="fd00:1::", key=str(lab.key),
            host_key=" ".join(machines.host_key(lab, name).split()[:2]),
        )
        for name, role in roles.items()
    ]  # fmt: skip


def data(lab: Lab, **given: Any) -> dict[str, Any]:
    made = spec(
        hosts(lab),
        pod_cidrs=["10.244.0.0/16", "fd00:244::/56"],
        service_cidrs=["10.96.0.0/16", "fd00:96::/112"],
        endpoint=Endpoint(address="198.18.0.10", router_id=51),
        firewall=Firewall(**given),
    )
    return on_the_wire(made, "firewall", "cp1")


def reached(lab: Lab, source: str, target: str) -> set[int]:
    """The ports of a machine that another gets an answer from."""

    def answers(port: int) -> bool:
        script = f"timeout 2 bash -c '</dev/tcp/{target}/{port}'"
        return machines.exec(lab, source, ["bash", "-c", script]).returncode == 0

    with ThreadPoolExecutor(len(OPEN)) as pool:
        return {port for port, open in zip(OPEN, pool.map(answers, OPEN), strict=True) if open}


def seen(lab: Lab) -> Observation:
    return inside(lab, lambda: look(hosts(lab), Expect("metal")))


FROM_A_NODE = {22, 6443, 8443, 10250, 6789, 30080}
FROM_A_STRANGER = {22, 6443, 8443}


def test_before(lab: Lab, cp1: Bare) -> None:
    """What is refused later is open now."""
    assert reached(lab, "stranger", "198.18.0.11") == set(OPEN)
    assert reached(lab, "stranger", "fd00:1::11") == set(OPEN)


def test_who_is_let_in(lab: Lab, cp1: Bare) -> None:
    done = cp1.step("firewall", data(lab))
    assert done.returncode == 0, done.stderr
    assert "on trial for 90 s" in done.stderr
    done = cp1.step("confirm", {})
    assert done.returncode == 0, done.stderr
    for target in ("198.18.0.11", "fd00:1::11"):
        assert reached(lab, "w1", target) == FROM_A_NODE
        assert reached(lab, "stranger", target) == FROM_A_STRANGER
    assert machines.exec(lab, "stranger", ["ping", "-c1", "-W2", "198.18.0.11"]).returncode == 0
    assert machines.exec(lab, "stranger", ["ping", "-c1", "-W2", "fd00:1::11"]).returncode == 0


def test_what_the_stack_allows(lab: Lab, cp1: Bare) -> None:
    allow = [Allow(port="9100", sources=["198.18.0.29/32", "fd00:1::29/128"])]
    assert cp1.step("firewall", data(lab, allow=allow)).returncode == 0
    assert cp1.step("confirm", {}).returncode == 0
    for target in ("198.18.0.11", "fd00:1::11"):
        assert reached(lab, "w1", target) == FROM_A_NODE
        assert reached(lab, "stranger", target) == FROM_A_STRANGER | {9100}


def test_a_look_at_it(lab: Lab, cp1: Bare) -> None:
    found = seen(lab).seen("cp1")
    assert isinstance(found, HostSeen)
    assert found.session == Session("198.18.0.1", 22)
    assert found.drift == ()
    cp1.shell("nft delete table inet groundplane-firewall")
    drift = {d.fact: d.now for d in seen(lab).drift("cp1")}
    assert drift == {"table inet groundplane-firewall": "absent"}
    cp1.shell("systemctl disable -q --now groundplane-nftables")
    drift = {d.fact: d.now for d in seen(lab).drift("cp1")}
    assert drift["unit groundplane-nftables"] == "disabled inactive"
    # Repaired at once, without a trial: these rules were confirmed.
    allow = [Allow(port="9100", sources=["198.18.0.29/32", "fd00:1::29/128"])]
    done = cp1.step("firewall", data(lab, allow=allow))
    assert "changed firewall loaded\n" in done.stderr
    assert cp1.step("confirm", {}).returncode == 0
    assert seen(lab).drift("cp1") == []
    assert reached(lab, "stranger", "198.18.0.11") == FROM_A_STRANGER | {9100}


def test_a_change_that_shuts_out_whoever_made_it_heals_itself(lab: Lab, cp1: Bare) -> None:
    before = cp1.shell("nft list table inet groundplane-firewall")
    control = str(lab.folder / "control")
    standing = ("ControlMaster=auto", f"ControlPath={control}", "ControlPersist=150")
    assert cp1.ssh("true", options=standing).returncode == 0
    done = cp1.step("firewall", data(lab, ssh=["198.51.100.0/24"]), options=standing)
    # It says so over the connection that stands.
    assert done.returncode == 0
    assert not cp1.lets_in()
    assert reached(lab, "w1", "198.18.0.11") == FROM_A_NODE - {22}
    # What stands proves nothing, though it works.
    done = cp1.step("confirm", {}, options=standing)
    assert done.returncode != 0
    assert "this connection is older than the firewall's new rules" in done.stderr
    assert 45 < cp1.until_let_in(100) < 95
    done = cp1.step("confirm", {})
    assert done.returncode != 0
    assert "cp1: the firewall's new rules are taken back" in done.stderr
    assert "Remedy: do cluster.firewall.ssh" in done.stderr
    assert cp1.shell("nft list table inet groundplane-firewall") == before
    # The next look shows it as the step that tries again.
    assert "file /etc/groundplane/firewall.nft" in {d.fact for d in seen(lab).drift("cp1")}


def test_a_restart_in_the_middle_of_a_trial_ends_it(lab: Lab, cp1: Bare) -> None:
    allow = [Allow(port="9100", sources=["198.18.0.29/32", "fd00:1::29/128"])]
    assert cp1.step("firewall", data(lab, ssh=["198.51.100.0/24"])).returncode == 0
    assert not cp1.lets_in()
    machines.stop(lab, "cp1")
    machines.boot(lab, Machine("cp1", ADDRESSES["cp1"]))
    # And those that were confirmed are in force from the start.
    assert "9100" in cp1.shell("nft list table inet groundplane-firewall")
    assert cp1.step("firewall", data(lab, allow=allow)).returncode == 0
    assert cp1.step("confirm", {}).returncode == 0
    assert seen(lab).drift("cp1") == []


def test_it_leaves_nothing(lab: Lab, cp1: Bare) -> None:
    done = cp1.ssh("/usr/local/lib/groundplane/current/run", "firewall", "destroy", stdin="{}")
    assert done.returncode == 0, done.stderr
    left = "ls -d /etc/systemd/system/groundplane* /etc/groundplane/* 2>/dev/null || true"
    assert cp1.shell(f"nft list tables; {left}") == ""
    assert seen(lab).drift("cp1") == []
