"""The bare cluster: kubeadm by the shell scripts in bare/, told what groundplane would be told.

Versions, addresses of downloads, images and the kubelet's settings come from the same specification
as groundplane's cluster, so that both sides do the same work.
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

from groundplane.clusters import data
from groundplane.errors import GroundplaneError
from groundplane.spec import Spec
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

    def run(self, verb: str, spec: Spec) -> float:
        """`up` or `upgrade` to what the specification says. Returns its seconds.

        Raises GroundplaneError with the end of its log when it fails.
        """
        folder = self._folder(verb)
        settings = folder / "settings"
        settings.touch(0o600)
        settings.write_text(self.settings(spec))
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
            "TOKEN": self.token,
            "CERTIFICATE_KEY": self.certificate_key,
        }
        prefix = cluster.pod_cidrs[0].rsplit(".", 2)[0]  # 10.244.0.0/16 -> 10.244
        maps = {
            "ADDRESS": {host.name: str(host.node_address) for host in spec.hosts},
            "PODS": {host.name: f"{prefix}.{n}.0/24" for n, host in enumerate(spec.hosts, 1)},
            "URL": urls(spec),
        }
        lines = [f"{name}={shlex.quote(text)}" for name, text in words.items()]
        lines += [
            f"CONTROL_PLANES=({shlex.join(control_planes)})",
            f"WORKERS=({shlex.join(workers)})",
        ]
        lines += [f"declare -A {name}=({_entries(entries)})" for name, entries in maps.items()]
        return "\n".join(lines) + "\n"


def urls(spec: Spec) -> dict[str, str]:
    """Where a worker's parts are: a program's name, or for an archive the part's -> URL."""
    parts = data.prepare(spec, spec.hosts[-1], "amd64", "apt")["parts"]
    return {
        part if key in ("archive", "binary") else key: url
        for part, given in parts.items()
        for key, (url, _) in given["files"].items()
    }


def _word(true: bool) -> str:
    return "true" if true else "false"


def _entries(entries: Mapping[str, str]) -> str:
    return " ".join(f"[{shlex.quote(key)}]={shlex.quote(text)}" for key, text in entries.items())
