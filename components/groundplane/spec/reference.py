"""docs/reference/configuration.md and add-ons.md from the models; hardening.md, and what hosts read
of it, from hardening.yaml: `python -m groundplane.spec.reference`, run in the project's folder. A
test keeps them current."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from groundplane.catalogue import product
from groundplane.registry import PROFILES, Addon, addon_names, addon_of
from groundplane.spec import hardening
from groundplane.spec.addons import ALONE, PROFILE, SIZE, SIZES, Need
from groundplane.spec.addons import secrets as addon_secrets
from groundplane.spec.checks import known_settings
from groundplane.spec.load import PLATFORM, SECRETS, SITE
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Host, Hypervisor
from groundplane.spec.siblings import PLACE
from groundplane.spec.systems import KUBERNETES_MINORS, SYSTEMS
from groundplane.spec.validate import model_in, yaml_example

PAGE = Path("docs/reference/configuration.md")
ADDONS = Path("docs/reference/add-ons.md")
HARDENING = Path("docs/reference/hardening.md")
TABLE = Path("components/groundplane/remote/scripts/lib/hardening.tsv")


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield "# Configuration"
    yield ""
    yield "<!-- Generated from the models by `python -m groundplane.spec.reference`. -->"
    yield ""
    yield f"Two files beside each other describe a stack. `{PLATFORM}` says what is equal wherever"
    yield "the platform stands. `Pulumi.STACK.yaml`, below `config:`, the key"
    yield f"`{SITE}`, says what binds it to a place. The column *file* tells where a key"
    yield "of the cluster may stand: *platform*, *site*, or *both*, and then the site's value goes"
    yield "over the platform's, key by key; lists are replaced whole. Anything else is refused, and"
    yield "all errors are reported at once, with file, line and key."
    yield ""
    yield "`groundplane init` writes both files to begin with; `groundplane schema` prints their"
    yield "JSON schemas, which the files name in their first line for editors."
    yield ""
    yield "| key | file | what it is |"
    yield "| --- | --- | --- |"
    yield f"| `place` | site | {PLACE} |"
    yield "| `hosts` | site | The machines: a list of [hosts](#host). Required. |"
    yield (
        "| `hypervisors` | site | The machines that run those of the hosts that are guests: a list "
        "of [hypervisors](#hypervisor). |"
    )
    yield (
        "| `guests` | site | What holds for each [guest](#guest); what a host's own `guest` says "
        "goes over it, key by key. |"
    )
    yield "| `cluster` | both | The [cluster](#cluster). Required. |"
    yield f"| `profile` | platform | {PROFILE} One of {_words(PROFILES)}. |"
    yield (
        "| `addons` | both | [Add-ons](#add-ons) by name, with their arguments; `false` leaves one "
        "of the profile out. A site gives arguments only to those that the platform has. |"
    )
    yield f"| `size` | both | {SIZE} One of {_words(SIZES)}; the first unless given. |"
    yield (
        "| `catalogue` | site | Path to a catalogue of the stack's own, from the folder of the "
        "stack's file. Its versions and digests go over groundplane's. |"
    )
    yield ""
    yield "Secrets are keys of the stack's configuration by themselves, set with"
    yield "`pulumi config set --secret KEY`:"
    yield ""
    yield "| key | what it holds |"
    yield "| --- | --- |"
    for key, what in (SECRETS | addon_secrets()).items():
        yield f"| `groundplane:{key}` | {what[0].upper()}{what[1:]}. |"
    for model in _models(Host, Hypervisor, Cluster):
        yield from _section(model)
    yield from _addons()
    yield from _owned()
    yield from _versions()
    yield from _images()
    yield from _systems()


def _models(*roots: type[Model]) -> list[type[Model]]:
    """These and all models in them, in the order in which they are met."""
    found: list[type[Model]] = []

    def visit(model: type[Model]) -> None:
        if model in found:
            return
        found.append(model)
        for field in model.model_fields.values():
            inner = model_in(field.annotation)
            if inner is not None:
                visit(inner)

    for root in roots:
        visit(root)
    return found


def _section(model: type[Model]) -> Iterator[str]:
    yield ""
    yield f"## {model.__name__}"
    yield ""
    yield " ".join((model.__doc__ or "").split())
    yield ""
    marked = model is Cluster or any(_where(f) for f in model.model_fields.values())
    yield "| key | type | default |" + (" file |" if marked else "") + " what it is |"
    yield "| --- | --- | --- |" + (" --- |" if marked else "") + " --- |"
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        about = " ".join((field.description or "").split()).replace("|", "\\|")
        file = f" {_where(field) or 'both'} |" if marked else ""
        yield (
            f"| `{to_camel(name)}` | {_type(field.annotation, field.metadata)} | "
            f"{_default(field)} |{file} {about}{_example(field)} |"
        )


def _where(field: FieldInfo) -> str | None:
    extra = field.json_schema_extra
    return str(extra["where"]) if isinstance(extra, dict) and "where" in extra else None


def _type(annotation: Any, metadata: Any = ()) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _type(inner, more)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in get_args(annotation) if a is not type(None))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return f"{_type(get_args(annotation)[0])} to {_type(get_args(annotation)[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    low = next(
        (m.ge if isinstance(m, Ge) else m.gt for m in metadata if isinstance(m, Ge | Gt)), None
    )
    high = next((m.le for m in metadata if isinstance(m, Le)), None)
    bounds = ""
    if low is not None and high is not None:
        bounds = f" {low} to {high}"
    elif low is not None:
        bounds = f" from {low}"
    return {str: "text", int: "number", float: "number", bool: "boolean"}.get(
        annotation, "anything"
    ) + bounds


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "see there"
    value = field.default
    if value is None or value in ([], {}, "") or isinstance(value, Model):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _example(field: FieldInfo) -> str:
    if not field.examples:
        return ""
    return " Example: " + " or ".join(f"`{yaml_example(value)}`" for value in field.examples) + "."


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _addons() -> Iterator[str]:
    names = ", ".join(f"[{name}](add-ons.md#{name})" for name in addon_names())
    yield ""
    yield "## Add-ons"
    yield ""
    yield f"What can stand below `addons`, each on the [page of add-ons](add-ons.md): {names}."


def addons_page() -> str:
    """The page of all add-ons, in Markdown."""
    return "\n".join(_addons_page()) + "\n"


def _addons_page() -> Iterator[str]:
    entries = [addon_of(name) for name in addon_names()]
    yield "# Add-ons"
    yield ""
    yield "<!-- Generated from classes and catalogue by `python -m groundplane.spec.reference`. -->"
    yield ""
    yield "What can stand below `addons` in `platform.yaml`, by name; a site gives those that are"
    yield "bound to a place. An add-on comes once everything is ready that it *needs*, and that it"
    yield "*uses* where there is any. How another one is made:"
    yield "[add an add-on](../operations/add-an-add-on.md)."
    yield ""
    yield "| add-on | profile | needs | uses | gives |"
    yield "| --- | --- | --- | --- | --- |"
    for entry in entries:
        columns = (", ".join(sorted(words)) for words in (entry.needs, entry.uses, entry.provides))
        yield f"| [{entry.name}](#{entry.name}) | {entry.profile or ''} | {' | '.join(columns)} |"
    yield ""
    yield "## Who gives what"
    yield ""
    yield "What *a cluster has once* is refused from two. Arguments may add to what is needed and"
    yield "given."
    yield ""
    yield "| | given by | needed by | used by | |"
    yield "| --- | --- | --- | --- | --- |"
    for need in sorted(Need):
        sides = [
            [entry.name for entry in entries if need in getattr(entry, side)]
            for side in ("provides", "needs", "uses")
        ]
        columns = (", ".join(f"[{name}](#{name})" for name in side) for side in sides)
        if any(sides):
            once = "a cluster has it once" if need in ALONE else ""
            yield f"| {need} | {' | '.join(columns)} | {once} |"
    for entry in entries:
        yield from _addon(entry)
    inside = _models(*(entry.args for entry in entries))
    for model in inside:
        if model not in [entry.args for entry in entries]:
            yield from _section(model)


def _addon(entry: Addon) -> Iterator[str]:
    """One add-on: what it is, what it installs, its arguments."""
    yield ""
    yield f"## {entry.name}"
    yield ""
    yield from dedent(f"    {entry.component.__doc__}").strip().splitlines()
    yield ""
    for source in entry.sources:
        found = product().addon(source)
        address = found.repository or found.chart or ", ".join(found.urls)
        what = {"objects": "objects of its own", "manifest": "documents"}.get(
            found.kind, f"the chart `{found.chart.rpartition('/')[2]}`"
        )
        place = f", from {address}" if address else ""
        images = "".join(f"; `{image}`" for _, image in sorted(found.images.items()))
        yield f"- Installs {what} {found.version}{place}{images}."
    yield f"- Lives in the namespace `{entry.namespace}`, which enforces `{entry.pod_security}`."
    if entry.outlives:
        yield f"- Outside of the cluster, and not deleted with it: {entry.outlives}."
    _, _, *table = _section(entry.args)
    yield from table


def _owned() -> Iterator[str]:
    titles = {
        "kubelet": "Fields of KubeletConfiguration",
        "kubeProxy": "Fields of KubeProxyConfiguration",
        "apiServer": "Flags of kube-apiserver",
        "controllerManager": "Flags of kube-controller-manager",
        "scheduler": "Flags of kube-scheduler",
        "labels": "Labels of hosts",
    }
    yield ""
    yield "## Settings that groundplane writes itself"
    yield ""
    yield "They are refused where settings are passed on as they stand. A `*` means any ending."
    for key, settings in known_settings()["owned"].items():
        yield ""
        yield f"### {titles[key]}"
        yield ""
        yield "| setting | use instead |"
        yield "| --- | --- |"
        for name, instead in settings.items():
            yield f"| `{name}` | {instead} |"


def _versions() -> Iterator[str]:
    catalogue = product()
    yield ""
    yield "## Versions"
    yield ""
    yield "What groundplane's own catalogue can install, for amd64 and arm64. The first is taken"
    yield "where a specification names none."
    yield ""
    yield "| part | versions |"
    yield "| --- | --- |"
    for part in catalogue.parts():
        first = catalogue.default(part)
        others = [version for version in catalogue.versions(part)[::-1] if version != first]
        yield f"| {part} | {', '.join([f'**{first}**', *others])} |"


def _images() -> Iterator[str]:
    yield ""
    yield "## Images of guests"
    yield ""
    yield "What a `guest` can be installed from; a catalogue of the stack's own may add others,"
    yield "with their `url`, `system`, and a `sha256` or `sha512` for each architecture."
    yield ""
    yield "| image | system | architectures |"
    yield "| --- | --- | --- |"
    for name, image in sorted(product().guest_images().items()):
        yield f"| `{name}` | {image.system} | {', '.join(sorted(image.sha256 | image.sha512))} |"


def _systems() -> Iterator[str]:
    yield ""
    yield "## Supported systems"
    yield ""
    yield f"Kubernetes {', '.join(KUBERNETES_MINORS)}, on:"
    yield ""
    yield "| system | architecture | tested |"
    yield "| --- | --- | --- |"
    for system in SYSTEMS:
        name = f"{system.os_id} {system.version}"
        yield f"| {name} | {system.arch} | {'yes' if system.tested else 'no'} |"


def hardening_page() -> str:
    """All that hardening is, in Markdown."""
    return "\n".join(_hardening()) + "\n"


def _hardening() -> Iterator[str]:
    yield "# Hardening"
    yield ""
    yield "<!-- Generated from hardening.yaml by `python -m groundplane.spec.reference`. -->"
    yield ""
    yield "What each level of `cluster.hardening` asks for; `cis` asks for all of `baseline`, too."
    yield "[How to use it](../operations/hardening.md). Sections of *CIS Kubernetes* are of the CIS"
    yield "Kubernetes Benchmark 1.11, those of *CIS Debian* of the CIS Debian Linux 12 Benchmark"
    yield "1.1.0; the sentences are ours, and this is neither benchmark as a whole."
    yield ""
    yield "*By* says who makes it so: groundplane, by the level; kubeadm or the system, and then it"
    yield "is only checked; or nobody, and then it fails until it is exempt."
    for level in hardening.LEVELS[1:]:
        found = [check for check in hardening.checks() if check.level == level]
        for kind, (title, about) in KINDS.items():
            rows = [check for check in found if check.kind == kind]
            if not rows:
                continue
            yield ""
            yield f"## {level}: {title}"
            yield ""
            yield about
            yield ""
            yield "| check | what must hold | how it is looked at | by | source |"
            yield "| --- | --- | --- | --- | --- |"
            for check in rows:
                what = " ".join(filter(None, [check.what, check.note]))
                cells = [f"`{check.id}`", what, _looked_at(check), check.by, check.source]
                yield f"| {' | '.join(cells)} |"
            remedies = [check for check in rows if check.remedy]
            if remedies:
                yield ""
                yield "Where it does not hold:"
                yield ""
                yield from (
                    f"- `{check.id}`: {' '.join(check.remedy.split())}" for check in remedies
                )
            reasons = {check.cannot for check in rows if check.cannot}
            if reasons:
                yield ""
                yield "In a container:"
                yield ""
                for reason in sorted(reasons):
                    ids = ", ".join(f"`{check.id}`" for check in rows if check.cannot == reason)
                    yield f"- {reason} Cannot apply: {ids}."


KINDS = {
    "sysctl": ("the kernel's settings", "The kernel's own value is read."),
    "module": ("kernel modules", "modprobe says what it would do, the kernel what is loaded."),
    "mount": ("file systems", "The options of what is mounted there; nothing where it is no file "
              "system of its own."),
    "journald": ("the system's log", "As journald reads all its files together."),
    "unit": ("services", "One of them runs, and starts at boot."),
    "package": ("packages", "Packages are never removed again."),
    "apt": ("updates", "As apt reads all its files together."),
    "line": ("further settings", "The file has the line."),
    "confinement": ("confinement of programs", "The kernel is asked."),
    "sshd": ("SSH", "As sshd itself understands its files (`sshd -T`)."),
    "mode": ("files", "Owner and rights; they are made narrower, and never wider."),
    "kubelet": ("the kubelet", "The configuration file that it was started with."),
    "flag": ("the control plane", "The command line of what runs."),
    "document": ("what the API server reads", "The file that it was started with."),
}  # fmt: skip


def _looked_at(check: hardening.Check) -> str:
    key = check.key if isinstance(check.key, str) else ", ".join(check.key)
    value = check.value if isinstance(check.value, str) else ", ".join(check.value or ())
    said = " ".join(
        filter(
            None,
            [
                f"`{key}`" if key else "",
                f"`{value}`" if value else "",
                f"or {', '.join(f'`{each}`' for each in check.also)}" if check.also else "",
                f"has {', '.join(f'`{each}`' for each in check.includes)}"
                if check.includes
                else "",
                f"lacks {', '.join(f'`{each}`' for each in check.without)}"
                if check.without
                else "",
            ],
        )
    )
    return (said or "AppArmor or SELinux").replace("|", "\\|")


WRITTEN = {PAGE: page, ADDONS: addons_page, HARDENING: hardening_page, TABLE: hardening.table}
"""What is generated from what."""


def main() -> None:
    """Writes them."""
    for path, text in WRITTEN.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
