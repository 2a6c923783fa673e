"""The bare cluster: kubeadm by the shell scripts in bare/, told what groundplane would be told.

Versions, addresses of downloads, images and the kubelet's settings come from the same specification
as groundplane's cluster, so that both sides do the same work. So does all that guests are.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncssh

from groundplane.clusters import data
from groundplane.errors import GroundplaneError
from groundplane.hosts import libvirt
from groundplane.remote.guests import Guest, State
from groundplane.spec import Spec
from lab import environment, machines
from lab.config import Lab
from tests.e2e.harness import Process

FOLDER = Path(__file__).with_name("bare")
SECONDS = 3600.0
"""For a whole script. Each command of it on a host has 15 minutes."""


class Bare:
    """One bare cluster on the lab's machines: the secrets by which its nodes join."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
        self.certificate_key = secrets.token_hex(32)

    def guests(self, spec: Spec, accelerator: str) -> float:
        """The hosts of the specification, as guests that are run by this accelerator, in libvirt's
        words. Returns the seconds until all of them let somebody in."""
        keys = {host.name: asyncssh.generate_private_key("ssh-ed25519") for host in spec.guests}
        addresses = {m.name: m.address for m in machines.default_machines()}
        addresses |= {hypervisor.name: str(hypervisor.address) for hypervisor in spec.hypervisors}
        known = {host.name: (str(host.address), public(keys[host.name])) for host in spec.guests}
        environment.write_ssh_config(self.lab, addresses, known)
        return self.run("guests", spec, guests(spec, accelerator, keys))

    def run(self, verb: str, spec: Spec, more: str = "") -> float:
        """A verb of cluster.sh, to what the specification says. Returns its seconds.

        `more`: settings that are for this verb alone. Raises GroundplaneError with the end of its
        log when it fails.
        """
        folder = self._folder(verb)
        settings = folder / "settings"
        settings.touch(0o600)
        settings.write_text(self.settings(spec) + more)
        inside = ["nsenter", f"--net={self.lab.netns}"]
        log = folder / "log"
        began = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*inside, "bash", str(FOLDER / "cluster.sh"), str(settings), verb],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            done = Process(process, log, began).wait(SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):  # It has ended, and so have its children.
                os.killpg(process.pid, signal.SIGKILL)
        if done.status != 0:
            end = "\n".join(done.text.splitlines()[-25:])
            remedy = f"All that hosts said is in {folder}."
            raise GroundplaneError(f"bare/cluster.sh {verb}", end, f"Status {done.status}", remedy)
        return done.seconds

    def _folder(self, verb: str) -> Path:
        """A new one for each run: its settings, its log and what each host said."""
        place = self.lab.folder / "bare"
        place.mkdir(parents=True, exist_ok=True)
        folder = place / f"{len(list(place.iterdir())) + 1:03}-{verb}"
        folder.mkdir()
        return folder

    def settings(self, spec: Spec) -> str:
        """What cluster.sh and host.sh are told, as shell assignments."""
        cluster, version = spec.cluster, spec.cluster.kubernetes.version
        workers = [host.name for host in spec.workers]
        control_planes = [host.name for host in spec.control_planes]
        kubelet = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            **cluster.kubelet,
        }
        kube_proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clusterCIDR": cluster.pod_cidrs[0],
            "mode": "nftables",
            **cluster.kube_proxy,
        }
        words = {
            "SSH_CONFIG": str(self.lab.folder / "ssh" / "config"),
            "KUBERNETES": version,
            "ENDPOINT": cluster.endpoint.host_port,
            "ROUTER_ID": str(cluster.endpoint.router_id),
            "SERVICES": cluster.service_cidrs[0],
            "REGISTRY": cluster.mirrors.images["registry.k8s.io"],
            "PAUSE": spec.catalogue.image("pause", version),
            "SYSTEMD_CGROUP": _word(cluster.kubelet.get("cgroupDriver", "systemd") == "systemd"),
            "RESTRICT_OOM_SCORE_ADJ": _word(cluster.containerd.restrict_oom_score_adj),
            "IGNORED": ",".join(cluster.ignore_preflight),
            "KUBELET": json.dumps(kubelet),
            "KUBE_PROXY": json.dumps(kube_proxy),
            "CONTROLLER_MANAGER": _arguments(cluster.controller_manager.extra_args),
            "SCHEDULER": _arguments(cluster.scheduler.extra_args),
            "TOKEN": self.token,
            "CERTIFICATE_KEY": self.certificate_key,
        }
        prefix = cluster.pod_cidrs[0].rsplit(".", 2)[0]  # 10.244.0.0/16 -> 10.244
        maps = {
            "ADDRESS": {host.name: str(host.node_address) for host in spec.hosts},
            "PODS": {host.name: f"{prefix}.{n}.0/24" for n, host in enumerate(spec.hosts, 1)},
            "URL": urls(spec),
        }
        lists = {"CONTROL_PLANES": control_planes, "WORKERS": workers}
        lines = [f"{name}=({shlex.join(entries)})\n" for name, entries in lists.items()]
        return "".join([_assigned(words, maps), *lines])


