"""Images and charts: which ones, and from where."""

from __future__ import annotations

import re

from rules.objects import RELEASES, WORKLOADS, chart_values, containers
from rules.rule import ADVISORY, MANDATORY, Found, Settings, View, rule

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# Three numbers and more, a day, or a commit: what nobody gives to another image later.
EXACT = re.compile(r"\d+\.\d+\.\d+|(^|\D)20\d{6}(\D|$)|^(sha-)?[0-9a-f]{7,40}$")
CHARTS = (*RELEASES, "kubernetes:helm.sh/v3:Chart")
VERSION = re.compile(r"v?\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")


def parts(image: str) -> tuple[str, str, str]:
    """(registry and path, tag, digest) of an image's name; "" for what it does not have."""
    name, _, digest = image.partition("@")
    path, colon, tag = name.rpartition(":")
    # A colon before the last slash belongs to the registry's port.
    return (path, tag, digest) if colon and "/" not in tag else (name, "", digest)


def registry(image: str) -> str:
    """HOST/PATH of an image, with what is left out when it comes from Docker Hub."""
    name, _, _ = parts(image)
    first, slash, _ = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def within(name: str, allowed: list[str]) -> bool:
    """Whether a name is one of these, or below one of them."""
    return any(name == one or name.startswith(one.rstrip("/") + "/") for one in allowed)


@rule(
    MANDATORY,
    on=WORKLOADS,
    each=containers,
    remedy="Name a version, and better its digest too: NAME:VERSION@sha256:...",
)
def no_latest_tag(container: View, settings: Settings) -> Found:
    """No image is the latest.

    Which one runs would depend on the day a node pulled it, and no rollback would bring back the
    one before.
    """
    _, tag, digest = parts(container["image"].text)
    if container["image"].text and tag in ("", "latest") and not digest:
        yield f"{container.path}.image has no tag, or the tag latest"


@rule(
    ADVISORY,
    on=WORKLOADS,
    each=containers,
    remedy="Name the digest, NAME:VERSION@sha256:..., or a tag that is a whole version.",
)
def images_pinned(container: View, settings: Settings) -> Found:
    """Images are pinned by digest or by an exact version.

    Tags such as `1.29` or `stable` are moved to other images, and a node that restarts a pod runs
    another program than its neighbour.
    """
    image = container["image"].text
    _, tag, _ = parts(image)
    if tag not in ("", "latest") and not DIGEST.search(image) and not EXACT.search(tag):
        yield f"{container.path}.image is pinned by neither digest nor exact version"


REGISTRIES = {
    "type": "array",
    "items": {"type": "string"},
    "default": [],
}


@rule(
    MANDATORY,
    on=WORKLOADS,
    each=containers,
    remedy="Mirror the image to a registry that is allowed, or add its registry to the stack's "
    "levels: registries.",
    settings={
        "registries": {
            **REGISTRIES,
            "description": "Where images may come from, as HOST or HOST/PATH: registry.k8s.io, "
            "docker.io/library. Empty: anywhere.",
        }
    },
)
def images_from_allowed_registries(container: View, settings: Settings) -> Found:
    """Images come from registries that the stack allows.

    A registry decides what runs; each one more must be trusted, and reached on the day of a repair.
    """
    if not settings["registries"]:
        return
    image = container["image"].text
    if image and not within(registry(image), settings["registries"]):
        yield f"{container.path}.image is from a registry that is not allowed"


def _local(chart: View) -> bool:
    """A chart in a folder or a file: its version is that of the repository that holds it."""
    return chart.text.startswith((".", "/")) or chart.text.endswith((".tgz", ".tar.gz"))


@rule(
    MANDATORY,
    on=CHARTS,
    remedy="Set version to the chart's exact version; a range, or none, takes what is newest.",
)
def charts_pinned(release: View, settings: Settings) -> Found:
    """Charts are pinned by digest or by an exact version.

    Otherwise an update of something else may bring another release of a chart with it.
    """
    chart = release["chart"]
    if _local(chart) or (chart.text.startswith("oci://") and DIGEST.search(chart.text)):
        return
    if not VERSION.fullmatch(release["version"].text):
        yield "version is missing, or not exact"


@rule(
    MANDATORY,
    on=CHARTS,
    remedy="Mirror the chart, or add its repository to the stack's levels: repositories.",
    settings={
        "repositories": {
            **REGISTRIES,
            "description": "Where charts may come from: https://charts.jetstack.io, "
            "oci://quay.io/jetstack/charts. Charts in the repository's own folders always may. "
            "Empty: anywhere.",
        }
    },
)
def charts_from_allowed_repositories(release: View, settings: Settings) -> Found:
    """Charts come from repositories that the stack allows.

    A chart brings images, roles and hooks along, and runs with the rights of who installs it.
    """
    chart = release["chart"]
    if not settings["repositories"] or _local(chart):
        return
    from_oci = chart.text.startswith("oci://")
    source = chart.text if from_oci else release["repositoryOpts"]["repo"].text
    if not within(source, settings["repositories"]):
        yield "its repository is not allowed"


@rule(
    ADVISORY,
    on=RELEASES,
    remedy="Render it by kubernetes.helm.v4.Chart, whose objects each pass the rules; or exempt "
    "the release, with the reason why its hooks are needed.",
)
def charts_rendered(release: View, settings: Settings) -> Found:
    """Charts are rendered into resources that rules can see.

    Of a Release the engine knows the values that were given and nothing that the chart makes of
    them: no other rule looks at its pods, services and roles.
    """
    yield "it is a Release, whose objects no rule can see"


@rule(
    MANDATORY,
    on=RELEASES,
    each=chart_values,
    remedy="Set it otherwise in values; what the chart itself says by default is not seen here.",
)
def chart_values_sound(values: View, settings: Settings) -> Found:
    """The values of a Release ask for nothing that rules would refuse in an object.

    They are all that can be seen of it: privileged containers, the host's namespaces, the latest
    image, ports on every node.
    """
    at = f"{values.path}."
    for key in ("hostNetwork", "hostPID", "hostIPC", "privileged"):
        if values[key].known and values[key].value is True:
            yield f"{at}{key} is true"
    named = values["repository"].known and values["repository"].text
    if named and values["tag"].known and values["tag"].text == "latest":
        yield f"{at}tag is latest"
    if values["type"].known and values["type"].text == "NodePort":
        yield f"{at}type is NodePort"
