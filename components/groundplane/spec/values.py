"""Plain values as users write them: what is accepted, and what the error says otherwise.

Each check takes a value and returns it, perhaps tidied, or raises `BadValueError`. A leaf that may
also be a Pulumi Output (a VM's address is only known once the VM exists) goes through untouched.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
import sys
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, WrapValidator


def show(value: object) -> str:
    """A value for an error's text: on one line, and cut when long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:50] + "..." + text[-5:]


class BadValueError(ValueError):
    """A value that is refused. The field's own description tells why the field is there."""

    def __init__(self, what: str, remedy: str = "", why: str = "") -> None:
        super().__init__(what)
        self.what, self.remedy, self.why = what, remedy, why


def is_output(value: object) -> bool:
    """Whether this is a Pulumi Output; none can exist before pulumi was imported."""
    pulumi = sys.modules.get("pulumi")
    return pulumi is not None and isinstance(value, pulumi.Output)


def _or_output(value: Any, validate: Callable[[Any], Any]) -> Any:
    return value if is_output(value) else validate(value)


OrOutput = WrapValidator(_or_output)

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
HOSTNAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
)
QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})(\+k3s\d{1,3})?")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
INTERFACE = re.compile(r"[^\s/:]{1,15}")
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


def matches(pattern: re.Pattern[str], what: str, remedy: str) -> Callable[[str], str]:
    """A check by regular expression; `{}` in `what` stands for the value."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise BadValueError(what.format(show(value)), remedy)
        return value

    return check


def ip(value: str) -> str:
    """An IP address in its canonical form."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise BadValueError(
            f"{show(value)} is not an IP address", "Write one such as 192.0.2.10."
        ) from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise BadValueError(
            f"{show(value)} is bound to one interface", "Leave out the part from the % on."
        )
    if address.is_unspecified or address.is_multicast:
        raise BadValueError(
            f"{show(value)} is no address of one machine", "Write one such as 192.0.2.10."
        )
    return str(address)


def node_ip(value: str) -> str:
    """An IP address by which other machines reach this one."""
    address = ip(value)
    if ipaddress.ip_address(address).is_loopback:
        raise BadValueError(
            f"{show(value)} means whichever machine asks",
            "Write the address by which the other machines reach this one.",
        )
    return address


def ip_or_name(value: str) -> str:
    """An IP address, or a DNS name (in lower case)."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        name = value.lower().removesuffix(".")
        # 10.0.0.300 would pass as a name and fail much later, in the resolver.
        if not HOSTNAME.fullmatch(name) or name.rpartition(".")[2].isdigit():
            raise BadValueError(
                f"{show(value)} is neither an IP address nor a DNS name",
                "Write one such as 192.0.2.10 or n4.example.org, without a port or user.",
            ) from None
        return name
    return ip(value)


def cidr(value: str) -> str:
    """An address range in canonical form."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        fixed = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise BadValueError(
            f"{show(value)} is not an address range", "Write one such as 10.244.0.0/16."
        ) from None
    raise BadValueError(f"{show(value)} has bits set beyond its prefix", f"Did you mean {fixed}?")


def host_key(value: str) -> str:
    """One public host key in authorized_keys form, without its comment."""
    remedy = "Write TYPE BASE64 as `ssh-keyscan` prints it, without the address before it."
    words = value.split()
    if len(words) < 2 or words[0] not in KEY_TYPES:
        raise BadValueError("not a public host key in authorized_keys form", remedy)
    try:
        blob = base64.b64decode(words[1], validate=True)
        (length,) = struct.unpack(">I", blob[:4])
        inside = blob[4 : 4 + length].decode("ascii")
    except (binascii.Error, struct.error, UnicodeDecodeError):
        raise BadValueError("the host key's base64 part is damaged", remedy) from None
    if inside != words[0] or len(blob) <= 4 + length:
        raise BadValueError(f"the host key's base64 part is not that of a {words[0]} key", remedy)
    return f"{words[0]} {words[1]}"


