"""The download server: ranges and every fault, over real connections on the loopback."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.mirror.access import accesses
from lab.mirror.server import Running, running

CONTENT = bytes(range(256)) * 10
PATH = "/dl.example/v1/tool"


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Running]:
    file = tmp_path / "files" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    with running(tmp_path / "files", tmp_path) as server:
        yield server


class Answer:
    """What came back: the status, the headers, and as much of the body as arrived."""

    def __init__(self, mirror: Running, path: str = PATH, method: str = "GET", **headers: str):
        connection = http.client.HTTPConnection(mirror.url.removeprefix("http://"), timeout=5)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        self.status, self.headers = response.status, response.headers
        try:
            self.body, self.whole = response.read(), True
        except http.client.IncompleteRead as error:
            self.body, self.whole = error.partial, False
        connection.close()


RANGES = {
    "the end": ("bytes=2000-", 206, CONTENT[2000:], "bytes 2000-2559/2560"),
    "a part": ("bytes=3-5", 206, CONTENT[3:6], "bytes 3-5/2560"),
    "more than there is": ("bytes=2550-9999", 206, CONTENT[2550:], "bytes 2550-2559/2560"),
    "behind the end": ("bytes=2560-", 416, b"", None),
    "of another form": ("lines=1-2", 200, CONTENT, None),
}


@pytest.mark.parametrize("case", RANGES.values(), ids=RANGES.keys())
def test_ranges(mirror: Running, case: tuple[str, int, bytes, str | None]) -> None:
    wanted, status, body, content_range = case
    answer = Answer(mirror, Range=wanted)
    assert (answer.status, answer.body) == (status, body)
    assert answer.headers["Content-Range"] == content_range


def test_head_sends_no_body(mirror: Running) -> None:
    answer = Answer(mirror, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Content-Length"] == "2560"


@pytest.mark.parametrize(
    "path", ["/dl.example/v1/other", "/dl.example", "/../faults.json", "/%2e%2e/faults.json"]
)
def test_only_files_below_the_root(mirror: Running, path: str) -> None:
    mirror.set_faults([])  # so that ../faults.json exists
    assert Answer(mirror, path).status == 404


def test_status_so_many_times(mirror: Running) -> None:
    mirror.set_faults([{"path": PATH, "status": 429, "retry_after": 1, "times": 2}])
    answers = [Answer(mirror) for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "1"


def test_status_until_the_rules_change(mirror: Running) -> None:
    mirror.set_faults([{"path": "*/tool", "status": 503}])
    assert [Answer(mirror).status for _ in range(3)] == [503] * 3
    mirror.set_faults([])
    assert Answer(mirror).body == CONTENT


def test_setting_a_rule_again_counts_anew(mirror: Running) -> None:
    for _ in range(2):
        mirror.set_faults([{"path": PATH, "status": 503, "times": 1}])
        assert [Answer(mirror).status for _ in range(2)] == [503, 200]


def test_truncated_then_resumed(mirror: Running) -> None:
    mirror.set_faults([{"path": PATH, "truncate": 1000, "times": 1}])
    first = Answer(mirror)
    assert (first.whole, first.body) == (False, CONTENT[:1000])
    rest = Answer(mirror, Range="bytes=1000-")
    assert first.body + rest.body == CONTENT


def test_one_byte_is_another(mirror: Running) -> None:
    mirror.set_faults([{"path": PATH, "corrupt": 7}])
    pairs = zip(Answer(mirror).body, CONTENT, strict=True)
    differing = [at for at, (found, sent) in enumerate(pairs) if found != sent]
    assert differing == [7]
    assert Answer(mirror, Range="bytes=8-").body == CONTENT[8:]


def test_off(mirror: Running) -> None:
    mirror.set_faults([{"path": "*", "off": True}])
    with pytest.raises(ConnectionResetError):
        Answer(mirror)


def test_only_what_the_pattern_names(mirror: Running) -> None:
    mirror.set_faults([{"path": "/dl.example/v2/*", "off": True}])
    assert Answer(mirror).status == 200


def test_log_says_what_was_sent(mirror: Running) -> None:
    mirror.set_faults([{"path": PATH, "truncate": 10, "times": 1}])
    Answer(mirror)
    Answer(mirror, "/missing")
    seen = [(one.method, one.path, one.status, one.size) for one in accesses(mirror.server.log)]
    assert seen == [("GET", PATH, 200, 10), ("GET", "/missing", 404, 0)]


def test_log_of_the_registry_reads_alike(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(
        '198.18.0.11 - - [24/Nov/2026:02:30:00 +0000] "GET /v2/pause/manifests/3.10.2?ns=registry'
        '.k8s.io HTTP/1.1" 200 424 "" "containerd/v2.3.7"\n'
    )
    (only,) = accesses(log)
    assert only.path.startswith("/v2/pause/manifests/3.10.2")
    assert (only.client, only.status, only.size) == ("198.18.0.11", 200, 424)
