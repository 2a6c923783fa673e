"""Which add-ons a stack has, what cannot work together, and the order they come in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from spec_support import Write
from support.specs import spec

from groundplane.errors import SpecError
from groundplane.registry import Addon
from groundplane.spec import Cluster, Host, addons, load
from groundplane.spec import values as v
from groundplane.spec.addons import (
    DEFAULT_STORAGE_CLASS,
    AddonArgs,
    Chosen,
    Claim,
    Need,
    bgp_session,
    ordered,
)
from groundplane.spec.checks import Problem

loading = sys.modules[load.__module__]  # the function hides its module


class Args(AddonArgs):
    """What the add-ons of these tests are told."""

    default: bool = False
    routers: list[str] = Field(default=[])
    backups: bool = False

    def also_needs(self) -> list[Need]:
        return [Need.OBJECT_STORE] if self.backups else []

    def claims(self) -> list[Claim]:
        own = [DEFAULT_STORAGE_CLASS] if self.default else []
        return [*own, *map(bgp_session, self.routers)]

    def clashes(self, cluster: Cluster, hosts: Sequence[Host]) -> Iterator[Problem]:
        for index, router in enumerate(self.routers):
            if router == cluster.endpoint.address:
                yield Problem(("routers", index), "the cluster's endpoint", remedy="Another.")


class Required(AddonArgs):
    """Of an add-on that cannot do without."""

    addresses: list[str] = Field(examples=[["192.0.2.64/26"]])
    """The addresses."""


class Far(AddonArgs):
    """Of an add-on that logs in somewhere."""

    known: bool = True
    """Whether it logs in."""
    api_token: SkipJsonSchema[v.Secret] = Field(default=None, exclude=True, repr=False)
    """What it logs in with"""

    def secrets(self) -> list[str]:
        return ["api_token"] if self.known else []


def entry(name: str, args: type = Args, **more: Any) -> Addon:
    for key in ("needs", "uses", "provides"):
        more[key] = frozenset(more.get(key, ()))
    return Addon(name, object, args, name, (), **more)


KNOWN = [
    entry("calico", provides=[Need.POD_NETWORK], starts="api_ready"),
    entry("top", provides=[Need.METRICS], profile="minimal", uses=[Need.MONITOR_CRDS]),
    entry("disks", provides=[Need.BLOCK_STORAGE], profile="standard", uses=[Need.MONITOR_CRDS]),
    entry("folders", provides=[Need.BLOCK_STORAGE]),
    entry("addresses", Required, provides=[Need.LOAD_BALANCER]),
    entry("monitors", provides=[Need.MONITOR_CRDS], profile="standard"),
    entry("metrics", needs=[Need.MONITOR_CRDS, Need.BLOCK_STORAGE], profile="full"),
    entry("other-top", provides=[Need.METRICS]),
    entry("far-away", Far),
    entry("hen", needs=[Need.LOGS], provides=[Need.TRACES]),
    entry("egg", needs=[Need.TRACES], provides=[Need.LOGS]),
]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    by_name = {each.name: each for each in KNOWN}
    for module in (addons, loading):
        monkeypatch.setattr(module, "addon_names", lambda: sorted(by_name))
    monkeypatch.setattr(addons, "addon_of", by_name.__getitem__)


Names = Callable[..., list[str]]


@pytest.fixture
def names(write: Write) -> Names:
    """The add-ons of a stack, in their order, with these parts of its files."""

    def names(platform: dict[str, Any], site: dict[str, Any] | None = None) -> list[str]:
        made = load("metal", write({"platform": platform, "site": site or {}}))
        return [one.name for one in made.addons]

    return names


@pytest.fixture
def refused(names: Names) -> Callable[..., list[str]]:
    """What is said of them, each finding's first line."""

    def refused(platform: dict[str, Any], site: dict[str, Any] | None = None) -> list[str]:
        with pytest.raises(SpecError) as caught:
            names(platform, site)
        assert all(finding.remedy for finding in caught.value.findings)
        return [f"{f.place}: {f.what}" for f in caught.value.findings]

    return refused


def test_without_a_word_of_them_there_are_none(names: Names) -> None:
    assert names({}) == []


