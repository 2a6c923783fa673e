"""A small cluster whose bring-up meets every obstacle: the same command converges in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Recorder, Stack, assert_pods_reach_each_other, short, until

from lab import machines, mirror


@pytest.fixture(scope="module")
def recorder(session_stack: Stack) -> Iterator[Recorder]:
    with Recorder(session_stack.lab) as recording:
        yield recording


# ---- files that do not come as they should ---------------------------------------------------


def test_a_download_that_was_tampered_with(stack: Stack) -> None:
    stack.fresh("cp1", "w1")
    for name in ("cp1", "w1"):
        stack.shell(name, PLANTED)
        before(stack, name).write_text("\n".join(belongings(stack, name)))
    mirror.set_faults(stack.lab.folder, [{"path": "*/kubeadm", "corrupt": 1000}])
    cp1, w1 = stack.hosts("cp1", "w1")
    w1 |= {"user": "ops", "sudo": True}
    stack.configure([cp1, w1])
    stack.refused("/bin/linux/amd64/kubeadm: not to be had with the digest")
    for name in ("cp1", "w1"):
        assert stack.shell(name, "find / -xdev -name 'kubeadm*' ! -name '*.sh'") == ""


def test_a_full_disk_and_one_that_cannot_be_written(stack: Stack) -> None:
    full = "mount -t tmpfs -o size=30m full /opt/groundplane"
    read_only = "mount -t tmpfs -o ro none /opt/groundplane"
    stack.shell("cp1", f"mkdir -p /opt/groundplane && {full}")
    stack.shell("w1", f"mkdir -p /opt/groundplane && {read_only}")
    try:
        unwritable = (
            "cannot write /opt/groundplane/cni-plugins/1.9.1{}: no space left, or a read-only"
        )
        stack.refused(
            "cp1: " + unwritable.format(""),
            "w1: " + unwritable.format(".archive"),
            "Read-only file system",
        )
    finally:
        for name in ("cp1", "w1"):
            stack.shell(name, "umount /opt/groundplane")


# ---- while it is being founded ---------------------------------------------------------------


def test_killed_while_founding(stack: Stack, recorder: Recorder) -> None:
    """The first try is killed while kubeadm founds the cluster, the second while a host joins.

    On the way: packages locked by another, a busy mirror, downloads that break off.
    """
    kubelet = 20_000_000
    mirror.set_faults(
        stack.lab.folder,
        [
            {"path": "*/kubelet", "truncate": kubelet, "times": 2},
            {"path": "*/cni-plugins*", "status": 503, "times": 2},
            {"path": "*/containerd*", "status": 429, "retry_after": 1, "times": 2},
        ],
    )
    stack.shell("cp1", MISSING_PACKAGE)
    stack.shell(
        "cp1", f"cat >/run/hold <<'END'\n{HOLD}\nEND\nsystemd-run -q -u hold perl /run/hold"
    )
    assert ("warning", "cp1", "locks") in stack.preflight()
    first = stack.start_up()
    until(lambda: recorder.count("kubeadm init --config") or first.ended, "kubeadm init", 300)
    assert not first.ended, first.text
    first.kill()
    resumed = [a for a in mirror.accesses(stack.lab.folder) if a.path.endswith("/kubelet")]
    assert any(a.status == 206 for a in resumed)

    stack.refused("locked")
    stack.cancel()
    second = stack.start_up()
    until(lambda: recorder.count("kubeadm join") or second.ended, "kubeadm join", 300)
    assert not second.ended, second.text
    second.kill()
    state = json.loads(stack.pulumi("stack", "export").text)
    pending = [short(o["resource"]["urn"]) for o in state["deployment"]["pending_operations"]]
    assert "w1-node" in pending


def test_the_same_command_converges(stack: Stack, recorder: Recorder) -> None:
    stack.cancel()
    stack.up()
    assert recorder.count("kubeadm init --config") == 1
    assert recorder.count("kubeadm join") == 1
    assert stack.nodes() == {"cp1": True, "w1": True}
    assert stack.members() == {"cp1": True}
    assert stack.preview() == {}
    assert_pods_reach_each_other(stack)


def test_what_was_pending_is_read_back(stack: Stack) -> None:
    """The engine keeps a note of what it was doing when it was killed, until it may look."""
    stack.pulumi("refresh", "--yes", "--skip-preview", "--clear-pending-creates")
    state = json.loads(stack.pulumi("stack", "export").text)
    assert not state["deployment"].get("pending_operations")
    assert stack.preview() == {}


# ---- while it is being changed ---------------------------------------------------------------


def test_a_connection_that_is_cut(stack: Stack, recorder: Recorder) -> None:
    before = stack.processes("w1")
    configure(stack, maxPods=99)
    cut = stack.start_up()
    until(lambda: stack.runs("w1", "node") or cut.ended, "w1's node step")
    stack.shell("w1", "pkill -KILL -f '^sshd: ops'")
    assert cut.wait().status != 0, cut.text
    stack.up()
    assert stack.preview() == {}
    after = stack.processes("w1")
    assert names(set(after["w1"]) - set(before["w1"])) == ["kubelet"]
    assert stack.shell("w1", "systemctl show kubelet -P NRestarts").strip() == "0"
    assert pods_allowed(stack) == {"cp1": "99", "w1": "99"}


def test_two_deployers_and_ctrl_c(stack: Stack) -> None:
    worker = stack.processes("w1")
    configure(stack, maxPods=98)
    first = stack.start_up()
    until(lambda: stack.runs("cp1", "node") or first.ended, "cp1's node step")
    stack.refused("locked")
    first.interrupt()
    assert first.wait().status != 0
    # The step that ran went to its end, and the next did not begin.
    assert stack.processes("w1") == worker
    assert stack.shell("cp1", "systemctl is-active groundplane-node", check=False) == "inactive\n"
    assert stack.preview() == {"w1-node": "update"}
    stack.up()
    assert stack.preview() == {}
    assert pods_allowed(stack) == {"cp1": "98", "w1": "98"}


def test_a_short_partition(stack: Stack) -> None:
    """The cable is pulled in the middle of a step, and put back."""
    configure(stack, maxPods=97)
    process = stack.start_up()
    until(lambda: stack.runs("w1", "node") or process.ended, "w1's node step")
    machines.partition(stack.lab, "w1")
    time.sleep(8)
    assert not process.ended, process.text
    machines.heal(stack.lab, "w1")
    process.wait()
    stack.up()
    assert stack.preview() == {}
    assert pods_allowed(stack) == {"cp1": "97", "w1": "97"}


def test_a_full_disk_during_an_upload(stack: Stack) -> None:
    """The scripts of a new release do not fit: the old ones stay whole and in force."""
    configure(stack, maxPods=97)
    library = "/usr/local/lib/groundplane"
    digest = (
        f"cd {library} && readlink current &&"
        " find . -type f ! -name fill -exec sha256sum {} + | sort"
    )
    before = stack.shell("w1", digest)
    stack.shell(
        "w1",
        f"cp -a {library} /run/keep && mount -t tmpfs -o size=2m small {library} &&"
        f" cp -a /run/keep/. {library} && {{ cat /dev/zero >{library}/fill || true; }}",
    )
    try:
        with stack.release(new_text):
            stack.refused("No space left on device")
            assert stack.shell("w1", digest) == before
            stack.shell("w1", f"rm {library}/fill")
            # An update ends at its first failure: the other host may have its own still to come.
            left = stack.preview().items() - {("cp1-scripts", "update"), ("cp1-bundle", "update")}
            assert dict(left) == {"w1-scripts": "update", "w1-bundle": "update"}
            stack.up()
            assert stack.preview() == {}
    finally:
        stack.shell("w1", f"umount {library}; rm -rf /run/keep")


def new_text(package: Path) -> None:
    with (package / "remote" / "scripts" / "lib.sh").open("a") as script:
        script.write("# another release\n")


# ---- the end ---------------------------------------------------------------------------------


def test_a_protected_cluster_refuses(stack: Stack) -> None:
    configure(stack, protect=True)
    stack.up()
    before = stack.processes()
    done = stack.destroy(check=False)
    assert done.status != 0
    assert "protected" in done.text
    assert stack.processes() == before
    assert stack.nodes() == {"cp1": True, "w1": True}


def test_destroy_leaves_what_was_there_before(stack: Stack) -> None:
    configure(stack, protect=False)
    stack.up()
    done = stack.destroy()
    assert "cp1: reset" in done.text
    assert "w1: reset" in done.text
    for name in ("cp1", "w1"):
        assert belongings(stack, name) == before(stack, name).read_text().splitlines()
        assert stack.processes(name) == {name: []}
    assert stack.resources() == []


def before(stack: Stack, machine: str) -> Path:
    """What a machine had when it was new."""
    return stack.logs / f"{machine}.before"


# Things of others, of the kinds that we make too.
PLANTED = """
set -e
mkdir -p /opt/theirs /etc/cni/net.d /opt/cni/bin /usr/local/bin
echo theirs >/opt/theirs/file
echo theirs >/opt/cni/bin/theirs
echo theirs >/usr/local/bin/theirs
printf '[Service]\\nExecStart=/bin/sleep inf\\n[Install]\\nWantedBy=multi-user.target\\n' \
  >/etc/systemd/system/theirs.service