def url(value: str) -> str:
    """An http(s) URL without credentials, without its last slash."""
    remedy = "Write one such as http://mirror.example.org:8080."
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises when it is not a number below 65536
    except ValueError:
        raise BadValueError("not a URL", remedy) from None
    if parts.username is not None or parts.password is not None:
        raise BadValueError(
            "the URL carries credentials",
            "Let a proxy or mirror beside the hosts add them, and name that one here.",
            "They would stand in plain text in this file, in the state and on every host.",
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", value):
        raise BadValueError("not an http or https URL", remedy)
    if parts.query or parts.fragment:
        raise BadValueError("the URL has a query or a fragment", remedy)
    return value.rstrip("/")


def registry_name(value: str) -> str:
    """HOST or HOST:PORT of an image registry."""
    host, colon, port = value.partition(":")
    good = HOSTNAME.fullmatch(host) and (not colon or (port.isdigit() and 0 < int(port) < 65536))
    if not good:
        raise BadValueError(
            f"{show(value)} does not name an image registry",
            "Write HOST or HOST:PORT such as registry.k8s.io, without https:// or a path.",
        )
    return value


def interface(value: str) -> str:
    """A network interface by name, or by MAC address (in lower case)."""
    if MAC.fullmatch(value.lower()):
        return value.lower()
    if not INTERFACE.fullmatch(value) or value in (".", ".."):
        raise BadValueError(
            f"{show(value)} is neither an interface's name nor its MAC address",
            "Write one such as eno1 or 52:54:00:12:34:56.",
        )
    return value


def interface_name(value: str) -> str:
    """A network interface by name, where one name stands for several hosts."""
    if MAC.fullmatch(value.lower()):
        raise BadValueError(
            "a MAC address belongs to one host", "Write the name that all have, such as eno1."
        )
    return interface(value)


def mac_address(value: str) -> str:
    """The MAC address of one interface, in lower case."""
    address = value.lower()
    if not MAC.fullmatch(address) or int(address[:2], 16) & 1:
        raise BadValueError(
            f"{show(value)} is not the MAC address of one interface",
            "Write one such as 52:54:00:12:34:56; the first number is even.",
        )
    return address


def folder_path(value: str) -> str:
    """An absolute path without anything that a shell or XML would read otherwise."""
    if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+/?", value) or ".." in value.split("/"):
        raise BadValueError(
            f"{show(value)} is not an absolute path",
            "Write one such as /srv/guests, of letters, digits, '.', '-' and '_'.",
        )
    return value.rstrip("/")


def qualified_name(value: str) -> str:
    """The key of a Kubernetes label or taint: [DOMAIN/]NAME."""
    prefix, slash, name = value.rpartition("/")
    if not QUALIFIED.fullmatch(name) or (slash and not HOSTNAME.fullmatch(prefix)):
        raise BadValueError(
            f"{show(value)} is not a key for a label or taint",
            "Write NAME or example.org/NAME: up to 63 letters, digits, '-', '_' and '.'.",
        )
    return value


def label_value(value: Any) -> str:
    """The value of a Kubernetes label or taint."""
    if isinstance(value, bool | int | float) or value is None:
        raise BadValueError(
            "empty" if value is None else f"{str(value).lower()} is not text",
            "Put it into quotes; labels and taints hold text only.",
        )
    if not isinstance(value, str) or (value and not QUALIFIED.fullmatch(value)):
        raise BadValueError(
            f"{show(value)} is not a value for a label or taint",
            "Use up to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter "
            "or digit.",
        )
    return value


def flag_value(value: Any) -> str:
    """A command-line flag's value; YAML's numbers and booleans are written as the flag wants."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str) or "\n" in value:
        raise BadValueError(
            "not a flag's value", "Write one line of text, a number, true or false."
        )
    return value


def pem_certificate(value: str) -> str:
    """Certificates in PEM form, or the path to a file of them (which `load` reads)."""
    if "PRIVATE KEY" in value:
        raise BadValueError(
            "this is a private key",
            "Write the certificate, and treat the key as disclosed.",
            "What stands here is copied to every host in plain text.",
        )
    if "-----BEGIN" in value:
        if "-----BEGIN CERTIFICATE-----" not in value or "-----END CERTIFICATE-----" not in value:
            raise BadValueError(
                "not a whole PEM certificate", "Copy it with its BEGIN and END lines."
            )
        return value.strip() + "\n"
    if "\n" in value.strip() or not value.strip():
        raise BadValueError(
            "neither a PEM certificate nor the path to one",
            "Write a path, or the text from -----BEGIN CERTIFICATE----- on.",
        )
    return value.strip()


def calendar(value: str) -> str:
    """A systemd calendar expression, as far as it can be judged without systemd."""
    if not re.fullmatch(r"[A-Za-z0-9 ,:./*~+_-]{1,100}", value.strip()) or not value.strip():
        raise BadValueError(
            f"{show(value)} is not a systemd calendar expression",
            "Write one such as hourly or *-*-* 02:30:00; `systemd-analyze calendar` explains it.",
        )
    return value.strip()


def preflight_name(value: str) -> str:
    """The name of one kubeadm preflight check."""
    if value.lower() == "all":
        raise BadValueError(
            "'all' would silence every check",
            "Name the checks, as kubeadm prints them in brackets: SystemVerification.",
        )
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]*", value):
        raise BadValueError(
            f"{show(value)} is not the name of a kubeadm check",
            "Write it as kubeadm prints it in brackets, such as SystemVerification.",
        )
    return value


def secret(value: Any) -> Any:
    """A secret as a Pulumi Output; plain text is refused."""
    if value is not None and not is_output(value):
        raise BadValueError(
            "a secret in plain text",
            "Change it where it is used. A stack holds it with `pulumi config set --secret`, below "
            "the key that the reference names; a program takes it from there as an Output.",
            "Whoever reads this has it",
        )
    return value


def no_proxy(value: str) -> str:
    """One exception from the proxy: an address, a range, a name, or a domain after a dot."""
    bare = value.removeprefix("*").removeprefix(".").lower()
    try:
        ipaddress.ip_network(bare, strict=False)
    except ValueError:
        if not HOSTNAME.fullmatch(bare.partition(":")[0]):
            raise BadValueError(
                f"{show(value)} is not an exception from a proxy",
                "Write an address, a range, a name or .example.org, one in each entry.",
            ) from None
    return value


def ports(value: Any) -> Any:
    """A port, or a range of them, as text; anything that is neither is left for the error."""
    first, dash, last = str(value).partition("-")
    bounds = [first, last] if dash else [first]
    if isinstance(value, bool) or not all(re.fullmatch(r"[1-9]\d{0,4}", text) for text in bounds):
        raise BadValueError(
            f"{show(value)} is neither a port nor a range of ports",
            "Write one such as 9100, or 8000-8100.",
        )
    numbers = [int(text) for text in bounds]
    if numbers[-1] > 65535 or numbers[0] > numbers[-1]:
        raise BadValueError(
            f"{show(value)} holds no ports", "They go from 1 to 65535; write the lower one first."
        )
    return str(value)


def round_name(value: Any) -> Any:
    """A word. YAML takes a day for a date, and digits for a number."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", text):
        raise BadValueError(
            f"{show(value)} is not one word", "Write one such as 2026-11-01, or november."
        )
    return text


