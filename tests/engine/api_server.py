"""A Kubernetes API on the loopback: etcd, kube-apiserver and what of the controllers is needed to
delete a namespace. No node, so nothing ever runs on it."""

from __future__ import annotations

import json
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine_harness import free_port

from lab import parts

TOKEN = "of-the-tests"
CONTROLLERS = "namespace-controller,garbage-collector-controller,deployment-controller"


@dataclass
class Api:
    """A cluster's API, whose administrator holds a token."""

    folder: Path
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> str:
        """The administrator's, in JSON, which is YAML."""
        server = {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": server}],
                "users": [{"name": "admin", "user": {"token": TOKEN}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "current-context": "test",
            }
        )

    def start(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("ab") as log:
            self.processes[program] = subprocess.Popen(
                [parts.binary(program), *arguments], stdout=log, stderr=log, cwd=self.folder
            )

    def stop(self, program: str) -> None:
        process = self.processes.pop(program)
        process.terminate()
        process.wait(30)

    def get(self, path: str) -> Any:
        """What the API answers to a path; None where there is no such thing."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return json.loads(body) if body.startswith(b"{") else body.decode()

    def ready(self) -> bool:
        try:
            return bool(self.get("/readyz") == "ok")
        except OSError:
            return False


def until(true: Callable[[], object], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.2)


@contextmanager
def api(folder: Path) -> Iterator[Api]:
    """One that answers, until the end of the block."""
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    (folder / "tokens").write_text(f'{TOKEN},admin,1,"system:masters"\n')
    etcd, peers = free_port(), free_port()
    made = Api(folder, free_port())
    (folder / "kubeconfig").write_text(made.kubeconfig)
    url = f"http://127.0.0.1:{etcd}"
    try:
        made.start(
            "etcd",
            f"--data-dir={folder}/etcd",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}",
            "--unsafe-no-fsync",
        )
        made.start(
            "kube-apiserver",
            f"--etcd-servers={url}",
            f"--secure-port={made.port}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder}/certs",
            f"--token-auth-file={folder}/tokens",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://test.example",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        )
        until(made.ready, "the API server answers")
        made.start(
            "kube-controller-manager",
            f"--kubeconfig={folder}/kubeconfig",
            f"--controllers={CONTROLLERS}",
            f"--secure-port={free_port()}",
            f"--cert-dir={folder}/certs-of-controllers",
            "--leader-elect=false",
        )
        yield made
    finally:
        for program in reversed(list(made.processes)):
            made.stop(program)
