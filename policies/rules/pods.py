"""What pods may do to the node they run on, and what they must say of themselves."""

from __future__ import annotations

from collections.abc import Iterator

from rules.objects import LASTING, WORKLOADS, containers, main_containers, pods
from rules.rule import ADVISORY, MANDATORY, Found, Resource, Settings, View, rule

# Of the Pod Security Standards: https://kubernetes.io/docs/concepts/security/pod-security-standards/
# fmt: off
CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
    "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_syncookies",
}
VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}
# fmt: on


def pods_and_containers(resource: Resource) -> Iterator[View]:
    """A pod's specification, and each of its containers."""
    yield from pods(resource)
    yield from containers(resource)


@rule(
    MANDATORY,
    on=WORKLOADS,
    each=pods_and_containers,
    remedy="Take it out. What must be so, as storage and network drivers, is exempted with the "
    "reason, in a namespace of its own.",
)
def pod_security_baseline(part: View, settings: Settings) -> Found:
    """Pods keep to the Pod Security Standard `baseline`.

    Each of these is a way out of the container onto the node, and from there to every pod on it.
    """
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if part[key].value is True:
            yield f"{part.path}.{key} is true"
    for volume in part["volumes"]:
        if volume["hostPath"].raw is not None:
            yield f"{volume.path} is a hostPath"
    context = part["securityContext"]
    for sysctl in context["sysctls"]:
        if sysctl["name"].text not in SYSCTLS:
            yield f"{sysctl.path} is not among the safe ones"
    for kind in ("seccompProfile", "appArmorProfile"):
        if context[kind]["type"].text == "Unconfined":
            yield f"{context.path}.{kind} is Unconfined"
    if context["windowsOptions"]["hostProcess"].value is True:
        yield f"{context.path}.windowsOptions.hostProcess is true"
    if context["privileged"].value is True:
        yield f"{context.path}.privileged is true"
    if context["procMount"].text not in ("", "Default"):
        yield f"{context.path}.procMount is not Default"
    for capability in context["capabilities"]["add"]:
        if capability.text not in CAPABILITIES:
            yield f"{capability.path} is not among those of baseline"
    for port in part["ports"]:
        if port["hostPort"].number:
            yield f"{port.path}.hostPort is set"


@rule(
    ADVISORY,
    on=WORKLOADS,
    each=pods,
    remedy="Set securityContext: runAsNonRoot: true, allowPrivilegeEscalation: false, "
    "capabilities.drop: [ALL], seccompProfile.type: RuntimeDefault.",
)
def pod_security_restricted(pod: View, settings: Settings) -> Found:
    """Pods keep to the Pod Security Standard `restricted`.

    A program that is broken into can then do what its user can, and little else.
    """
    for volume in pod["volumes"]:
        if kinds := [kind for kind, _ in volume.items() if kind not in {"name", *VOLUMES}]:
            yield f"{volume.path}.{kinds[0]} is not allowed"
    common = pod["securityContext"]
    for kind in ("initContainers", "containers"):
        for container in pod[kind]:
            own = container["securityContext"]
            where = own.path
            if own["allowPrivilegeEscalation"].value is not False:
                yield f"{where}.allowPrivilegeEscalation is not false"
            if not any(drop.text == "ALL" for drop in own["capabilities"]["drop"]):
                yield f"{where}.capabilities.drop does not name ALL"
            if any(add.text != "NET_BIND_SERVICE" for add in own["capabilities"]["add"]):
                yield f"{where}.capabilities.add names more than NET_BIND_SERVICE"
            for key, good in (("runAsNonRoot", True), ("runAsUser", None)):
                value = own[key].value if own[key].value is not None else common[key].value
                if good is not None and value is not good:
                    yield f"{where}.{key} is not true"
                elif good is None and value == 0:
                    yield f"{where}.{key} is 0"
            profile = own["seccompProfile"]["type"].text or common["seccompProfile"]["type"].text
            if profile not in ("RuntimeDefault", "Localhost"):
                yield f"{where}.seccompProfile is not set"


@rule(
    MANDATORY,
    on=("kubernetes:core/v1:Namespace",),
    remedy="Add the label pod-security.kubernetes.io/enforce: restricted, or baseline; privileged "
    "only where drivers run, and exempt.",
)
def namespaces_enforce_pod_security(namespace: View, settings: Settings) -> Found:
    """Each namespace enforces a Pod Security Standard.

    Rules see what goes through Pulumi. The API server sees everything, and refuses by this label.
    """
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"].text
    if enforced not in ("baseline", "restricted"):
        yield "it enforces neither baseline nor restricted"


@rule(
    ADVISORY,
    on=WORKLOADS,
    each=main_containers,
    remedy="Set resources.requests.cpu and .memory to what it uses, and resources.limits.memory.",
)
def resource_limits(container: View, settings: Settings) -> Found:
    """Containers say what they need, and how much memory they get at most.

    On machines that are all there is, a pod without a request lands on a full node, and one without
    a limit takes its neighbours with it.
    """
    resources = container["resources"]
    # A limit is a request, too, where none is given.
    wanted = {
        "requests.cpu": resources["requests"]["cpu"].value or resources["limits"]["cpu"].value,
        "requests.memory": resources["requests"]["memory"].value
        or resources["limits"]["memory"].value,
        "limits.memory": resources["limits"]["memory"].value,
    }
    if missing := [key for key, value in wanted.items() if not value]:
        yield f"{container.path}.resources has no {', '.join(missing)}"


@rule(
    ADVISORY,
    on=LASTING,
    each=main_containers,
    remedy="Add a readinessProbe that says whether it can serve, and a livenessProbe that fails "
    "only where a restart helps.",
)
def probes(container: View, settings: Settings) -> Found:
    """Containers that run on have a readiness and a liveness probe.

    Without readiness a rollout goes on over pods that do not serve, and a drained node's pods get
    requests before they can answer; without liveness one that hangs stays.
    """
    for probe in ("readinessProbe", "livenessProbe"):
        if container[probe].raw is None:
            yield f"{container.path} has no {probe}"
