"""K3s on a host: founded, joined, changed and taken away.

The program is a substitute that reads and leaves the files that K3s does: tests/support/fakes/k3s.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from support.host import Done, Host
from support.specs import K3S_VERSIONS, SECRET, of, on_the_wire

from groundplane.clusters import data as program
from groundplane.remote.facts import parse
from groundplane.remote.observation import Expect, parameters
from groundplane.spec import ApiServer, Audit, Kubernetes, Spec

OLD, NEW = K3S_VERSIONS
TLS = "/var/lib/rancher/k3s/server/tls"
OURS = "/etc/rancher/k3s/groundplane"
# What is tested elsewhere, or needs a cluster.
QUIET = """
for name in host_apply endpoint_apply network_apply rights wait_serving wait_healthy gate_enter \\
  gate_leave remove_own_ghost node_drain node_uncordon snapshot_before kube_proxy_follows \\
  backup_apply backup_reset network_reset endpoint_reset host_reset reset_kubelet_chains \\
  etcd_remove_own; do
  eval "$name() { echo \\"$name\\" >>\\"\\$CALLS\\"; }"
done
wait_until() { echo "wait_until $2" >>"$CALLS"; }
kube() { echo "kube $*" >>"$CALLS"; }
"""
START = """#!/usr/bin/env bash
exec $(sed -n 's/^ExecStart=//p' /etc/systemd/system/k3s.service)
"""


@pytest.fixture
def blank(host: Host) -> Host:
    return with_k3s(host)


def with_k3s(host: Host) -> Host:
    host.prepared_for("k3s")
    host.fake("systemctl")
    host.write("/run/units/starts/k3s", START, 0o755)
    host.fake("k3s")
    for version in K3S_VERSIONS:
        text = (host.root / "bin" / "k3s").read_text()
        host.write(f"/opt/groundplane/k3s/{version}/k3s", text, 0o755)
        host.write(f"/opt/groundplane/k3s/{version}/images", "")
    (host.root / "bin" / "k3s").unlink()
    return host


def step(
    host: Host, name: str, machine: str, verb: str = "apply", wanted: Spec | None = None
) -> Done:
    given = on_the_wire(wanted or of("k3s"), "node", machine) | {"cluster": "0123456789abcdef"}
    return host.bash(f"{QUIET} {verb} </dev/null", given, step=name)


def identity(host: Host) -> dict[str, Any]:
    return dict(json.loads(host.read("/run/groundplane/result")))


def secrets(host: Host, known: dict[str, Any], machine: str) -> Done:
    """What the program gives beforehand."""
    files = known["identity"]
    given = {"role": "control-plane", "identity": files, "encryption": 1}
    if machine.startswith("w"):
        token = program.join_token(files[program.SECRET], machine)
        given = {"role": "worker", "join_token": token, "ca": files["server-ca.crt"]}
    return host.bash("apply", given, step="secrets")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Host]:
    """cp1, which founded; cp2 and w1, which joined."""
    hosts = {
        name: with_k3s(Host(tmp_path_factory.mktemp(name) / "host"))
        for name in ("cp1", "cp2", "w1")
    }
    done = step(hosts["cp1"], "bootstrap", "cp1")
    assert done.status == 0, done.err
    for name in ("cp2", "w1"):
        assert secrets(hosts[name], identity(hosts["cp1"]), name).status == 0
        done = step(hosts[name], "node", name)
        assert done.status == 0, done.err
    return hosts


@pytest.fixture
def founder(made: dict[str, Host], tmp_path: Path) -> Host:
    return made["cp1"].copy(tmp_path / "founder")


@pytest.fixture
def joiner(made: dict[str, Host], tmp_path: Path) -> Host:
    return made["cp2"].copy(tmp_path / "joiner")


@pytest.fixture
def worker(made: dict[str, Host], tmp_path: Path) -> Host:
    return made["w1"].copy(tmp_path / "worker")


# ---- founding and joining --------------------------------------------------------------------


def test_a_cluster_is_founded_once(founder: Host) -> None:
    given = identity(founder)
    der = given["identity"]["server-ca.crt"]
    assert (
        given["cluster"] == json.loads(founder.read("/var/lib/groundplane/cluster.json"))["cluster"]
    )
    assert der.startswith("-----BEGIN CERTIFICATE-----")
    assert set(given["identity"]) >= {"client-ca.key", "service.key", "etcd/peer-ca.key"}
    calls = founder.calls
    again = step(founder, "bootstrap", "cp1")
    assert again.changes == [f"cluster {given['cluster']} adopted: it stands already"]
    assert identity(founder) == given
    assert founder.calls == calls


def test_who_founded_founds_no_more(founder: Host) -> None:
    """From its next step on it is a server like the others: without data it would join."""
    assert json.loads(founder.read("/etc/rancher/k3s/config.yaml"))["cluster-init"] is True
    assert secrets(founder, identity(founder), "cp1").status == 0
    done = step(founder, "node", "cp1")
    assert done.status == 0, done.err
    steady = json.loads(founder.read("/etc/rancher/k3s/config.yaml"))
    assert "cluster-init" not in steady
    assert steady["server"] == "https://192.0.2.10:8443"
    # It runs on meanwhile.
    assert founder.calls.count("k3s server") == 1


def test_a_server_joins_with_the_identity_that_was_given(founder: Host, joiner: Host) -> None:
    for path in ("server-ca.key", "client-ca.key", "service.key", "etcd/peer-ca.key"):
        assert joiner.read(f"{TLS}/{path}") == founder.read(f"{TLS}/{path}")
    calls = joiner.calls
    order = ("gate_enter", "remove_own_ghost", "k3s server", "gate_leave")
    assert sorted(order, key=calls.index) == list(order)


def test_members_of_etcd_have_the_names_of_their_hosts(founder: Host, joiner: Host) -> None:
    """K3s would add an ending, and the gate would not know whom it disturbs."""
    name = "/var/lib/rancher/k3s/server/db/etcd/name"
    assert (founder.read(name), joiner.read(name)) == ("cp1", "cp2")


def test_an_agent_joins_with_a_token_that_is_its_own(founder: Host, worker: Host) -> None:
    secret = identity(founder)["identity"][program.SECRET]
    ca = hashlib.sha256(founder.read(f"{TLS}/server-ca.crt").encode()).hexdigest()
    token = program.join_token(secret, "w1")
    assert worker.read(f"{OURS}/token") == f"K10{ca}::{token}\n"
    assert worker.path(f"{OURS}/token").stat().st_mode & 0o777 == 0o600
    assert "k3s agent" in worker.calls


def test_no_secret_is_on_a_command_line(founder: Host, joiner: Host, worker: Host) -> None:
    secret = identity(founder)["identity"][program.SECRET].strip()
    token = joiner.read(f"{OURS}/token").strip().rpartition(":")[2]
    join = worker.read("/var/lib/groundplane/join/token").strip()
    for host in (founder, joiner, worker):
        text = "\n".join(host.calls) + host.read("/etc/rancher/k3s/config.yaml")
        assert not any(word in text for word in (secret, token, join))


def test_a_host_that_is_installed_anew_has_the_password_of_before(
    founder: Host, worker: Host, tmp_path: Path
) -> None:
    """K3s remembers one for each node, and lets in nobody of its name with another."""
    anew = with_k3s(Host(tmp_path / "anew"))
    assert secrets(anew, identity(founder), "w1").status == 0
    assert step(anew, "node", "w1").status == 0
    path = "/etc/rancher/node/password"
    assert anew.read(path) == worker.read(path)
    assert worker.read(path) != founder.read(path)


def test_where_no_api_server_answers_nothing_is_founded(founder: Host, tmp_path: Path) -> None:
    host = with_k3s(Host(tmp_path / "cp3"))
    assert secrets(host, identity(founder), "cp3").status == 0
    given = on_the_wire(of("k3s"), "node", "cp3") | {"cluster": "0123456789abcdef"}
    wait = 'wait_until() { die "waited in vain: $2"; };'
    done = host.bash(f"{QUIET}{wait} apply </dev/null", given, step="node")
    assert done.status == 1
    assert "a join never founds" in done.err
    assert not [call for call in host.calls if call.startswith("k3s server")]
    assert not host.there("/var/lib/groundplane/joined")


def test_what_an_unfinished_join_left_is_cleared(joiner: Host) -> None:
    """But not the identity."""
    joiner.path("/var/lib/groundplane/joined").unlink()
    joiner.path("/var/lib/groundplane/cluster.json").unlink()
    before = joiner.read(f"{TLS}/server-ca.key")
    done = step(joiner, "node", "cp2")
    assert done.status == 0, done.err
    assert "what an unfinished join left is cleared" in done.changes
    assert joiner.read(f"{TLS}/server-ca.key") == before
    assert joiner.calls.count("k3s server") == 2


def test_a_node_of_somebody_elses_cluster_is_refused(blank: Host) -> None:
    blank.write("/var/lib/rancher/k3s/agent/kubelet.kubeconfig", "")
    done = step(blank, "bootstrap", "cp1")
    assert done.status == 1
    assert "a node of a cluster that is not ours" in done.err
    assert not blank.there("/etc/rancher/k3s/config.yaml")


def test_an_administrators_kubeconfig(founder: Host) -> None:
    script = "administrator groundplane:admin:abc metal >/run/groundplane/kubeconfig"
    done = founder.bash(script, on_the_wire(of("k3s"), "node", "cp1"))
    assert done.status == 0, done.err
    made = json.loads(founder.read("/run/groundplane/kubeconfig"))
    assert made["current-context"] == "metal"
    assert made["clusters"][0]["cluster"]["server"] == "https://192.0.2.10:8443"
    check = """
    jq -r '.users[0].user["client-certificate-data"]' /run/groundplane/kubeconfig |
      base64 -d >/run/crt
    openssl verify -purpose sslclient -CAfile "$PKI/client-ca.crt" /run/crt
    openssl x509 -in /run/crt -noout -subject
    """
    done = founder.bash(check)
    assert done.status == 0, done.err
    assert "/run/crt: OK" in done.out
    assert "groundplane:admin:abc" in done.out


# ---- changing --------------------------------------------------------------------------------


def differences(
    host: Host, machine: str, wanted: Spec | None = None, before: str = ""
) -> list[str]:
    given = on_the_wire(wanted or of("k3s"), "node", machine)
    done = host.bash(f"{before}\ndifferences", given, step="node")
    assert (done.status, done.err) == (0, "")
    return done.out.split()


CHANGES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "nothing": ({}, [], []),
    "the kubelet's settings": ({"kubelet": {"maxPods": 90}}, ["settings"], ["settings"]),
    "kube-proxy's settings": ({"kube_proxy": {"mode": "iptables"}}, ["settings"], ["settings"]),
    "a flag": ({"api_server": ApiServer(extra_args={"v": "3"})}, ["settings"], []),
    "the audit log": ({"audit": Audit(level="request")}, ["settings"], []),
    "the version": ({"kubernetes": Kubernetes(version=OLD)}, ["version"], ["version"]),
    "certificates": ({"certificates_generation": 2}, ["certificates"], []),
    "the encryption key": ({"encryption_generation": 2}, ["settings"], []),
}


def test_what_a_change_disturbs(made: dict[str, Host]) -> None:
    found, wanted = {}, {}
    for name, (change, server, agent) in CHANGES.items():
        changed = of("k3s", **change)
        wanted[name] = [server, agent]
        found[name] = [differences(made["cp2"], "cp2", changed)]
        found[name].append(differences(made["w1"], "w1", changed))
    assert found == wanted


DRIFT = {
    "its configuration": ("echo >>$K3S_CONFIG", ["settings"]),
    "its unit": ("echo >>$K3S_UNIT", ["settings"]),
    "the kubelet's settings": ("echo >>$KUBELET_SETTINGS", ["settings"]),
    "the runtime's": ("echo >>$CONTAINERD_SETTINGS", ["settings"]),
    "it has stopped": ("systemctl stop k3s", ["settings"]),
    "the audit policy": ("echo >>$OURS/audit.json", ["settings"]),
    "another version": (f"ln -sfn /opt/groundplane/k3s/{OLD}/k3s /usr/local/bin/k3s", ["version"]),
    "a certificate near its end": (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 80 -subj /CN=x "
        "-keyout /dev/null -out $PKI/serving-kube-apiserver.crt 2>/dev/null",
        ["certificates"],
    ),
}


@pytest.mark.parametrize("spoil, reasons", DRIFT.values(), ids=DRIFT.keys())
def test_what_drift_disturbs(joiner: Host, spoil: str, reasons: list[str]) -> None:
    ledger = "STEP=node FACTS=/run/groundplane/again; record_facts; ledger_commit node"
    given = on_the_wire(of("k3s"), "node", "cp2") | {"token": "t"}
    assert joiner.bash(ledger, given, step="node").status == 0
    assert differences(joiner, "cp2", before=spoil) == reasons


def test_an_upgrade_is_another_program_and_a_restart(joiner: Host) -> None:
    made = of("k3s", kubernetes=Kubernetes(version=OLD))
    done = step(joiner, "node", "cp2", wanted=made)
    assert done.status == 0, done.err
    calls = joiner.calls
    order = [
        "snapshot_before",
        "node_drain",
        "systemctl restart k3s",
        "wait_healthy",
        "node_uncordon",
    ]
    last = [len(calls) - calls[::-1].index(call) for call in order]
    assert last == sorted(last)
    link = joiner.path("/usr/local/bin/k3s").readlink()
    assert str(link) == f"/opt/groundplane/k3s/{OLD}/k3s"
    assert differences(joiner, "cp2", made) == []


def test_a_version_that_does_not_work_is_taken_back(joiner: Host) -> None:
    made = of("k3s", kubernetes=Kubernetes(version=OLD))
    given = on_the_wire(made, "node", "cp2") | {"cluster": "0123456789abcdef"}
    sick = (
        f'wait_healthy() {{ [ "$(kubelet_version)" = {NEW} ] || {{ echo sick >&2; exit 1; }}; }};'
    )
    done = joiner.bash(f"{QUIET}{sick} apply </dev/null", given, step="node")
    assert done.status == 1
    assert f"K3s {OLD} is not healthy, {NEW} is back: " in done.err
    assert str(joiner.path("/usr/local/bin/k3s").readlink()).endswith(f"{NEW}/k3s")


def test_certificates_are_renewed_on_purpose(joiner: Host) -> None:
    """Those of the components and our own; the CAs stay."""
    paths = (f"{TLS}/serving-kube-apiserver.crt", f"{OURS}/admin.crt", f"{OURS}/etcd.crt")
    before = [joiner.read(path) for path in paths]
    ca = joiner.read(f"{TLS}/server-ca.crt")
    made = of("k3s", certificates_generation=2)
    done = step(joiner, "node", "cp2", wanted=made)
    assert done.status == 0, done.err
    assert all(joiner.read(path) != was for path, was in zip(paths, before, strict=True))
    assert joiner.read(f"{TLS}/server-ca.crt") == ca
    assert differences(joiner, "cp2", made) == []


def test_what_it_rests_on_is_recorded(joiner: Host, worker: Host) -> None:
    for host, machine in ((joiner, "cp2"), (worker, "w1")):
        assert step(host, "node", machine).status == 0
        facts = host.facts()
        files = {fact[1] for fact in facts if fact[0] == "file"}
        assert {"/etc/rancher/k3s/config.yaml", f"{OURS}/token"} <= files
        assert ["unit", "k3s", "enabled", "active"] in facts
        certificates = {fact[1] for fact in facts if fact[0] == "cert"}
        assert "/var/lib/rancher/k3s/agent/client-kubelet.crt" in certificates
        assert (f"{TLS}/etcd/server-client.crt" in certificates) == machine.startswith("cp")


# ---- leaving ---------------------------------------------------------------------------------


def test_a_member_leaves_and_does_not_come_back(joiner: Host) -> None:
    """K3s that finds itself taken out of etcd joins again when it is started."""
    down = "/run/systemd/system/k3s.service.d/leaving.conf"
    see = f"etcd_remove_own() {{ cat {down} >>$CALLS; echo etcd_remove_own >>$CALLS; }};"
    given = on_the_wire(of("k3s"), "node", "cp2")
    done = joiner.bash(f"{QUIET}{see} destroy </dev/null", given, step="node")
    assert done.status == 0, done.err
    calls = joiner.calls
    order = ("gate_enter", "Restart=no", "etcd_remove_own", "systemctl stop k3s", "gate_leave",
             "systemctl disable k3s")  # fmt: skip
    last = [len(calls) - calls[::-1].index(call) for call in order]
    assert last == sorted(last)


def test_nothing_is_left(joiner: Host, worker: Host) -> None:
    for host, machine in ((joiner, "cp2"), (worker, "w1")):
        done = step(host, "node", machine, "destroy")
        assert done.status == 0, done.err
        for path in ("/var/lib/rancher/k3s", "/etc/rancher", "/etc/systemd/system/k3s.service",
                     "/usr/local/bin/k3s", "/usr/local/bin/kubectl"):  # fmt: skip
            assert not host.there(path), path


def test_a_reset_knows_what_the_host_was_prepared_for(joiner: Host) -> None:
    scripts = str(joiner.scripts)
    done = joiner.execute("bash", f"{scripts}/reset", "metal")
    assert done.status == 0, done.err
    assert not joiner.there("/var/lib/rancher/k3s")
    assert not joiner.there("/var/lib/groundplane")


def test_the_secret_of_the_tests_is_one(founder: Host) -> None:
    assert len(bytes.fromhex(identity(founder)["identity"][program.SECRET])) == len(SECRET) // 2


# ---- the look --------------------------------------------------------------------------------


def test_what_a_look_at_it_tells(joiner: Host) -> None:
    script = (joiner.scripts / "observe.sh").read_text()
    done = joiner.execute("bash", "-s", stdin=parameters(Expect("metal"), "cp2") + script)
    assert done.err == ""
    seen = parse("cp2", done.out, 0, 0)
    assert seen.record is not None
    assert seen.record["immutable"]["distribution"] == "k3s"
    assert "/var/lib/rancher/k3s/server/db/etcd/member" in seen.cluster_data
    assert seen.encryption == 1
    paths = {certificate.path for certificate in seen.certificates}
    assert {f"{TLS}/server-ca.crt", f"{TLS}/etcd/server-client.crt", f"{OURS}/admin.crt"} <= paths
    # It is asked by its own credentials; here nobody answers.
    assert seen.etcd is not None
    assert not seen.etcd.healthy


def test_somebody_elses_shows(host: Host) -> None:
    host.write("/var/lib/rancher/k3s/server/token", "")
    script = (host.scripts / "observe.sh").read_text()
    done = host.execute("bash", "-s", stdin=parameters(Expect("metal"), "cp2") + script)
    assert "/var/lib/rancher/k3s" in parse("cp2", done.out, 0, 0).cluster_data
