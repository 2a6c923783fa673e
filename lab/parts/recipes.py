"""What the lab is made of: every part and version, where it comes from, what the mirror serves.

These are the lab's pins, the versions that were seen to build from Go modules. What the product
installs by default stands in its own catalogue and is newer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ARCH = "amd64"

# The lab's Kubernetes versions, the default first. An upgrade test goes from the last to the first.
KUBERNETES = ("1.36.3", "1.35.4")

RELEASES = "https://github.com/{repository}/releases/download/v{version}/"


@dataclass(frozen=True)
class Part:
    """One program family at one version.

    `url` and `checksums` are the official download, with {version}, {arch} and, where every binary
    is a file of its own, {name}. `folder` is where binaries lie in an official archive. `served`
    are the catalogue's keys of what machines download: names of binaries, or "archive".
    """

    name: str
    version: str
    binaries: tuple[str, ...]
    url: str
    checksums: str
    folder: str = ""
    served: tuple[str, ...] = ()
    tags: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)  # set in the binary by the linker
    # What the folder's own program embeds: its name there -> a module's package/file.
    embedded: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def single_files(self) -> bool:
        """True where the official download is one file a binary, not an archive of all."""
        return "{name}" in self.url

    def official(self, template: str, name: str = "") -> str:
        """`template` (the url, the checksums, the folder) for this version and binary."""
        return template.format(version=self.version, arch=ARCH, name=name)


def kubernetes(version: str) -> Part:
    build = "k8s.io/component-base/version."
    major, minor, _ = version.split(".")
    url = "https://dl.k8s.io/release/v{version}/bin/linux/{arch}/{name}"
    return Part(
        "kubernetes",
        version,
        (
            "kubeadm",
            "kubelet",
            "kubectl",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
        ),
        url,
        url + ".sha256",
        served=("kubeadm", "kubelet", "kubectl"),
        variables={
            build + "gitVersion": f"v{version}",
            build + "gitMajor": major,
            build + "gitMinor": minor,
            build + "gitTreeState": "clean",
        },
    )


def etcd(version: str) -> Part:
    release = RELEASES.replace("{repository}", "etcd-io/etcd")
    return Part(
        "etcd",
        version,
        ("etcd", "etcdctl", "etcdutl"),
        release + "etcd-v{version}-linux-{arch}.tar.gz",
        release + "SHA256SUMS",
        folder="etcd-v{version}-linux-{arch}/",
        served=("archive",),
    )


def containerd(version: str) -> Part:
    url = RELEASES.replace("{repository}", "containerd/containerd") + (
        "containerd-{version}-linux-{arch}.tar.gz"
    )
    return Part(
        "containerd",
        version,
        ("containerd", "containerd-shim-runc-v2", "ctr"),
        url,
        url + ".sha256sum",
        folder="bin/",
        served=("archive",),
        tags="no_btrfs,no_devmapper,no_zfs",
        variables={"github.com/containerd/containerd/v2/version.Version": f"v{version}"},
    )


def cni_plugins(version: str) -> Part:
    url = RELEASES.replace("{repository}", "containernetworking/plugins") + (
        "cni-plugins-linux-{arch}-v{version}.tgz"
    )
    return Part(
        "cni-plugins",
        version,
        (
            "bandwidth",
            "bridge",
            "dhcp",
            "dummy",
            "firewall",
            "host-device",
            "host-local",
            "ipvlan",
            "loopback",
            "macvlan",
            "portmap",
            "ptp",
            "sbr",
            "static",
            "tap",
            "tuning",
            "vlan",
            "vrf",
        ),
        url,
        url + ".sha256",
        folder="./",
        served=("archive",),
        variables={
            "github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion": (
                f"v{version}"
            )
        },
    )


def coredns(version: str) -> Part:
    url = RELEASES.replace("{repository}", "coredns/coredns") + (
        "coredns_{version}_linux_{arch}.tgz"
    )
    return Part("coredns", version, ("coredns",), url, url + ".sha256")


def registry(version: str) -> Part:
    url = RELEASES.replace("{repository}", "distribution/distribution") + (
        "registry_{version}_linux_{arch}.tar.gz"
    )
    return Part(
        "registry",
        version,
        ("registry",),
        url,
        url + ".sha256",
        variables={"github.com/distribution/distribution/v3/version.version": f"v{version}"},
    )


def crane(version: str) -> Part:
    release = RELEASES.replace("{repository}", "google/go-containerregistry")
    return Part(
        "crane",
        version,
        ("crane",),
        release + "go-containerregistry_Linux_x86_64.tar.gz",
        release + "checksums.txt",
        variables={"github.com/google/go-containerregistry/cmd/crane/cmd.Version": version},
    )


def pulumi(version: str) -> Part:
    release = RELEASES.replace("{repository}", "pulumi/pulumi")
    return Part(
        "pulumi",
        version,
        ("pulumi",),
        release + "pulumi-v{version}-linux-x64.tar.gz",
        release + "pulumi-{version}-checksums.txt",
        folder="pulumi/",
        tags="osusergo,grpcnotrace",
        variables={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": f"v{version}"},
    )


def pulumi_yaml(version: str, engine: str) -> Part:
    """Officially it comes with the engine."""
    with_it = pulumi(engine)
    return Part(
        "pulumi-yaml",
        version,
        ("pulumi-language-yaml",),
        with_it.official(with_it.url),
        with_it.official(with_it.checksums),
        folder=with_it.folder,
        variables={"github.com/pulumi/pulumi-yaml/pkg/version.Version": f"v{version}"},
    )


def pulumi_kubernetes(version: str) -> Part:
    """The official plugin, of the one day whose source the module proxies have: its module carries
    no release's tag. Where releases can be had the engine takes the one that the SDK wants."""
    release = RELEASES.replace("{repository}", "pulumi/pulumi-kubernetes")
    module = "github.com/pulumi/pulumi-kubernetes/provider/v4/"
    package = module + "cmd/pulumi-resource-kubernetes/"
    return Part(
        "pulumi-kubernetes",
        version,
        ("pulumi-resource-kubernetes",),
        release + "pulumi-resource-kubernetes-v{version}-linux-{arch}.tar.gz",
        release + "pulumi-kubernetes_{version}_checksums.txt",
        variables={module + "pkg/version.Version": f"v{version}"},
        embedded={name: package + name for name in ("schema.json", "terraform-mapping.json")},
    )


