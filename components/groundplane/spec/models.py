"""The models of all that a user writes: hosts and a cluster.

In YAML the keys are camelCase, in Python they are snake_case. Each field's docstring is its
description in the JSON schema, in the reference and, where nothing better is known, in errors.
`where` says in which file a field of the cluster may stand (see `load`).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from groundplane.spec import hardening
from groundplane.spec import values as v
from groundplane.spec.firewall import Firewall
from groundplane.spec.model import PLATFORM, SITE, Model, Port
from groundplane.spec.patching import Patching


class Jump(Model):
    """The machine through which a host is reached by SSH."""

    address: v.Address = Field(examples=["192.0.2.1"])
    """Where the jump host answers SSH."""
    user: v.Text = "root"
    """The user to log in as."""
    port: Port = 22
    """The port of SSH."""
    key: v.Text | None = Field(default=None, examples=["~/.ssh/id_ed25519"])
    """Path to the private key, from the folder of the stack. Without it, the SSH agent is asked."""
    host_key: v.HostKey = Field(examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."])
    """Its public host key in authorized_keys form. Without it anyone on the network can pose as
    the jump host."""


class Taint(Model):
    """What keeps pods away from a node unless they tolerate it."""

    key: v.LabelKey = Field(examples=["example.org/dedicated"])
    """The taint's key."""
    value: v.LabelValue = ""
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(examples=["NoSchedule"])
    """What happens to pods that do not tolerate it."""


class Cpu(Model):
    """A guest's processors, as libvirt's `cpu` and `cputune` have them."""

    mode: v.CpuMode | None = Field(default=None, examples=["host-model", "Cascadelake-Server"])
    """`host-passthrough`, `host-model`, `maximum`, or the name of a model that libvirt knows.
    Without it host-passthrough where guests run with KVM, and `maximum` where they are emulated."""
    shares: Annotated[int, Field(ge=2, le=262144)] | None = Field(default=None, examples=[2048])
    """Its weight where processors are scarce, against other guests. libvirt's own default is
    1024."""
    limit: Annotated[float, Field(ge=0.01, le=4096)] | None = Field(default=None, examples=[1.5])
    """A hard limit: how many of the hypervisor's processors it may use at once, in all."""
    pin: list[v.Numbers] = Field(default=[], examples=[["2", "3"]])
    """The hypervisor's processors that it runs on: one entry for each of `vcpus`, or one for all
    together, each as `0-3,8`."""


class Memory(Model):
    """A guest's memory, as libvirt's `memtune`, `numatune` and `memoryBacking` have it."""

    hard_limit_mib: Annotated[int, Field(ge=128)] | None = Field(default=None, examples=[4608])
    """A hard limit of the guest and of its emulator together, in MiB; beyond it the kernel ends the
    guest. Leave room above `memoryMib`."""
    soft_limit_mib: Annotated[int, Field(ge=128)] | None = Field(default=None, examples=[2048])
    """What it is pressed down to where memory is scarce, in MiB."""
    hugepages_kib: Literal[2048, 1048576] | None = None
    """The size in KiB of huge pages that hold it; the hypervisor must have reserved them."""
    numa_nodes: v.Numbers | None = Field(default=None, examples=["0"])
    """The hypervisor's NUMA nodes that hold it, and no others."""


class Throttle(Model):
    """Upper limits of a disk, as libvirt's `iotune` has them."""

    bytes_per_second: Annotated[int, Field(ge=1)] | None = Field(default=None, examples=[209715200])
    """Bytes read and written in a second."""
    iops: Annotated[int, Field(ge=1)] | None = Field(default=None, examples=[2000])
    """Reads and writes in a second."""


class Tuning(Model):
    """How a disk is reached, as the `driver` of libvirt's disks has it."""

    cache: Literal["none", "writethrough", "writeback", "directsync", "unsafe"] = "none"
    """The hypervisor's cache. `unsafe` does not keep what was synced, and is for tests."""
    io: Literal["native", "threads", "io_uring"] = Field(
        default_factory=lambda data: (
            "native" if data["cache"] in ("none", "directsync") else "threads"
        )
    )
    """How the hypervisor reads and writes. `native` unless a cache forbids it."""
    discard: Literal["unmap", "ignore"] = "unmap"
    """Whether what the guest frees is given back to the pool."""
    throttle: Throttle | None = None
    """Upper limits."""


