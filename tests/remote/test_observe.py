"""scripts/observe.sh, run by this computer's own bash, and the parser of what it prints."""

import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundplane.remote import ledger
from groundplane.remote.facts import (
    Certificate,
    Domain,
    Etcd,
    HostSeen,
    Listener,
    Member,
    Node,
    Session,
    parse,
)
from groundplane.remote.ledger import Drift, Entry
from groundplane.remote.observation import Expect, parameters

SCRIPT = Path(ledger.__file__).parent / "scripts" / "observe.sh"


def output(expect: Expect | None = None, before: str = "") -> str:
    """What the script prints here. It gets no room for even a byte in any file."""
    text = parameters(expect or Expect("s"), "h1") + before + SCRIPT.read_text()
    done = subprocess.run(
        ["bash", "-c", "ulimit -f 0; exec bash -s"], input=text, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout


def seen(expect: Expect | None = None, before: str = "") -> HostSeen:
    sent = time.time()
    text = output(expect, before)
    return parse("h1", text, sent, sent)


@pytest.fixture
def on_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's ledger, empty, in the folder that this returns."""
    (tmp_path / "ledger").mkdir()
    monkeypatch.setattr(ledger, "LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setattr(ledger, "RECORD", str(tmp_path / "cluster.json"))
    return tmp_path


def record(on_host: Path, step: str, *facts: tuple[str, ...]) -> None:
    lines = ["\t".join(fact) + "\n" for fact in facts]
    (on_host / "ledger" / f"{step}.facts").write_text("".join(lines))


# ---- this computer ------------------------------------------------------------------------------


def test_this_computer() -> None:
    here = seen()
    assert here.hostname == socket.gethostname()
    assert here.kernel == os.uname().release
    assert here.root == (os.geteuid() == 0)
    assert here.cpus == len(os.sched_getaffinity(0))
    assert here.arch in ("amd64", "arm64")
    assert here.cgroup in (1, 2)
    assert here.memory == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert {disk.path for disk in here.disks} == {"/", "/var/lib"}
    assert all(0 < disk.free <= disk.size for disk in here.disks)
    assert abs(here.clock.ahead) < 5
    assert here.packager in ("apt", "dnf", "")


def test_a_blank_ledger(on_host: Path) -> None:
    here = seen()
    assert (here.ledger, here.record, here.drift) == ({}, None, ())


def test_missing_commands_and_features() -> None:
    here = seen(Expect("s", commands=("bash", "no-such-command"), features=("no_such_module",)))
    assert here.missing == ("no-such-command",)
    # Where the kernel's modules are not to be seen, nothing is said of them.
    assert here.features["no_such_module"] in ("missing", "unknown")


def test_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        ports = (one.getsockname()[1], other.getsockname()[1])
        found = seen(Expect("s", ports=(*ports, 1))).listeners
    own = Path("/proc/self/comm").read_text().strip()
    assert sorted(found, key=lambda listener: ports.index(listener.port)) == [
        Listener(port, own) for port in ports
    ]


def test_by_which_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "fe80::9%eth0 50000 192.0.2.11 2222")
    assert seen().session == Session("fe80::9", 2222)
    monkeypatch.delenv("SSH_CONNECTION")


class Answers(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("before", ["", "type() { [[ $2 != curl ]]; }\n"], ids=["curl", "bash"])
def test_mirrors(web: str, before: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        urls = (
            f"{web}/200",
            f"{web}/404",
            f"{web}/429",
            f"{web}/503",
            f"http://127.0.0.1:{closed.getsockname()[1]}",
            "http://nosuch.invalid/",
        )
        found = {m.url: m for m in seen(Expect("s", mirrors=urls), before).mirrors}
    assert [found[url].status for url in urls] == [200, 404, 429, 503, 0, 0]
    assert "onnect" in found[urls[4]].error
    assert "nosuch.invalid" in found[urls[5]].error


def test_a_mirror_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert [m.status for m in seen(Expect("s", mirrors=(url,) * 3)).mirrors] == [0, 0, 0]
        assert time.monotonic() - started < 10, "all three together, not one after the other"


def test_a_script_cut_off_on_its_way_runs_nothing() -> None:
    text = SCRIPT.read_text()
    for part in (1 / 3, 2 / 3, 0.99):
        cut = text[: int(len(text) * part)]
        done = subprocess.run(["bash", "-s"], input=cut, capture_output=True, text=True)
        assert done.stdout == ""


# ---- the ledger ---------------------------------------------------------------------------------


def test_the_ledger_and_the_record(on_host: Path) -> None:
    entry = {
        "stack": "lab", "cluster": "c", "step": "node", "revision": 2, "token": "t", "digest": "d",
        "at": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    (on_host / "ledger" / "node.json").write_text(json.dumps(entry, indent=2))
    (on_host / "ledger" / "cut.json").write_text('{"stack": "lab", "tok')
    (on_host / "cluster.json").write_text('{"stack": "lab", "immutable": {"a": ["b"]}}\n')
    here = seen()
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert here.ledger == {"node": Entry("lab", "c", "node", 2, "t", "d", at)}
    assert here.record == {"stack": "lab", "immutable": {"a": ["b"]}}


@pytest.mark.parametrize(
    "text, generation",
    [
        ('{"keys":[{"name":"key3","secret":"a2V5OQ=="},{"name":"key4","secret":"a2V5"}]}\n', 3),
        ('{"keys":[]}', 0),
        (None, 0),
    ],
)
def test_the_key_that_secrets_are_written_with(
    tmp_path: Path, text: str | None, generation: int
) -> None:
    file = tmp_path / "encryption.json"
    if text is not None:
        file.write_text(text)
    told = output(before=f"ENCRYPTION={file}\n")
    assert parse("h1", told, 0, 0).encryption == generation
    # Its number, and nothing of the key.
    assert "a2V5" not in told


def test_facts_that_hold(on_host: Path) -> None:
    text, link = on_host / "text with space", on_host / "link"
    text.write_text("hello")
    text.chmod(0o640)
    link.symlink_to("some where")
    digest = hashlib.sha256(b"hello").hexdigest()
    record(
        on_host,
        "node",
        ("file", str(text), "0640", digest),
        ("link", str(link), "some where"),
        ("absent", str(on_host / "nothing")),
        ("sysctl", "kernel.ostype", "Linux"),
        ("sysctl", "kernel/ostype", "Linux"),
        ("sysctl", "net.ipv4.ip_local_port_range", *port_range()),
        ("sysctl", "net.ipv4.ip_local_port_range", " ".join(port_range())),
        ("mode", str(text), "0640"),
        ("mode", str(on_host / "ledger"), f"{(on_host / 'ledger').stat().st_mode & 0o777:04o}"),
        ("mount", "/proc", of_proc()),
        ("package", "bash"),
        ("unheard-of", "is not judged"),
    )
    assert seen().drift == ()


def port_range() -> list[str]:
    return Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()


def of_proc() -> str:
    """The options of what is mounted on /proc."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line.split()[3] for line in lines if line.split()[1] == "/proc"][-1]


def test_facts_that_do_not(on_host: Path) -> None:
    hello, world = (hashlib.sha256(text).hexdigest() for text in (b"hello", b"world"))
    for name in ("edited", "opened", "is-a-link", "no-link"):
        (on_host / name).write_text("hello")
        (on_host / name).chmod(0o644)
    (on_host / "edited").write_text("world")
    (on_host / "opened").chmod(0o666)
    (on_host / "is-a-link").unlink()
    (on_host / "is-a-link").symlink_to("elsewhere")
    (on_host / "folder").mkdir()
    was = f"0644 {hello}"
    cases = {
        ("file", "edited", "0644", hello): (was, f"0644 {world}"),
        ("file", "opened", "0644", hello): (was, f"0666 {hello}"),
        ("file", "deleted", "0644", hello): (was, "absent"),
        ("file", "is-a-link", "0644", hello): (was, "not a file"),
        ("file", "folder", "0644", hello): (was, "not a file"),
        ("link", "is-a-link", "here"): ("here", "elsewhere"),
        ("link", "no-link", "here"): ("here", "not a link"),
        ("link", "deleted", "here"): ("here", "absent"),
        ("absent", "folder"): ("", "present"),
        ("sysctl", "kernel.ostype", "Plan", "9"): ("Plan 9", "Linux"),
        ("sysctl", "kernel.no_such_key", "1"): ("1", "absent"),
        ("mode", "opened", "0644"): ("0644", "0666"),
        ("mode", "deleted", "0644"): ("0644", "absent"),
        ("mount", "/proc", "nodev,no-such-option"): ("nodev,no-such-option", of_proc()),
        ("mount", "/no/such/mount", "nodev"): ("nodev", "absent"),
        ("package", "no-such-package"): ("", "absent"),
    }
    in_files = ("file", "link", "absent", "mode")
    facts = [
        (kind, str(on_host / name) if kind in in_files else name, *rest)
        for kind, name, *rest in cases
    ]
    record(on_host, "node", *facts)
    record(on_host, "other", ("file", str(on_host / "edited"), "0644", world))
    assert seen().drift == tuple(
        Drift("node", f"{fact[0]} {fact[1]}", *expected)
        for fact, expected in zip(facts, cases.values(), strict=True)
    )


def test_a_large_file_is_hashed_only_when_it_was_touched(on_host: Path) -> None:
    large = on_host / "kubelet"
    large.write_bytes(b"\0" * (2 << 20))
    large.chmod(0o755)
    time.sleep(0.05)
    # A digest that is wrong shows that nobody looked; the inode is older than the facts.
    record(on_host, "node", ("file", str(large), "0755", "0" * 64))
    assert seen().drift == ()
    time.sleep(0.05)
    with large.open("r+b") as file:
        file.write(b"1")
    (drift,) = seen().drift
    assert drift.now.split()[1] == hashlib.sha256(large.read_bytes()).hexdigest()


def test_a_large_file_put_in_its_place(on_host: Path) -> None:
    large = on_host / "kubelet"
    for path in (large, on_host / "other"):
        path.write_bytes(path.name.encode() * (1 << 20))
        path.chmod(0o755)
    time.sleep(0.05)
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    record(on_host, "node", ("file", str(large), "0755", digest))
    time.sleep(0.05)
    os.utime(on_host / "other", (1, 1))
    (on_host / "other").rename(large)
    assert [drift.fact for drift in seen().drift] == [f"file {large}"]


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs here")
def test_units_where_systemd_does_not_answer(on_host: Path) -> None:
    record(on_host, "node", ("unit", "kubelet", "enabled", "active"))
    here = seen()
    assert here.drift == ()
    assert "kubelet" in here.problems[0]


# ---- certificates -------------------------------------------------------------------------------


def certificate(path: Path, days: int) -> int:
    """A certificate and its key in one file; returns its last second."""
    key, cert = path.with_suffix(".k"), path.with_suffix(".c")
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:P-256"
    made = f"openssl req -x509 {curve} -nodes -subj /CN=t -days {days} -keyout {key} -out {cert}"
    subprocess.run(made.split(), check=True, capture_output=True)
    path.write_text(cert.read_text() + key.read_text())
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(cert)], capture_output=True, text=True
    ).stdout.partition("=")[2]
    end = datetime.strptime(shown.strip(), "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    return int(end.timestamp())


def test_certificates_are_dated_and_their_keys_stay(on_host: Path) -> None:
    path = on_host / "client.pem"
    end = certificate(path, 30)
    record(on_host, "node", ("cert", str(path), str(end)))
    text = output()
    here = parse("h1", text, 0, 0)
    assert Certificate(str(path), datetime.fromtimestamp(end, UTC)) in here.certificates
    assert here.drift == ()
    assert "PRIVATE" not in text
    assert path.with_suffix(".k").read_text().splitlines()[1] not in text


def test_a_kubeconfigs_certificate(on_host: Path) -> None:
    path = on_host / "admin.conf"
    end = certificate(path, 30)
    body = subprocess.run(
        ["base64", "-w0", str(path.with_suffix(".c"))], capture_output=True, text=True
    ).stdout
    path.write_text(
        f"users:\n- name: a\n  user:\n    client-certificate-data: {body}\n"
        "    client-key-data: c2VjcmV0\n"
    )
    record(on_host, "node", ("cert", str(path), str(end)))
    text = output()
    assert parse("h1", text, 0, 0).drift == ()
    assert "c2VjcmV0" not in text


def test_certificates_that_changed(on_host: Path) -> None:
    end = certificate(on_host / "a.crt", 30)
    (on_host / "bad.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")
    day = 86400
    record(
        on_host,
        "node",
        ("cert", str(on_host / "a.crt"), str(end - day)),  # renewed since: no drift
        ("cert", str(on_host / "bad.crt"), str(end)),
        ("cert", str(on_host / "gone.crt"), str(end)),
    )
    record(on_host, "other", ("cert", str(on_host / "a.crt"), str(end + day)))
    found = {(drift.step, Path(drift.fact).name): drift.now for drift in seen().drift}
    now = f"{datetime.fromtimestamp(end, UTC):%F %T}"
    assert found == {
        ("node", "bad.crt"): "unreadable",
        ("node", "gone.crt"): "absent",
        ("other", "a.crt"): now,
    }


# ---- the parser ---------------------------------------------------------------------------------

HEAD, TAIL = "groundplane\t1\n", "end\n"


def test_the_clock_is_set_against_the_middle_of_the_way() -> None:
    found = parse("h1", f"{HEAD}clock\t1000.5\n{TAIL}", 990.0, 990.2).clock
    assert found.ahead == pytest.approx(10.4)
    assert found.error == pytest.approx(0.1)


def test_etcd_and_nodes() -> None:
    # As etcd 3.6.8 answers; the second member was added and never started.
    members = {
        "header": {"cluster_id": "324952591200643719"},
        "members": [
            {"ID": "3319814642761637952", "name": "cp1", "peerURLs": ["https://198.18.0.11:2380"],
             "clientURLs": ["https://198.18.0.11:2379"]},
            {"ID": "255", "peerURLs": ["https://198.18.0.12:2380"], "isLearner": True},
        ],
    }  # fmt: skip
    node = {
        "name": "cp1", "addresses": ["198.18.0.11"], "ready": True, "version": "v1.36.3",
        "unschedulable": False, "pod_cidrs": ["10.244.0.0/24"], "control_plane": True,
    }  # fmt: skip
    lines = [
        "etcd",
        json.dumps(members),
        '{"header":{"cluster_id":"8544750500780416267", "member_id":"3319814642761637952", '
        '"revision":"1000000042", "raft_term":"2"}, "version":"3.6.8", "dbSize":"20480"}',
        '{"alarms":[{"memberID":"255","alarm":"NOSPACE"}]}',
        '{"health":"true","reason":""}',
    ]
    etcd = "\t".join(lines) + "\nmember\thttps://198.18.0.11:2379/health?x\t200\n"
    here = parse("h1", f"{HEAD}{etcd}nodes\t{json.dumps([node])}\n{TAIL}", 0, 0)
    assert here.etcd == Etcd(
        healthy=True,
        members=(
            Member(
                "2e1259d415f2a040",
                "cp1",
                ("https://198.18.0.11:2380",),
                ("https://198.18.0.11:2379",),
                False,
                True,
            ),
            Member("ff", "", ("https://198.18.0.12:2380",), (), True, None),
        ),
        alarms=("NOSPACE",),
        version="3.6.8",
        db_bytes=20480,
        cluster="76950d4ef55b9d0b",
        revision=1000000042,
    )
    assert here.nodes == (
        Node("cp1", ("198.18.0.11",), True, "1.36.3", False, ("10.244.0.0/24",), True),
    )


def test_an_etcd_that_does_not_answer() -> None:
    here = parse("h1", f"{HEAD}etcd\t\t\t\t\n{TAIL}", 0, 0)
    assert here.etcd == Etcd(healthy=False)
    assert here.nodes is None


@pytest.mark.parametrize("text", ["", HEAD, TAIL, "Welcome!\n" + HEAD + TAIL, HEAD + "cpus\t1\n"])
def test_output_that_is_not_whole(text: str) -> None:
    with pytest.raises(ValueError, match="not whole"):
        parse("h1", text, 0, 0)


NAMES = """root system arch kernel systemd cgroup clock memory swap cpus disk listener interface
    address route feature missing lock mirror ledger record drift cert_fact certificate
    client_certificate nodes etcd member problem unheard"""
KEYS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)
ODD = '{"members": [{"ID": 7, "peerURLs": 7}]}'
FIELDS = st.text() | JSON | st.integers().map(str) | st.just(ODD)


@given(st.lists(st.tuples(KEYS, st.lists(FIELDS, max_size=5))), st.floats(0, 1e10))
def test_no_host_can_break_the_parser(lines: list[tuple[str, list[str]]], now: float) -> None:
    text = "".join("\t".join((key, *rest)).replace("\n", " ") + "\n" for key, rest in lines)
    found = parse("h1", HEAD + text + TAIL, now, now + 1)
    assert len(fields(found)) > 30
    assert all(isinstance(port.port, int) for port in found.listeners)


@given(st.text())
def test_noise_is_no_observation(text: str) -> None:
    with pytest.raises(ValueError, match="not whole"):
        parse("h1", text, 0, 0)


@given(st.text())
def test_no_ledger_entry_can_break_the_parser(text: str) -> None:
    ledger.entry(text)


# ---- hypervisors --------------------------------------------------------------------------------

VIRSH = r"""
type() { [[ $2 == virsh ]] || builtin type "$@"; }
timeout() { shift; "$@"; }
virsh() { cat <<'TEXT'
Using library: libvirt 9.0.0
Using API: QEMU 9.0.0
Running hypervisor: QEMU 7.2.22

Domain: 'metal.w1'
  state.state=1
  state.reason=1
  vcpu.current=2
  vcpu.maximum=4
  balloon.current=2097152
  balloon.maximum=4194304

Domain: 'other.w1'
  state.state=5
  vcpu.maximum=1
  balloon.maximum=1024

TEXT
}
"""


def hypervisor(folder: Path, before: str = VIRSH) -> HostSeen:
    expect = Expect("metal", pools={"h1": str(folder / "guests")}, shared=True)
    return seen(expect, before)


def test_a_hypervisor(on_host: Path) -> None:
    for name in ("metal.w1", "other.w1"):
        (on_host / "guests" / name).mkdir(parents=True)
        (on_host / "guests" / name / "guest.json").write_text('{"key": "ssh-ed25519 AAAA"}\n')
    found = hypervisor(on_host)
    there = found.hypervisor
    assert there is not None
    assert there.libvirt == "9.0.0"
    assert there.domains == {
        "metal.w1": Domain("running", 4, 4 << 30),
        "other.w1": Domain("shut off", 1, 1 << 20),
    }
    # Those of other stacks are counted, and no more is said of them.
    assert there.guests == {"metal.w1": {"key": "ssh-ed25519 AAAA"}}
    assert 0 < there.available <= found.memory
    assert str(on_host / "guests") in {disk.path for disk in found.disks}


def test_a_pool_that_is_to_come(on_host: Path) -> None:
    disk = next(d for d in hypervisor(on_host).disks if d.path == str(on_host / "guests"))
    assert 0 < disk.free <= disk.size


def test_a_host_is_not_looked_at_as_a_hypervisor() -> None:
    assert seen().hypervisor is None


def test_facts_of_guests(on_host: Path) -> None:
    (on_host / "disk").touch()
    record(
        on_host,
        "machine.metal.w1",
        ("domain", "metal.w1", "running"),
        ("exists", str(on_host / "disk")),
    )
    assert hypervisor(on_host).drift == ()
    (on_host / "disk").unlink()
    record(
        on_host,
        "machine.metal.w2",
        ("domain", "other.w1", "running"),
        ("domain", "metal.w2", "running"),
    )
    disk = ("machine.metal.w1", f"exists {on_host / 'disk'}", "", "absent")
    assert [(d.step, d.fact, d.was, d.now) for d in hypervisor(on_host).drift] == [
        disk,
        ("machine.metal.w2", "domain other.w1", "running", "shut off"),
        ("machine.metal.w2", "domain metal.w2", "running", "absent"),
    ]
    # Where libvirt does not answer nothing is said of guests.
    silent = hypervisor(on_host, VIRSH.replace("virsh() {", "virsh() { return 1; "))
    assert silent.hypervisor is not None and silent.hypervisor.libvirt == ""
    assert [d.fact for d in silent.drift] == [disk[1]]


QEMU = r"""
KVM=/dev/null KERNEL=/dev/null
type() { case $2 in virsh) ;; qemu*) echo qemu ;; *) builtin type "$@" ;; esac; }
qemu() { echo "$CONSOLE"; }
"""


@pytest.mark.parametrize(
    ("console", "kvm"),
    [("VFS: Unable to mount root fs on unknown-block", "works"), ("Decompressing Linux", "hangs")],
)
def test_kvm_is_what_gets_a_kernel_through_its_start(console: str, kvm: str, on_host: Path) -> None:
    found = hypervisor(on_host, f"{VIRSH}{QEMU}CONSOLE='{console}'\n").hypervisor
    assert found is not None and found.kvm == kvm


def test_kvm_without_a_kernel_to_try_it_with(on_host: Path) -> None:
    found = hypervisor(on_host, f"{VIRSH}{QEMU}KERNEL=/no/kernel\n").hypervisor
    assert found is not None and found.kvm == "untried"


def test_no_kvm(on_host: Path) -> None:
    found = hypervisor(on_host, f"{VIRSH}KVM=/no/device\n").hypervisor
    assert found is not None and found.kvm == ""
