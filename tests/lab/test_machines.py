"""Machines of the lab, really booted: under a name of their own, beside any lab that is up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import machines
from lab.machines import Lab, Machine, MachineError, cgroups
from lab.mirror import daemon

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes machines, which takes root"),
]

ONE = Machine("cp1", "198.18.0.11", memory=512, cpus=0.5)
TWO = Machine("w1", "198.18.0.21")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two machines side by side."""
    machines.make_rootfs(print)
    made = Lab(f"gptest{os.getpid()}", tmp_path_factory.mktemp("lab"))
    try:
        machines.network_up(made)
        machines.boot_all(made, [ONE, TWO])
        yield made
    finally:
        machines.destroy_all(made)
    assert left_of(made) == []


def left_of(lab: Lab) -> list[str]:
    """What a lab still has on this computer, wherever it would be."""
    found = [str(path) for path in (lab.netns, lab.machines) if path.exists()]
    found += [str(group) for group in cgroups.groups(lab) if group.exists()]
    found += [mount for mount in Path("/proc/mounts").read_text().splitlines() if lab.name in mount]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(lab.folder) in words and path.parent.name != str(os.getpid()):
            found.append(words)
    return found


def shell(lab: Lab, name: str, script: str) -> str:
    return machines.exec(lab, name, ["bash", "-c", script], check=True).stdout.strip()


def ssh(lab: Lab, user: str, command: str) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", "none", "-i", str(lab.key), "-o", "BatchMode=yes"]
    argv += ["-o", f"UserKnownHostsFile={lab.known_hosts}", f"{user}@{ONE.address}", command]
    return subprocess.run(
        ["nsenter", f"--net={lab.netns}", *argv], capture_output=True, text=True, check=False
    )


def reaches(lab: Lab, packets: int = 1) -> int:
    """How many of the packets from one machine to the other come back."""
    command = ["ping", f"-c{packets}", "-i0.01", "-W1", TWO.address]
    answer = machines.exec(lab, ONE.name, command)
    return answer.stdout.count("bytes from")


def test_both_run_and_boot_again_changes_nothing(lab: Lab) -> None:
    before = machines.init(lab, ONE.name)
    machines.boot(lab, ONE)
    assert machines.running(lab) == ["cp1", "w1"]
    assert machines.init(lab, ONE.name) == before


def test_each_is_somebody(lab: Lab) -> None:
    for question in ("cat /etc/machine-id", "hostname", "cat /proc/sys/kernel/random/boot_id"):
        assert len({shell(lab, name, question) for name in ("cp1", "w1")}) == 2
    assert machines.host_key(lab, "cp1") != machines.host_key(lab, "w1")


def test_the_system_is_whole(lab: Lab) -> None:
    assert shell(lab, "cp1", "systemctl is-system-running --wait") == "running"


@pytest.mark.parametrize(
    ("user", "command", "status"),
    [("root", "true", 0), ("ops", "sudo -n true", 0), ("nosudo", "sudo -n true", 1)],
)
def test_users(lab: Lab, user: str, command: str, status: int) -> None:
    done = ssh(lab, user, command)
    assert done.returncode == status, done.stderr


def test_network_leads_nowhere_but_to_the_lab(lab: Lab) -> None:
    assert shell(lab, "cp1", "ip -4 route show default") == "default via 198.18.0.1 dev host0"
    assert reaches(lab) == 1
    outside = machines.exec(lab, "cp1", ["curl", "-sS", "--max-time", "3", "http://192.0.2.1/"])
    assert outside.returncode != 0
    assert machines.exec(lab, "cp1", ["getent", "hosts", "example.com"]).returncode != 0


def test_what_kubernetes_sets_can_be_set_and_stays_in_the_machine(lab: Lab) -> None:
    outside = Path("/proc/sys/vm/overcommit_memory").read_text()
    other = "1" if outside.strip() == "0" else "0"
    shell(lab, "cp1", f"sysctl -qw net.ipv4.ip_forward=1 vm.overcommit_memory={other}")
    assert shell(lab, "cp1", "cat /proc/sys/vm/overcommit_memory") == other
    assert Path("/proc/sys/vm/overcommit_memory").read_text() == outside
    for group in cgroups.hierarchies():
        where = "" if group == cgroups.ROOT else group.name
        shell(lab, "cp1", f"mkdir /sys/fs/cgroup/{where}/test && rmdir /sys/fs/cgroup/{where}/test")


def test_size(lab: Lab) -> None:
    limits = {
        path.name: path.read_text().split()[0]
        for group in cgroups.groups(lab, "cp1")
        for path in group.iterdir()
        if path.name in ("memory.max", "memory.limit_in_bytes", "cpu.max", "cpu.cfs_quota_us")
    }
    assert sorted(limits.values()) == ["50000", str(512 * 1024 * 1024)]


