"""What an administrator says of Nodes, and who may be in the cluster at all."""

from __future__ import annotations

import base64
import json
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.cluster import Cluster, fake_etcdctl
from support.host import Done, Host
from support.specs import SECRET, SECRET_FILE, on_the_wire, spec

from groundplane.clusters.data import join_token, token_id

FOLDER = Path(__file__).parent / "cases"
LABELS = yaml.safe_load((FOLDER / "labels.yaml").read_text())
TAINTS = yaml.safe_load((FOLDER / "taints.yaml").read_text())


@pytest.fixture
def cluster(host: Host) -> Cluster:
    return Cluster(host)


def assert_patched_once(host: Host, data: dict[str, Any], what: str, changes: bool) -> None:
    """The second run finds nothing to do."""
    done = host.bash("labels_and_taints", data, step="nodes")
    assert done.status == 0, done.err
    assert done.changes == ([f"{what} of w1"] if changes else [])
    assert host.bash("labels_and_taints", data, step="nodes").out == ""


@pytest.mark.parametrize("case", LABELS, ids=lambda case: case["name"])
def test_labels(host: Host, cluster: Cluster, case: dict[str, Any]) -> None:
    cluster.add("Node", "w1", metadata=case["before"])
    data = {"nodes": {"w1": {"labels": case["wanted"]}}}
    assert_patched_once(host, data, "labels", "after" in case)
    metadata = cluster.objects["node/w1"]["metadata"]
    assert metadata["labels"] == case.get("after", case["before"]["labels"])
    if "owned" in case:
        assert metadata["annotations"]["groundplane.dev/labels"] == case["owned"]


@pytest.mark.parametrize("case", TAINTS, ids=lambda case: case["name"])
def test_taints(host: Host, cluster: Cluster, case: dict[str, Any]) -> None:
    ours = {"groundplane.dev/taints": case["ours"]} if "ours" in case else {}
    cluster.add("Node", "w1", metadata={"annotations": ours}, spec={"taints": case["before"]})
    data = {"nodes": {"w1": {"taints": case["wanted"]}}}
    assert_patched_once(host, data, "taints", "after" in case)
    node = cluster.objects["node/w1"]
    assert node["spec"]["taints"] == case.get("after", case["before"])
    if "owned" in case:
        # A key with two effects is named twice; it is a set.
        owned = node["metadata"]["annotations"]["groundplane.dev/taints"]
        assert set(owned.split(",")) == set(case["owned"].split(","))


def test_who_is_waited_for(host: Host, cluster: Cluster) -> None:
    wanted = {"nodes": {name: {"ready": name != "w2"} for name in ("cp1", "w1", "w2")}}

    def waited_for(whom: str) -> list[str]:
        return host.bash(whom, wanted, step="nodes").out.split()

    assert waited_for("absent") == ["cp1", "w1", "w2"]
    cluster.nodes("w1", "w2", "stranger")
    assert waited_for("absent") == ["cp1"]
    assert waited_for("unready") == ["cp1", "w1"]
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.add("Node", "cp1", status=ready)
    cluster.add("Node", "w1", status={"conditions": [{"type": "Ready", "status": "Unknown"}]})
    assert waited_for("unready") == ["w1"]


def test_an_api_that_does_not_answer_is_not_taken_for_nobody(host: Host, cluster: Cluster) -> None:
    host.fake("kubectl", "exit 1")
    assert host.bash("none absent", {"nodes": {"w1": {}}}, step="nodes").status == 1


# ---- a new encryption key --------------------------------------------------------------------


@pytest.fixture
def secrets(cluster: Cluster) -> Cluster:
    """A cluster with a Secret, written with the key of generation 1."""
    annotations = {"groundplane.dev/encryption": "1"}
    cluster.add("Namespace", "groundplane", metadata={"annotations": annotations})
    cluster.add("Secret", "login")
    return cluster


def rewrite(host: Host, generation: int) -> Done:
    return host.bash("rewrite_secrets", {"encryption": generation}, step="nodes")


def done_with(cluster: Cluster) -> str:
    annotations = cluster.objects["namespace/groundplane"]["metadata"]["annotations"]
    return str(annotations["groundplane.dev/encryption"])


def test_secrets_are_rewritten_once_for_a_new_key(host: Host, secrets: Cluster) -> None:
    assert rewrite(host, 1).out == ""
    done = rewrite(host, 2)
    assert done.changes == ["all secrets rewritten with the key of generation 2"]
    assert done_with(secrets) == "2"
    assert secrets.objects["secret/login"]["metadata"]["resourceVersion"] != "2"
    assert rewrite(host, 2).out == ""


def test_a_new_cluster_has_nothing_to_rewrite(host: Host, cluster: Cluster) -> None:
    cluster.add("Namespace", "groundplane")
    assert rewrite(host, 1).out == ""
    assert done_with(cluster) == "1"


