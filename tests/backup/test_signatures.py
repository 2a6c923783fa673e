"""Three signatures of one request: in bash, in Python, and the stand-in's, held against AWS's own.

The examples are those of
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
from dataclasses import dataclass

import pytest
from backup_support import Machine
from bucket import signature

from groundplane.snapshots import NOTHING, authorization

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TIME = "20130524T000000Z"
HOST = "examplebucket.s3.amazonaws.com"
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@dataclass(frozen=True)
class Case:
    name: str
    method: str
    path: str
    query: str
    content: str
    headers: dict[str, str]
    signature: str

    def all_headers(self) -> dict[str, str]:
        common = {"host": HOST, "x-amz-content-sha256": self.content, "x-amz-date": TIME}
        return {**common, **self.headers}


CASES = [
    Case(
        "get an object",
        "GET",
        "/test.txt",
        "",
        NOTHING,
        {"range": "bytes=0-9"},
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    Case(
        "put an object",
        "PUT",
        "/test%24file.text",
        "",
        WELCOME,
        {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    Case(
        "list objects",
        "GET",
        "/",
        "max-keys=2&prefix=J",
        NOTHING,
        {},
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_signatures(case: Case, machine: Machine) -> None:
    headers = case.all_headers()
    where = (case.method, case.path, case.query)
    assert signature(SECRET, "us-east-1", *where, headers) == case.signature

    python = authorization("AKIAIOSFODNN7EXAMPLE", SECRET, "us-east-1", *where, headers)
    assert python.endswith(f"Signature={case.signature}")

    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = "\n".join((*where, lines, ";".join(sorted(headers)), case.content))
    bash = machine.shell(f"s3_signature '{SECRET}' {TIME} us-east-1", canonical)
    assert bash.stdout.strip() == case.signature, bash.stderr


@pytest.mark.parametrize("length", [1, 31, 32, 63, 64, 65, 200])
def test_hmac_of_keys_of_all_lengths(length: int, machine: Machine) -> None:
    import hmac

    key = bytes(range(length))
    done = machine.shell(f"hmac {key.hex()}", "the message")
    assert done.stdout.strip() == hmac.digest(key, b"the message", "sha256").hex(), done.stderr
