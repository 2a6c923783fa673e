"""The lab's network: a bridge in a network namespace without a way out, and faults on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab.machines.model import GATEWAY, PREFIX, Lab, MachineError

BRIDGE = "br0"
# Modules of the shared kernel. A machine cannot load them, so they are loaded before it boots;
# where they are built in, modprobe finds nothing and nothing is missing.
MODULES = [
    "br_netfilter",
    "dummy",
    "ip_vs",
    "nf_conntrack",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat",
    "nft_fib_inet",
    "nft_masq",
    "nft_numgen",
    "overlay",
    "veth",
    "vxlan",
    "xt_MASQUERADE",
    "xt_comment",
    "xt_conntrack",
    "xt_mark",
    "xt_statistic",
]

# Every systemd, containerd, kubelet and API server watches files. With the usual 128 of the whole
# computer some ten machines share, the last one's systemd does not start.
WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_WATCHERS = 2048


def network_up(lab: Lab) -> None:
    """Makes the namespace and its bridge; what is there already stays. MachineError if the name
    belongs to another checkout."""
    with locked(lab, "network"):
        subprocess.run(["modprobe", "--all", "--quiet", *MODULES], check=False)
        if int(WATCHERS.read_text()) < ENOUGH_WATCHERS:
            WATCHERS.write_text(str(ENOUGH_WATCHERS))
        if lab.netns.exists() and not is_up(lab):
            lab.netns.unlink()  # left by a run that was killed between making and mounting it
        if not lab.netns.exists():
            _run(["ip", "netns", "add", lab.name])
        check_owner(lab)
        inside(lab, ["ip", "link", "set", "lo", "up"])
        if not _alias(lab):
            inside(lab, ["ip", "link", "add", BRIDGE, "type", "bridge"], check=False)
            inside(lab, ["ip", "address", "replace", f"{GATEWAY}/{PREFIX}", "dev", BRIDGE])
            inside(lab, ["ip", "link", "set", BRIDGE, "up"])
            inside(lab, ["sysctl", "-qw", "net.ipv4.ip_forward=0"])
            inside(lab, ["ip", "link", "set", BRIDGE, "alias", str(lab.folder)])  # last: it is done


def network_down(lab: Lab) -> None:
    """Removes the namespace and ends all that runs in it. Again: nothing."""
    with locked(lab, "network"):
        check_owner(lab)
        if is_up(lab):
            # Whoever a killed run left in it would keep the network alive, without a name.
            for pid in _run(["ip", "netns", "pids", lab.name]).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            _run(["ip", "netns", "delete", lab.name])
        lab.netns.unlink(missing_ok=True)


def is_up(lab: Lab) -> bool:
    """Whether the namespace is there. Path.is_mount would not do: it knows only folders."""
    return os.path.ismount(lab.netns)


def partition(lab: Lab, name: str) -> None:
    """Pulls the machine's cable: no packet in or out, across reboots, until `heal`."""
    _filter(lab, name, "drop")


def degrade(lab: Lab, name: str, loss: float = 0, delay: int = 0) -> None:
    """Loses `loss` (0 to 1) of the packets each way, and delays those to the machine by `delay` ms.

    MachineError if the kernel has no netem and a delay is asked for. A reboot ends the delay.
    """
    heal(lab, name)
    if loss:
        _filter(lab, name, f"numgen random mod 1000 < {round(loss * 1000)} drop")
    if delay:
        device = f"vb-{name}"
        netem = ["tc", "qdisc", "replace", "dev", device, "root", "netem", "delay", f"{delay}ms"]
        inside(lab, netem)


def heal(lab: Lab, name: str) -> None:
    """Ends `partition` and `degrade`."""
    inside(lab, ["nft", "-f", "-"], stdin=f"table bridge {name}\ndelete table bridge {name}\n")
    inside(lab, ["tc", "qdisc", "delete", "dev", f"vb-{name}", "root"], check=False)


def _filter(lab: Lab, name: str, verdict: str) -> None:
    rules = f"""
table bridge {name}
delete table bridge {name}
table bridge {name} {{
  chain from {{ type filter hook prerouting priority 0; iifname "vb-{name}" {verdict}; }}
  chain to {{ type filter hook postrouting priority 0; oifname "vb-{name}" {verdict}; }}
}}
"""
    inside(lab, ["nft", "-f", "-"], stdin=rules)


def inside(lab: Lab, argv: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Runs a command of this computer in the lab's network. Returns its output."""
    return _run(["nsenter", f"--net={lab.netns}", *argv], stdin=stdin, check=check)


def check_owner(lab: Lab) -> None:
    """MachineError if a lab of the same name is up in another checkout: its machines, its network
    and its cgroups would be taken for this one's."""
    owner = _alias(lab) if is_up(lab) else ""
    if owner not in ("", str(lab.folder)):
        raise MachineError(
            str(lab.netns),
            f"the lab {lab.name} is up, in {owner}",
            "Two labs of one name would take each other's machines down",
            "Take that one down, or set GROUNDPLANE_LAB to another name.",
        )


@contextlib.contextmanager
def locked(lab: Lab, what: str) -> Iterator[None]:
    """Lets one thread of one process at a time work on `what`."""
    path = lab.folder / "locks" / what
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _alias(lab: Lab) -> str:
    """The folder of the lab that finished this namespace; empty if it is half-made."""
    shown = inside(lab, ["ip", "link", "show", BRIDGE], check=False).split("alias ", 1)
    return shown[1].strip() if len(shown) == 2 else ""


def _run(argv: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise MachineError(" ".join(argv), f"exit code {done.returncode}", done.stderr.strip())
    return done.stdout