class DataDisk(Tuning):
    """A further disk of a guest. It is kept when the guest is installed anew, and goes with the
    guest when that leaves the list."""

    name: v.Name = Field(examples=["osd0"])
    """Its name; in the guest it is /dev/disk/by-id/virtio-NAME."""
    size_gib: Annotated[int, Field(ge=1, le=1048576)] = Field(examples=[100])
    """Its size in GiB. It may grow."""

    @model_validator(mode="after")
    def _serial(self) -> DataDisk:
        if len(self.name) > 20:
            raise v.BadValueError(
                "the name is longer than 20 letters", "Shorten it; the guest would see 20 of them."
            )
        return self


class Device(Model):
    """A device of the hypervisor that a guest holds alone: `pci` or `mediated`."""

    pci: v.PciAddress | None = Field(default=None, examples=["0000:3b:00.0"])
    """A PCI device by its address, as `lspci -D` prints it."""
    mediated: v.Uuid | None = Field(default=None, examples=["c2177883-f1bb-47f0-914d-32a22e3a8804"])
    """A mediated device, such as a vGPU, by its UUID; it must exist."""

    @model_validator(mode="after")
    def _one(self) -> Device:
        if (self.pci is None) == (self.mediated is None):
            raise v.BadValueError(
                "names both pci and mediated, or neither", "Write one of the two."
            )
        return self


class Guest(Model):
    """The virtual machine that a host is. What stands in the site's `guests` holds for each."""

    hypervisor: v.Name = Field(examples=["hv1"])
    """The hypervisor that runs it, by name."""
    vcpus: Annotated[int, Field(ge=1, le=1024)] = Field(examples=[2])
    """How many processors it sees."""
    memory_mib: Annotated[int, Field(ge=512, le=16777216)] = Field(examples=[4096])
    """Its memory in MiB."""
    disk_gib: Annotated[int, Field(ge=2, le=1048576)] = Field(examples=[20])
    """The size of its first disk in GiB. It may grow."""
    image: v.Text = Field(default="debian-12", examples=["debian-12"])
    """What it is installed from: a name among the catalogue's `guestImages`. Another one installs
    the guest anew."""
    prefix: Annotated[int, Field(ge=1, le=127)] = Field(examples=[24])
    """The prefix length of its network. Its address is that of the host."""
    gateway: v.NodeAddress | None = Field(default=None, examples=["192.0.2.1"])
    """Its default route."""
    dns: list[v.NodeAddress] = Field(default=[], examples=[["192.0.2.1"]])
    """Its nameservers."""
    mac_address: v.MacAddress | None = Field(default=None, examples=["52:54:00:12:34:56"])
    """Its MAC address. Without it, one that follows from the names of the stack and the host."""
    cpu: Cpu = Cpu()
    """Its processors, in detail."""
    memory: Memory = Memory()
    """Its memory, in detail."""
    disk: Tuning = Tuning()
    """How its first disk is reached."""
    iothreads: Annotated[int, Field(ge=0, le=64)] = 1
    """Threads of the hypervisor that serve its disks."""
    disks: list[DataDisk] = Field(default=[])
    """Further disks, such as for Rook."""
    devices: list[Device] = Field(default=[])
    """Devices of the hypervisor that it holds alone."""
    snapshot_before_upgrade: bool = False
    """Copy its disks before its Kubernetes becomes another version. The newest copy stays, beside
    the disks, and takes as much room as they do."""


class Overcommit(Model):
    """How far guests may promise themselves more than the hypervisor has."""

    cpu: Annotated[float, Field(ge=0.1, le=100)] = 1.0
    """The sum of the guests' `vcpus`, for each processor of the hypervisor."""
    memory: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """The sum of the guests' memory, as a part of the hypervisor's."""