systemctl enable -q --now theirs
ip route add 203.0.113.0/24 via 198.18.0.1
nft add table inet theirs
"""

# A host as a person would look at it: files, units, routes, rules, mounts and sysctls.
BELONGINGS = """
find /etc /opt /usr/local /var/lib /srv -xdev \\( -type f -o -type l \\) \
  -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' -not -path '/var/lib/systemd/*' \
  -not -path '/etc/apt/*' -not -path '/srv/repo/*' -not -name ld.so.cache | sort
systemctl list-unit-files --no-legend --state=enabled,disabled,static | awk '{print $1, $2}' | sort
systemctl list-units --no-legend --plain --state=failed
ip route; ip -6 route
ip -o link | awk '{print $2}' | sed 's/@.*//'
nft list ruleset
awk '{print $2}' /proc/mounts | sort | grep -v ^/run/
sysctl net.ipv4.ip_forward
ls /run | grep -E 'groundplane|containerd|kubernetes' || true
"""


def belongings(stack: Stack, machine: str) -> list[str]:
    return stack.shell(machine, BELONGINGS).splitlines()


# cp1 lacks a package that only this repository has; no other can be reached.
MISSING_PACKAGE = """
set -e
dpkg --purge socat >/dev/null
mkdir -p /srv/repo/socat/DEBIAN && cd /srv/repo
cat >socat/DEBIAN/control <<END
Package: socat
Version: 9
Architecture: all
Maintainer: nobody <nobody@invalid>
Description: an empty package
END
dpkg-deb -b socat socat.deb >/dev/null
{ cat socat/DEBIAN/control; echo "Filename: ./socat.deb"; echo "Size: $(stat -c %s socat.deb)"
  echo "SHA256: $(sha256sum socat.deb | cut -d' ' -f1)"; } >Packages
rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list
"""

# As unattended-upgrades does for a while. apt and dpkg lock by fcntl, which no shell command can.
HOLD = """
for my $path ('/var/lib/apt/lists/lock', '/var/lib/dpkg/lock-frontend') {
  open(my $file, '>>', $path);
  push @files, $file;
  my $lock = pack('s s x4 q q i x4', 1, 0, 0, 0, 0);
  fcntl($file, 6, $lock) or die;
}
sleep 15
"""


def configure(stack: Stack, protect: bool = False, maxPods: int = 97) -> None:  # noqa: N803
    cp1, w1 = stack.hosts("cp1", "w1")
    w1 |= {"user": "ops", "sudo": True}
    stack.configure([cp1, w1], protect=protect, kubelet={"maxPods": maxPods})


def names(processes: set[tuple[str, int, str]]) -> list[str]:
    return sorted(name for name, _, _ in processes)


def pods_allowed(stack: Stack) -> dict[str, str]:
    return {n["metadata"]["name"]: n["status"]["capacity"]["pods"] for n in stack.get("nodes")}
