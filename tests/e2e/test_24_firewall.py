"""A cluster whose hosts let in nobody but those who belong to it, and rounds of patches on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import Stack, assert_pods_reach_each_other, at_most_one_down, until
from support.bare import put
from support.packages import SECURITY, package, publish

from lab import machines

CONTROL_PLANES = ("cp1", "cp2", "cp3")
WORKERS = ("w1", "w2")
ALL = (*CONTROL_PLANES, *WORKERS)
PORTS = (22, 2379, 6443, 8443, 10250)


def reached(stack: Stack, source: str, target: str) -> list[int]:
    """The ports of a machine that another gets an answer from."""
    known = {machine.name: machine.address for machine in machines.default_machines()}
    script = f"for p in {' '.join(map(str, PORTS))}; do "
    script += f"timeout 2 bash -c '</dev/tcp/{known[target]}/'$p 2>/dev/null && echo $p; done; true"
    return [int(port) for port in stack.shell(source, script).split()]


def guard(stack: Stack, *names: str, patching: dict[str, Any] | None = None, **more: Any) -> None:
    stack.configure(stack.hosts(*names), firewall=more, patching=patching)


def test_from_nothing(stack: Stack) -> None:
    stack.fresh(*ALL, "w3")
    guard(stack, *ALL)
    stack.up()
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.members() == dict.fromkeys(CONTROL_PLANES, True)
    assert_pods_reach_each_other(stack)
    assert stack.preview() == {}


def test_who_is_let_in(stack: Stack) -> None:
    assert reached(stack, "w1", "cp1") == [22, 6443, 8443, 10250]
    assert reached(stack, "cp2", "cp1") == [22, 2379, 6443, 8443, 10250]
    assert reached(stack, "w3", "cp1") == [22, 6443, 8443]
    assert reached(stack, "w3", "w1") == [22]


def test_a_node_that_joins(stack: Stack) -> None:
    """It is known to the others before, and nothing of theirs restarts."""
    before = stack.processes(*ALL)
    guard(stack, *ALL, "w3")
    changes = stack.preview()
    assert {name: changes[f"{name}-firewall"] for name in ALL} == dict.fromkeys(ALL, "update")
    assert not [name for name in changes if name.endswith("-node") and "w3" not in name]
    stack.up()
    assert stack.preview() == {}
    assert stack.nodes() == dict.fromkeys([*ALL, "w3"], True)
    assert stack.processes(*ALL) == before
    assert reached(stack, "w3", "w1") == [22, 10250]
    assert_pods_reach_each_other(stack)


def test_a_node_that_leaves(stack: Stack) -> None:
    """Though the others were told before that it is none of theirs any more."""
    guard(stack, *ALL)
    stack.up()
    assert stack.nodes() == dict.fromkeys(ALL, True)
    assert stack.preview() == {}
    assert "198.18.0.23 timeout 2h" in stack.shell(
        "cp1", "nft list set inet groundplane-firewall nodes4"
    )
    assert stack.shell("w3", "nft list tables") == ""


def test_drift(stack: Stack) -> None:
    stack.shell("w1", "nft delete table inet groundplane-firewall")
    stack.shell("cp2", "nft insert rule inet groundplane-firewall input accept")
    assert stack.preview() == {
        f"{name}-{step}": "update" for name in ("w1", "cp2") for step in ("firewall", "confirm")
    }
    stack.up()
    assert stack.preview() == {}
    assert reached(stack, "w3", "w1") == [22]


def test_shutting_oneself_out_is_refused(stack: Stack) -> None:
    guard(stack, *ALL, ssh=["198.51.100.0/24"])
    stack.refused("w2 firewall firewall.ssh does not let in 198.18.0.1")


# Without counters and what runs out.
RULES = "nft -s list table inet groundplane-firewall"


def blind(package: Path) -> None:
    """A release whose preflight does not see it, as with a router between that knows better."""
    path = package / "preflight.py"
    text = path.read_text()
    assert text.count('    "firewall": firewall,\n') == 1
    path.write_text(text.replace('    "firewall": firewall,\n', ""))


def test_a_change_that_shuts_out_the_engine_heals_itself(stack: Stack) -> None:
    before = {name: stack.shell(name, RULES) for name in ALL}
    with stack.release(blind):
        stack.refused(
            "w1: the firewall's new rules are taken back",
            "Remedy: do cluster.firewall.ssh and the networks between let in",
        )
    assert {name: stack.shell(name, RULES) for name in ALL} == before
    guard(stack, *ALL)
    stack.up()
    assert stack.preview() == {}
    assert_pods_reach_each_other(stack)


def boots(stack: Stack) -> dict[str, str]:
    return {name: stack.shell(name, "cat /proc/sys/kernel/random/boot_id") for name in ALL}


def test_a_round_of_patches(stack: Stack, tmp_path: Path) -> None:
    """w2 has a package that could be newer; cp2 and w1 want a restart; w1's source is silent."""
    for name in ALL:
        stack.shell(name, "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
    publish(stack.lab, "w2", "/srv/fixes", SECURITY, package(tmp_path, "gp-fix", "1.1"))
    old = package(tmp_path, "gp-fix", "1.0").read_bytes()
    put(stack.lab, "w2", "/srv/old.deb", old)
    stack.shell("w2", "dpkg -i /srv/old.deb")
    stack.shell("w2", "echo 'deb [trusted=yes] file:/srv/fixes ./' >/etc/apt/sources.list")
    stack.shell("w1", "echo 'deb [trusted=yes] file:/srv/nowhere ./' >/etc/apt/sources.list")
    for name in ("cp2", "w1"):
        stack.shell(name, "touch /run/reboot-required")
    before = boots(stack)
    guard(stack, *ALL, patching={"round": "first"})
    with at_most_one_down(stack, *CONTROL_PLANES):
        stack.refused("w1: the package lists cannot be had")
    assert stack.cordoned() == []
    between = boots(stack)
    assert [name for name in ALL if between[name] != before[name]] == ["cp2"]
    # Taken up again, those that are done are not done again.
    stack.shell("w1", ": >/etc/apt/sources.list")
    stack.up()
    after = boots(stack)
    assert [name for name in ALL if after[name] != between[name]] == ["w1"]
    assert stack.shell("w2", "cat /usr/share/gp-fix/version") == "1.1\n"
    assert stack.preview() == {}
    assert stack.cordoned() == []
    until(lambda: stack.nodes() == dict.fromkeys(ALL, True), "all nodes are Ready", 60, 1)
    assert_pods_reach_each_other(stack)
    # The firewall came back with the machine.
    assert reached(stack, "w3", "cp2") == [22, 6443, 8443]


def test_without_both_again(stack: Stack) -> None:
    stack.configure(stack.hosts(*ALL))
    stack.up()
    assert stack.preview() == {}
    assert reached(stack, "w3", "w1") == [22, 10250]
    assert_pods_reach_each_other(stack)


def test_destroy(stack: Stack) -> None:
    guard(stack, *ALL)
    stack.up()
    stack.destroy()
    for name in ALL:
        assert stack.shell(name, "nft list tables; ls /etc/groundplane 2>/dev/null || true") == ""