def test_secrets_that_changed_meanwhile_have_the_new_key(host: Host, secrets: Cluster) -> None:
    conflict = "Operation cannot be fulfilled: the object has been modified"
    host.write("/run/replace-says", f"{conflict}\nError from server (NotFound): gone\n")
    assert rewrite(host, 2).status == 0
    assert done_with(secrets) == "2"


@pytest.mark.parametrize(
    "answer",
    ["the server is down", "Conflict\nthe server is down", ""],
    ids=["down", "both", "mute"],
)
def test_secrets_that_were_not_rewritten_are_not_said_to_be(
    host: Host, secrets: Cluster, answer: str
) -> None:
    """The old key goes one generation later, and with it what was left behind."""
    host.write("/run/replace-says", answer)
    done = rewrite(host, 2)
    assert (done.status, done.out) == (1, "")
    assert "secrets cannot be rewritten" in done.err
    assert done_with(secrets) == "1"


# ---- new settings of kube-proxy --------------------------------------------------------------

SETTINGS = {"kube_proxy": {"conntrack": {"min": 0}}, "nodes": {"cp1": {}, "w1": {}}}
RESTARTED = ["kube-proxy restarted with its new settings"]


@pytest.fixture
def kube_proxy(cluster: Cluster) -> Cluster:
    """A cluster that was founded with the usual settings of kube-proxy."""
    cluster.add("Namespace", "groundplane")
    cluster.add("DaemonSet", "kube-proxy", spec={"template": {"metadata": {"labels": {}}}})
    return cluster


def restart(host: Host, data: dict[str, Any] = SETTINGS) -> Done:
    return host.bash("restart_kube_proxy", data, step="nodes")


def template(cluster: Cluster) -> dict[str, str]:
    metadata = cluster.objects["daemonset/kube-proxy"]["spec"]["template"]["metadata"]
    return dict(metadata.get("annotations", {}))


def test_kube_proxy_is_restarted_once_for_new_settings(host: Host, kube_proxy: Cluster) -> None:
    assert restart(host).changes == RESTARTED
    first = template(kube_proxy)
    assert first
    calls = len(host.calls)
    assert restart(host).out == ""
    assert (template(kube_proxy), len(host.calls)) == (first, calls)
    assert restart(host, {**SETTINGS, "kube_proxy": {}}).changes == RESTARTED
    assert template(kube_proxy) != first


def test_a_restart_that_does_not_end_well_is_waited_for_again(
    host: Host, kube_proxy: Cluster
) -> None:
    host.write("/run/rollout-fails", "")
    done = restart(host)
    assert (done.status, done.out) == (1, "")
    assert "kube-proxy does not run everywhere" in done.err
    begun = template(kube_proxy)
    host.path("/run/rollout-fails").unlink()
    assert restart(host).changes == RESTARTED
    assert template(kube_proxy) == begun


def test_a_cluster_without_kube_proxy(host: Host, cluster: Cluster) -> None:
    cluster.add("Namespace", "groundplane")
    assert restart(host) == Done(0, "", "")


@pytest.mark.parametrize(
    "settings", [{}, {"kube_proxy": {"mode": "iptables"}}], ids=["usual", "own"]
)
def test_a_new_cluster_has_no_kube_proxy_to_restart(
    host: Host, kube_proxy: Cluster, settings: dict[str, Any]
) -> None:
    """What the founder noted is what the last step looks for."""
    made = spec(**settings)
    quiet = "refuse_foreign() { :; }; founded() { false; }; found() { :; }; identity() { :; };"
    data = on_the_wire(made, "node", "cp1")
    done = host.bash(f"{quiet} apply", data, step="bootstrap")
    assert done.status == 0, done.err
    assert restart(host, on_the_wire(made, "nodes")).out == ""
    assert template(kube_proxy) == {}


def proxy_pod(cluster: Cluster, node: str, ready: str) -> None:
    condition = {"type": "Ready", "status": ready}
    cluster.add(
        "Pod",
        node,
        metadata={"labels": {"k8s-app": "kube-proxy"}},
        spec={"nodeName": node},
        status={"conditions": [condition]},
    )


def test_kube_proxy_is_awaited_on_each_node_that_is_to_be_ready(
    host: Host, kube_proxy: Cluster
) -> None:
    wanted = {"nodes": {"cp1": {"ready": True}, "w1": {"ready": True}, "w2": {"ready": False}}}

    def everywhere() -> int:
        return host.bash("kube_proxy_everywhere", wanted, step="nodes").status

    proxy_pod(kube_proxy, "cp1", "True")
    assert everywhere() == 1
    proxy_pod(kube_proxy, "w1", "False")
    assert everywhere() == 1
    proxy_pod(kube_proxy, "w1", "True")
    assert everywhere() == 0


