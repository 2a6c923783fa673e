"""local-path: where volumes lie, and which class they are of."""

from __future__ import annotations

import json
from typing import Any

from support.addons import Case, installed


def one(case: Case, kind: str) -> dict[str, Any]:
    """The inputs of the one object of this kind."""
    (found,) = [r.inputs for r in installed(case).values() if r.inputs.get("kind") == kind]
    return found


def paths(case: Case) -> dict[str, list[str]]:
    config = json.loads(one(case, "ConfigMap")["data"]["config.json"])
    return {entry["node"]: entry["paths"] for entry in config["nodePathMap"]}


def test_each_node_has_its_folders() -> None:
    assert paths(Case("local-path")) == {
        "DEFAULT_PATH_FOR_NON_LISTED_NODES": ["/var/lib/local-path-provisioner"]
    }
    assert paths(Case("local-path", {"path": "/srv", "nodes": {"w1": ["/mnt/a"], "w2": []}})) == {
        "DEFAULT_PATH_FOR_NON_LISTED_NODES": ["/srv"],
        "w1": ["/mnt/a"],
        "w2": [],
    }


def test_it_is_the_default_class_unless_told_otherwise() -> None:
    for default, said in (({}, "true"), ({"default": False}, "false")):
        annotations = one(Case("local-path", default), "StorageClass")["metadata"]["annotations"]
        assert annotations == {"storageclass.kubernetes.io/is-default-class": said}


def test_its_images_are_those_of_the_catalogue() -> None:
    case = Case("local-path")
    (container,) = one(case, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "docker.io/rancher/local-path-provisioner:v0.0.37"
    helper = json.loads(one(case, "ConfigMap")["data"]["helperPod.yaml"])
    (of_helper,) = helper["spec"]["containers"]
    assert f"--helper-image={of_helper['image']}" in container["command"]


def test_the_account_is_the_one_with_the_rights() -> None:
    case = Case("local-path")
    account = one(case, "ServiceAccount")["metadata"]
    pod = one(case, "Deployment")["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["name"]
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        (subject,) = one(case, kind)["subjects"]
        assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
