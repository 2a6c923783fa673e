"""What the end-to-end tests are made of: a stack on the lab's machines, and ways to look at both.

    stack.fresh("cp1", "w1")                        blank machines, switched on; no stack
    stack.configure(stack.hosts("cp1", "w1"))       the stack's file
    stack.up(); stack.preview() == {}               the real engine
    before = stack.processes()                      who runs, to prove that nothing restarted
    assert_pods_reach_each_other(stack)

Everything is bounded in time, and what every command printed is kept in `stack.logs`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import groundplane
from groundplane.begin import write_stack
from lab import environment, machines
from lab import stack as lab_stack
from lab.config import CHECKOUT, METAL, VM, Lab, Twin
from lab.guests import accelerator, hypervisor
from lab.machines import cgroups
from lab.mirror import daemon

STACK = "lab-e2e"
VM_UP = 1800.0  # the same, where guests are emulated on a computer with two processors
UP = 600.0  # seconds for one command of the engine
# What must not restart unless it is meant to, as the kernel names it (15 letters). Not the
# scheduler and the controller manager: they end by themselves whenever a busy computer makes them
# lose their lease.
LONG_LIVED = (
    "containerd",
    "kubelet",
    "etcd",
    "kube-apiserver",
    "kube-proxy",
    "haproxy",
    "keepalived",
)
PROBE = "groundplane.test/probe:1"


@dataclass(frozen=True)
class Run:
    """A command that ended: its status, all that it printed, and how long it took."""

    status: int
    text: str
    seconds: float


@dataclass
class Stack:
    """A stack of the product on machines of a lab."""

    lab: Lab
    name: str = STACK
    project: Path = CHECKOUT
    twin: Twin = METAL
    patience: float = UP
    count: int = field(default=0, repr=False)
    begun: list[Process] = field(default_factory=list, repr=False)
    variables: dict[str, str] = field(default_factory=dict, repr=False)  # for its programs

    # ---- machines ------------------------------------------------------------------------------

    def fresh(self, *names: str) -> None:
        """These machines and no others, blank and switched on; no stack."""
        self.forget()
        for name in machines.names(self.lab):
            machines.heal(self.lab, name)
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda n: machines.destroy(self.lab, n), machines.names(self.lab)))
        self.boot(*names)

    def boot(self, *names: str) -> None:
        known = {machine.name: machine for machine in machines.default_machines()}
        wanted = [known[name] for name in names]
        machines.boot_all(
            self.lab,
            [replace(m, memory=3072 if m.name.startswith("cp") else 2048) for m in wanted],
        )

    def forget(self) -> None:
        """Drop the stack's state and file without touching a machine."""
        self.pulumi("cancel", "--yes", "--stack", self.name, check=False)
        self.pulumi("stack", "rm", "--yes", "--force", "--stack", self.name, check=False)
        self.file.unlink(missing_ok=True)

    def shell(self, machine: str, script: str, *, check: bool = True) -> str:
        """Run a script in a machine as root, without SSH. Returns what it printed on stdout."""
        return machines.exec(self.lab, machine, ["bash", "-c", script], check=check).stdout

    # ---- the stack's file ----------------------------------------------------------------------

    @property
    def file(self) -> Path:
        return self.project / "stacks" / f"Pulumi.{self.name}.yaml"

    def hosts(self, *names: str) -> list[dict[str, Any]]:
        """Hosts as the site's file has them; change the dictionaries before `configure`."""
        known = {machine.name: machine for machine in machines.default_machines()}
        return [lab_stack.host(self.lab, known[name]) for name in names]

    def configure(
        self, hosts: Sequence[Mapping[str, Any]], place: str | None = None, **cluster: Any
    ) -> None:
        """Write the stack's file. `cluster`: what differs from the lab's; mappings are merged.
        `place`: another than the lab's."""
        site = lab_stack.site(self.lab, hosts, self.twin)
        site["place"] = place or site["place"]
        site["cluster"] = merged({**site["cluster"], "name": self.name}, cluster)
        write_stack(self.project / "stacks", self.name, site, force=True)
        self.pulumi("stack", "select", "--create", self.name)

    # ---- the engine ----------------------------------------------------------------------------

    @property
    def logs(self) -> Path:
        folder = self.lab.folder / "e2e"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def start(self, program: str, *arguments: str) -> Process:
        """A program of the lab's environment, begun. Its output goes to a file of its own."""
        self.count += 1
        what = f"{program}-{arguments[0] if arguments else ''}"
        log = self.logs / f"{self.name}-{self.count:03}-{what}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [f"{self.lab.folder}/bin/{program}", *arguments],
                cwd=self.project,
                env={
                    **environment.in_lab(self.lab),
                    "PULUMI_STACK": self.name,
                    **self.variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.begun.append(Process(process, log, time.monotonic()))
        return self.begun[-1]

    def stop_all(self) -> None:
        """End what a failed test left running."""
        for each in self.begun:
            if not each.ended:
                os.killpg(each.process.pid, signal.SIGKILL)
                each.process.wait(10)
        self.begun.clear()

    def run(
        self, program: str, *arguments: str, check: bool = True, timeout: float | None = None
    ) -> Run:
        """A program of the lab's environment, to its end. With `check` a failure fails the test."""
        done = self.start(program, *arguments).wait(timeout or self.patience)
        if check:
            assert done.status == 0, f"{program} {' '.join(arguments)}: {done.status}\n{done.text}"
        return done

    def pulumi(self, *arguments: str, check: bool = True, timeout: float | None = None) -> Run:
        return self.run("pulumi", *arguments, "--non-interactive", check=check, timeout=timeout)

    def up(self, *more: str, check: bool = True, timeout: float | None = None) -> Run:
        return self.pulumi(*UP_ARGUMENTS, *more, check=check, timeout=timeout)

    def start_up(self, *more: str) -> Process:
        """`up`, begun: for what happens meanwhile."""
        return self.start("pulumi", *UP_ARGUMENTS, "--non-interactive", *more)

    def refused(self, *words: str) -> Run:
        """An `up` that must fail and say all of these words."""
        done = self.up(check=False)
        assert done.status != 0, done.text
        missing = [word for word in words if word not in flat(done.text)]
        assert not missing, f"not said: {missing}\n{done.text}"
        return done

    def preview(self) -> dict[str, str]:
        """What the next `up` would do: resource -> operation, without those that stay the same.

        Resources are named without the cluster's name: `cp1-node`, `membership`. Components do
        nothing themselves: what they show is the plan that policies read.
        """
        done = self.pulumi("preview", "--json")
        steps = json.loads(done.text[done.text.index("{") :])["steps"]
        return {
            short(step["urn"]): step["op"]
            for step in steps
            if step["op"] != "same" and "groundplane:index:" not in step["urn"].rsplit("$", 1)[-1]
        }

    def destroy(self, check: bool = True, timeout: float | None = None) -> Run:
        return self.pulumi("destroy", "--yes", "--skip-preview", check=check, timeout=timeout)

    def cancel(self) -> None:
        """Release the lock that a killed engine left."""
        self.pulumi("cancel", "--yes")

    def output(self, name: str) -> str:
        return self.pulumi("stack", "output", name, "--show-secrets").text

    def resources(self) -> list[str]:
        """The names of what is in the state."""
        state = json.loads(self.pulumi("stack", "export").text)
        return [short(r["urn"]) for r in state["deployment"].get("resources", [])]

    def preflight(self) -> list[tuple[str, str, str]]:
        """What `groundplane preflight` finds: (severity, host, check)."""
        done = self.run("groundplane", "preflight", "--stack", self.name, "--json", check=False)
        text = done.text[: done.text.rindex("}") + 1]
        return [(f["severity"], f["host"], f["check"]) for f in json.loads(text)["findings"]]

    @contextlib.contextmanager
    def release(self, change: Callable[[Path], object]) -> Iterator[None]:
        """As if another release of the library were installed: `change` gets its folder."""
        place = self.lab.folder / "e2e-release"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(Path(groundplane.__file__).parent, place / "groundplane")
        change(place / "groundplane")
        self.variables["PYTHONPATH"] = str(place)
        try:
            yield
        finally:
            del self.variables["PYTHONPATH"]

    # ---- the cluster ---------------------------------------------------------------------------

    def kubectl(
        self, *arguments: str, stdin: str = "", check: bool = True, timeout: float = 60
    ) -> str:
        """kubectl as the stack's administrator, who is asked for once a stack."""
        config = self.lab.folder / f"e2e-kubeconfig-{self.name}"
        if not config.exists() or config.stat().st_mtime < self.file.stat().st_mtime:
            config.touch(0o600)
            config.write_text(self.output("kubeconfig"))
        done = subprocess.run(
            [f"{self.lab.folder}/bin/kubectl", "--kubeconfig", config, *arguments],
            env=environment.in_lab(self.lab),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def get(self, *what: str) -> list[dict[str, Any]]:
        """The items of `kubectl get`."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *what, "-o", "json"))["items"]
        return items

    def nodes(self) -> dict[str, bool]:
        """Node -> whether it is Ready."""
        return {
            node["metadata"]["name"]: any(
                c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
            )
            for node in self.get("nodes")
        }

    def cordoned(self) -> list[str]:
        return [
            node["metadata"]["name"]
            for node in self.get("nodes")
            if node["spec"].get("unschedulable", False)
        ]

    def members(self, machine: str = "cp1") -> dict[str, bool]:
        """etcd's members as this machine lists them -> whether they vote. "" has not started."""
        pki = "/etc/kubernetes/pki/etcd"
        text = self.shell(
            machine,
            f"etcdctl --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt "
            f"--key {pki}/healthcheck-client.key -w json member list",
        )
        return {
            m.get("name", ""): not m.get("isLearner", False) for m in json.loads(text)["members"]
        }

    def runs(self, machine: str, step: str) -> bool:
        """Whether a step runs on the machine at this moment."""
        return (
            "active"
            in self.shell(machine, f"systemctl is-active groundplane-{step}", check=False).split()
        )

    # ---- processes -----------------------------------------------------------------------------

    def processes(self, *names: str) -> dict[str, list[tuple[str, int, str]]]:
        """Of each machine, its long-lived processes: name, number and start. Equal means that
        nothing was restarted."""
        found = {}
        for machine in names or machines.running(self.lab):
            rows = []
            for pid in cgroups.processes(self.lab, machine):
                with contextlib.suppress(OSError):
                    name = Path(f"/proc/{pid}/comm").read_text().strip()
                    if name in LONG_LIVED:
                        rows.append((name, pid, daemon.started(pid)))
            found[machine] = sorted(rows)
        return found


@dataclass
class Guests(Stack):
    """A stack whose hosts are guests of the lab's hypervisor: vcp1, vw1, ..."""

    name: str = "lab-e2e-vm"
    twin: Twin = VM
    patience: float = VM_UP
    memory: int = 2560  # MiB a guest

    def fresh(self, *names: str) -> None:
        """A hypervisor without guests; no stack. Other machines stay."""
        self.forget()
        machines.destroy(self.lab, hypervisor.NAME)
        self.boot()

    def boot(self, *names: str) -> None:
        """The hypervisor, with memory for `ROOM` guests; guests are the update's to make."""
        kvm = accelerator.kvm()
        machines.boot(self.lab, hypervisor.machine(ROOM * self.memory, kvm))

    def hosts(self, *names: str) -> list[dict[str, Any]]:
        return [lab_stack.guest(self.lab, lab_stack.vm(name, self.memory)) for name in names]

    def domain(self, name: str) -> str:
        """What libvirt calls a guest."""
        return f"{self.name}.{name}"

    def virsh(self, *arguments: str, check: bool = True) -> str:
        argv = ["virsh", "-q", "-c", "qemu:///system", *arguments]
        return machines.exec(self.lab, hypervisor.NAME, argv, check=check).stdout.strip()

    def state(self, name: str) -> str:
        return self.virsh("domstate", self.domain(name), check=False)

    def host_key(self, name: str) -> str:
        """A guest's public host key, as its hypervisor noted it when it was installed."""
        note = f"/var/lib/groundplane/guests/{self.domain(name)}/guest.json"
        return self.shell(hypervisor.NAME, f"jq -r .key {note}", check=False).strip()

    def shell(self, machine: str, script: str, *, check: bool = True) -> str:
        """Run a script as root: in a guest by SSH, in a machine of the lab without."""
        if not machine.startswith("v"):
            return super().shell(machine, script, check=check)
        key = self.host_key(machine)
        assert key, f"{machine} is not installed yet"
        address = lab_stack.vm(machine, self.memory).address
        known = self.lab.folder / f"{self.name}-known"
        known.write_text(f"{address} {key}\n")
        argv = ["ssh", "-F", "none", "-i", str(self.lab.key), "-o", "BatchMode=yes"]
        argv += ["-o", f"UserKnownHostsFile={known}", "-o", "ConnectTimeout=30"]
        done = subprocess.run(
            ["nsenter", f"--net={self.lab.netns}", *argv, f"root@{address}", "bash -s"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if check:
            assert done.returncode == 0, f"{machine}: {script}: {done.stderr}"
        return done.stdout

    def processes(self, *names: str) -> dict[str, list[tuple[str, int, str]]]:
        return {name: self._processes(name) for name in names or self.nodes()}

    def _processes(self, name: str) -> list[tuple[str, int, str]]:
        rows = []
        for pid, comm, start in (
            line.split(None, 2) for line in self.shell(name, PROCESSES).splitlines()
        ):
            if comm in LONG_LIVED:
                rows.append((comm, int(pid), start))
        return sorted(rows)


# Number, name and start of each process.
PROCESSES = """
for stat in /proc/[0-9]*/stat; do
  sed -E 's/^([0-9]+) \\((.*)\\) (.*)/\\1 \\2 \\3/' "$stat" 2>/dev/null
done | awk '{ print $1, $2, $22 }'
"""
ROOM = 4  # guests for which the hypervisor has memory

UP_ARGUMENTS = ("up", "--yes", "--skip-preview")


@dataclass
class Process:
    """A command of the engine that runs, with what it has printed so far."""

    process: subprocess.Popen[bytes]
    log: Path
    began: float

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, timeout: float = UP) -> Run:
        """Its end, which is forced after `timeout` seconds."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            status = self.process.wait(10)
            raise AssertionError(
                f"{self.log}: no end within {timeout:.0f} s\n{self.text}"
            ) from None
        return Run(status, self.text, time.monotonic() - self.began)

    def interrupt(self) -> None:
        """As Ctrl-C does: the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """The engine alone, without a word. What it had started is left to notice."""
        self.process.kill()
        self.process.wait(10)


def short(urn: str) -> str:
    """A resource's name without its type, and without the cluster's name, which is the stack's."""
    stack = urn.split(":")[2]
    return urn.rsplit("::", 1)[1].removeprefix(f"{stack}-")


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in over.items():
        was = both.get(key)
        both[key] = (
            merged(was, value) if isinstance(was, Mapping) and isinstance(value, Mapping) else value
        )
    return both


def flat(text: str) -> str:
    """Text in which line breaks and indents count as one blank."""
    return " ".join(text.split())


def until(true: Callable[[], object], what: str, seconds: float = 60, pause: float = 0.1) -> None:
    """Returns once it is so; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(pause)


# ---- pods ------------------------------------------------------------------------------------

PODS = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "probe", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "probe"}},
                "updateStrategy": {"rollingUpdate": {"maxUnavailable": "100%"}},
                "template": {
                    "metadata": {"labels": {"app": "probe"}},
                    "spec": {
                        "tolerations": [{"operator": "Exists"}],
                        "terminationGracePeriodSeconds": 1,
                        "containers": [{"name": "probe", "image": PROBE, "args": ["serve"]}],
                    },
                },
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "probe", "namespace": "default"},
            "spec": {"selector": {"app": "probe"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ],
}


def assert_pods_reach_each_other(stack: Stack, seconds: float = 120) -> None:
    """A pod on each Ready node reaches the pod on every other node, a service, and DNS."""
    stack.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(PODS))
    ready = {name for name, is_ready in stack.nodes().items() if is_ready}
    pods: dict[str, dict[str, Any]] = {}

    def running() -> bool:
        pods.clear()
        pods.update(
            (pod["spec"]["nodeName"], pod)
            for pod in stack.get("pods", "-l", "app=probe")
            if pod["status"]["phase"] == "Running"
            and "deletionTimestamp" not in pod["metadata"]
            and all(c["ready"] for c in pod["status"].get("containerStatuses", [{"ready": False}]))
        )
        return set(pods) >= ready

    until(running, f"a pod runs on each of {sorted(ready)}", seconds, 1)
    names = {node: pod["metadata"]["name"] for node, pod in pods.items() if node in ready}
    # Each question, and the answers that are right.
    questions = [
        (node, ("get", f"http://{pods[other]['status']['podIP']}:8080"), {names[other]})
        for node in names
        for other in names
    ]
    service = stack.kubectl("get", "service", "probe", "-o", "jsonpath={.spec.clusterIP}")
    name = "probe.default.svc.cluster.local"
    questions += [(node, ("get", f"http://{name}"), set(names.values())) for node in names]
    questions += [(node, ("lookup", name), {service}) for node in names]

    def wrong(question: tuple[str, tuple[str, str], set[str]]) -> str:
        node, ask, right = question
        answer = ""
        # A pod that just started may be unknown to a service for a moment.
        for _ in range(3):
            command = ("exec", names[node], "--", "/probe", *ask)
            answer = stack.kubectl(*command, check=False).strip()
            if answer in right:
                return ""
            time.sleep(1)
        return f"{node}: {' '.join(ask)} gave {answer!r}, not one of {sorted(right)}"

    with ThreadPoolExecutor(4) as pool:
        failures = [text for text in pool.map(wrong, questions) if text]
    assert not failures, "\n".join(failures)


# ---- while a cluster changes -------------------------------------------------------------------


def versions(stack: Stack) -> dict[str, str]:
    return {
        node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"]
        for node in stack.get("nodes")
    }


@contextlib.contextmanager
def at_most_one_down(stack: Stack, *control_planes: str) -> Iterator[None]:
    """Look at every control plane all the time: no two may lack an API server that is ready or an
    etcd that runs in the same round.

    A moment without a leader disturbs none of them, so the API servers are not asked about etcd.
    A recorder that saw nobody down has not looked: one of them is disturbed in each of these tests.
    """
    known = {machine.name: machine.address for machine in machines.default_machines()}
    health = "readyz?exclude=etcd&exclude=etcd-readiness"
    urls = {f"https://{known[name]}:6443/{health}": name for name in control_planes}
    command = ["curl", "--parallel", "-sk", "-m", "4", "-w", "%{url} %{http_code}\n"]
    for url in urls:
        command += ["-o", "/dev/null", url]
    rounds: list[set[str]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.2):
            text = machines.inside(stack.lab, command, check=False)
            answers = dict(line.rsplit(" ", 1) for line in text.splitlines())
            running = stack.processes(*control_planes)
            down = {name for url, name in urls.items() if answers.get(url) != "200"}
            down |= {n for n, found in running.items() if "etcd" not in {p[0] for p in found}}
            rounds.append(down)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert len(rounds) > 10
    assert any(rounds), "nobody was disturbed: the recorder saw nothing"
    assert all(len(down) <= 1 for down in rounds), [down for down in rounds if len(down) > 1]


# ---- secrets ---------------------------------------------------------------------------------


def secret_needles(stack: Stack) -> dict[str, str]:
    """What must be found nowhere: a name for people -> a piece of text that only the secret has."""
    from groundplane.clusters.data import SECRET, join_token

    identity = json.loads(stack.output("identity"))
    files = identity["identity"]
    found = {"cluster's secret": files[SECRET]}
    for path, pem in files.items():
        if path.endswith(".key") and path != SECRET:
            found[f"identity {path}"] = pem.splitlines()[2][:48]
    at_rest = json.loads(stack.shell("cp1", "cat /etc/kubernetes/groundplane/encryption.json"))
    for key in at_rest["resources"][0]["providers"][0]["secretbox"]["keys"]:
        found[f"encryption key {key['name']}"] = key["secret"]
    for node in stack.nodes():
        found[f"join token of {node}"] = join_token(files[SECRET], node).split(".")[1]
    for line in stack.output("kubeconfig").splitlines():
        if "client-key-data:" in line:
            found["kubeconfig key"] = line.split()[-1][100:160]
    found["deployer's SSH key"] = stack.lab.key.read_text().splitlines()[2][:48]
    return found


def search(needles: Mapping[str, str], haystacks: Iterator[tuple[str, str]]) -> list[str]:
    """Where a secret was found: "PLACE: NAME"."""
    return [
        f"{place}: {name}"
        for place, text in haystacks
        for name, needle in needles.items()
        if needle in text
    ]


def haystacks(stack: Stack, recorder: Recorder | None = None) -> Iterator[tuple[str, str]]:
    """All that people, logs and backups may get to see: place -> text."""
    for path in sorted(stack.logs.glob("*.log")):
        # Those two were asked for secrets.
        if path.read_text(errors="replace") and "-stack" not in path.name:
            yield path.name, path.read_text(errors="replace")
    for path in sorted((stack.lab.folder / "state").rglob("*")):
        if path.is_file():
            yield str(path.relative_to(stack.lab.folder)), path.read_text(errors="replace")
    for machine in machines.running(stack.lab):
        logs = (
            "{ find /var/log -type f -size -64M -exec cat {} + ; journalctl --no-pager -o export; }"
            " | tr -cd '\\n\\40-\\176'"
        )
        yield f"{machine}: logs and journal", stack.shell(machine, logs, check=False)
        yield f"{machine}: units", stack.shell(machine, "systemctl cat 'groundplane*' kubelet 2>&1")
    if recorder is not None:
        yield "process lists", "\n".join(recorder.commands())


# ---- what ran meanwhile ----------------------------------------------------------------------


class Recorder:
    """Every process of the computer and its machines that lives long enough to be seen.

    with Recorder(lab) as recorder: ...
    recorder.count("kubeadm init")       how many different processes ran with this command line
    """

    PAUSE = 0.05  # seconds between two looks
    LOOKS = 5  # at one process: an old one's command line does not change any more

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # (pid, start) -> every command line that it showed: a shell becomes what it executes.
        self.seen: dict[tuple[int, str], list[str]] = {}
        self.inside: dict[tuple[int, str], int] = {}  # those in this lab's machines -> parent
        self.alive: dict[int, tuple[str, int]] = {}  # pid -> start, how often it was looked at
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Recorder:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(5)

    def _follow(self) -> None:
        while not self.stopping.wait(self.PAUSE):
            now = {int(name) for name in os.listdir("/proc") if name.isdigit()}
            for pid in self.alive.keys() - now:
                del self.alive[pid]
            for pid in now:
                with contextlib.suppress(OSError):
                    self._look(pid)

    def _look(self, pid: int) -> None:
        start, looks = self.alive.get(pid) or (daemon.started(pid), 0)
        if looks == self.LOOKS:
            return
        self.alive[pid] = start, looks + 1
        if looks == 0:
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            if f"/groundplane-{self.lab.name}/" in groups:
                parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
                self.inside[pid, start] = int(parent)
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        if raw:
            text = raw.replace(b"\0", b" ").decode(errors="replace").strip()
            self.seen.setdefault((pid, start), []).append(text)

    def commands(self) -> list[str]:
        """Every command line of the computer and of all machines."""
        return sorted({line for lines in [*self.seen.values()] for line in lines})

    def count(self, start: str) -> int:
        """How many processes of this lab's machines had a command line that begins so, in
        whatever folder it lies."""
        words = start.split()
        found = {
            pid: self.inside[pid, began]
            for (pid, began), lines in [*self.seen.items()]  # a copy: the thread goes on
            if (pid, began) in self.inside and any(_is(line.split(), words) for line in lines)
        }
        # A child that has not yet become another program still shows its parent's command line.
        return sum(parent not in found for parent in found.values())


def _is(line: Sequence[str], words: Sequence[str]) -> bool:
    return bool(line) and [Path(line[0]).name, *line[1 : len(words)]] == list(words)