def test_the_whole_step(host: Host, kube_proxy: Cluster) -> None:
    """From labels to forgetting who is gone; a second run finds nothing to do."""
    host.write("/var/lib/groundplane/cluster.json", '{"stack": "metal", "gone": ["w9"]}')
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for name in ("cp1", "w1"):
        kube_proxy.add("Node", name, status=ready)
        proxy_pod(kube_proxy, name, "True")
    wanted: dict[str, Any] = {name: {"ready": True} for name in ("cp1", "w1")}
    wanted["w1"]["labels"] = {"disk": "fast"}
    data = {
        "network": "plain",
        "nodes": wanted,
        "encryption": 1,
        "kube_proxy": {"mode": "nftables"},
    }
    done = host.bash("apply", data, step="nodes")
    assert done.status == 0, done.err
    assert done.changes == ["labels of w1", *RESTARTED]
    assert json.loads(host.read("/var/lib/groundplane/cluster.json")) == {"stack": "metal"}
    assert host.bash("apply", data, step="nodes").out == ""


# ---- membership ------------------------------------------------------------------------------

WANTED = {"control_planes": {"cp2": "192.0.2.12", "cp3": "192.0.2.13"}, "workers": ["w1"]}


def membership(host: Host, function: str) -> Done:
    return host.bash(function, WANTED, step="membership")


def test_a_silent_member_that_nobody_wants_goes(host: Host) -> None:
    living = [f"cp{n} 192.0.2.1{n} voter healthy" for n in (2, 3)]
    fake_etcdctl(host, ["cp1 192.0.2.11 voter unhealthy", *living])
    done = membership(host, "remove_silent_members")
    assert done.changes == [
        "etcd member cp1 (https://192.0.2.11:2379) removed: not wanted and silent"
    ]
    assert host.calls == ["etcdctl remove 1 at https://192.0.2.12:2379,https://192.0.2.13:2379"]


STAYS = {
    "nobody wants it, but it lives": "cp1 192.0.2.11 voter healthy",
    "it is silent, but wanted": "cp3 192.0.2.13 voter unhealthy",
    "it joins and never started": "- 192.0.2.13 learner unhealthy",
}


@pytest.mark.parametrize("member", STAYS.values(), ids=STAYS.keys())
def test_a_member_that_stays(host: Host, member: str) -> None:
    fake_etcdctl(host, ["cp2 192.0.2.12 voter healthy", member])
    assert membership(host, "remove_silent_members") == Done(0, "", "")
    assert host.calls == []


def test_a_member_that_never_started_and_whose_host_nobody_wants_goes(host: Host) -> None:
    fake_etcdctl(host, ["cp2 192.0.2.12 voter healthy", "- 192.0.2.14 learner unhealthy"])
    assert len(membership(host, "remove_silent_members").changes) == 1
    assert host.calls[0].startswith("etcdctl remove 2 ")


def test_an_address_that_begins_like_another(host: Host) -> None:
    """192.0.2.1 is not 192.0.2.12."""
    fake_etcdctl(host, ["cp2 192.0.2.12 voter healthy", "- 192.0.2.1 learner unhealthy"])
    assert len(membership(host, "remove_silent_members").changes) == 1


def test_nodes_that_nobody_wants_go_once_they_are_silent(host: Host, cluster: Cluster) -> None:
    host.write("/var/lib/groundplane/cluster.json", '{"cluster": "abc", "gone": ["cp0"]}')
    cluster.nodes("cp1", "cp2", "cp3", "w1", "w8", "w9")
    # A Node that we want may be silent for as long as it likes.
    for name, seconds in {"cp1": 3600, "w9": 5, "cp2": 3600, "w1": 3600}.items():
        renewed = datetime.now(UTC) - timedelta(seconds=seconds)
        cluster.add("Lease", name, spec={"renewTime": renewed.isoformat(), "holderIdentity": name})
    done = membership(host, "remove_silent_nodes")
    # w8 has no lease at all.
    assert done.changes == [
        "node cp1 deleted: not wanted and silent",
        "node w8 deleted: not wanted and silent",
    ]
    nodes = [key for key in cluster.objects if key.startswith("node/")]
    assert nodes == ["node/cp2", "node/cp3", "node/w1", "node/w9"]
    record = json.loads(host.read("/var/lib/groundplane/cluster.json"))
    assert record == {"cluster": "abc", "gone": ["cp0", "cp1", "w8"]}


def test_a_worker_is_let_in_while_it_is_no_node(host: Host, cluster: Cluster) -> None:
    host.write(SECRET_FILE, SECRET)
    done = membership(host, "admit_workers")
    assert done.status == 0, done.err
    (secret,) = cluster.objects.values()
    assert secret["metadata"]["name"] == f"bootstrap-token-{token_id('w1')}"


