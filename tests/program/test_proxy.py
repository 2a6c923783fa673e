"""Whether hosts ask an object store through the proxy or directly."""

from __future__ import annotations

import pytest
from support.specs import spec

from groundplane.clusters import data
from groundplane.spec import Backup, Proxy, S3Target, Target

PROXY = "http://192.0.2.5:3128"
PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def asked_through(endpoint: str, **proxy: object) -> str | None:
    s3 = S3Target(endpoint=endpoint, bucket="b", access_key="a")
    backup = Backup(recipient=PEM, target=Target(s3=s3))
    made = data.backup(spec(backup=backup, proxy=Proxy(**proxy) if proxy else None).cluster)
    assert made is not None
    return made["proxy"]


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.example.org",
        "https://s3.example.org:9000",
        "https://192.0.2.7",
        "https://[fd00::7]",
    ],
)
def test_through_the_proxy(endpoint: str) -> None:
    assert asked_through(endpoint, https=PROXY) == PROXY
    # A proxy for the other scheme is none for this one.
    assert asked_through(endpoint, http=PROXY) is None
    assert asked_through(endpoint) is None


@pytest.mark.parametrize(
    "endpoint, exception, direct",
    [
        ("https://s3.example.org", "s3.example.org", True),
        ("https://s3.example.org", ".example.org", True),
        ("https://s3.example.org", "*.Example.org", True),
        ("https://s3.example.org", "example.org", True),
        ("https://example.org", ".example.org", False),
        ("https://s3.example.org", "3.example.org", False),
        ("https://s3.example.org", "s3.example.org:443", True),
        ("https://s3.example.org", "s3.example.org:9000", False),
        ("http://192.0.2.7:9000", "192.0.2.0/24", True),
        ("http://192.0.2.7:9000", "192.0.2.7", True),
        ("http://192.0.2.7:9000", "192.0.2.7:9000", True),
        ("http://192.0.2.7:9000", "192.0.3.0/24", False),
        ("http://[fd00::7]:9000", "fd00::/64", True),
        # The cluster's own, which nobody has to name.
        ("http://192.0.2.10", ".example.org", True),
        ("http://10.96.0.9", ".example.org", True),
        ("http://minio.backup.svc", ".example.org", True),
    ],
)
def test_past_the_proxy(endpoint: str, exception: str, direct: bool) -> None:
    found = asked_through(endpoint, http=PROXY, https=PROXY, no_proxy=[exception])
    assert found == (None if direct else PROXY)
