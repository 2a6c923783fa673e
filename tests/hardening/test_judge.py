"""What is seen on a host, held against the checks: each passes, fails and cannot apply."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from groundplane.hardening import Evidence, Result, Status, judge, parameters
from groundplane.remote.portrait import read
from groundplane.spec import Hardening, hardening
from groundplane.spec.hardening import Check

CIS = Hardening(level="cis")
CHECKS = {check.id: check for check in hardening.checks()}
DEFAULTS = {"enforce": "baseline"}


def first(value: str | tuple[str, ...] | None) -> str:
    return value if isinstance(value, str) else ",".join(value or ())


def good() -> Evidence:
    """A control plane on which all holds, by each check's own words."""
    facts = {"container": "none", "node": "yes", "confinement": "AppArmor", "packager": "apt"}
    apt: list[str] = []
    lines: dict[str, list[str]] = {}
    journald, modes = [], []
    kubelet: dict[str, str] = {}
    flags: dict[str, dict[str, str]] = {}
    for check in CHECKS.values():
        key, value = first(check.key), first(check.value)
        match check.kind:
            case "sysctl":
                facts[f"sysctl/{key}"] = value
            case "module":
                facts[f"module/{key}"] = "denied"
            case "mount":
                facts[f"mount/{key}"] = ",".join(
                    filter(None, [facts.get(f"mount/{key}", "rw"), value])
                )
            case "journald":
                journald.append(f"{key}={value}")
            case "apt":
                apt.append(f'{key} "{value}";')
            case "line":
                lines.setdefault(key, []).append(value)
            case "package":
                facts[f"package/{key}"] = "installed"
            case "unit":
                facts[f"unit/{check.key[0]}"] = "enabled active"
            case "sshd":
                facts[f"sshd/{key.lower()}"] = "new-ones" if check.without else value
            case "mode":
                path = key.replace("*", "x")
                modes.append(f"{value.lstrip('0')} root:root {path}")
            case "kubelet":
                kubelet[key] = value
            case "flag":
                program, _, flag = key.partition(" ")
                if check.value == "":
                    continue
                has = [flags.setdefault(program, {}).get(flag, ""), value, *check.includes]
                flags[program][flag] = ",".join(filter(None, has)) or "something"
    texts = {
        "apt": "\n".join(apt),
        "journald": "\n".join(journald),
        "kubelet": "{}",
        "modes": "\n".join(modes),
        **{f"file/{path}": "\n".join(found) for path, found in lines.items()},
        "file/" + first(CHECKS["pod-security"].key): json.dumps(
            {"plugins": [{"name": "PodSecurity", "configuration": {"defaults": DEFAULTS}}]}
        ),
    }
    return Evidence("control-plane", facts, texts, kubelet, flags)


def judged(seen: Evidence, made: Hardening = CIS) -> dict[str, Result]:
    return {result.check.id: result for result in judge("cp1", seen, made)}


def failed(seen: Evidence, made: Hardening = CIS) -> set[str]:
    return {name for name, r in judged(seen, made).items() if r.status is Status.FAILED}


def spoiled(seen: Evidence, check: Check) -> Evidence:
    """The same host, on which this check does not hold."""
    key = first(check.key)
    facts, texts = dict(seen.facts), dict(seen.texts)
    kubelet = dict(seen.kubelet)
    flags = {program: dict(given) for program, given in seen.flags.items()}
    match check.kind:
        case "sysctl":
            facts[f"sysctl/{key}"] = "77"
        case "module":
            facts[f"module/{key}"] = "loaded"
        case "mount":
            facts[f"mount/{key}"] = "rw"
        case "journald":
            texts["journald"] += f"\n{key}=77"
        case "apt":
            texts["apt"] = texts["apt"].replace(f'{key} "{first(check.value)}"', "")
        case "line":
            path = f"file/{key}"
            texts[path] = texts[path].replace(first(check.value), "# nothing")
        case "package":
            del facts[f"package/{key}"]
        case "unit":
            facts[f"unit/{check.key[0]}"] = "enabled failed"
        case "confinement":
            facts["confinement"] = "none"
        case "sshd":
            bad = f"good,{check.without[0]}" if check.without else "77"
            facts[f"sshd/{key.lower()}"] = bad
        case "mode":
            path = key.replace("*", "x")
            texts["modes"] = texts["modes"].replace(
                f"{first(check.value).lstrip('0')} root:root {path}", f"777 root:root {path}"
            )
        case "kubelet":
            kubelet[key] = "77"
        case "flag":
            program, _, flag = key.partition(" ")
            if check.value == "":
                flags[program][flag] = "/etc/tokens"
            elif check.value is None and not check.includes:
                del flags[program][flag]
            else:
                flags[program][flag] = "77"
        case "document":
            texts[f"file/{key}"] = '{"plugins": []}'
    return Evidence(seen.role, facts, texts, kubelet, flags)


def test_a_good_host_passes_all() -> None:
    results = judged(good())
    assert results.keys() == {c.id for c in CHECKS.values() if c.on != "worker"}
    assert {name for name, r in results.items() if r.status is not Status.PASSED} == set()


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_fails_where_it_does_not_hold(name: str) -> None:
    """And none but those that look at the very same thing."""
    check = CHECKS[name]
    bad = failed(spoiled(good(), check))
    assert name in bad
    assert {CHECKS[each].key for each in bad} == {check.key}


