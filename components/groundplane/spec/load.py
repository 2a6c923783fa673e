"""A stack's specification from its files.

`platform.yaml` says what is equal wherever the platform stands; the stack's configuration, the key
`groundplane:site` of `Pulumi.STACK.yaml` beside it, what binds it to a place. A few settings may
stand in both; the site's then go over the platform's. Every error names file, line and key, and
all are reported at once.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic.alias_generators import to_camel

from groundplane.catalogue import Catalogue, product
from groundplane.errors import Finding, GroundplaneError, SpecError
from groundplane.registry import PROFILES, addon_names
from groundplane.spec import addons, guests
from groundplane.spec.checks import Location, Problem, did_you_mean, place, problems
from groundplane.spec.documents import Document, read, shown
from groundplane.spec.model import Model
from groundplane.spec.models import Cluster, Guest, Host, Hypervisor
from groundplane.spec.siblings import Sibling, Site, collisions, seen_from
from groundplane.spec.spec import Spec
from groundplane.spec.validate import field_at, model_in, partial
from groundplane.spec.values import BadValueError, is_output, pem_certificate, show

PLATFORM = "platform.yaml"
SITE = "groundplane:site"
REGISTRY_PASSWORD = "registryPassword"
BACKUP_SECRET_KEY = "backupSecretKey"
SECRETS = {
    REGISTRY_PASSWORD: "the password of cluster.registry",
    BACKUP_SECRET_KEY: "the secret key of cluster.backup.target.s3",
}
"""Keys of the stack's configuration, below `groundplane:`, that hold secrets."""

Reached = TypeVar("Reached", Host, Hypervisor)

Beside = tuple[list[Finding], tuple[Finding, ...], tuple[Sibling, ...]]
"""What collides with the stacks beside one, what of them was not to be read, and what was."""

SITE_KEYS = ("place", "hosts", "hypervisors", "guests", "cluster", "catalogue", "addons", "size")
"""What a site holds: where it is, the machines, those that run virtual ones and what is equal for
these, the cluster, the path of the stack's own catalogue, and what is bound to the place in the
arguments and in the size of add-ons."""
PLATFORM_KEYS = ("cluster", "profile", "addons", "size")
"""What platform.yaml holds: the cluster, and which add-ons there are on it."""


def load(stack: str | None = None, folder: Path | None = None) -> Spec:
    """The specification of a stack, from the files in `folder`.

    Without `folder`, the nearest Pulumi.yaml says where stacks are; without `stack`, see
    `selected_stack`. Secrets stay where they are: `registry.password` and `s3.secret_key` are None
    (`from_pulumi_config` fills them in). Raises SpecError with all findings.
    """
    folder = stack_folder() if folder is None else folder
    stack = selected_stack(folder) if stack is None else stack.rpartition("/")[2]
    config = read_config(stack, folder)
    prefix = "groundplane:"
    secrets = {str(key).removeprefix(prefix): True for key in config.data if key != SITE}
    return _build(stack, folder, site_of(config), secrets, list(_config_findings(config)))


def from_pulumi_config(folder: Path) -> Spec:
    """The specification of the stack whose program is running, secrets included (as Outputs).

    `folder` holds platform.yaml, and Pulumi.STACK.yaml if there is one. Raises SpecError.
    """
    import pulumi

    stack = pulumi.get_stack().rpartition("/")[2]
    config = pulumi.Config("groundplane")
    data = config.get_object("site")
    document = Document(f"stack {stack}, {SITE}", data)
    path = folder / f"Pulumi.{stack}.yaml"
    if path.is_file():
        # What the engine read is the truth; the file only knows the lines.
        written = site_of(read_config(stack, folder))
        document = written if written.data == data else document
    secrets = {key: config.get_secret(key) for key in (*SECRETS, *addons.secrets())}
    given = {key: value for key, value in secrets.items() if value is not None}

    class RefusedError(SpecError, pulumi.RunError):
        """A `SpecError` that Pulumi shows as it is: of a RunError it prints no traceback."""

    try:
        return _build(stack, folder, document, given, [])
    except SpecError as error:
        raise RefusedError(error.findings) from None


