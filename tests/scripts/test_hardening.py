"""A level of hardening is set on a host, shows as facts, and is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.host import Done, Host
from support.specs import on_the_wire, spec

from groundplane.spec import Hardening, hardening

# The kernel's settings, as folders of files: the real ones are this computer's.
SYSCTL = """
settings=/run/sysctl
mkdir -p "$settings"
case $1 in
  -n) cat "$settings/$2" ;;
  -qw) printf '%s\\n' "${2#*=}" >"$settings/${2%%=*}"; echo "sysctl ${2}" >>"$CALLS" ;;
esac 2>/dev/null
"""
SSHD = (
    'echo "sshd $*" >>"$CALLS"; [ ! -e /run/sshd-refuses ] || { echo "bad option" >&2; exit 255; }'
)
SSH_FILE = "/etc/ssh/sshd_config.d/00-groundplane.conf"
SYSCTL_FILE = "/etc/sysctl.d/95-groundplane-hardening.conf"
MOUNTS = "/etc/systemd/system/groundplane-mounts.service"
# A host whose packages and shared memory are not this computer's.
SETTING = """
install_packages() { local name; for name in "$@"; do fact package "$name"; done; }
mounted_with() { cat "/run/mounts$1" 2>/dev/null || true; }
"""
KERNEL = {check.key for check in hardening.checks() if check.kind == "sysctl"}


@pytest.fixture
def machine(host: Host) -> Host:
    """A machine with a kernel of its own, as a distribution leaves it."""
    host.fake("systemctl")
    host.fake("systemd-run", 'echo "systemd-run $*" >>"$CALLS"')
    host.fake("augenrules", "exit 0")
    host.fake("systemd-detect-virt", "exit 1")
    host.fake("sysctl", SYSCTL)
    host.fake("sshd", SSHD)
    host.fake("apt-get", "exit 0")
    for key in KERNEL - {"kernel.yama.ptrace_scope"}:
        host.write(f"/run/sysctl/{key}", "77\n")
    host.write("/run/mounts/dev/shm", "rw,nosuid,nodev\n")
    host.write("/etc/ssh/sshd_config", "Include /etc/ssh/sshd_config.d/*.conf\n")
    host.write("/run/units/active/chrony", "")
    host.write("/run/units/active/ssh", "")
    return host


@pytest.fixture
def container(machine: Host) -> Host:
    machine.fake("systemd-detect-virt", "exit 0")
    return machine


def data(level: str, **more: Any) -> dict[str, Any]:
    return on_the_wire(spec(hardening=Hardening(level=level, **more)), "prepare", "w1")  # type: ignore[arg-type]


def apply(host: Host, level: str, **more: Any) -> Done:
    done = host.bash(f"{SETTING}\nhardening_apply", data(level, **more))
    assert done.status == 0, done.err
    return done


def ours(host: Host) -> set[str]:
    """The files that were written on the host and are there."""
    return {
        str(path.relative_to(host.root / "etc"))
        for path in (host.root / "etc").rglob("*")
        if path.is_file() and not path.is_char_device()
    } - {"ssh/sshd_config"}


def found(host: Host) -> set[tuple[str, ...]]:
    """What the last run recorded, as the ledger has it: each fact once."""
    return set(map(tuple, host.facts()))


# ---- levels ------------------------------------------------------------------------------------


def test_baseline(machine: Host) -> None:
    apply(machine, "baseline")
    assert ours(machine) == {
        "apt/apt.conf.d/52groundplane",
        "modprobe.d/groundplane.conf",
        "needrestart/conf.d/groundplane.conf",
        "sysctl.d/95-groundplane-hardening.conf",
        "systemd/journald.conf.d/90-groundplane.conf",
        "systemd/system/groundplane-mounts.service",
    }
    assert "install dccp /bin/false\nblacklist dccp\n" in machine.read(
        "/etc/modprobe.d/groundplane.conf"
    )
    assert machine.read("/run/sysctl/kernel.kptr_restrict") == "1\n"
    assert machine.read("/run/sysctl/vm.overcommit_memory") == "77\n"
    assert not any(call.startswith("sshd") for call in machine.calls)


def test_cis_asks_for_more(machine: Host) -> None:
    apply(machine, "cis")
    assert {Path(f"/etc/{path}").parent.name for path in ours(machine)} >= {
        "rules.d", "sshd_config.d",
    }  # fmt: skip
    assert machine.read("/run/sysctl/vm.overcommit_memory") == "1\n"
    assert "PermitRootLogin prohibit-password\n" in machine.read(SSH_FILE)
    assert "-w /etc -p wa -k settings\n" in machine.read("/etc/audit/rules.d/90-groundplane.rules")
    assert ["package", "auditd"] in machine.facts()
    assert ["mount", "/dev/shm", "nodev,nosuid,noexec"] in machine.facts()


@pytest.mark.parametrize("level", ["baseline", "cis"])
def test_again_it_changes_nothing(machine: Host, level: str) -> None:
    apply(machine, level)
    machine.write("/run/mounts/dev/shm", "rw,nosuid,nodev,noexec\n")
    before = machine.calls
    facts = found(machine)
    assert apply(machine, level).changes == []
    assert found(machine) == facts
    new = machine.calls[len(before) :]
    assert not [c for c in new if c.startswith(("sysctl ", "systemctl re", "systemd-run"))]


@pytest.mark.parametrize("level", ["baseline", "cis"])
def test_nothing_of_ours_is_left_at_the_level_none(machine: Host, level: str) -> None:
    apply(machine, level)
    apply(machine, "none")
    assert ours(machine) == set()
    values = {key: machine.read(f"/run/sysctl/{key}") for key in KERNEL
              if machine.path(f"/run/sysctl/{key}").exists()}  # fmt: skip
    assert set(values.values()) == {"77\n"}
    assert "systemctl disable groundplane-mounts" in machine.calls
    assert apply(machine, "none").changes == []


def test_a_lower_level_takes_back_what_it_does_not_ask(machine: Host) -> None:
    apply(machine, "baseline")
    baseline, facts = ours(machine), found(machine)
    apply(machine, "cis")
    apply(machine, "baseline")
    assert (ours(machine), found(machine)) == (baseline, facts)
    assert machine.read("/run/sysctl/vm.overcommit_memory") == "77\n"
    assert machine.read("/run/sysctl/kernel.kptr_restrict") == "1\n"


def test_a_reset_takes_all_back(machine: Host) -> None:
    apply(machine, "cis")
    done = machine.bash(f"{SETTING}\nhardening_reset", {})
    assert done.status == 0, done.err
    assert ours(machine) == set()
    assert "systemctl stop groundplane-ssh-rollback.timer" in machine.calls


def test_what_is_exempt_is_left_alone(machine: Host) -> None:
    why = "because"
    apply(machine, "cis", exempt={"kernel-pointers": why, "cramfs": why, "ssh-idle": why})
    assert machine.read("/run/sysctl/kernel.kptr_restrict") == "77\n"
    assert "cramfs" not in machine.read("/etc/modprobe.d/groundplane.conf")
    assert "ClientAliveInterval" not in machine.read(SSH_FILE)


# ---- what is on the host already -----------------------------------------------------------------


def test_what_is_stricter_stays(machine: Host) -> None:
    machine.write("/run/sysctl/kernel.kptr_restrict", "2\n")
    apply(machine, "baseline")
    assert machine.read("/run/sysctl/kernel.kptr_restrict") == "2\n"
    assert ["sysctl", "kernel.kptr_restrict", "2"] in machine.facts()


def test_a_kernel_without_a_setting_is_no_failure(machine: Host) -> None:
    apply(machine, "baseline")
    assert "ptrace_scope" not in machine.read(SYSCTL_FILE)


def test_a_time_service_that_runs_is_kept(machine: Host) -> None:
    apply(machine, "baseline")
    assert ["unit", "chrony", "enabled", "active"] in machine.facts()
    assert not any("timesyncd" in call for call in machine.calls)


def test_without_a_time_service_one_is_installed(machine: Host) -> None:
    machine.path("/run/units/active/chrony").unlink()
    apply(machine, "baseline")
    assert ["unit", "systemd-timesyncd", "enabled", "active"] in machine.facts()


def test_where_none_can_be_had_the_host_is_no_worse(machine: Host) -> None:
    machine.path("/run/units/active/chrony").unlink()
    script = f"{SETTING}\ninstall_packages() {{ die 'no mirror'; }}\nhardening_apply"
    done = machine.bash(script, data("baseline"))
    assert done.status == 0
    assert "nothing keeps the clock right" in done.out


def test_options_that_are_missing_are_added_and_no_others(machine: Host) -> None:
    machine.write("/run/mounts/tmp", "rw,nodev\n")
    apply(machine, "cis")
    unit = machine.read(MOUNTS)
    assert "ExecStart=/usr/bin/mount -o remount,noexec /dev/shm\n" in unit
    assert "ExecStop=/usr/bin/mount -o remount,exec /dev/shm\n" in unit
    assert "ExecStart=/usr/bin/mount -o remount,nosuid /tmp\n" in unit
    assert "ExecStop=/usr/bin/mount -o remount,suid /tmp\n" in unit
    # It is no file system of its own here.
    assert "/var/tmp" not in unit


def test_what_was_remounted_since_is_mended(machine: Host) -> None:
    machine.write("/run/mounts/dev/shm", "rw\n")
    apply(machine, "baseline")
    assert "systemctl restart groundplane-mounts" in machine.calls


# ---- containers --------------------------------------------------------------------------------


def test_in_a_container_nothing_of_the_kernel_is_touched(container: Host) -> None:
    apply(container, "cis")
    keys = {line.split(" = ")[0] for line in container.read(SYSCTL_FILE).splitlines()}
    assert keys and all(key.startswith("net.") for key in keys)
    for key in KERNEL - {"kernel.yama.ptrace_scope"}:
        touched = container.read(f"/run/sysctl/{key}") != "77\n"
        assert touched == key.startswith("net."), key
    assert not {"modprobe.d/groundplane.conf", "audit/rules.d/90-groundplane.rules"} & ours(
        container
    )
    assert not [fact for fact in container.facts() if "auditd" in fact or "apparmor" in fact]


def test_in_a_container_the_kubelet_does_not_mind_the_kernel(container: Host) -> None:
    wanted = on_the_wire(spec(hardening=Hardening(level="cis")), "node", "cp1")
    assert "protectKernelDefaults" not in container.bash("kubelet_configuration", wanted).out
    container.fake("systemd-detect-virt", "exit 1")
    assert '"protectKernelDefaults":true' in container.bash("kubelet_configuration", wanted).out


# ---- SSH -----------------------------------------------------------------------------------------


def test_settings_of_ssh_are_on_trial(machine: Host) -> None:
    machine.write("/var/lib/groundplane/joined", "1.36.4\n")
    apply(machine, "cis")
    calls = machine.calls
    check = calls.index("sshd -t")
    (armed,) = [n for n, call in enumerate(calls) if call.startswith("systemd-run")]
    (told,) = [n for n, call in enumerate(calls) if call.startswith("systemctl try-reload")]
    assert check < armed < told
    assert "--on-active=600 " in calls[armed]
    assert calls[armed].endswith("/current/ssh-rollback")


def test_a_host_that_waits_for_its_cluster_has_more_time(machine: Host) -> None:
    apply(machine, "cis")
    assert any("--on-active=3600 " in call for call in machine.calls)


def test_settings_that_sshd_refuses_are_taken_back(machine: Host) -> None:
    machine.write("/run/sshd-refuses", "")
    done = machine.bash(f"{SETTING}\nhardening_apply", data("cis"))
    assert done.status == 1
    assert "sshd refuses its new settings: bad option" in done.err
    assert not machine.there(SSH_FILE)
    assert not any(c.startswith(("systemd-run", "systemctl try-reload")) for c in machine.calls)


def test_without_an_include_nothing_is_pretended(machine: Host) -> None:
    machine.write("/etc/ssh/sshd_config", "Port 22\n")
    done = machine.bash(f"{SETTING}\nhardening_apply", data("cis"))
    assert done.status == 1
    assert "includes nothing of /etc/ssh/sshd_config.d" in done.err


@pytest.mark.parametrize("before", ["", "Port 2222\n"])
def test_the_rollback_puts_back_what_was_there(machine: Host, before: str) -> None:
    if before:
        machine.write(SSH_FILE, before)
    apply(machine, "cis")
    done = machine.execute(str(machine.scripts / "ssh-rollback"))
    assert done.status == 0, done.err
    assert (machine.read(SSH_FILE) if machine.there(SSH_FILE) else "") == before
    assert machine.calls[-1].startswith("systemctl try-reload-or-restart ssh")


def test_whoever_calls_a_step_has_come_by_ssh(machine: Host) -> None:
    """So the settings that were on trial have proved themselves."""
    machine.execute(str(machine.scripts / "run"), "prepare", "apply", stdin="{}")
    assert machine.calls[0] == "systemctl stop groundplane-ssh-rollback.timer"


# ---- files of Kubernetes -------------------------------------------------------------------------


def test_files_have_no_more_rights_than_they_may(machine: Host) -> None:
    files = {
        "/var/lib/kubelet/config.yaml": (0o644, 0o600),
        "/etc/kubernetes/admin.conf": (0o600, 0o600),
        "/etc/kubernetes/pki/ca.key": (0o640, 0o600),
        "/etc/kubernetes/pki/ca.crt": (0o600, 0o600),
        "/etc/kubernetes/pki/etcd/server.crt": (0o666, 0o644),
    }
    for path, (mode, _) in files.items():
        machine.write(path, "", mode)
    done = machine.bash("hardening_modes", data("baseline"))
    assert done.status == 0, done.err
    for path, (was, now) in files.items():
        assert machine.path(path).stat().st_mode & 0o777 == now, path
        assert ["mode", path, f"{now:04o}"] in machine.facts()
        assert any(path in change for change in done.changes) == (was != now)
    assert machine.bash("hardening_modes", data("baseline")).changes == []
    assert machine.bash("hardening_modes; true", data("none")).out == ""
    assert machine.facts() == []


def test_what_the_api_server_reads_comes_and_goes(machine: Host) -> None:
    folder = "/etc/kubernetes/groundplane"

    def there(level: str) -> list[bool]:
        wanted = on_the_wire(spec(hardening=Hardening(level=level)), "node", "cp1")  # type: ignore[arg-type]
        done = machine.bash("hardened_files; ! hardened_files_differ", wanted)
        assert done.status == 0, done.err
        return [machine.there(f"{folder}/{n}.json") for n in ("admission", "authentication")]

    assert there("baseline") == [False, False]
    assert there("cis") == [True, True]
    wanted = on_the_wire(spec(hardening=Hardening(level="cis")), "node", "cp1")
    machine.write(f"{folder}/admission.json", "{}", 0o600)
    assert machine.bash("hardened_files_differ", wanted).status == 0
    assert there("baseline") == [False, False]


def test_a_worker_has_none_of_it(machine: Host) -> None:
    wanted = on_the_wire(spec(hardening=Hardening(level="cis")), "node", "w1")
    assert machine.bash("admission_configuration; authentication_configuration", wanted).out == ""