class Hypervisor(Model):
    """A machine that runs guests, and is no node itself."""

    name: v.Name = Field(examples=["hv1"])
    """Its name, by which guests name it."""
    address: v.Address = Field(examples=["192.0.2.31"])
    """Where it answers SSH: an IP address or a DNS name."""
    user: v.Text = "root"
    """The user to log in as."""
    port: Port = 22
    """The port of SSH."""
    key: v.Text | None = Field(default=None, examples=["~/.ssh/id_ed25519"])
    """Path to the private key, from the folder of the stack. Without it, the SSH agent is asked."""
    host_key: v.HostKey = Field(examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."])
    """Its public key, as /etc/ssh/ssh_host_ed25519_key.pub on it holds it. Without it anyone on the
    network can pose as this hypervisor, and as all its guests."""
    jump: Jump | None = None
    """The machine through which this one is reached, when it cannot be reached directly."""
    sudo: bool = Field(default_factory=lambda data: data["user"] != "root")
    """Whether commands run through `sudo`, which must not ask for a password. True unless the user
    is root."""
    kind: v.Text = "libvirt"
    """What runs its guests."""
    failure_domain: v.Name | None = Field(default=None, examples=["rack1"])
    """What fails together with it; its guests' unless they have one of their own."""
    pool: v.FolderPath = "/var/lib/groundplane/guests"
    """The folder that holds images and the guests' disks."""
    bridge: v.InterfaceName | None = Field(default=None, examples=["br0"])
    """The bridge that its guests are attached to. It must exist."""
    macvtap: v.InterfaceName | None = Field(default=None, examples=["eno1"])
    """In place of a bridge: the interface that its guests share. The hypervisor itself cannot reach
    them then."""
    emulation: bool = False
    """Whether guests may run where KVM does not work: emulated, and ten times slower."""
    overcommit: Overcommit = Overcommit()
    """How far guests may promise themselves more than it has."""
    allow_together: bool = False
    """Whether it may run two control planes of one cluster, which are lost together with it."""
    state: Literal["present", "lost"] = "present"
    """`lost`: the machine is gone for good, and nothing tries to reach it. Its guests are lost with
    it, and must say so."""

    @model_validator(mode="after")
    def _one(self) -> Hypervisor:
        if (self.bridge is None) == (self.macvtap is None):
            raise v.BadValueError(
                "names both bridge and macvtap, or neither", "Write one of the two."
            )
        return self


class Host(Model):
    """One machine that is to become a node."""

    name: v.Name = Field(examples=["rack1-n4"])
    """The host's name; its node in the cluster has the same."""
    address: v.Address = Field(examples=["192.0.2.14"])
    """Where the host answers SSH: an IP address or a DNS name."""
    node_address: v.NodeAddress = Field(default_factory=lambda data: data["address"])
    """The IP address by which the nodes reach each other: kubelet, etcd and the endpoint use it.
    The same as `address` unless given."""
    second_node_address: v.NodeAddress | None = None
    """The node's address of the other family, where the cluster has ranges of two."""
    interface: v.Interface | None = Field(default=None, examples=["eno1", "52:54:00:12:34:56"])
    """The network interface that holds the node's address, by name or by MAC address. Without it,
    the one that holds the address is found on the host."""
    user: v.Text = "root"
    """The user to log in as."""
    port: Port = 22
    """The port of SSH."""
    key: v.Text | None = Field(default=None, examples=["~/.ssh/id_ed25519"])
    """Path to the private key, from the folder of the stack. Without it, the SSH agent is asked."""
    guest: Guest | None = None
    """The virtual machine that it is, where it is to be made. Without it the machine exists."""
    host_key: v.HostKey = Field(
        default="",
        validate_default=True,
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."],
    )
    """The host's public key, as /etc/ssh/ssh_host_ed25519_key.pub on the host holds it. Without it
    anyone on the network can pose as this host. Required, but for a `guest`."""
    jump: Jump | None = None
    """The machine through which this one is reached, when it cannot be reached directly."""
    sudo: bool = Field(default_factory=lambda data: data["user"] != "root")
    """Whether commands run through `sudo`, which must not ask for a password. True unless the user
    is root."""
    role: Literal["control-plane", "worker"] = Field(examples=["worker"])
    """What the host is in the cluster."""
    labels: dict[v.LabelKey, v.LabelValue] = Field(
        default={}, examples=[{"example.org/disk": "ssd"}]
    )
    """Labels of the node."""
    taints: list[Taint] = Field(default=[])
    """Taints of the node."""
    failure_domain: v.Name | None = Field(default=None, examples=["rack1"])
    """What fails together: a rack, a power feed, a room. Becomes the node's label
    topology.kubernetes.io/zone."""
    state: Literal["present", "maintenance", "lost"] = "present"
    """`maintenance`: cordoned and drained, and left alone. `lost`: the machine is gone for good;
    nothing tries to reach it, and the cluster forgets it."""

    @field_validator("host_key", mode="wrap")
    @classmethod
    def _known_or_made(
        cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Any:
        """Of a machine that exists the key is known beforehand; a guest's is made with it."""
        if "guest" not in info.data:
            return value  # what it is cannot be told while that is wrong
        if info.data["guest"] is not None:
            if value:
                raise v.BadValueError(
                    "a guest has none beforehand",
                    "Remove it.",
                    "The hypervisor makes the pair, and tells the public half",
                )
            return ""
        if value == "":
            raise v.BadValueError(
                "missing", "Add it, such as ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."
            )
        return check(value)


class Kubernetes(Model):
    """The version of Kubernetes."""

    version: v.Version = Field(examples=["1.36.4"])
    """The control planes' version. Changed by patches, or by one minor upwards. Of K3s with its own
    ending, as 1.36.4+k3s1."""
    workers: v.Version = Field(default_factory=lambda data: data["version"], examples=["1.35.8"])
    """The workers' version: at most three minors older than the control planes, never newer. The
    same unless given."""


class Endpoint(Model):
    """Where the cluster's API is reached, whichever control plane is alive."""

    address: v.Address = Field(examples=["192.0.2.10"])
    """The address that clients and nodes use. It cannot change later."""
    mode: Literal["managed", "external"] = "managed"
    """`managed`: keepalived holds the address on one of the control planes, and HAProxy spreads
    the requests. `external`: a load balancer of yours sends it to port 6443 of all control
    planes."""
    port: Port = Field(default_factory=lambda data: 8443 if data["mode"] == "managed" else 6443)
    """The port that clients and nodes use. It cannot change later. 8443 when managed, because the
    API servers hold 6443 on the same hosts; 6443 when external."""
    router_id: Annotated[int, Field(ge=1, le=255)] | None = Field(default=None, examples=[51])
    """VRRP's virtual router id, for a managed endpoint. Two clusters in one network segment with
    the same one would take the address from each other."""
    interface: v.InterfaceName | None = Field(default=None, examples=["eno1"])
    """The control planes' interface that holds the address, by name. Without it, the one with the
    node's address."""

    @property
    def host_port(self) -> str:
        """ADDRESS:PORT, an IPv6 address in brackets."""
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )

    @property
    def url(self) -> str:
        """The URL that a kubeconfig names."""
        return f"https://{self.host_port}"


class Mirrors(Model):
    """Where hosts fetch what they install, when not from its makers."""

    downloads: v.Url | None = Field(default=None, examples=["http://mirror.example.org:8080"])
    """A server that holds https://HOST/PATH under /HOST/PATH. What comes from it is checked against
    the catalogue's digests, so it need not be trusted."""
    images: dict[v.RegistryName, v.Url] = Field(
        default={}, examples=[{"registry.k8s.io": "http://mirror.example.org:5000"}]
    )
    """For an image registry, the registry that is asked first in its place."""


class Proxy(Model):
    """The HTTP proxy through which hosts reach downloads and image registries."""

    http: v.Url | None = Field(default=None, examples=["http://proxy.example.org:3128"])
    """The proxy for http URLs."""
    https: v.Url | None = Field(default=None, examples=["http://proxy.example.org:3128"])
    """The proxy for https URLs."""
    no_proxy: list[v.NoProxy] = Field(default=[], examples=[["10.0.0.0/8", ".example.org"]])
    """What is reached directly, besides the cluster's own ranges, endpoint and domain, and each
    host itself."""


class PrivateRegistry(Model):
    """An image registry that wants credentials, or whose certificate no public CA signed."""

    address: v.RegistryName = Field(examples=["registry.example.org:5000"])
    """HOST or HOST:PORT, as image names begin."""
    ca: v.Certificate | None = Field(default=None, examples=["registry-ca.pem"])
    """The CA of its certificate in PEM form, or the path to it from the folder of the stack."""
    username: v.Text | None = None
    """Its user. The password is the stack's secret `groundplane:registryPassword`."""
    password: SkipJsonSchema[v.Secret] = Field(default=None, exclude=True, repr=False)


class ApiServer(Model):
    """Settings of kube-apiserver."""

    extra_args: dict[str, v.FlagValue] = Field(
        default={}, examples=[{"max-requests-inflight": 800}]
    )
    """Its flags, without the dashes before them."""
    cert_sans: list[v.Address] = Field(default=[], examples=[["api.example.org"]])
    """Further names and addresses in its certificate. The endpoint and the control planes are in
    it anyhow."""
    feature_gates: dict[str, bool] = Field(default={}, examples=[{"MutatingAdmissionPolicy": True}])
    """Its feature gates."""


class Component(Model):
    """Settings of kube-controller-manager or kube-scheduler."""

    extra_args: dict[str, v.FlagValue] = Field(default={}, examples=[{"v": 3}])
    """Its flags, without the dashes before them."""


class Containerd(Model):
    """Settings of the container runtime."""

    version: v.Version | None = Field(default=None, examples=["2.3.4"])
    """Its version. Without it the catalogue's default, which moves with releases of groundplane;
    `groundplane init` writes one."""
    restrict_oom_score_adj: bool = False
    """Keep containers from a lower OOM score than containerd has. Needed where containerd itself
    may not lower it, as in a container without CAP_SYS_RESOURCE."""


class Audit(Model):
    """The API server's audit log, on each control plane."""

    level: Literal["none", "metadata", "request"] = "metadata"
    """`none`: no log. `metadata`: who did what to which object and when, without reads by the
    system's own components. `request`: the objects as sent too, except Secrets, ConfigMaps and
    tokens."""
    policy: dict[str, Any] | None = None
    """A whole audit.k8s.io/v1 Policy in place of the level."""
    max_age_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days for which old log files are kept."""
    max_backups: Annotated[int, Field(ge=1, le=1000)] = 10
    """Number of old log files that are kept."""
    max_size_mib: Annotated[int, Field(ge=1, le=10240)] = 100
    """Size in MiB at which a new log file is begun."""


class SshTarget(Model):
    """A directory on another machine, reached by SSH from the control planes."""

    address: v.Address = Field(examples=["192.0.2.200"])
    """Where it answers SSH."""
    user: v.Text = Field(default="root", examples=["backup"])
    """The user to log in as."""
    port: Port = 22
    """The port of SSH."""
    key: v.Text = Field(examples=["~/.ssh/backup_ed25519"])
    """Path to the private key, from the folder of the stack. It is copied to the control planes:
    give it no right but to write there."""
    host_key: v.HostKey = Field(examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."])
    """Its public host key in authorized_keys form."""
    path: v.Text = Field(examples=["/srv/backup/metal"])
    """The directory; it must exist."""

    @model_validator(mode="after")
    def _absolute(self) -> SshTarget:
        if not self.path.startswith("/"):
            raise v.BadValueError("path is not absolute", "Write one from / on.")
        return self


class S3Target(Model):
    """A bucket that speaks S3. Its secret key is the stack's secret
    `groundplane:backupSecretKey`."""

    endpoint: v.Url = Field(examples=["https://s3.example.org"])
    """The URL of the object store, without the bucket."""
    bucket: v.Text = Field(examples=["etcd-backup"])
    """The bucket; it must exist."""
    prefix: str = Field(default="", examples=["metal/"])
    """What the names of the snapshots in the bucket begin with."""
    region: v.Text = "us-east-1"
    """The region that requests are signed for."""
    access_key: v.Text = Field(examples=["groundplane"])
    """The access key's id."""
    secret_key: SkipJsonSchema[v.Secret] = Field(default=None, exclude=True, repr=False)


class Target(Model):
    """Where snapshots are copied off the hosts: `ssh` or `s3`."""

    ssh: SshTarget | None = None
    """A directory on another machine."""
    s3: S3Target | None = None
    """A bucket."""

    @model_validator(mode="after")
    def _one(self) -> Target:
        if (self.ssh is None) == (self.s3 is None):
            raise v.BadValueError("names both ssh and s3, or neither", "Write one of the two.")
        return self


class Backup(Model):
    """Snapshots of etcd: by a timer, and one before each disturbance of a control plane."""

    schedule: v.Calendar = Field(default="*-*-* 00/6:00:00", examples=["hourly"])
    """When, as a systemd calendar expression. Every six hours unless given."""
    keep: Annotated[int, Field(ge=1, le=10000)] = 28
    """How many snapshots are kept on each control plane and at the target."""
    target: Target | None = Field(default=None, json_schema_extra=SITE)
    """Where they are copied to. Without it they stay on the control planes, and are lost with
    them."""
    recipient: v.Certificate = Field(examples=["backup-recipient.pem"])
    """The certificate that snapshots are encrypted for, in PEM form, or the path to it from the
    folder of the stack. Only who holds its private key, which belongs on no host, can restore."""


class PodSecurity(Model):
    """What pods may be where their namespace has no label `pod-security.kubernetes.io`. At the
    level `cis` only."""

    enforce: Literal["privileged", "baseline", "restricted"] = "baseline"
    """`privileged`: anything. `baseline`: nothing that takes over a node. `restricted`: the most
    that a pod can be asked. What `restricted` would refuse is told to whoever makes the pod, and
    written into the audit log."""
    exempt_namespaces: list[v.Name] = Field(default=[], examples=[["rook-ceph"]])
    """Namespaces that take any pod, besides kube-system. One that has the label needs no entry."""


class Hardening(Model):
    """How hard the hosts and the cluster are made to break into. A level that is raised shows in
    the preview as the steps that will run; one that is lowered takes back what groundplane set."""

    level: Literal["none", "baseline", "cis"] = "baseline"
    """`none`: nothing but what Kubernetes needs. `baseline`: what breaks nobody. `cis`: what the
    CIS benchmarks ask besides, such as SSH by keys only, an audit log of the kernel, and pods that
    cannot take over their node."""
    exempt: dict[Annotated[str, AfterValidator(hardening.known)], v.Text] = Field(
        default={}, examples=[{"usb-storage": "the hosts start from a stick"}]
    )
    """Checks that are left out, each with the reason: what they ask for is not set."""
    pod_security: PodSecurity = PodSecurity()
    """What pods may be."""


class Preflight(Model):
    """Bounds of the checks before anything is changed."""

    max_clock_skew_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    """How far the hosts' clocks may be apart, in seconds."""
    min_disk_gib: Annotated[float, Field(ge=0, le=100000)] = 10
    """How much must be free below /var/lib on a host before it joins, in GiB."""


class Cluster(Model):
    """A Kubernetes cluster: what it is like wherever it stands, and what binds it to a place."""

    name: v.Name = Field(examples=["metal"], json_schema_extra=SITE)
    """The cluster's name. It cannot change later."""
    distribution: Literal["kubeadm", "k3s"] = Field(default="kubeadm", json_schema_extra=PLATFORM)
    """What Kubernetes is made by. It cannot change later."""
    kubernetes: Kubernetes
    """The version of Kubernetes."""
    pod_cidrs: Annotated[list[v.Cidr], Field(min_length=1, max_length=2)] = Field(
        examples=[["10.244.0.0/16"]], json_schema_extra=SITE
    )
    """The range of the pods' addresses, or two, one of each family. It cannot change later."""
    service_cidrs: Annotated[list[v.Cidr], Field(min_length=1, max_length=2)] = Field(
        examples=[["10.96.0.0/16"]], json_schema_extra=SITE
    )
    """The range of the services' addresses, or two, in the same order of families. It cannot
    change later."""
    domain: v.Domain = Field(default="cluster.local", json_schema_extra=PLATFORM)
    """The DNS domain of services. It cannot change later."""
    node_cidr_mask_ipv4: Annotated[int, Field(ge=9, le=30)] = Field(
        default=24, json_schema_extra=SITE
    )
    """The prefix length of each node's part of an IPv4 pod range. It cannot change later."""
    node_cidr_mask_ipv6: Annotated[int, Field(ge=9, le=126)] = Field(
        default=64, json_schema_extra=SITE
    )
    """The prefix length of each node's part of an IPv6 pod range. It cannot change later."""
    endpoint: Endpoint = Field(json_schema_extra=SITE)
    """Where the cluster's API is reached."""
    network: Literal["plain", "calico", "none"] = Field(default="plain", json_schema_extra=PLATFORM)
    """`plain`: the reference CNI plugins, and a route on each host to each other's pods; the hosts
    share one network segment. `calico`: the add-on of that name, which is then there without being
    named. `none`: you bring the pod network. It cannot change later."""
    mirrors: Mirrors = Field(default=Mirrors(), json_schema_extra=SITE)
    """Where hosts fetch what they install."""
    proxy: Proxy | None = Field(default=None, json_schema_extra=SITE)
    """The HTTP proxy of the hosts."""
    registry: PrivateRegistry | None = Field(default=None, json_schema_extra=SITE)
    """A private image registry."""
    kubelet: dict[str, Any] = Field(default={}, examples=[{"maxPods": 200}])
    """Fields of KubeletConfiguration (kubelet.config.k8s.io/v1beta1), as they stand there."""
    api_server: ApiServer = ApiServer()
    """Settings of kube-apiserver."""
    controller_manager: Component = Component()
    """Settings of kube-controller-manager."""
    scheduler: Component = Component()
    """Settings of kube-scheduler."""
    kube_proxy: dict[str, Any] = Field(default={}, examples=[{"mode": "nftables"}])
    """Fields of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1), as they stand there."""
    containerd: Containerd = Containerd()
    """Settings of the container runtime."""
    max_unavailable: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many workers may be disturbed at once. Control planes: always one."""
    encryption_generation: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1, json_schema_extra=SITE
    )
    """Raised, it rotates the key that encrypts Secrets at rest. It is never lowered."""
    certificates_generation: Annotated[int, Field(ge=1)] = Field(default=1, json_schema_extra=SITE)
    """Raised by one, it renews the certificates of etcd, of the API servers and of their
    clients."""
    kubeconfig_generation: Annotated[int, Field(ge=1)] = Field(default=1, json_schema_extra=SITE)
    """Raised by one, it makes the administrator's kubeconfig anew, for a user of its own, and takes
    the rights from the one before."""
    audit: Audit = Field(default=Audit(), json_schema_extra=PLATFORM)
    """The API server's audit log."""
    hardening: Hardening = Field(default=Hardening(), json_schema_extra=PLATFORM)
    """How hard the hosts and the cluster are made to break into."""
    backup: Backup | None = None
    """Snapshots of etcd. Without it there are none but those before a disturbance, on the control
    planes and unencrypted."""
    firewall: Firewall | None = None
    """What may come to hosts. Without it nothing is refused; `{}` turns it on."""
    patching: Patching | None = None
    """Updates of the hosts' own packages. Without it groundplane upgrades none."""
    protect: bool = True
    """Whether `destroy` refuses to take the cluster down."""
    ignore_preflight: list[v.PreflightName] = Field(
        [], examples=[["SystemVerification"]], json_schema_extra=SITE
    )
    """kubeadm's preflight checks whose errors are let pass, by name."""
    preflight: Preflight = Preflight()
    """Bounds of groundplane's own checks."""

    @property
    def node_cidr_masks(self) -> list[int]:
        """The prefix length of a node's pod range, for each of `pod_cidrs`."""
        return [
            self.node_cidr_mask_ipv4
            if ipaddress.ip_network(cidr).version == 4
            else self.node_cidr_mask_ipv6
            for cidr in self.pod_cidrs
        ]

    @property
    def reference_plugins(self) -> bool:
        """Whether hosts hold the reference CNI plugins. A network that is an add-on brings them
        along, and would write over them."""
        return self.network in ("plain", "none")

    @property
    def direct(self) -> list[str]:
        """What hosts reach past the proxy. Not the hosts' own addresses: nothing that is told of a
        proxy asks them, and each host more or less would restart containerd on all others."""
        own = [*self.pod_cidrs, *self.service_cidrs, self.endpoint.address]
        given = self.proxy.no_proxy if self.proxy else []
        return [*given, *own, "localhost", "127.0.0.1", ".svc", f".{self.domain}"]


def immutable(cluster: Cluster) -> dict[str, Any]:
    """What can never change in a living cluster, as plain data to record and to compare."""
    return {
        "name": cluster.name,
        "distribution": cluster.distribution,
        "etcd": "stacked",
        "podCidrs": cluster.pod_cidrs,
        "serviceCidrs": cluster.service_cidrs,
        "nodeCidrMasks": cluster.node_cidr_masks,
        "domain": cluster.domain,
        "endpoint": cluster.endpoint.host_port,
        "network": cluster.network,
    }