def from_values(
    source: str, stack: str, folder: Path, values: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Spec:
    """The specification that a program gives as plain values, with the keys of a stack's file.

    `source` names it in errors; `folder` is where the paths in it begin; `secrets` are Outputs, by
    the keys of SECRETS. Raises SpecError with all findings.
    """
    document = Document(source, values)

    def alone(*_: Any) -> Beside:
        return [], (), ()

    return _checked(stack, folder, values, lambda at: document, alone, secrets, [])


def stack_folder(start: Path | None = None) -> Path:
    """The folder of the stacks' files: `stackConfigDir` of the nearest Pulumi.yaml upwards."""
    start = Path.cwd() if start is None else start
    for folder in (start, *start.resolve().parents):
        project = folder / "Pulumi.yaml"
        if project.is_file():
            data = read(project).data
            inside = data.get("stackConfigDir") if isinstance(data, dict) else None
            return folder / inside if isinstance(inside, str) else folder
    raise GroundplaneError(
        shown(start),
        "no Pulumi.yaml here or above",
        "It tells where the stacks are",
        "Change into the project's folder.",
    )


def selected_stack(folder: Path) -> str:
    """The stack to take when none is named: PULUMI_STACK's, else the only one, else the one that
    `pulumi stack select` chose."""
    if os.environ.get("PULUMI_STACK"):
        return os.environ["PULUMI_STACK"].rpartition("/")[2]
    names = sorted(path.name[7:-5] for path in folder.glob("Pulumi.*.yaml"))
    if len(names) == 1:
        return names[0]
    if names:
        try:
            answer = subprocess.run(
                ["pulumi", "stack", "--show-name", "--non-interactive"],
                cwd=folder,
                check=False,
                capture_output=True,
                text=True,
                timeout=30,
            )
            if answer.returncode == 0 and answer.stdout.strip():
                return answer.stdout.strip().rpartition("/")[2]
        except (OSError, subprocess.TimeoutExpired):
            pass
    raise GroundplaneError(
        shown(folder),
        f"holds {len(names)} stacks" + (f": {', '.join(names)}" if names else ""),
        "Which one is meant cannot be known",
        "Name one with --stack or PULUMI_STACK." if names else "Begin with `groundplane init`.",
    )


def stack_file(stack: str, folder: Path) -> Path:
    """Where a stack's configuration stands."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", stack):
        raise GroundplaneError(
            "the stack's name",
            f"{show(stack)} cannot name a stack",
            "It is part of a file's name",
            "Use letters, digits, '-', '_' and '.'.",
        )
    return folder / f"Pulumi.{stack}.yaml"


def read_config(stack: str, folder: Path) -> Document:
    """The `config:` of a stack's file, as a mapping."""
    path = stack_file(stack, folder)
    if not path.is_file():
        others = sorted(other.name[7:-5] for other in folder.glob("Pulumi.*.yaml"))
        known = f" There are {', '.join(others)}." if others else ""
        raise SpecError(
            [
                Finding(
                    shown(path),
                    f"there is no stack {stack}",
                    "Its hosts and addresses stand in this file",
                    f"Begin with `groundplane init --stack {stack}`.{known}",
                )
            ]
        )
    whole = read(path)
    config = whole.data.get("config") if isinstance(whole.data, dict) else None
    if not isinstance(config, dict):
        config = {}
    lines = {at[1:]: line for at, line in whole.lines.items() if at[:1] == ("config",)}
    return Document(whole.place, config, lines)


def site_of(config: Document) -> Document:
    """The part of a stack's configuration that describes the site."""
    lines = {at[1:]: line for at, line in config.lines.items() if at[:1] == (SITE,)}
    return Document(config.place, config.data.get(SITE), lines)


def _config_findings(config: Document) -> Iterator[Finding]:
    known = {SITE, *(f"groundplane:{key}" for key in SECRETS)}
    if any(str(key).startswith("groundplane:") and key not in known for key in config.data):
        # Those of add-ons only where they matter: it takes importing them all.
        known |= {f"groundplane:{key}" for key in addons.secrets()}
    for key, value in config.data.items():
        if not isinstance(key, str) or not key.startswith("groundplane:"):
            continue
        at = f"{config.at((key,))}: {key}"
        if key not in known:
            yield Finding(
                at,
                "unknown key",
                "Nothing would read it",
                did_you_mean(key, known) or f"Known are {', '.join(sorted(known))}.",
            )
        elif key != SITE and not (isinstance(value, dict) and set(value) == {"secure"}):
            yield Finding(
                at,
                "a secret in plain text",
                "Whoever reads this file has it",
                f"Change it where it is used, then: pulumi config set --secret {key}",
            )


def _build(
    stack: str,
    folder: Path,
    site: Document,
    secrets: Mapping[str, Any],
    findings: list[Finding],
) -> Spec:
    """Both documents, merged, checked and filled in."""
    path = folder / PLATFORM
    platform = read(path) if path.is_file() else Document(shown(path), {})
    parts = []
    for document, own in ((platform, "platform"), (site, "site")):
        try:
            parts.append(_sorted_out(document, own, findings))
        except SpecError as error:
            raise SpecError([*findings, *error.findings]) from None

    def home(at: Location) -> Document:
        return _document(at, platform, site)

    def beside(hosts: list[Host], cluster: Cluster, where: str | None) -> Beside:
        siblings, notices = _siblings(stack, folder, parts[0])
        own = Site(stack, site, where, hosts, cluster)
        met = sorted(collisions(own, siblings), key=lambda pair: site.line(pair[0]))
        return [each for _, each in met], notices, seen_from(own, siblings)

    findings += _added(parts[0], parts[1], site)
    return _checked(stack, folder, _over(parts[0], parts[1]), home, beside, secrets, findings)


def _added(
    platform: Mapping[str, Any], own: Mapping[str, Any], site: Document
) -> Iterator[Finding]:
    """Add-ons that only the site names."""
    named, given = platform.get("addons"), own.get("addons")
    profile = platform.get("profile")
    there = set(named) if isinstance(named, dict) else set()
    cluster = platform.get("cluster")
    there |= {cluster.get("network")} if isinstance(cluster, dict) else set()
    if profile in PROFILES:
        there |= set(addons.in_profile(profile))
    for name in given if isinstance(given, dict) else ():
        if name not in there and name in addon_names():
            at = ("addons", name)
            yield Finding(
                f"{site.at(at)}: {place(at, [])}",
                f"{PLATFORM} does not name it",
                "Which add-ons there are is equal for all places; a site gives them arguments",
                f"Add {name} to addons in {PLATFORM}.",
            )


def _checked(
    stack: str,
    folder: Path,
    merged: Mapping[str, Any],
    home: Callable[[Location], Document],
    beside: Callable[[list[Host], Cluster, str | None], Beside],
    secrets: Mapping[str, Any],
    findings: list[Finding],
) -> Spec:
    """A whole specification's values, checked and filled in.

    `home` is where each came from, `beside` what there is of other stacks.
    """

    def finding(problem: Problem) -> Finding:
        document = home(problem.at)
        text = place(problem.at, merged.get("hosts") or [])
        return Finding(
            f"{document.at(problem.at)}: {text}", problem.what, problem.why, problem.remedy
        )

    found: list[Problem] = []
    catalogue = _catalogue(merged.get("catalogue"), folder, found)
    hosts = []
    raw_hosts = merged.get("hosts")
    if not isinstance(raw_hosts, list) or not raw_hosts:
        found.append(
            Problem(
                ("hosts",),
                "no hosts" if raw_hosts in (None, []) else "not a list",
                "A cluster stands on hosts",
                "List at least one; `groundplane init` writes them for you.",
            )
        )
        raw_hosts = []
    defaults = _guest_defaults(merged.get("guests"), found)
    for index, raw in enumerate(raw_hosts):
        host, wrong = partial(Host, _with_defaults(raw, defaults), ("hosts", index))
        hosts.append(host)
        found += wrong
    hypervisors = []
    for index, raw in enumerate(_listed(merged, "hypervisors", found)):
        hypervisor, wrong = partial(Hypervisor, raw, ("hypervisors", index))
        hypervisors.append(hypervisor)
        found += wrong
    cluster, wrong = partial(Cluster, merged.get("cluster", {}), ("cluster",))
    found += wrong
    found += _beyond(found, problems(hosts, cluster, catalogue) if hosts else [])
    found += _beyond(found, guests.problems(hosts, hypervisors, cluster, catalogue))
    hosts = [
        _resolve_keys(host, ("hosts", index), folder, found) for index, host in enumerate(hosts)
    ]
    where = _place(merged, found)
    hypervisors = [
        _resolve_keys(hypervisor, ("hypervisors", index), folder, found)
        for index, hypervisor in enumerate(hypervisors)
    ]
    cluster = _resolve_files(cluster, folder, found)
    cluster = _fill_secrets(cluster, secrets, found)
    chosen, size = _addons(merged, cluster, hosts, secrets, found)
    met, notices, siblings = beside(hosts, cluster, where)
    found.sort(key=lambda problem: home(problem.at).line(problem.at))
    findings += [finding(problem) for problem in found]
    findings += met
    if findings:
        raise SpecError(findings)
    return Spec(stack, hosts, cluster, catalogue, hypervisors, notices, siblings, chosen, size)


def _addons(
    merged: Mapping[str, Any],
    cluster: Cluster,
    hosts: list[Host],
    secrets: Mapping[str, Any],
    found: list[Problem],
) -> tuple[tuple[addons.Chosen, ...], Any]:
    """The add-ons that are to be, as far as they are right, and how large."""
    words = {"profile": (None, *PROFILES), "size": addons.SIZES}
    said = {"profile": merged.get("profile"), "size": merged.get("size", addons.SIZES[0])}
    for key, value in said.items():
        if value not in words[key]:
            known = ", ".join(word for word in words[key] if word)
            what, why = f"{show(value)} is not known here", "It says which add-ons are installed"
            found.append(Problem((key,), what, why, f"Write {known}."))
            said[key] = words[key][0]
    given = merged.get("addons")
    if given is not None and not isinstance(given, dict):
        remedy = "Write a key for each, such as metrics-server: {}."
        found.append(Problem(("addons",), "not a mapping", "It holds add-ons by name", remedy))
        given = None
    wrong: list[Problem] = []
    chosen = addons.choose(cluster.network, said["profile"], given or {}, wrong)
    found += wrong
    found += _beyond(wrong, list(addons.problems(chosen, cluster, hosts)))
    chosen = addons.filled(chosen, secrets, found)
    return (chosen if not wrong else ()), said["size"]


def _place(site: Mapping[str, Any], found: list[Problem]) -> str | None:
    place = site.get("place")
    if place is None or (isinstance(place, str) and place.strip()):
        return place
    found.append(
        Problem(
            ("place",),
            f"{show(place)} is no name",
            "Stacks of one place share its network",
            "Write a word, such as berlin, or remove it.",
        )
    )
    return None


def _siblings(
    stack: str, folder: Path, platform: Mapping[str, Any]
) -> tuple[list[Site], tuple[Finding, ...]]:
    """The sites of the stacks beside this one, and what was not to be read of them.

    What is wrong with another stack must not stop this one.
    """
    sites, notices = [], []
    for path in sorted(folder.glob("Pulumi.*.yaml")):
        name = path.name[7:-5]
        if name == stack:
            continue
        try:
            document = site_of(read_config(name, folder))
            if document.data is None:
                continue
            merged = _over(platform, _sorted_out(document, "site", []))
        except GroundplaneError as error:
            wrong = error.finding
            what = f"{wrong.what.rstrip('.')}, so {stack} was not compared with {name}"
            why = "Addresses and ranges of both could be the same"
            notices.append(Finding(wrong.place, what, why, wrong.remedy))
            continue
        raw = merged.get("hosts")
        hosts = [partial(Host, host, ())[0] for host in raw] if isinstance(raw, list) else []
        cluster = partial(Cluster, merged.get("cluster", {}), ())[0]
        sites.append(Site(name, document, _place(merged, []), hosts, cluster))
    return sites, tuple(notices)


def _listed(merged: Mapping[str, Any], key: str, found: list[Problem]) -> list[Any]:
    """The list below a key that may be missing."""
    given = merged.get(key)
    if given is None or isinstance(given, list):
        return given or []
    found.append(Problem((key,), "not a list", "It holds one entry a machine", "Write a list."))
    return []


def _guest_defaults(given: Any, found: list[Problem]) -> dict[Any, Any]:
    """What `guests` says of all guests, as far as it is right; of a guest it need not be whole."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        found.append(
            Problem(("guests",), "not a mapping", "It holds keys such as image:", "Do so.")
        )
        return {}
    _, wrong = partial(Guest, given, ("guests",))
    wrong = [problem for problem in wrong if problem.what != "missing"]
    found += wrong
    bad = {problem.at[1] for problem in wrong if len(problem.at) > 1}
    return {key: value for key, value in given.items() if key not in bad}


def _with_defaults(raw: Any, defaults: dict[Any, Any]) -> Any:
    """A host as it is written, its guest over what `guests` says of all."""
    if not (isinstance(raw, dict) and isinstance(raw.get("guest"), dict)):
        return raw
    return {**raw, "guest": _over(defaults, raw["guest"])}


def _beyond(found: Sequence[Problem], more: Sequence[Problem]) -> list[Problem]:
    """Those of `more` whose place has no problem yet: one mistake, one finding."""
    taken = {problem.at for problem in found}
    return [problem for problem in more if problem.at not in taken]


def _sorted_out(document: Document, own: str, findings: list[Finding]) -> dict[str, Any]:
    """A document's mapping without the keys that do not belong there, which become findings."""
    data = document.data
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise SpecError(
            [
                Finding(
                    document.at(()),
                    "not a mapping",
                    "It holds keys such as cluster:",
                    "Write it as the example beside it.",
                )
            ]
        )
    data = dict(data)

    def refuse(at: Location, what: str, why: str, remedy: str) -> None:
        text = place(at, [])
        findings.append(Finding(f"{document.at(at)}: {text}", what, why, remedy))

    known = {"platform": PLATFORM_KEYS, "site": SITE_KEYS}
    for key in list(data):
        if key not in {*PLATFORM_KEYS, *SITE_KEYS}:
            refuse(
                (key,),
                "unknown key",
                "Nothing would read it",
                did_you_mean(str(key), known[own]) or f"Known are {', '.join(known[own])}.",
            )
            del data[key]
        elif key not in known[own]:
            refuse((key,), *_elsewhere("platform" if own == "site" else "site"))
            del data[key]
    cluster = data.get("cluster")
    if cluster is None:
        data.pop("cluster", None)
    elif not isinstance(cluster, dict):
        refuse(("cluster",), "not a mapping", "It holds keys such as kubernetes:", "Correct it.")
        del data["cluster"]
    else:
        data["cluster"] = _in_place(Cluster, cluster, own, ("cluster",), refuse)
    return data


def _in_place(
    model: type[Model], data: dict[Any, Any], own: str, at: Location, refuse: Any
) -> dict[Any, Any]:
    """The mapping of a model without the fields that belong in the other file."""
    kept = dict(data)
    for name, field in model.model_fields.items():
        key = to_camel(name)
        if key not in kept:
            continue
        extra = field.json_schema_extra
        where = extra.get("where", own) if isinstance(extra, dict) else own
        inner = model_in(field.annotation)
        if where != own:
            refuse((*at, key), *_elsewhere(str(where)))
            del kept[key]
        elif inner is not None and isinstance(kept[key], dict):
            kept[key] = _in_place(inner, kept[key], own, (*at, key), refuse)
    return kept


def _elsewhere(where: str) -> tuple[str, str, str]:
    if where == "site":
        return (
            "does not belong into this file",
            f"It is bound to a place, and {PLATFORM} is equal for all places",
            f"Move it to {SITE} in the stack's Pulumi.STACK.yaml.",
        )
    return (
        "does not belong into this file",
        "It is what makes all sites alike, and the stack's file is for what tells them apart",
        f"Move it to {PLATFORM}.",
    )


def _document(at: Location, platform: Document, site: Document) -> Document:
    """The document that a value came from, or into which a missing one belongs."""
    if at[0] not in PLATFORM_KEYS:
        return site
    in_platform, in_site = platform.has(at), site.has(at)
    if at[0] != "cluster":
        return site if in_site > in_platform else platform
    if in_platform != in_site:
        return platform if in_platform > in_site else site
    field = field_at(Cluster, at[1:])
    extra = field.json_schema_extra if field else None
    return site if isinstance(extra, dict) and extra.get("where") == "site" else platform


def _over(below: Any, above: Any) -> Any:
    """Mappings are merged key by key; anything else is replaced."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return {**below, **{k: _over(below[k], v) if k in below else v for k, v in above.items()}}


def _catalogue(overlay: Any, folder: Path, found: list[Problem]) -> Catalogue:
    """The product's catalogue, with the stack's own over it."""
    if overlay is None:
        return product()
    at: Location = ("catalogue",)
    if not isinstance(overlay, str):
        found.append(Problem(at, "not a path", "It names the stack's own catalogue", "Write one."))
        return product()
    path = _from(folder, overlay)
    if not os.path.isfile(path):
        found.append(_no_file(at, path))
        return product()
    try:
        return product().merge(read(path).data, shown(path))
    except GroundplaneError as error:
        wrong = error.finding
        found.append(Problem(at, f"{wrong.place}: {wrong.what}", wrong.why, wrong.remedy))
        return product()


def _from(folder: Path, path: str) -> Path:
    """A path that the user wrote in a stack's file, as an absolute one."""
    return Path(os.path.abspath(os.path.join(folder, os.path.expanduser(path))))


def _no_file(at: Location, path: Path) -> Problem:
    return Problem(
        at,
        f"there is no file {shown(path)}",
        "Paths begin at the folder of the stack's file",
        "Correct the path, or make the file.",
    )


def _file(at: Location, text: str, folder: Path, found: list[Problem]) -> Path:
    path = _from(folder, text)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        found.append(_no_file(at, path))
    return path


def _resolve_keys(host: Reached, at: Location, folder: Path, found: list[Problem]) -> Reached:
    """The machine with absolute paths of private keys that exist."""
    update: dict[str, Any] = {}
    if host.key:
        update["key"] = str(_file((*at, "key"), host.key, folder, found))
    if host.jump and host.jump.key:
        path = _file((*at, "jump", "key"), host.jump.key, folder, found)
        update["jump"] = host.jump.model_copy(update={"key": str(path)})
    return host.model_copy(update=update)


def _certificate(at: Location, text: str, folder: Path, found: list[Problem]) -> str:
    """PEM text: as given, or from the file that it names."""
    if "-----BEGIN" in text:
        return text
    path = _from(folder, text)
    if not os.path.isfile(path):  # Path.is_file raises for a name that is too long
        found.append(_no_file(at, path))
        return text
    try:
        content = pem_certificate(path.read_text(encoding="utf-8"))
        if "-----BEGIN" not in content:
            raise BadValueError("not a PEM certificate")
        return content
    except (OSError, ValueError) as error:
        what = error.what if isinstance(error, BadValueError) else "cannot be read"
        remedy = "Name a file that begins with -----BEGIN CERTIFICATE-----."
        found.append(Problem(at, f"{shown(path)}: {what}", "", remedy))
        return text


def _resolve_files(cluster: Cluster, folder: Path, found: list[Problem]) -> Cluster:
    """The cluster with certificates as text, and the absolute path of the backup's key."""
    update: dict[str, Any] = {}
    at: Location = ("cluster", "registry", "ca")
    if cluster.registry and cluster.registry.ca:
        text = _certificate(at, cluster.registry.ca, folder, found)
        update["registry"] = cluster.registry.model_copy(update={"ca": text})
    if cluster.backup:
        at = ("cluster", "backup")
        changed: dict[str, Any] = {
            "recipient": _certificate((*at, "recipient"), cluster.backup.recipient, folder, found)
        }
        target = cluster.backup.target
        if target and target.ssh:
            path = _file((*at, "target", "ssh", "key"), target.ssh.key, folder, found)
            ssh = target.ssh.model_copy(update={"key": str(path)})
            changed["target"] = target.model_copy(update={"ssh": ssh})
        update["backup"] = cluster.backup.model_copy(update=changed)
    return cluster.model_copy(update=update)


def _fill_secrets(cluster: Cluster, secrets: Mapping[str, Any], found: list[Problem]) -> Cluster:
    """The cluster with its secrets where they are used; a missing one is a problem."""

    def secret(key: str, at: Location) -> Any:
        if key not in secrets:
            found.append(
                Problem(
                    at,
                    f"the stack has no secret groundplane:{key}",
                    f"It holds {SECRETS[key]}",
                    f"pulumi config set --secret groundplane:{key}",
                )
            )
        value = secrets.get(key)
        return value if is_output(value) else None

    update: dict[str, Any] = {}
    if cluster.registry and cluster.registry.username:
        password = secret(REGISTRY_PASSWORD, ("cluster", "registry"))
        update["registry"] = cluster.registry.model_copy(update={"password": password})
    target = cluster.backup.target if cluster.backup else None
    if cluster.backup and target and target.s3:
        key = secret(BACKUP_SECRET_KEY, ("cluster", "backup", "target", "s3"))
        s3 = target.s3.model_copy(update={"secret_key": key})
        target = target.model_copy(update={"s3": s3})
        update["backup"] = cluster.backup.model_copy(update={"target": target})
    return cluster.model_copy(update=update)
