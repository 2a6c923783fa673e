"""Asks the API ten times a second, whether or not it answers, and writes down each question.

    python -m benchmarks.probe KUBECONFIG FILE      until SIGTERM

Each question is a connection of its own, by TLS through the cluster's endpoint, for one object of
the API: as a client that just came.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from groundplane.errors import GroundplaneError
from lab.config import CHECKOUT, Lab

RATE = 10.0
"""Questions a second."""
PATIENCE = 5.0
"""Seconds after which no answer is a failure."""
OBJECT = "/api/v1/namespaces/kube-system"


@dataclass(frozen=True)
class Question:
    """When it was due (seconds since 1970), how long the answer took, and what was wrong."""

    at: float
    took: float
    error: str = ""

    @property
    def answered(self) -> bool:
        return not self.error and self.took <= PATIENCE


def outage(questions: Sequence[Question], began: float, ended: float) -> dict[str, Any]:
    """Of the questions between two times: how many, how many failed, and the longest time (in
    seconds) in which no question was asked that was answered."""
    asked = [question for question in questions if began <= question.at <= ended]
    answered = sorted(question.at for question in asked if question.answered)
    moments = [began, *answered, ended]
    gap = max(later - earlier for earlier, later in itertools.pairwise(moments))
    return {"asked": len(asked), "failed": len(asked) - len(answered), "gap": round(gap, 2)}


# ---- asking ------------------------------------------------------------------------------------


def follow(
    ask: Callable[[], None], keep: Callable[[Question], None], stopping: threading.Event
) -> None:
    """An open loop: each question when it is due, though those before it wait for their answers.

    `ask` raises OSError when there is no good answer. `keep` is called by one thread at a time.
    """
    lock = threading.Lock()

    def one(due: float) -> None:
        error = ""
        try:
            ask()
        except (OSError, http.client.HTTPException) as problem:
            error = f"{type(problem).__name__}: {problem}"
        took = time.time() - due
        with lock:
            keep(Question(round(due, 3), round(took, 3), error))

    began = time.time()
    # Enough threads that none waits for another: a question has a few timeouts in a row at most.
    with ThreadPoolExecutor(int(RATE * PATIENCE * 4)) as pool:
        for number in itertools.count():
            due = began + number / RATE
            if stopping.wait(max(0.0, due - time.time())):
                return
            pool.submit(one, due)


def asker(kubeconfig: Path) -> Callable[[], None]:
    """One question to the API that the kubeconfig names, as its user."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    server = urlsplit(cluster["server"])
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads these two from files only.
        paths = {}
        for name in ("client-certificate-data", "client-key-data"):
            paths[name] = Path(folder, name)
            paths[name].touch(0o600)
            paths[name].write_bytes(base64.b64decode(user[name]))
        context.load_cert_chain(*map(str, paths.values()))

    def ask() -> None:
        connection = http.client.HTTPSConnection(
            server.hostname or "", server.port, timeout=PATIENCE, context=context
        )
        try:
            connection.request("GET", OBJECT)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
        finally:
            connection.close()

    return ask


def main(kubeconfig: str, file: str) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Path(file).open("w", buffering=1) as output:
        follow(
            asker(Path(kubeconfig)),
            lambda question: print(json.dumps(asdict(question)), file=output),
            stopping,
        )


# ---- from outside ------------------------------------------------------------------------------


@contextmanager
def probing(lab: Lab, kubeconfig: str, folder: Path) -> Iterator[list[Question]]:
    """Asks during the block, from within the lab's network; all questions are there after it.

    Raises GroundplaneError when the API does not answer to begin with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, file, log = folder / "kubeconfig", folder / "questions", folder / "log"
    config.touch(0o600)
    config.write_text(kubeconfig)
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.probe", str(config), str(file)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nsenter", f"--net={lab.netns}", *command],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    found: list[Question] = []
    try:
        deadline = time.monotonic() + 60
        while not any(question.answered for question in questions(file)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise GroundplaneError(
                    "benchmarks.probe",
                    f"the API did not answer it within 60 s: {log.read_text().strip()}",
                    "What is not answered beforehand says nothing of an upgrade",
                    f"See {file}, and whether the endpoint's address is on one of the machines.",
                )
            time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        process.wait(60)
        found.extend(questions(file))


def questions(file: Path) -> list[Question]:
    """Those that were written so far; the last line may be half of one."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [Question(**json.loads(line)) for line in lines if line.endswith("\n")]


if __name__ == "__main__":
    main(*sys.argv[1:])
