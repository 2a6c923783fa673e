"""The node step: what a change disturbs, and that nothing is disturbed outside the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from support.host import Done, Host
from support.specs import SECRET, SECRET_FILE, hosts, on_the_wire, spec

from groundplane.spec import ApiServer, Cluster, Spec
from groundplane.spec import Host as Machine

CASES = yaml.safe_load((Path(__file__).parent / "cases" / "differences.yaml").read_text())

# A member as `enter` leaves it, but for what kubeadm does.
MEMBER = """
certificate() {
  mkdir -p "$PKI/etcd"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days "$2" -subj /CN=x \
    -keyout /dev/null -out "$1" 2>/dev/null
}
member() {
  local name
  runtime_apply
  link_kubernetes "$(data .kubernetes)"
  kubelet_unit_apply
  mkdir -p "$OURS" /etc/kubernetes/manifests /var/lib/kubelet
  if is_control_plane; then
    api_server_files
    for name in kube-apiserver kube-controller-manager kube-scheduler etcd; do
      echo "$name" >"/etc/kubernetes/manifests/$name.yaml"
    done
    certificate "$PKI/apiserver.crt" 365
    certificate "$PKI/etcd/server.crt" 365
  fi
  echo config >/var/lib/kubelet/config.yaml
  echo config >/etc/kubernetes/kubelet.conf
  systemctl start kubelet
  settle
  write_atomically "$STATE/joined" 0600 < <(data .kubernetes)
  record_facts
  ledger_commit node
}
"""


def changed(case: dict[str, Any]) -> Spec:
    usual = spec().cluster.model_dump(exclude_unset=True, exclude={"registry"})
    camel = Cluster.model_validate({**usual, **case.get("cluster", {})})
    return Spec("metal", hosts(), camel)


def merged(old: Any, new: Any) -> Any:
    if not isinstance(new, dict):
        return new
    return {**old, **{k: merged((old or {}).get(k, {}), v) for k, v in new.items()}}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Host]:
    """Those members of the usual cluster."""
    made = {}
    for name in ("cp2", "w1"):
        host = made[name] = Host(tmp_path_factory.mktemp(name) / "host")
        host.fake("systemctl")
        host.fake("ctr", "exit 0")
        host.write(SECRET_FILE, SECRET)
        done = host.bash(f"{MEMBER} member", on_the_wire(spec(), "node", name), step="node")
        assert done.status == 0, done.err
    return made


def differences(host: Host, data: dict[str, Any]) -> list[str]:
    done = host.bash("differences", data, step="node")
    assert (done.status, done.err) == (0, "")
    return done.out.split()


@pytest.mark.parametrize("role, name", [("control_plane", "cp2"), ("worker", "w1")])
def test_what_a_change_disturbs(members: dict[str, Host], role: str, name: str) -> None:
    host = members[name]
    usual = on_the_wire(spec(), "node", name)
    found, wanted = {}, {}
    for case in CASES:
        data = merged(on_the_wire(changed(case), "node", name), case.get("data", {}))
        # Where the wire carries nothing new, the step does not even run.
        same = data == usual and case["name"] != "nothing"
        found[case["name"]] = [] if same else differences(host, data)
        wanted[case["name"]] = case[role]
    assert found == wanted


DRIFT = {
    "containerd's configuration": ("echo >>/etc/containerd/config.toml", ["runtime"]),
    "containerd's unit": ("echo >>/etc/systemd/system/containerd.service", ["runtime"]),
    "containerd has stopped": ("systemctl stop containerd", ["runtime"]),
    "the kubelet's unit": ("echo >>/etc/systemd/system/kubelet.service", ["kubelet"]),
    "the kubelet's configuration": ("echo >>/var/lib/kubelet/config.yaml", ["kubelet"]),
    "the kubelet has stopped": ("systemctl stop kubelet", ["kubelet"]),
    "a manifest": ("echo >>/etc/kubernetes/manifests/kube-scheduler.yaml", ["control-plane"]),
    "a manifest is gone": ("rm /etc/kubernetes/manifests/kube-scheduler.yaml", ["control-plane"]),
    "a certificate near its end": ('certificate "$PKI/apiserver.crt" 80', ["certificates"]),
    "a certificate of etcd's near its end": (
        'certificate "$PKI/etcd/server.crt" 80',
        ["certificates"],
    ),
    "the binary of another version": (
        "ln -sfn /opt/groundplane/kubernetes/1.35.4/kubelet /usr/local/bin/kubelet",
        ["version"],
    ),
    "a key for Secrets": (
        """sed -i 's/secret":"./secret":"/' "$OURS/encryption.json" """,
        ["control-plane"],
    ),
}


@pytest.mark.parametrize("spoil, reasons", DRIFT.values(), ids=DRIFT.keys())
def test_what_drift_disturbs(
    members: dict[str, Host], tmp_path: Path, spoil: str, reasons: list[str]
) -> None:
    host = members["cp2"].copy(tmp_path / "host")
    data = on_the_wire(spec(), "node", "cp2")
    done = host.bash(f"{MEMBER}{spoil}\ndifferences", data, step="node")
    assert (done.status, done.err) == (0, "")
    assert done.out.split() == reasons


@pytest.mark.parametrize(
    "settings, addons",
    [
        ({"kube_proxy": {"mode": "iptables"}}, ["addon kube-proxy"]),
        ({"api_server": ApiServer(extra_args={"v": "3"})}, []),
    ],
    ids=["new", "the same"],
)
def test_kube_proxys_settings_are_written_when_they_are_new(
    members: dict[str, Host], tmp_path: Path, settings: dict[str, Any], addons: list[str]
) -> None:
    """Written without need, they would restart it on every node."""
    host = members["cp2"].copy(tmp_path / "host")
    quiet = "covers_names() { :; }; await_process() { :; }; restart_static() { :; };"
    phases = 'phase() { echo "$1"; };'
    data = on_the_wire(spec(**settings), "node", "cp2")
    done = host.bash(f"{quiet}{phases} change_control_plane", data, step="node")
    assert done.status == 0, done.err
    assert [line for line in done.out.splitlines() if line.startswith("addon")] == addons


# ---- behind the gate -------------------------------------------------------------------------

# What disturbs, what guards, and what it costs to look: each only says that it was called.
RECORD = """
record() { echo "$*"; }
for name in gate_enter gate_leave node_drain node_uncordon wait_healthy settle snapshot_before \
  fetch_images runtime_apply kubernetes_reset etcd_remove_own change_version change_certificates \
  change_control_plane change_kubelet endpoint_reset; do
  eval "$name() { record $name \\$*; }"