def test_a_profile_has_all_of_the_one_before(names: Names) -> None:
    assert names({"profile": "minimal"}) == ["top"]
    assert names({"profile": "standard"}) == ["monitors", "disks", "top"]
    assert names({"profile": "full"}) == ["monitors", "disks", "metrics", "top"]


def test_others_are_named_and_some_left_out(names: Names) -> None:
    given = {"profile": "standard", "addons": {"disks": False, "folders": None}}
    assert names(given) == ["folders", "monitors", "top"]


def test_what_makes_nodes_ready_comes_first(names: Names) -> None:
    addons = {"top": {}, "folders": {}}
    assert names({"cluster/network": "calico", "addons": addons}) == ["calico", "folders", "top"]


def test_a_network_that_is_an_addon_is_there_without_being_named(write: Write) -> None:
    network = {"cluster/network": "calico"}
    site = {"addons": {"calico": {"routers": ["192.0.2.1"]}}}
    (one,) = load("metal", write({"platform": network, "site": site})).addons
    assert (one.name, one.args) == ("calico", Args(routers=["192.0.2.1"]))
    (one,) = load("metal", write({"platform": network})).addons
    assert (one.name, one.args) == ("calico", Args())


def test_each_waits_for_what_it_needs_and_uses_and_nothing_else() -> None:
    chosen = [Chosen(each.name, Args()) for each in KNOWN if each.profile]
    assert {one.name: one.after for one in ordered(chosen)} == {
        "monitors": (),
        "disks": ("monitors",),
        "metrics": ("disks", "monitors"),
        "top": ("monitors",),
    }


def test_the_order_is_the_same_whatever_they_come_in() -> None:
    chosen = [Chosen(each.name, Args()) for each in KNOWN if each.profile]
    assert ordered(chosen) == ordered(chosen[::-1])


def test_a_site_gives_arguments_to_what_the_platform_has(names: Names, write: Write) -> None:
    platform = {"addons": {"addresses": {}}}
    site = {"addons": {"addresses": {"addresses": ["192.0.2.64/26"]}}, "size": "lab"}
    made = load("metal", write({"platform": platform, "site": site}))
    (one,) = made.addons
    assert one.args == Required(addresses=["192.0.2.64/26"])
    assert made.size == "lab"


def test_a_program_gives_them_as_it_gives_hosts() -> None:
    made = spec()
    chosen = [Chosen("metrics", Args()), Chosen("disks", Args()), Chosen("monitors", Args())]
    again = type(made)(made.stack, made.hosts, made.cluster, addons=chosen)
    assert [one.name for one in again.addons] == ["monitors", "disks", "metrics"]
    with pytest.raises(SpecError, match="needs a storage class, and nothing here gives that"):
        type(made)(made.stack, made.hosts, made.cluster, addons=[chosen[0], chosen[2]])