Text = Annotated[
    str,
    AfterValidator(
        matches(re.compile(r"[^\r\n\0]+"), "{} is not one line of text", "Write one line.")
    ),
]
Name = Annotated[
    str,
    AfterValidator(
        matches(
            LABEL,
            "{} is not a DNS label",
            "Use up to 63 lower-case letters, digits and '-', with no '-' at either end.",
        )
    ),
]
Domain = Annotated[
    str,
    AfterValidator(
        matches(
            HOSTNAME, "{} is not a DNS domain", "Write one such as cluster.local, in lower case."
        )
    ),
]
Address = Annotated[str, AfterValidator(ip_or_name), OrOutput]
NodeAddress = Annotated[str, AfterValidator(node_ip), OrOutput]
HostKey = Annotated[str, AfterValidator(host_key), OrOutput]
Cidr = Annotated[str, AfterValidator(cidr)]
MacAddress = Annotated[str, AfterValidator(mac_address)]
FolderPath = Annotated[str, AfterValidator(folder_path)]
PciAddress = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]"),
            "{} is not a PCI address",
            "Write one such as 0000:3b:00.0, as `lspci -D` prints it.",
        )
    ),
]
Uuid = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
            "{} is not a UUID",
            "Write one such as c2177883-f1bb-47f0-914d-32a22e3a8804, in lower case.",
        )
    ),
]
Asn = Annotated[int, Field(ge=1, le=4294967295)]
Community = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"\d{1,10}(:\d{1,10}){1,2}"),
            "{} is not a BGP community",
            "Write one such as 64512:100, or a large one such as 64512:100:1, in quotes.",
        )
    ),
]
Numbers = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*"),
            "{} is not a set of numbers",
            "Write one such as 0-3,8, in quotes.",
        )
    ),
]
CpuMode = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"[A-Za-z0-9_.+-]+"),
            "{} is not the name of a CPU model",
            "Write host-passthrough, host-model, maximum, or a name of `virsh cpu-models x86_64`.",
        )
    ),
]
Quantity = Annotated[
    str,
    AfterValidator(
        matches(
            re.compile(r"[1-9]\d*(\.\d+)?([kMGTPE]|[KMGTPE]i)?"),
            "{} is not a size",
            "Write one such as 100Gi or 2Ti.",
        )
    ),
]
Url = Annotated[str, AfterValidator(url)]
RegistryName = Annotated[str, AfterValidator(registry_name)]
Interface = Annotated[str, AfterValidator(interface)]
InterfaceName = Annotated[str, AfterValidator(interface_name)]
LabelKey = Annotated[str, AfterValidator(qualified_name)]
LabelValue = Annotated[str, BeforeValidator(label_value)]
FlagValue = Annotated[
    str,
    BeforeValidator(flag_value),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Ports = Annotated[
    str,
    BeforeValidator(ports),
    WithJsonSchema({"type": ["integer", "string"]}),
]
Round = Annotated[
    str,
    BeforeValidator(round_name),
    WithJsonSchema({"type": ["string", "number"]}),
]
Certificate = Annotated[str, AfterValidator(pem_certificate)]
Calendar = Annotated[str, AfterValidator(calendar)]
PreflightName = Annotated[str, AfterValidator(preflight_name)]
NoProxy = Annotated[str, AfterValidator(no_proxy)]
Secret = Annotated[Any, AfterValidator(secret)]
Version = Annotated[
    str,
    AfterValidator(
        matches(
            VERSION, "{} is not a full version", "Write one such as 1.36.4: three numbers, no v."
        )
    ),
]