def guests(spec: Spec, accelerator: str, keys: Mapping[str, asyncssh.SSHKey]) -> str:
    """What guests.sh is told, as shell assignments. `keys`: the host key of each guest."""
    (hypervisor,) = spec.hypervisors
    blank = Guest(hypervisor.name, State.ABSENT, own={"accelerator": accelerator})
    told = {host.name: libvirt.machine(spec, host, blank) for host in spec.guests}
    ((image, _),) = libvirt.pool(spec, hypervisor, None)["images"]
    words = {
        "HYPERVISOR": hypervisor.name,
        "BRIDGE": str(hypervisor.bridge),
        "IMAGE": image,
        "ACCELERATOR": accelerator,
    }
    seeds = {name: seed(guest, keys[name]) for name, guest in told.items()}
    maps = {
        "VCPUS": {name: str(guest["definition"]["vcpus"]) for name, guest in told.items()},
        "MEMORY": {name: str(guest["definition"]["memory_mib"]) for name, guest in told.items()},
        "CPU": {name: guest["definition"]["cpu"]["mode"] for name, guest in told.items()},
        "MAC": {name: guest["definition"]["mac"] for name, guest in told.items()},
        "DRIVER": {name: driver(guest["definition"]["disk"]) for name, guest in told.items()},
        "GIB": {name: str(guest["disk_gib"]) for name, guest in told.items()},
        **{part: {name: each[part] for name, each in seeds.items()} for part in SEED},
    }
    return _assigned(words, maps)


def driver(disk: Mapping[str, Any]) -> str:
    """How a disk is reached, as virt-install is told."""
    return ",".join(f"{key}={disk[key]}" for key in ("cache", "io", "discard") if disk[key])


SEED = ("META_DATA", "NETWORK", "USER_DATA")


def seed(guest: Mapping[str, Any], key: asyncssh.SSHKey) -> dict[str, str]:
    """What cloud-init reads of a guest: as groundplane says it, and nothing for later."""
    given = guest["seed"]
    link = {
        "match": {"macaddress": guest["definition"]["mac"]},
        "addresses": [f"{guest['address']}/{given['prefix']}"],
        "gateway4": given["gateway"],
        "nameservers": {"addresses": given["dns"]},
        **dict.fromkeys(("accept-ra", "dhcp4", "dhcp6"), False),
    }
    pair = {"private": key.export_private_key().decode(), "public": public(key)}
    user = {
        "disable_root": False,
        "manage_etc_hosts": "localhost",
        "ssh_keys": {f"ed25519_{half}": text for half, text in pair.items()},
        "users": [{"name": given["user"], "ssh_authorized_keys": given["keys"]}],
    }
    return {  # JSON is YAML
        "META_DATA": json.dumps({"instance-id": guest["name"], "local-hostname": guest["name"]}),
        "NETWORK": json.dumps({"version": 2, "ethernets": {"nic0": link}}),
        "USER_DATA": f"#cloud-config\n{json.dumps(user)}",
    }


def public(key: asyncssh.SSHKey) -> str:
    """The public half: type and base64."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def urls(spec: Spec) -> dict[str, str]:
    """Where a worker's parts are: a program's name, or for an archive the part's -> URL."""
    parts = data.prepare(spec, spec.hosts[-1], "amd64", "apt")["parts"]
    return {
        part if key in ("archive", "binary") else key: url
        for part, given in parts.items()
        for key, (url, _) in given["files"].items()
    }


def _arguments(given: Mapping[str, object]) -> str:
    """Flags as kubeadm's documents have them; JSON is YAML."""
    return json.dumps([{"name": name, "value": str(value)} for name, value in given.items()])


def _word(true: bool) -> str:
    return "true" if true else "false"


def _assigned(words: Mapping[str, str], maps: Mapping[str, Mapping[str, str]]) -> str:
    """As shell assignments."""
    lines = [f"{name}={shlex.quote(text)}" for name, text in words.items()]
    lines += [f"declare -A {name}=({_entries(entries)})" for name, entries in maps.items()]
    return "\n".join(lines) + "\n"


def _entries(entries: Mapping[str, str]) -> str:
    return " ".join(f"[{shlex.quote(key)}]={shlex.quote(text)}" for key, text in entries.items())
