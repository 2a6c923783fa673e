"""The kernel's settings, services, waiting, packages."""

from __future__ import annotations

import pytest
from support.host import Host

# ---- kernel ----------------------------------------------------------------------------------


def test_a_sysctl_is_set_once(host: Host) -> None:
    """For real, in the network namespace of the run."""
    done = host.bash("set_sysctl net.ipv4.ip_forward 1; set_sysctl net.ipv4.ip_forward 1")
    assert done.changes == ["sysctl net.ipv4.ip_forward = 1"]
    assert host.facts() == [["sysctl", "net.ipv4.ip_forward", "1"]] * 2


def test_a_sysctl_with_several_numbers(host: Host) -> None:
    key = "net.ipv4.ip_local_port_range"
    done = host.bash(f"set_sysctl {key} '10000 20000'; set_sysctl {key} '10000 20000'")
    assert done.changes == [f"sysctl {key} = 10000 20000"]


def test_what_stood_there_before_comes_back(host: Host) -> None:
    done = host.bash("""
      set_sysctl net.ipv4.ip_forward 1
      set_sysctl net.ipv4.ip_forward 2
      host_reset
      sysctl -n net.ipv4.ip_forward""")
    assert done.out.splitlines()[-1] == "0"


def test_a_sysctl_that_is_not_there(host: Host) -> None:
    done = host.bash("set_sysctl net.ipv4.no_such_thing 1")
    assert done.status == 1
    assert "this kernel has no setting net.ipv4.no_such_thing" in done.err


def test_a_module_that_is_missing(host: Host) -> None:
    host.fake("modprobe", 'echo "modprobe $*" >>"$CALLS"; exit 1')
    done = host.bash("load_module no_such_module")
    assert done.status == 1
    assert "the kernel module no_such_module is missing" in done.err
    assert host.calls == ["modprobe -q no_such_module"]


def test_a_module_that_is_there_is_not_loaded(host: Host) -> None:
    host.fake("modprobe", 'echo "modprobe $*" >>"$CALLS"')
    assert host.bash("load_module proc").out == ""
    assert host.calls == []
    assert host.facts() == [["module", "proc"]]


@pytest.mark.parametrize(
    "ranges, keys",
    [
        (["10.244.0.0/16"], ["net.ipv4.ip_forward"]),
        (["10.244.0.0/16", "fd00::/56"], ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]),
    ],
    ids=["one family", "two families"],
)
def test_what_kubernetes_asks_of_the_kernel(host: Host, ranges: list[str], keys: list[str]) -> None:
    data = {"settings": {"pod_cidrs": ranges}}
    host.fake("modprobe", "exit 0")
    first = host.bash("host_apply", data)
    assert [c.split()[1] for c in first.changes if c.startswith("sysctl")] == keys
    second = host.bash("host_apply", data)
    # Its network is new, its files are not.
    assert all(change.startswith("sysctl") for change in second.changes)


# ---- services --------------------------------------------------------------------------------


def test_a_service_is_enabled_and_started_once(host: Host) -> None:
    host.fake("systemctl")
    assert host.bash("enable_service example").changes == ["example started"]
    assert host.facts() == [["unit", "example", "enabled", "active"]]
    assert host.bash("enable_service example").out == ""
    assert [c for c in host.calls if c != "systemctl daemon-reload"] == [
        "systemctl enable example",
        "systemctl start example",
    ]


def test_a_service_is_restarted_only_when_asked_and_running(host: Host) -> None:
    host.fake("systemctl")
    assert host.bash("enable_service example restart").changes == ["example started"]
    assert host.bash("enable_service example restart").changes == ["example restarted"]
    assert host.bash('enable_service example ""').out == ""


def test_a_service_that_does_not_start(host: Host) -> None:
    host.fake("systemctl")
    host.write("/run/units/broken/example", "")
    done = host.bash("enable_service example")
    assert done.status == 1
    assert "example does not start\nRemedy: journalctl -u example" in done.err


def test_a_service_is_disabled_where_it_is(host: Host) -> None:
    host.fake("systemctl")
    host.bash("enable_service example")
    assert host.bash("disable_service example").changes == ["example stopped"]
    assert host.bash("disable_service example; disable_service another").out == ""


# ---- waiting ---------------------------------------------------------------------------------


def test_waiting_ends_when_it_is_there(host: Host) -> None:
    done = host.bash("""
      (sleep 0.3; touch /run/there) &
      wait_until 20 "it is there" test -e /run/there
      echo "$SECONDS" """)
    assert int(done.out) < 10


def test_waiting_in_vain_says_for_what(host: Host) -> None:
    done = host.bash('wait_until 1 "it is there" test -e /run/absent')
    assert done.status == 1
    assert "waited 1 s in vain: it is there" in done.err
    assert "Remedy: run by hand to see why: test -e /run/absent" in done.err


# ---- packages --------------------------------------------------------------------------------

DPKG = '[ "${@: -1}" != present ] || echo "install ok installed"'


def test_only_what_is_missing_is_installed(host: Host) -> None:
    host.fake("dpkg-query", DPKG)
    host.fake("apt-get", 'echo "apt-get $*" >>"$CALLS"')
    assert host.bash("install_packages present").out == ""
    assert host.calls == []
    assert host.bash("install_packages present absent").changes == ["installed absent"]
    assert host.calls[-1].endswith("--no-install-recommends install absent")
    assert host.facts() == [["package", "present"], ["package", "absent"]]


def test_a_lock_of_somebody_else_is_waited_for(host: Host) -> None:
    host.fake("dpkg-query", DPKG)
    host.fake("apt-get", 'echo "apt-get $*" >>"$CALLS"')
    host.bash("install_packages absent")
    assert len(host.calls) == 2
    assert all("DPkg::Lock::Timeout=300" in call for call in host.calls)


def test_packages_that_cannot_be_had(host: Host) -> None:
    host.fake("dpkg-query", DPKG)
    host.fake("apt-get", "exit 100")
    done = host.bash("install_packages absent")
    assert done.status == 1
    assert "cannot install absent" in done.err


def test_errors_name_the_host(host: Host) -> None:
    done = host.bash("uname -n; die cause remedy")
    assert done.err == f"{done.out.strip()}: cause\nRemedy: remedy\n"