# What a first cluster takes, in the order in which it is made; these are the lab's defaults.
# etcd and CoreDNS are those that `kubeadm config images list` names for each Kubernetes version.
FIRST = (
    pulumi("3.259.0"),
    kubernetes("1.36.3"),
    etcd("3.6.8"),
    containerd("2.3.7"),
    cni_plugins("1.9.1"),
    coredns("1.14.2"),
    registry("3.1.2"),
    crane("0.22.1"),
)
# What the short end-to-end stories take: they change containerd's version, and not Kubernetes'.
STORIES = (*FIRST, containerd("2.2.1"))
# With what Kubernetes is upgraded from. It comes last: where it is, its companions are too.
UPGRADES = (
    *STORIES,
    etcd("3.6.6"),
    coredns("1.13.1"),
    kubernetes("1.35.4"),
)
# Made where a test asks for it: Pulumi's host for programs in YAML, its plugin for Kubernetes,
# whose build nobody saw end yet.
ASKED_FOR = (
    pulumi_yaml("1.25.0", "3.259.0"),
    pulumi_kubernetes("4.0.0-20260115033456-f47bc2d6f199"),
)
PARTS = UPGRADES + ASKED_FOR

# Taken from Debian's packages, since no Go module builds them without a C compiler.
RUNC_PACKAGE = "runc"
RUNC_URL = "https://github.com/opencontainers/runc/releases/download/v{version}/runc.{arch}"
# What kube-proxy calls, in either of its modes.
PROXY_PACKAGES = ("nftables", "iptables", "conntrack")

GO_VERSION = "1.26.8"  # the newest `go` line of gomod/*/go.mod
GO_SHA256 = "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7"


def part(name: str, version: str | None = None) -> Part:
    """The part of this name, at `version` or the lab's default. KeyError if there is none."""
    for known in PARTS:
        if known.name == name and version in (None, known.version):
            return known
    raise KeyError(f"lab/parts/recipes.py has no {name} {version or ''}".rstrip())
