"""Machines: made, booted, cut off, re-imaged and destroyed.

A machine is a systemd container with an init, an sshd, a network and a disk of its own. Its mounts
live in a mount namespace that ends with it, its processes in a cgroup named after it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.machines import cgroups
from lab.machines.model import (
    GATEWAY,
    PREFIX,
    Lab,
    Machine,
    MachineError,
    folder,
    names,
    record,
    recorded,
)
from lab.machines.network import check_owner, heal, inside, is_up, locked, network_down
from lab.machines.rootfs import HOST
from lab.mirror import daemon
from lab.parts.store import whole, write_whole

SUPERVISOR = Path(__file__).parent / "run"
BOOT = 180  # seconds for a machine to answer; ten are usual
# Overlay on overlay fails, so what containerd and etcd write lies on real folders.
DATA = ("containerd", "kubelet", "etcd")
# What root sees in a shell of the machine.
ENVIRONMENT = (
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "USER=root",
)


def boot(lab: Lab, machine: Machine, seconds: float = BOOT) -> None:
    """Switches the machine on, made first if there is none, and returns once it answers SSH.

    A running one stays as it is. The network and the root file system must be there.
    """
    with locked(lab, machine.name):
        if not _running(lab, machine.name):
            _make(lab, machine)
            _start(lab, machine)
    wait_ssh(lab, machine.name, seconds)


def boot_all(lab: Lab, machines: Sequence[Machine]) -> None:
    """Boots machines side by side."""
    with ThreadPoolExecutor(max(len(machines), 1)) as pool:
        list(pool.map(lambda machine: boot(lab, machine), machines))


def stop(lab: Lab, name: str) -> None:
    """Cuts the power: nothing in the machine gets to say goodbye. Its disk stays."""
    with locked(lab, name):
        _stop(lab, name)


def reboot(lab: Lab, name: str, seconds: float = BOOT) -> None:
    """Reboots in good order and returns once the machine answers SSH again."""
    before = init(lab, name)
    exec(lab, name, ["systemctl", "reboot", "--no-block"], check=True)
    deadline = time.monotonic() + seconds
    while daemon.started(before):
        if time.monotonic() > deadline:
            raise MachineError(name, f"did not go down within {seconds:.0f} s", "", _console(lab))
        time.sleep(0.1)
    wait_ssh(lab, name, seconds)


def wipe(lab: Lab, name: str, new_host_key: bool = False) -> None:
    """Re-images the machine: power off, an empty disk, and a boot."""
    machine = recorded(lab, name)
    with locked(lab, name):
        _stop(lab, name)
        shutil.rmtree(folder(lab, name) / "disk", ignore_errors=True)
        if new_host_key:
            shutil.rmtree(folder(lab, name) / "host_key", ignore_errors=True)
    boot(lab, machine)


def destroy(lab: Lab, name: str) -> None:
    """Takes the machine away with all it had. Again: nothing."""
    with locked(lab, name):
        _stop(lab, name)
        shutil.rmtree(folder(lab, name), ignore_errors=True)
    if is_up(lab):
        heal(lab, name)
    _write_known_hosts(lab)


def destroy_all(lab: Lab) -> None:
    """Takes all machines and the network away, with what a killed run left of them."""
    check_owner(lab)
    for name in sorted(path.name for path in lab.machines.glob("*")):
        destroy(lab, name)
    cgroups.clear_lab(lab)
    network_down(lab)
    shutil.rmtree(lab.machines, ignore_errors=True)


def exec(
    lab: Lab, name: str, argv: Sequence[str], stdin: str | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs a command in the machine as root, without SSH. With `check`, failure is an error."""
    namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
    enter = ["nsenter", f"--target={init(lab, name)}", *namespaces]
    done = subprocess.run(
        [*enter, "env", "--chdir=/", "-i", *ENVIRONMENT, *argv],
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode != 0:
        raise MachineError(
            f"{name}: {' '.join(argv)}", f"exit code {done.returncode}", done.stderr.strip()
        )
    return done


def running(lab: Lab) -> list[str]:
    """The machines that are switched on."""
    return [name for name in names(lab) if _running(lab, name)]


def host_key(lab: Lab, name: str) -> str:
    """The machine's public SSH host key: type and base64."""
    public = folder(lab, name) / "host_key" / "ssh_host_ed25519_key.pub"
    return " ".join(public.read_text().split()[:2])


def wait_ssh(lab: Lab, name: str, seconds: float = BOOT) -> None:
    """Returns once the machine lets users in; MachineError with its last words if it never does."""
    address = recorded(lab, name).address
    argv = ["nsenter", f"--net={lab.netns}", "ssh", "-F", "none", "-i", str(lab.key)]
    for option in (
        "BatchMode=yes",
        "ConnectTimeout=3",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={lab.known_hosts}",
    ):
        argv += ["-o", option]
    # While the file is there, sshd turns everybody but root away.
    argv += [f"root@{address}", "test ! -e /run/nologin"]
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode == 0:
            return
        if not _running(lab, name) or time.monotonic() > deadline:
            raise MachineError(
                f"{name} at {address}",
                f"does not answer SSH within {seconds:.0f} s: {done.stderr.strip()}",
                _last_words(lab, name),
                _console(lab, name),
            )
        time.sleep(0.3)


def init(lab: Lab, name: str) -> int:
    """The machine's first process, by the computer's own number."""
    for pid in cgroups.processes(lab, name):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        # Two numbers: the computer's and the machine's. A container in the machine has three.
        numbers = fields["NSpid"].split()
        if len(numbers) == 2 and numbers[1] == "1" and fields["Name"] == "systemd":
            return pid
    raise MachineError(name, "is not running", "", f"python -m lab machine boot {name}")


def ssh_key(lab: Lab) -> str:
    """The public key that opens every machine; the pair is made if there is none."""
    with locked(lab, "ssh"):
        _keygen(lab.key, f"lab-{lab.name}")
    return lab.key.with_suffix(".pub").read_text()


def _make(lab: Lab, machine: Machine) -> None:
    """The machine's folder: what it is, its host key, and its disk unless it has one."""
    place = folder(lab, machine.name)
    record(lab, machine)
    _keygen(place / "host_key" / "ssh_host_ed25519_key", machine.name)
    _write_known_hosts(lab)
    (place / "root").mkdir(exist_ok=True)
    if (place / "disk").exists():
        return
    with whole(place / "disk") as disk:
        for part in ("upper", "work", *DATA):
            (disk / part).mkdir(mode=0o755)
        files = {
            "etc/hostname": (f"{machine.name}\n", 0o644),
            "etc/hosts": (f"127.0.0.1 localhost\n127.0.1.1 {machine.name}\n", 0o644),
            "etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "etc/lab-machine": (_settings(machine), 0o644),
            "etc/ssh/lab_authorized_keys": (ssh_key(lab), 0o644),
        }
        for key, mode in (("ssh_host_ed25519_key", 0o600), ("ssh_host_ed25519_key.pub", 0o644)):
            files[f"etc/ssh/{key}"] = ((place / "host_key" / key).read_text(), mode)
        for name, (text, mode) in files.items():
            path = disk / "upper" / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(mode)


def _settings(machine: Machine) -> str:
    """What image/usr/local/sbin/lab-machine is told."""
    settings = {
        "ADDRESS": f"{machine.address}/{PREFIX}",
        "GATEWAY": GATEWAY,
        "BRIDGE": machine.bridge,
        "KVM": "yes" if machine.kvm else "",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def _start(lab: Lab, machine: Machine) -> None:
    place = folder(lab, machine.name)
    _stop(lab, machine.name)  # what a killed run left
    binds = [f"--bind={place}/disk/{part}:/var/lib/{part}" for part in DATA]
    if Path("/lib/modules").exists():
        binds.append("--bind-ro=/lib/modules")  # so that modprobe sees what is loaded
    argv = ["nsenter", f"--net={lab.netns}", "unshare", "--mount", str(SUPERVISOR), machine.name]
    argv += [
        machine.root or str(HOST.folder),
        ":".join(map(str, cgroups.make(lab, machine))),
        *binds,
    ]
    with (place / "console.log").open("w") as console:
        process = subprocess.Popen(
            argv,
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    noted = {"pid": process.pid, "started": daemon.started(process.pid)}
    write_whole(place / "pid", json.dumps(noted))


def _stop(lab: Lab, name: str) -> None:
    check_owner(lab)
    pid_file = folder(lab, name) / "pid"
    supervisor = daemon.running(pid_file)
    if supervisor is not None:
        # First, or it would start the machine again; with what it is just about to start.
        os.killpg(supervisor, signal.SIGKILL)
    cgroups.clear(lab, name)
    if is_up(lab):
        # The kernel takes the cable away some time after the machine's network, perhaps too late
        # for the next boot.
        inside(lab, ["ip", "link", "delete", f"vb-{name}"], check=False)
    pid_file.unlink(missing_ok=True)


def _running(lab: Lab, name: str) -> bool:
    return daemon.running(folder(lab, name) / "pid") is not None


def _keygen(path: Path, comment: str) -> None:
    """A new ed25519 pair, whole or not at all: the public half is written last."""
    if path.with_suffix(".pub").exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True
    )


def _write_known_hosts(lab: Lab) -> None:
    with locked(lab, "ssh"):
        lines = [f"{recorded(lab, name).address} {host_key(lab, name)}\n" for name in _keyed(lab)]
        write_whole(lab.known_hosts, "".join(lines))


def _keyed(lab: Lab) -> Iterable[str]:
    public = "host_key/ssh_host_ed25519_key.pub"
    return (name for name in names(lab) if (folder(lab, name) / public).exists())


def _console(lab: Lab, name: str = "NAME") -> str:
    return f"See {folder(lab, name) / 'console.log'}."


def _last_words(lab: Lab, name: str) -> str:
    console = (folder(lab, name) / "console.log").read_text(errors="replace")
    return "\n".join(console.splitlines()[-5:])