def test_a_worker_is_let_in_again_once_its_earlier_life_is_silent(
    host: Host, cluster: Cluster
) -> None:
    host.write(SECRET_FILE, SECRET)
    for seconds, secrets in {5: 0, 3600: 1}.items():
        cluster.file.write_text("{}")
        cluster.nodes("w1")
        renewed = datetime.now(UTC) - timedelta(seconds=seconds)
        cluster.add("Lease", "w1", spec={"renewTime": renewed.isoformat(), "holderIdentity": "w1"})
        membership(host, "admit_workers")
        assert sum(key.startswith("secret/") for key in cluster.objects) == secrets


@pytest.mark.parametrize("name", ["w1", "rack1-n4", "a" * 63])
def test_both_sides_work_out_the_same_join_token(host: Host, name: str) -> None:
    host.write(SECRET_FILE, SECRET)
    made = json.loads(host.bash(f"token {name}", step="membership").out)["stringData"]
    assert f"{made['token-id']}.{made['token-secret']}" == join_token(SECRET, name)
    ends = datetime.fromisoformat(made["expiration"]) - datetime.now(UTC)
    assert timedelta(minutes=119) < ends <= timedelta(hours=2)


# ---- an administrator's access ---------------------------------------------------------------


def test_only_the_newest_user_is_administrator(host: Host, cluster: Cluster) -> None:
    for user in ("groundplane:admin:leaked", "groundplane:admin:new"):
        done = host.bash(f"grant {user}", step="kubeconfig")
        assert done.status == 0, done.err
    (binding,) = cluster.objects.values()
    assert [subject["name"] for subject in binding["subjects"]] == ["groundplane:admin:new"]


# ---- what hosts must know --------------------------------------------------------------------

CONTROL_PLANE = {
    "role": "control-plane",
    "identity": {"ca.crt": "CA\n", "etcd/ca.key": "ETCD\n", "groundplane.key": SECRET},
    "encryption": 1,
}


def test_a_control_planes_secrets(host: Host) -> None:
    done = host.bash("apply", CONTROL_PLANE, step="secrets")
    assert done.status == 0, done.err
    assert host.read("/etc/kubernetes/pki/etcd/ca.key") == "ETCD\n"
    assert host.read(SECRET_FILE) == SECRET
    for fact, path, mode, _ in host.facts():
        assert (fact, mode) == ("file", "0600"), path
        assert host.path(path).stat().st_mode & 0o777 == 0o600
    assert host.bash("apply", CONTROL_PLANE, step="secrets").out == ""


def test_what_a_step_says_is_never_the_secret_itself(host: Host) -> None:
    done = host.bash("apply", CONTROL_PLANE, step="secrets")
    assert not any(word in done.out + done.err for word in ("CA", "ETCD", SECRET))


def test_a_workers_secrets(host: Host) -> None:
    data = {"role": "worker", "join_token": "abcdef.0123456789abcdef", "ca": "CA\n"}
    done = host.bash("apply", data, step="secrets")
    assert done.status == 0, done.err
    assert {fact[1] for fact in host.facts()} == {
        "/var/lib/groundplane/join/ca.crt",
        "/var/lib/groundplane/join/token",
    }


@pytest.mark.parametrize("ca", [None, "CA\n"], ids=["public", "own CA"])
@pytest.mark.parametrize("username", [None, "puller"], ids=["open", "login"])
def test_a_private_registry(host: Host, ca: str | None, username: str | None) -> None:
    registry = {"address": "registry.example.org:5000"}
    registry |= {"ca": ca} if ca else {}
    registry |= {"username": username, "password": "s3cret"} if username else {}
    done = host.bash("apply", {"role": "worker", "registry": registry}, step="secrets")
    assert done.status == 0, done.err
    toml = host.read("/etc/containerd/certs.d/registry.example.org:5000/hosts.toml")
    login = base64.b64encode(b"puller:s3cret").decode()
    assert (f'Authorization = ["Basic {login}"]' in toml) == bool(username)
    assert ("  ca = " in toml) == bool(ca)
    # TOML that containerd can read.
    hosts = tomllib.loads(toml)["host"]
    assert hosts["https://registry.example.org:5000"]["capabilities"] == ["pull", "resolve"]


def test_what_goes_with_the_step(host: Host) -> None:
    host.bash("apply", CONTROL_PLANE, step="secrets")
    host.write("/etc/groundplane/backup.json", "{}")
    host.write("/var/lib/groundplane/join/token", "abcdef.0123456789abcdef")
    host.bash("destroy", step="secrets")
    assert not host.there("/etc/groundplane/backup.json")
    assert not host.there("/var/lib/groundplane/join/token")
