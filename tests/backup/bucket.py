"""A stand-in for an object store: one bucket over HTTP, which checks each request's signature.

The signature is worked out here once more, from AWS's description of Signature Version 4, so that
neither of the product's two (in bash and in Python) is its own judge; test_signatures.py holds all
against AWS's own examples.
"""

import hashlib
import hmac
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY = "groundplane", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def signature(
    secret: str, region: str, method: str, path: str, query: str, headers: dict[str, str]
) -> str:
    """`headers`: those that are signed, by lower-case name."""

    def sign(key: bytes, text: str) -> bytes:
        return hmac.new(key, text.encode(), hashlib.sha256).digest()

    canonical_headers = "".join(f"{k}:{v}\n" for k, v in sorted(headers.items()))
    canonical = (
        f"{method}\n{path}\n{query}\n{canonical_headers}\n{';'.join(sorted(headers))}\n"
        f"{headers['x-amz-content-sha256']}"
    )
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    request_hash = hashlib.sha256(canonical.encode()).hexdigest()
    key = sign(sign(sign(sign(b"AWS4" + secret.encode(), date[:8]), region), "s3"), "aws4_request")
    return sign(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{request_hash}").hex()


@dataclass
class Bucket:
    """`objects` by key; `page` names a list; `full`, `damages`: what it does to uploads."""

    url: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    page: int = 1000
    full: bool = False
    damages: bool = False
    requests: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def serving(cls, address: str = "127.0.0.1", port: int = 0) -> Iterator["Bucket"]:
        bucket = cls()

        class Handler(_Handler):
            store = bucket

        server = ThreadingHTTPServer((address, port), Handler)
        bucket.url = f"http://{address}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield bucket
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def target(self, prefix: str = "", **changes: str) -> dict[str, dict[str, str]]:
        settings = {"endpoint": self.url, "bucket": "etcd-backup", "prefix": prefix}
        keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        return {"s3": {**settings, "region": "eu-test-1", **keys, **changes}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Bucket

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing on the tests' output."""

    def do_GET(self) -> None:
        self.answer()

    do_PUT = do_DELETE = do_HEAD = do_GET  # noqa: N815  the library's names

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        self.store.requests.append(f"{self.command} {self.path}")
        if refusal := self.refusal(url.path, url.query, body):
            return self.say(403, f"<Error><Code>{refusal}</Code><Message>no</Message></Error>")
        _, bucket, *rest = unquote(url.path).split("/", 2)
        if bucket != "etcd-backup":
            return self.say(404, "<Error><Code>NoSuchBucket</Code><Message>no</Message></Error>")
        key, objects = "".join(rest), self.store.objects
        if self.command == "PUT":
            if self.store.full:
                return self.say(507, "<Error><Code>Full</Code><Message>no room</Message></Error>")
            objects[key] = body[:-1] if self.store.damages else body
            return self.say(200)
        if self.command == "DELETE":
            objects.pop(key, None)
            return self.say(204)
        if not key:
            return self.say(200, self.page(dict(parse_qsl(url.query))))
        if key not in objects:
            return self.say(404, "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>")
        return self.say(200, objects[key])

    def refusal(self, path: str, query: str, body: bytes) -> str:
        fields = self.headers.get("Authorization", "").removeprefix("AWS4-HMAC-SHA256 ")
        parts = dict(f.strip().split("=", 1) for f in fields.split(",") if "=" in f)
        access, _, region, *_ = [*parts.get("Credential", "").split("/"), "", "", ""]
        if access != ACCESS_KEY:
            return "InvalidAccessKeyId"
        if query != "&".join(sorted(query.split("&"))):
            return "QueryOutOfOrder"
        names = parts.get("SignedHeaders", "").split(";")
        headers = {name: self.headers.get(name, "") for name in names}
        if headers.get("x-amz-content-sha256") != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        wanted = signature(SECRET_KEY, region, self.command, path, query, headers)
        return "" if parts.get("Signature") == wanted else "SignatureDoesNotMatch"

    def page(self, query: dict[str, str]) -> str:
        prefix, after = query.get("prefix", ""), query.get("start-after", "")
        keys = sorted(k for k in self.store.objects if k.startswith(prefix) and k > after)
        keys = [k for k in keys if "/" not in k[len(prefix) :]]
        shown = keys[: self.store.page]
        contents = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.store.objects[k])}</Size></Contents>"
            for k in shown
        )
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(len(keys) > len(shown)).lower()}</IsTruncated>{contents}"
            "</ListBucketResult>"
        )

    def say(self, status: int, body: str | bytes = b"") -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(content)


if __name__ == "__main__":
    # For the end-to-end tests, in the lab's network: ADDRESS PORT, until stdin ends.
    with Bucket.serving(sys.argv[1], int(sys.argv[2])) as running:
        print(running.url, flush=True)
        sys.stdin.read()
