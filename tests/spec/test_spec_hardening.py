"""hardening.yaml: each check is whole, each setting is checked, and each check has who sets it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import groundplane
from groundplane.errors import SpecError
from groundplane.hardening import KINDS
from groundplane.spec import Hardening, PodSecurity, hardening
from groundplane.spec.hardening import Check

CHECKS = {check.id: check for check in hardening.checks()}
OURS = {name: check for name, check in CHECKS.items() if check.by == "groundplane"}
SCRIPTS = Path(groundplane.__file__).parent / "remote" / "scripts"
SOURCE = r"CIS (Kubernetes|Debian) (1\.6, )?[1-6]\.|Linux, |Kubernetes, |groundplane, "
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
CIS = Hardening(level="cis")


def rows() -> dict[str, list[str]]:
    lines = hardening.table().splitlines()[1:]
    return {line.split("\t")[0]: line.split("\t") for line in lines}


def kubernetes(made: Hardening) -> dict[str, object]:
    """All that a level sets of Kubernetes, as checks name it."""
    found: dict[str, object] = dict(hardening.kubelet(made))
    for program in PROGRAMS:
        for flag, value in hardening.flags(made, program, {}).items():
            found[f"{program} --{flag}"] = value
    return found


# ---- each check ------------------------------------------------------------------------------


def test_no_two_checks_have_one_id() -> None:
    assert len(CHECKS) == len(hardening.checks()) > 100


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_a_check_is_whole(check: Check) -> None:
    assert re.fullmatch(r"[a-z0-9-]+", check.id)
    assert check.level in ("baseline", "cis")
    assert check.kind in KINDS
    assert check.on in ("", "control-plane", "worker")
    assert check.by in ("groundplane", "kubeadm", "system", "nobody")
    assert re.match(SOURCE, check.source), check.source
    for sentence in filter(None, (check.what, check.container, check.missing, check.note)):
        assert sentence.endswith("."), sentence
    # What nobody does for the reader they must be told to do.
    assert bool(check.remedy) == (check.by != "groundplane")
    assert check.cure
    assert not check.rests or check.rests in CHECKS


def test_what_the_kernel_shares_cannot_apply_in_a_container() -> None:
    for check in CHECKS.values():
        if check.kind in ("sysctl", "module"):
            assert bool(check.cannot) == (not str(check.key).startswith("net.")), check.id


# ---- each setting has a check, and each check of ours a setting --------------------------------


def test_every_setting_of_kubernetes_has_a_check() -> None:
    assert kubernetes(CIS).keys() == {c.key for c in OURS.values() if c.kind in ("kubelet", "flag")}
    assert hardening.admission(CIS) == {"enforce": "baseline", "namespaces": []}
    assert [c.id for c in OURS.values() if c.kind == "document"] == ["pod-security"]


def test_every_row_of_the_table_has_a_check() -> None:
    here = {name for name, check in OURS.items() if check.kind in hardening.ON_HOSTS}
    assert rows().keys() == here | {"kubelet-kernel"}
    for name, row in rows().items():
        assert row[1:3] == [CHECKS[name].level, CHECKS[name].kind]
        assert len(row) == 7 and all(row), row


def test_the_scripts_set_every_kind_of_the_table() -> None:
    text = (SCRIPTS / "lib" / "hardening.sh").read_text()
    assert {row[2] for row in rows().values()} - {"kubelet"} == set(
        re.findall(r"hardening_rows ([a-z]+)\b", text)
    )


@pytest.mark.parametrize("name", OURS)
def test_what_is_exempt_is_not_set(name: str) -> None:
    check, without = OURS[name], Hardening(level="cis", exempt={name: "because"})
    assert name not in {each.id for each in hardening.wanted(without)}
    if check.kind in ("kubelet", "flag") and not check.includes:
        assert check.key not in kubernetes(without)
    elif check.kind in hardening.ON_HOSTS:
        told = hardening.on_hosts(without)
        assert told is not None and told["exempt"] == name
        assert told["settings"] != (hardening.on_hosts(CIS) or {})["settings"]


def test_what_rests_on_an_exempt_check_is_not_set_either() -> None:
    """The API server would not start with a plugin that finds no settings."""
    without = Hardening(level="cis", exempt={"api-admission": "settings of our own"})
    assert hardening.admission(without) is None
    flags = hardening.flags(without, "kube-apiserver", {})
    assert "admission-control-config-file" not in flags
    assert "EventRateLimit" not in flags["enable-admission-plugins"]


# ---- levels ------------------------------------------------------------------------------------


def test_a_level_asks_for_what_the_one_before_it_does() -> None:
    none, baseline, cis = (set(hardening.asked(level)) for level in hardening.LEVELS)
    assert none == set() < baseline < cis
    assert hardening.on_hosts(Hardening(level="none")) is None
    assert kubernetes(Hardening(level="none")) == {}


def test_baseline_leaves_logins_and_pods_alone() -> None:
    kinds = {check.kind for check in hardening.asked("baseline") if check.by == "groundplane"}
    assert not kinds & {"sshd", "document", "package"}
    assert hardening.admission(Hardening()) is None
    assert hardening.of_ssh(Hardening()) is None
    assert "enable-admission-plugins" not in hardening.flags(Hardening(), PROGRAMS[0], {})


def test_settings_of_ssh_are_known_by_a_digest() -> None:
    without = Hardening(level="cis", exempt={"ssh-idle": "a slow line"})
    assert hardening.of_ssh(CIS) != hardening.of_ssh(without) is not None
    other = Hardening(level="cis", exempt={"kubelet-pids": "few pods"})
    assert hardening.of_ssh(CIS) == hardening.of_ssh(other)


# ---- what a user says goes over it ---------------------------------------------------------------


def test_flags_that_are_given_go_over_ours() -> None:
    given = {"profiling": "true", "v": "3"}
    flags = hardening.flags(Hardening(), "kube-apiserver", given)
    assert flags.items() >= given.items()


def test_plugins_that_are_given_stay() -> None:
    given = {"enable-admission-plugins": "NodeRestriction,PodNodeSelector"}
    flags = hardening.flags(CIS, "kube-apiserver", given)
    assert flags["enable-admission-plugins"].split(",") == [
        "NodeRestriction",
        "PodNodeSelector",
        "DenyServiceExternalIPs",
        "EventRateLimit",
    ]
    assert given == {"enable-admission-plugins": "NodeRestriction,PodNodeSelector"}


def test_kubeadms_own_plugin_stays() -> None:
    """kubeadm's default is lost where the flag is given."""
    plugins = hardening.flags(CIS, "kube-apiserver", {})["enable-admission-plugins"]
    assert "NodeRestriction" in plugins.split(",")


def test_a_flag_that_the_api_server_does_not_take_beside_another() -> None:
    flags = hardening.flags(CIS, "kube-apiserver", {"anonymous-auth": "false"})
    assert "authentication-config" not in flags


def test_an_exemption_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="Did you mean usb-storage"):
        Hardening(exempt={"usb-storag": "a typo"})
    with pytest.raises(SpecError):
        Hardening(exempt={"usb-storage": ""})


def test_what_pods_may_be() -> None:
    made = Hardening(
        level="cis",
        pod_security=PodSecurity(enforce="restricted", exempt_namespaces=["rook-ceph"]),
    )
    assert hardening.admission(made) == {"enforce": "restricted", "namespaces": ["rook-ceph"]}
    none = made.model_copy(update={"exempt": {"pod-security": "labels on all namespaces"}})
    assert (hardening.admission(none) or {})["enforce"] == "privileged"


def test_the_steps_data_are_plain() -> None:
    json.dumps([hardening.on_hosts(CIS), hardening.kubelet(CIS), hardening.admission(CIS)])
