"""The look and the preflight on machines of the lab: what a container of this computer lacks."""

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.inside import inside

from groundplane import preflight
from groundplane.remote import observation
from groundplane.remote.connect import Done, HostUnreachable, Kind, run_all
from groundplane.remote.facts import HostSeen, Lock
from groundplane.remote.observation import Expect, Observation, look
from groundplane.spec import Cluster, Host
from lab import machines
from lab.machines import Lab, Machine

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

CP1, W1 = Machine("cp1", "198.18.0.11"), Machine("w1", "198.18.0.21")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    machines.make_rootfs(print)
    made = Lab(f"gplook{os.getpid()}", tmp_path_factory.mktemp("lab"))
    try:
        machines.network_up(made)
        machines.boot_all(made, [CP1, W1])
        yield made
    finally:
        machines.destroy_all(made)


def host(lab: Lab, machine: Machine, **more: Any) -> Host:
    return Host(
        name=machine.name,
        address=machine.address,
        key=str(lab.key),
        host_key=" ".join(machines.host_key(lab, machine.name).split()[:2]),
        role="control-plane" if machine is CP1 else "worker",
        **more,
    )


def seen(lab: Lab, *hosts: Host, **expect: Any) -> Observation:
    hosts = hosts or (host(lab, CP1), host(lab, W1))
    return inside(lab, lambda: look(hosts, Expect("ours", **expect)))


def one(lab: Lab, machine: Machine, **expect: Any) -> HostSeen:
    found = seen(lab, host(lab, machine), **expect).hosts[machine.name]
    assert isinstance(found, HostSeen), found
    return found


def shell(lab: Lab, machine: Machine, script: str) -> str:
    return machines.exec(lab, machine.name, ["bash", "-c", script], check=True).stdout


def findings(lab: Lab, *hosts: Host, **expect: Any) -> list[tuple[str, str, str]]:
    hosts = hosts or (host(lab, CP1), host(lab, W1))
    cluster = Cluster.model_validate(
        {
            "name": "lab",
            "kubernetes": {"version": "1.36.3"},
            "pod_cidrs": ["10.244.0.0/16"],
            "service_cidrs": ["10.96.0.0/16"],
            "endpoint": {"address": "198.18.0.10", "router_id": 51},
            "network": "plain",
            "kubelet": {"failCgroupV1": False, "failSwapOn": False},
            "preflight": {"min_disk_gib": 1},
            "ignore_preflight": ["Mem", "NumCPU"],
        }
    )
    found = preflight.check(cluster, hosts, seen(lab, *hosts, **expect))
    return [(f.severity, f.host, f.check) for f in found if f.check not in ("cgroup", "dns")]


def test_blank_machines(lab: Lab) -> None:
    look = seen(lab)
    cp1, w1 = look.hosts.values()
    assert isinstance(cp1, HostSeen)
    assert isinstance(w1, HostSeen)
    assert look.blank("cp1")
    assert look.blank("w1")
    assert cp1.machine_id != w1.machine_id
    assert cp1.boot_id != w1.boot_id
    assert (cp1.os_id, cp1.os_version, cp1.hostname) == ("debian", "12", "cp1")
    assert cp1.virtualization == "systemd-nspawn"
    assert cp1.systemd >= 252
    assert [a for nic in cp1.interfaces for a in nic.addresses] == ["198.18.0.11/24"]
    assert (cp1.locks, cp1.readonly, cp1.problems, cp1.runtimes) == ((), (), (), ())
    assert findings(lab) == []


def test_by_sudo(lab: Lab) -> None:
    found = seen(lab, host(lab, CP1, user="ops")).hosts["cp1"]
    assert isinstance(found, HostSeen)
    assert found.root
    refused = seen(lab, host(lab, CP1, user="nosudo")).hosts["cp1"]
    assert isinstance(refused, HostUnreachable)
    assert refused.kind is Kind.SUDO_REFUSED
    assert findings(lab, host(lab, CP1, user="nosudo", sudo=False)) == [("error", "cp1", "sudo")]


def test_a_command_as_root(lab: Lab) -> None:
    ops = host(lab, CP1, user="ops")
    assert inside(lab, lambda: run_all([ops], ["id", "-un"]))["cp1"] == Done("cp1", 0, "root\n", "")


def test_units(lab: Lab) -> None:
    unit = "/etc/systemd/system/t.service"
    service = r"[Service]\nExecStart=/bin/sleep inf\n[Install]\nWantedBy=multi-user.target\n"
    shell(
        lab,
        W1,
        f"printf '{service}' > {unit} && systemctl enable -q --now t"
        " && mkdir -p /var/lib/groundplane/ledger && cd /var/lib/groundplane/ledger"
        r" && printf 'unit\tt\tenabled\tactive\nunit\tssh\tenabled\tactive\n"
        r"unit\tno-such\tenabled\tactive\npackage\tsystemd\nmodule\toverlay\n' > node.facts",
    )

    def now() -> dict[str, str]:
        return {drift.fact: drift.now for drift in one(lab, W1).drift}

    missing = {"unit no-such": "not-found"}
    assert now() == missing
    shell(lab, W1, "systemctl stop t")
    assert now() == {"unit t": "enabled inactive", **missing}
    shell(lab, W1, "systemctl disable -q t")
    assert now() == {"unit t": "disabled inactive", **missing}
    shell(lab, W1, f"systemctl mask -q t 2>/dev/null || rm {unit}; systemctl daemon-reload")
    assert now() == {"unit t": "not-found", **missing}
    shell(lab, W1, "rm -r /var/lib/groundplane")


