"""A cgroup for each machine: its size, and the list of its processes.

A group is named after the lab, so what a killed run left is found by name alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.machines.model import Lab, Machine, MachineError

ROOT = Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds over which a processor limit holds
PATIENCE = 30  # seconds for killed processes to be gone


def hierarchies() -> list[Path]:
    """The trees in which a machine has a group: one for cgroup v2, one a controller for v1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return sorted(path for path in ROOT.iterdir() if (path / "cgroup.procs").exists())


def groups(lab: Lab, name: str = "") -> list[Path]:
    """The machine's groups, or those that hold all of the lab's machines."""
    return [tree / f"groundplane-{lab.name}" / name for tree in hierarchies()]


def make(lab: Lab, machine: Machine) -> list[Path]:
    """Makes the machine's groups with its limits."""
    made = groups(lab, machine.name)
    for group in made:
        for each in (group.parent, group):
            _delegate(each.parent)
            each.mkdir(exist_ok=True)
            # cgroup v1 lets nobody into a group without these.
            for kind in ("cpuset.cpus", "cpuset.mems"):
                if (each / kind).exists() and (each.parent / "cpuset.sched_load_balance").exists():
                    (each / kind).write_text((each.parent / kind).read_text())
        _limit(group, machine)
    return made


def _delegate(group: Path) -> None:
    """Lets groups below have all controllers, which cgroup v2 does not do by itself."""
    control = group / "cgroup.subtree_control"
    if control.exists():
        offered = (group / "cgroup.controllers").read_text().split()
        for controller in set(offered) - set(control.read_text().split()):
            # The kernel may keep one back, such as cpu for real-time processes.
            with contextlib.suppress(OSError):
                control.write_text(f"+{controller}")


def _limit(group: Path, machine: Machine) -> None:
    memory = machine.memory * 1024 * 1024
    quota = int(machine.cpus * PERIOD) if machine.cpus else None
    wanted = {
        "memory.max": str(memory),
        "memory.limit_in_bytes": str(memory),
        "cpu.max": f"{quota or 'max'} {PERIOD}",
        "cpu.cfs_quota_us": str(quota or -1),
    }
    for file, value in wanted.items():
        if (group / file).exists():
            (group / file).write_text(value)


def processes(lab: Lab, name: str) -> list[int]:
    """Every process of the machine, by the computer's own numbers."""
    found: set[int] = set()
    for group in groups(lab, name):
        for path in [group, *_inside(group)]:
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (path / "cgroup.procs").read_text().split())
    return sorted(found - {0})


def clear(lab: Lab, name: str) -> None:
    """Kills what runs in the machine's groups and removes them."""
    deadline = time.monotonic() + PATIENCE
    while alive := processes(lab, name):
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise MachineError(
                name, f"processes {alive} do not end", "", f"See /proc/{alive[0]}/stack."
            )
        time.sleep(0.05)
    for group in groups(lab, name):
        for path in [*_inside(group), group]:
            _remove(path)


def clear_lab(lab: Lab) -> None:
    """As `clear`, for every machine of the lab that has a group, known or left over."""
    left = {path.name for group in groups(lab) for path in group.glob("*") if path.is_dir()}
    for name in sorted(left):
        clear(lab, name)
    for group in groups(lab):
        _remove(group)


def _inside(group: Path) -> Iterator[Path]:
    """The groups below, deepest first."""
    for folder, _, _ in os.walk(group, topdown=False):
        if Path(folder) != group:
            yield Path(folder)


def _remove(group: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            group.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:  # its last process is dead, but not yet counted out
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