@pytest.mark.parametrize("name", CHECKS)
def test_an_exempt_check_says_why(name: str) -> None:
    made = Hardening(level="cis", exempt={name: "because of that"})
    result = judged(spoiled(good(), CHECKS[name]), made)[name]
    assert (result.status, result.said) == (Status.EXEMPT, "because of that")


def test_only_what_the_level_asks_is_checked() -> None:
    baseline = judged(good(), Hardening())
    assert baseline.keys() < judged(good()).keys()
    assert {result.check.level for result in baseline.values()} == {"baseline"}
    assert judged(good(), Hardening(level="none")) == {}


def test_a_worker_has_no_control_plane_to_check() -> None:
    worker = judged(replace(good(), role="worker", flags={}))
    assert not any(result.check.kind == "flag" for result in worker.values())
    assert all(result.status is Status.PASSED for result in worker.values())


@pytest.mark.parametrize("name", CHECKS)
def test_in_a_container_only_what_a_container_lacks_is_excused(name: str) -> None:
    check = CHECKS[name]
    seen = spoiled(good(), check)
    seen = replace(seen, facts={**seen.facts, "container": "systemd-nspawn"})
    result = judged(seen)[name]
    if check.cannot:
        assert (result.status, result.said) == (Status.CANNOT, f"in a container: {check.cannot}")
    else:
        assert result.status is Status.FAILED


def test_what_holds_in_a_container_counts() -> None:
    seen = good()
    results = judged(replace(seen, facts={**seen.facts, "container": "systemd-nspawn"}))
    assert all(result.status is Status.PASSED for result in results.values())


def test_a_host_that_is_no_node_yet() -> None:
    seen = good()
    facts = {path: value for path, value in seen.facts.items() if path != "node"}
    texts = {
        path: text
        for path, text in seen.texts.items()
        if path not in ("kubelet", "modes") and "kubernetes" not in path
    }
    results = judged(Evidence(seen.role, facts, texts, {}, {}))
    assert {r.check.kind for r in results.values() if r.status is Status.CANNOT} == {
        "kubelet", "flag", "mode", "document",
    }  # fmt: skip
    assert {r.said for r in results.values() if r.status is Status.CANNOT} == {"It is no node yet."}
    assert all(result.status is not Status.FAILED for result in results.values())


def test_a_control_plane_whose_api_server_does_not_run_fails() -> None:
    seen = good()
    flags = {name: given for name, given in seen.flags.items() if name != "kube-apiserver"}
    result = judged(replace(seen, flags=flags))["api-profiling"]
    assert (result.status, result.said) == (Status.FAILED, "kube-apiserver does not run")


@pytest.mark.parametrize(
    "name, value",
    [("kernel-pointers", "2"), ("ptrace", "3"), ("bpf", "1"), ("fifos", "2")],
)
def test_what_is_stricter_passes(name: str, value: str) -> None:
    seen = good()
    facts = {**seen.facts, f"sysctl/{CHECKS[name].key}": value}
    assert judged(replace(seen, facts=facts))[name].status is Status.PASSED


def test_a_kernel_without_a_setting() -> None:
    seen = good()
    gone = {"sysctl/kernel.unprivileged_bpf_disabled", "sysctl/kernel.yama.ptrace_scope"}
    facts = {path: value for path, value in seen.facts.items() if path not in gone}
    results = judged(replace(seen, facts=facts))
    # Without BPF there is nothing to protect; without Yama there is.
    assert results["bpf"].status is Status.PASSED
    assert results["ptrace"].said == "the kernel has none"


def test_a_system_without_apt() -> None:
    seen = good()
    texts = {path: text for path, text in seen.texts.items() if path != "apt"}
    packages = {"package/auditd", "package/unattended-upgrades", "package/apparmor"}
    facts = {p: v for p, v in seen.facts.items() if p not in packages}
    facts |= {"packager": "dnf", "package/audit": "installed"}
    results = judged(replace(seen, facts=facts, texts=texts))
    excused = {name for name, r in results.items() if r.status is Status.CANNOT}
    assert excused == {name for name, c in CHECKS.items() if c.kind == "apt"} | {
        "services-not-restarted", "security-updates", "confinement-tools",
    }  # fmt: skip
    assert results["audit"].status is Status.PASSED


def test_what_the_script_is_told() -> None:
    text = parameters(CHECKS.values())
    assert "SYSCTLS=(kernel.kptr_restrict " in text
    assert "PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler etcd)" in text
    assert " audit" in text  # RHEL's name of auditd
    assert "'/etc/kubernetes/pki/*.key'" in text


def test_an_answer_is_understood() -> None:
    def doc(path: str, text: str) -> str:
        return f"doc {path}\t{base64.b64encode(text.encode()).decode()}"

    lines = [
        "portrait 1",
        "fact container\tnone",
        "fact node\tyes",
        doc("kubelet", "authentication: {anonymous: {enabled: false}}\ntlsCipherSuites: [A, B]\n"),
        doc("process/etcd", "etcd\n--client-cert-auth=true\n--name=cp1\n"),
        "end",
    ]
    seen = Evidence.of("control-plane", read("\n".join(lines)))
    assert seen.kubelet == {
        "authentication.anonymous.enabled": "false",
        "tlsCipherSuites": "A, B",
    }
    assert seen.flags == {"etcd": {"--client-cert-auth": "true", "--name": "cp1"}}