def test_a_port_that_is_taken(lab: Lab) -> None:
    shell(lab, CP1, "systemd-run -q -u taken systemd-socket-activate -l 6443 -l 10250 /bin/cat")
    try:
        until(lambda: len(one(lab, CP1, ports=(6443, 10250)).listeners) == 2)
        assert findings(lab) == [("error", "cp1", "ports")] * 2
    finally:
        shell(lab, CP1, "systemctl stop taken")


# dpkg locks by fcntl, which no command of the shell can do.
HOLD = """
open(F, '>>', '/var/lib/dpkg/lock-frontend');
my $lock = pack('s s x4 q q i x4', 1, 0, 0, 0, 0);
fcntl(F, 6, $lock) or die;
sleep 60
"""


def test_a_package_lock(lab: Lab) -> None:
    shell(lab, W1, f"cat > /run/hold <<'END'\n{HOLD}\nEND\nsystemd-run -q -u hold perl /run/hold")
    try:
        wanted = (Lock("/var/lib/dpkg/lock-frontend", "perl"),)
        until(lambda: one(lab, W1).locks == wanted)
        assert findings(lab) == [("warning", "w1", "locks")]
    finally:
        shell(lab, W1, "systemctl stop hold")


def test_a_read_only_file_system(lab: Lab) -> None:
    folder = "/usr/local"
    shell(lab, W1, f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}")
    try:
        assert one(lab, W1).readonly == (folder,)
        assert findings(lab) == [("error", "w1", "read-only")]
    finally:
        shell(lab, W1, f"umount {folder}")


def test_a_foreign_cluster(lab: Lab) -> None:
    shell(lab, W1, "mkdir -p /var/lib/rancher/k3s")
    try:
        assert seen(lab).foreign("w1")
        assert findings(lab) == [("error", "w1", "foreign")]
    finally:
        shell(lab, W1, "rm -r /var/lib/rancher")


def test_cloned_machines(lab: Lab) -> None:
    own = shell(lab, W1, "cat /etc/machine-id")
    shell(lab, W1, f"echo {shell(lab, CP1, 'cat /etc/machine-id').strip()} > /etc/machine-id")
    try:
        assert findings(lab) == [("error", "w1", "identity")]
    finally:
        shell(lab, W1, f"echo {own.strip()} > /etc/machine-id")


def test_a_mirror_that_is_down(lab: Lab) -> None:
    mirrors = ("http://198.18.0.1:9", "http://mirror.invalid/")
    found = {mirror.url: mirror.error for mirror in one(lab, W1, mirrors=mirrors).mirrors}
    assert "mirror.invalid" in found[mirrors[1]]
    assert findings(lab, host(lab, W1), mirrors=mirrors) == [("error", "w1", "mirror")] * 2


def test_a_skewed_clock(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers share this computer's clock, so the script is told another one."""
    told = observation.parameters

    def skewed(expect: Expect, name: str) -> str:
        clock = f"unset EPOCHREALTIME; EPOCHREALTIME={time.time() + 600}\n"
        return told(expect, name) + (clock if name == "w1" else "")

    monkeypatch.setattr(observation, "parameters", skewed)
    assert findings(lab) == [("error", "w1", "clock")]


def test_a_bad_line_is_only_slower(lab: Lab) -> None:
    machines.degrade(lab, "w1", loss=0.05)
    try:
        look = seen(lab)
        assert not look.unreachable("w1")
        found = look.seen("w1")
        assert found is not None
        assert abs(found.clock.ahead) <= found.clock.error + 0.5
    finally:
        machines.heal(lab, "w1")


def test_a_partition(lab: Lab) -> None:
    machines.partition(lab, "w1")
    try:
        started = time.monotonic()
        assert findings(lab) == [("error", "w1", "reachability")]
        assert time.monotonic() - started < observation.LOOK_SECONDS + 2
    finally:
        machines.heal(lab, "w1")


def test_a_machine_that_is_off_and_one_that_was_installed_anew(lab: Lab) -> None:
    before = host(lab, W1)
    machines.stop(lab, "w1")
    assert findings(lab, before) == [("error", "w1", "reachability")]
    machines.wipe(lab, "w1", new_host_key=True)
    machines.boot(lab, W1)
    assert findings(lab, before) == [("error", "w1", "host-key")]
    assert findings(lab, host(lab, W1)) == []


def until(true: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)