# ---- what is refused ---------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "an unknown add-on": (
        {"addons": {"disk": {}}},
        {},
        ["platform.yaml: addons.disk: there is no such add-on"],
    ),
    "an unknown profile": (
        {"profile": "big"},
        {},
        ["platform.yaml: profile: 'big' is not known here"],
    ),
    "an unknown size": (
        {"size": "small"},
        {},
        ["platform.yaml: size: 'small' is not known here"],
    ),
    "a profile in a site": (
        {},
        {"profile": "full"},
        ["Pulumi.metal.yaml: profile: does not belong into this file"],
    ),
    "a list of them": ({"addons": ["disks"]}, {}, ["platform.yaml: addons: not a mapping"]),
    "an unknown argument": (
        {"addons": {"top": {"defautl": True}}},
        {},
        ["platform.yaml: addons.top.defautl: unknown key"],
    ),
    "a missing argument": (
        {"addons": {"addresses": None}},
        {},
        ["platform.yaml: addons.addresses.addresses: missing"],
    ),
    "one that only a site names": (
        {},
        {"addons": {"disks": {}}},
        ["Pulumi.metal.yaml: addons.disks: platform.yaml does not name it"],
    ),
    "a need that nothing meets": (
        {"addons": {"metrics": {}, "folders": {}}},
        {},
        [
            "platform.yaml: addons.metrics: needs service monitors (monitoring.coreos.com), and "
            "nothing here gives that"
        ],
    ),
    "a need that follows from an argument": (
        {"addons": {"folders": {"backups": True}}},
        {},
        [
            "platform.yaml: addons.folders: needs an object store, and nothing here gives that",
        ],
    ),
    "two owners of what a cluster has once": (
        {"addons": {"top": {}, "other-top": {}}},
        {},
        [
            "platform.yaml: addons.top: the metrics API (metrics.k8s.io): other-top and top both "
            "bring it"
        ],
    ),
    "a second pod network": (
        {"addons": {"calico": {}}},
        {},
        ["platform.yaml: addons.calico: brings a pod network, and the cluster's is plain"],
    ),
    "a pod network that hosts are not told of": (
        {"cluster/network": "none", "addons": {"calico": {}}},
        {},
        ["platform.yaml: addons.calico: brings a pod network, and the cluster's is none"],
    ),
    "the cluster's network left out": (
        {"cluster/network": "calico", "addons": {"calico": False}},
        {},
        ["platform.yaml: cluster.network: the add-on calico is left out"],
    ),
    "what does not go with the cluster": (
        {"addons": {"disks": {"routers": ["192.0.2.10"]}}},
        {},
        ["platform.yaml: addons.disks.routers.0: the cluster's endpoint"],
    ),
    "two default classes": (
        {"addons": {"disks": {"default": True}, "folders": {"default": True}}},
        {},
        [
            "platform.yaml: addons.folders: disks and folders both want the default storage class",
        ],
    ),
    "two BGP speakers to one router": (
        {
            "addons": {
                "disks": {"routers": ["192.0.2.1", "192.0.2.2"]},
                "folders": {"routers": ["192.0.2.2"]},
            }
        },
        {},
        [
            "platform.yaml: addons.folders: disks and folders both want the BGP session with "
            "192.0.2.2"
        ],
    ),
    "a circle": (
        {"addons": {"hen": {}, "egg": {}}},
        {},
        ["platform.yaml: addons.egg: waits for itself: egg waits for hen waits for egg"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, refused: Callable[..., list[str]], tmp_path: Path) -> None:
    platform, site, says = REFUSED[case]
    assert [_without_line(line) for line in refused(platform, site)] == says


def _without_line(text: str) -> str:
    import re

    return re.sub(r"(\.yaml):\d+", r"\1", text)


# ---- secrets -----------------------------------------------------------------------------------


def test_a_secret_of_the_stack_that_is_missing(refused: Callable[..., list[str]]) -> None:
    assert refused({"addons": {"far-away": None}}) == [
        "platform.yaml:1: addons.far-away: the stack has no secret groundplane:farAwayApiToken"
    ]


def test_a_secret_that_is_not_wanted_may_be_missing(names: Names) -> None:
    assert names({"addons": {"far-away": {"known": False}}}) == ["far-away"]


def test_an_add_ons_secret_is_a_key_of_the_configuration(write: Write) -> None:
    case = {"platform": {"addons": {"far-away": None}}}
    kept = {"groundplane:farAwayApiToken": {"secure": "v1:xyz"}}
    (one,) = load("metal", write({**case, "config": kept})).addons
    assert one.name == "far-away"
    plain = {"groundplane:farAwayApiToken": "geheim"}
    with pytest.raises(SpecError, match="a secret in plain text") as caught:
        load("metal", write({**case, "config": plain}))
    assert "geheim" not in str(caught.value)


def test_a_secret_is_no_argument(refused: Callable[..., list[str]]) -> None:
    (said,) = refused({"addons": {"far-away": {"apiToken": "geheim"}}})
    assert "geheim" not in said


def test_secrets_are_filled_in() -> None:
    pulumi = pytest.importorskip("pulumi")
    token = object.__new__(pulumi.Output)
    problems: list[addons.Problem] = []
    (one,) = addons.filled([Chosen("far-away", Far())], {"farAwayApiToken": token}, problems)
    assert isinstance(one.args, Far)
    assert one.args.api_token is token
    assert problems == []