def test_data_does_not_lie_on_the_overlay(lab: Lab) -> None:
    kinds = shell(lab, "cp1", "stat -fc %T / /var/lib/{containerd,kubelet,etcd}").split()
    assert kinds[0] == "overlayfs" and "overlayfs" not in kinds[1:]


def test_exec(lab: Lab) -> None:
    assert machines.exec(lab, "cp1", ["tr", "a-z", "A-Z"], stdin="abc").stdout == "ABC"
    assert machines.exec(lab, "cp1", ["false"]).returncode == 1
    with pytest.raises(MachineError, match="cp1: false"):
        machines.exec(lab, "cp1", ["false"], check=True)


def test_reboot_is_visible_and_keeps_the_disk(lab: Lab) -> None:
    shell(lab, "cp1", "echo kept >/root/note; echo gone >/run/note")
    before = shell(lab, "cp1", "cat /proc/sys/kernel/random/boot_id")
    machines.reboot(lab, "cp1")
    assert shell(lab, "cp1", "cat /proc/sys/kernel/random/boot_id") != before
    assert shell(lab, "cp1", "cat /root/note; ls /run/note 2>&1 || true").startswith("kept\nls:")
    assert shell(lab, "cp1", "systemctl is-system-running --wait") == "running"


def test_power_off_from_inside_stays_off(lab: Lab) -> None:
    machines.exec(lab, "cp1", ["systemctl", "poweroff"])
    deadline = time.monotonic() + 60
    while "cp1" in machines.running(lab) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert machines.running(lab) == ["w1"]
    machines.boot(lab, ONE)


def test_power_cut_and_boot(lab: Lab) -> None:
    shell(lab, "cp1", "echo kept >/root/note; sync")
    machines.stop(lab, "cp1")
    assert machines.running(lab) == ["w1"]
    assert cgroups.processes(lab, "cp1") == []
    with pytest.raises(MachineError, match="is not running"):
        machines.exec(lab, "cp1", ["true"])
    machines.boot(lab, ONE)
    assert shell(lab, "cp1", "cat /root/note") == "kept"


@pytest.mark.parametrize("new_host_key", [False, True])
def test_wipe(lab: Lab, new_host_key: bool) -> None:
    key, identity = machines.host_key(lab, "cp1"), shell(lab, "cp1", "cat /etc/machine-id")
    shell(lab, "cp1", "touch /root/note /var/lib/etcd/note")
    machines.wipe(lab, "cp1", new_host_key)
    assert (machines.host_key(lab, "cp1") != key) is new_host_key
    assert shell(lab, "cp1", "cat /etc/machine-id") != identity
    assert shell(lab, "cp1", "ls /root /var/lib/etcd | grep note || true") == ""
    assert ssh(lab, "root", "true").returncode == 0


def test_cable(lab: Lab) -> None:
    machines.partition(lab, "cp1")
    assert reaches(lab) == 0
    machines.heal(lab, "cp1")
    assert reaches(lab) == 1
    machines.degrade(lab, "cp1", loss=0.3)
    assert 0 < reaches(lab, packets=100) < 90
    machines.heal(lab, "cp1")
    assert reaches(lab, packets=100) == 100


def test_a_name_that_another_checkout_uses(lab: Lab, tmp_path: Path) -> None:
    other = Lab(lab.name, tmp_path)
    with pytest.raises(MachineError, match=f"is up, in {lab.folder}"):
        machines.network_up(other)
    with pytest.raises(MachineError, match=f"is up, in {lab.folder}"):
        machines.destroy_all(other)
    assert machines.running(lab) == ["cp1", "w1"]


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.3, 0.6, 1.0])
def test_a_killed_run_is_taken_up_and_taken_down(tmp_path: Path, seconds: float) -> None:
    lab = Lab(f"gpkill{os.getpid()}", tmp_path)
    script = (
        "import sys; from pathlib import Path; from lab import machines\n"
        "lab = machines.Lab(sys.argv[1], Path(sys.argv[2])); print('begun', flush=True)\n"
        "machines.network_up(lab); machines.boot_all(lab, machines.default_machines()[:2])\n"
    )
    try:
        with subprocess.Popen(
            [sys.executable, "-c", script, lab.name, str(lab.folder)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as run:
            assert run.stdout is not None
            run.stdout.readline()
            time.sleep(seconds)
            run.send_signal(signal.SIGKILL)
        machines.network_up(lab)
        machines.boot(lab, ONE)
        assert shell(lab, "cp1", "echo alive") == "alive"
    finally:
        machines.destroy_all(lab)
    assert left_of(lab) == []
    machines.destroy_all(lab)  # again: nothing to do, no error


def test_a_pid_that_is_somebody_else_now_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        place = tmp_path / "machines" / "cp9"
        place.mkdir(parents=True)
        stale = {"pid": bystander.pid, "started": "1"}
        (place / "pid").write_text(json.dumps(stale))
        machines.destroy(Lab("gpnobody", tmp_path), "cp9")
        assert daemon.started(bystander.pid)
        bystander.kill()