done
"""
GUARDS = ("gate_", "fetch_images", "snapshot_before")


def disturb(host: Host, role: str, *reasons: str) -> list[str]:
    data = {"name": "n1", "role": role, "state": "present"}
    done = host.bash(f"{RECORD} disturb {' '.join(reasons)}", data, step="node")
    assert done.status == 0, done.err
    return [line.strip() for line in done.out.splitlines()]


@pytest.mark.parametrize("role", ["control-plane", "worker"])
@pytest.mark.parametrize(
    "reasons",
    [
        ["runtime"],
        ["version"],
        ["kubelet"],
        ["certificates", "control-plane"],
        ["runtime", "kubelet"],
    ],
    ids="+".join,
)
def test_every_disturbance_stands_behind_the_gate(
    host: Host, role: str, reasons: list[str]
) -> None:
    calls = disturb(host, role, *reasons)
    enter, leave = calls.index("gate_enter disturb"), calls.index("gate_leave")
    assert all(call.startswith(GUARDS) for call in calls[:enter])
    assert calls[leave:] == ["gate_leave"]
    # Healthy before the next one may begin.
    assert enter < calls.index("wait_healthy") < leave
    # Each reason is seen to.
    assert leave - enter > len(reasons) + 1


def test_what_can_fail_for_want_of_something_fails_before_the_gate(host: Host) -> None:
    calls = disturb(host, "control-plane", "version")
    assert calls[:3] == ["fetch_images", "snapshot_before", "gate_enter disturb"]


@pytest.mark.parametrize(
    "reason, drained",
    [("version", True), ("runtime", True), ("kubelet", False), ("control-plane", False)],
)
def test_pods_leave_only_where_they_must(host: Host, reason: str, drained: bool) -> None:
    assert ("node_drain" in disturb(host, "control-plane", reason)) == drained


def test_a_disturbance_that_was_cut_off_is_finished(host: Host) -> None:
    """Nothing differs any more, but the node may still be cordoned and hold its turn."""
    data = {"name": "n1", "role": "worker", "state": "present"}
    quiet = "endpoint_apply() { :; }; runtime_mirrors() { :; }; network_apply() { :; };"
    script = f"{RECORD}{quiet} differences() {{ :; }}; change"
    assert "gate_leave" not in host.bash(script, data, step="node").out
    host.write("/var/lib/groundplane/disturbing", "kubelet\n")
    done = host.bash(script, data, step="node")
    assert [line.split()[0] for line in done.out.splitlines()][-2:] == [
        "gate_leave",
        "node_uncordon",
    ]
    assert not host.there("/var/lib/groundplane/disturbing")


def test_what_differs_must_be_known_to_the_end(host: Host) -> None:
    """Or a part of it would be done, and recorded as all."""
    data = {"name": "n1", "role": "worker", "state": "present"}
    quiet = "endpoint_apply() { :; }; runtime_mirrors() { :; }; network_apply() { :; };"
    cut = "differences() { echo runtime; false; echo kubelet; };"
    done = host.bash(f"{RECORD}{quiet}{cut} change", data, step="node")
    assert (done.status, done.out) == (1, "")


def test_nothing_different_disturbs_nothing(host: Host) -> None:
    data = {"name": "n1", "role": "worker", "state": "present"}
    quiet = "endpoint_apply() { :; }; runtime_mirrors() { :; }; network_apply() { :; };"
    done = host.bash(f"{RECORD}{quiet} differences() {{ :; }}; change", data, step="node")
    assert done.out.split() == ["node_uncordon"]


def test_a_node_in_maintenance_is_drained_behind_the_gate(host: Host) -> None:
    data = {"name": "n1", "role": "worker", "state": "maintenance"}
    done = host.bash(f"{RECORD} kube() {{ :; }}; rest", data, step="node")
    assert [line.strip() for line in done.out.splitlines()] == [
        "gate_enter disturb",
        "node_drain",
        "gate_leave",
    ]
    again = host.bash(f"{RECORD} kube() {{ echo true; }}; rest", data, step="node")
    assert again.out == ""


LEAVING = f"{RECORD} kube() {{ record kube $*; }}; systemctl() {{ record systemctl $*; }}; destroy"


def leave(host: Host) -> Done:
    host.write("/var/lib/groundplane/joined", "1.36.4\n")
    host.write("/etc/kubernetes/admin.conf", "")
    data = {"name": "cp1", "role": "control-plane"}
    return host.bash(LEAVING, data, step="node")


def test_a_member_leaves_through_the_gate(host: Host) -> None:
    calls = [line.split()[0] for line in leave(host).out.splitlines()]
    order = ("gate_enter", "node_drain", "etcd_remove_own", "gate_leave", "kubernetes_reset")
    assert sorted(order, key=calls.index) == list(order)


def test_a_host_that_never_joined_is_only_cleared(host: Host) -> None:
    done = host.bash(LEAVING, {"name": "cp1", "role": "control-plane"}, step="node")
    assert done.out.split() == ["kubernetes_reset"]


@pytest.mark.parametrize("machine", hosts(), ids=lambda machine: machine.name)
def test_the_spec_of_each_host_is_enough_for_all_documents(host: Host, machine: Machine) -> None:
    """No function asks for data that the program does not send: nothing says null."""
    script = "join_documents /discovery; runtime_config; runtime_unit; kubelet_unit; network_unit"
    if machine.role == "control-plane":
        script += "; control_plane_documents; audit_policy; endpoint_haproxy"
    done = host.bash(script, on_the_wire(spec(), "node", machine.name), step="node")
    assert (done.status, done.err) == (0, "")
    assert "null" not in done.out
