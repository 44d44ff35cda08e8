"""Rewards on a server, from the client's side: local servers that answer garbage of every kind, late or never."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable

import pytest
from reward_rows import rollouts

from mmrl.records import Sample
from rewards import Score, wire
from rewards import remote as remote_module
from rewards.calling import RemoteError
from rewards.remote import remote
from rewards.scoring import RewardFailure, Rewards

os.environ["NO_PROXY"] = "127.0.0.1"

SAMPLE = Sample("s", ({"role": "user", "content": "?"},))


def ask(url: str, texts: list, samples: list[Sample] | None = None, **settings):
    return remote(url=url, **settings)(texts, samples or [SAMPLE] * len(texts))


@pytest.mark.parametrize(
    ("batch_size", "whole", "rows"),
    [(1, [2, 1, 3], [1] * 6), (3, [3, 3], [3, 3]), (4, [3, 3], [4, 2]), (100, [6], [6])],
)
def test_the_rows_of_a_request(batch_size, whole, rows):
    samples = [sample for size in (2, 1, 3) for sample in [Sample(str(size), ())] * size]
    for whole_groups, sizes in ((True, whole), (False, rows)):
        one = remote(url="http://x", batch_size=batch_size, whole_groups=whole_groups)
        requests = list(one._requests(samples))
        assert [len(part) for part in requests] == sizes
        assert [row for part in requests for row in part] == list(range(6))
    assert list(one._requests([])) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "localhost:8000"}, "http:// or https://"),
        ({"url": "file:///etc/passwd"}, "http:// or https://"),
        ({"url": "http://x", "batch_size": 0}, "positive"),
        ({"url": "http://x", "request_timeout": 0}, "positive"),
        ({"url": "http://x", "retries": -1}, "not negative"),
    ],
)
def test_a_mistake_in_the_settings_says_what_to_do(settings, message):
    with pytest.raises(ValueError, match=message):
        remote(**settings)


class Garbage:
    """A local server that reads a request and then does what `answer(connection, n)` does, n counting requests."""

    def __init__(self, answer: Callable[[socket.socket, int], None]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.answer, self.count = answer, 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._serve, args=self.socket.accept()[:1], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(65536)
            head, _, body = request.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
            while len(body) < length:
                body += connection.recv(65536)
            self.count += 1
            self.answer(connection, self.count)


@pytest.fixture
def garbage(monkeypatch):
    monkeypatch.setattr(remote_module, "FIRST_PAUSE", 0.01)
    servers = []

    def start(answer: Callable[[socket.socket, int], None]) -> Garbage:
        servers.append(Garbage(answer))
        return servers[-1]

    yield start
    for one in servers:
        one.socket.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def fine(*values: float) -> bytes:
    return http(wire.dumps(wire.encode_outcomes([Score(value) for value in values])))


def drip(connection: socket.socket, data: bytes) -> None:
    for byte in data:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"[" * 65536 + b"\r\n")


GARBAGE = {
    "nothing": (b"", "ConnectionError"),
    "no http": (b"\x80\x04K\x01.\r\n\r\n", "ConnectionError"),
    "pickle": (http(b"\x80\x04K\x01."), "answered no JSON"),
    "html": (http(b"<html>hello</html>"), "answered no JSON .*<html>hello"),
    "empty": (http(b""), "answered no JSON"),
    "nan": (http(b'{"outcomes": [{"value": NaN}, {"value": 1}]}'), "NaN is not JSON"),
    "deep": (http(b"[" * 100_000), "nested too deeply"),
    "digits": (http(b'{"outcomes": [' + b"1" * 5000 + b", 1]}"), "answered no JSON"),
    "a list": (http(b"[0.5, 0.5]"), r"an answer is \{"),
    "one value": (http(b'{"outcomes": [{"value": 0.5}]}'), "1 outcomes for 2 completions"),
    "three values": (http(b'{"outcomes": [null, null, null]}'), "3 outcomes for 2 completions"),
    "strings": (http(b'{"outcomes": ["0.5", {"value": "0.5"}]}'), "an outcome is null or"),
    "infinite": (http(b'{"outcomes": [{"value": 1e999}, {"value": -1e39}]}'), "an outcome is null or"),
    "redirect": (http(b"", "302 Found", "Location: http://127.0.0.1:1/"), "redirects to 'http://127.0.0.1:1/'"),
    "not found": (http(b"<h1>404</h1>", "404 Not Found"), "answered 404: '<h1>404"),
    "error": (http(b'{"error": "no GPU"}', "500 Oops"), "answered 500: no GPU"),
    "cut": (http(b'{"outcomes": [nul')[:-3], "ConnectionError"),
    "ten gigabytes": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n" + b"1" * 200_000,
        "more than max_bytes",
    ),
    "a flood": (flood, "more than max_bytes"),
    "silence": (lambda connection: time.sleep(5), "TimeoutError.*no complete answer within 0.5 s"),
    "a slow body": (lambda connection: drip(connection, http(b" " * 1000)), "no complete answer within 0.5 s"),
    "a slow head": (lambda connection: drip(connection, b"HTTP/1.1 200 OK\r\nX: " + b"a" * 999), "no complete answer"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_fails_its_rows_with_the_reason_and_in_time(garbage, kind):
    what, reason = GARBAGE[kind]

    def answer(connection: socket.socket, count: int) -> None:
        if callable(what):
            what(connection)
        else:
            connection.sendall(what)

    begin = time.perf_counter()
    outcomes = ask(garbage(answer).url, ["a", "b"], request_timeout=0.5, retries=1, max_bytes=150_000)
    assert time.perf_counter() - begin < 10
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert isinstance(outcome, Exception)
        assert re.search(reason, f"{type(outcome).__name__}: {outcome}")
        assert len(str(outcome)) < 1000


def test_it_succeeds_at_the_third_attempt(garbage):
    answers = [b"", http(b"busy", "503 Busy"), fine(0.25, 0.75)]
    one = garbage(lambda connection, count: connection.sendall(answers[count - 1]))
    assert ask(one.url, ["a", "b"]) == [Score(0.25), Score(0.75)]
    assert one.count == 3


@pytest.mark.parametrize(
    ("answer", "attempts"),
    [(http(b"slow down", "429 Too Many"), 3), (http(b"", "500 Oops"), 3), (b"", 3), (http(b"", "400 Bad"), 1),
     (http(b"", "401 Who"), 1), (http(b"[]"), 1), (http(b"", "307 Moved", "Location: /"), 1)],
)  # fmt: skip
def test_only_lost_connections_and_busy_servers_are_asked_again(garbage, answer, attempts):
    one = garbage(lambda connection, count: connection.sendall(answer))
    assert isinstance(ask(one.url, ["a"], retries=2)[0], Exception)
    assert one.count == attempts


def test_a_server_that_is_not_there_fails_its_rows(garbage):
    one = garbage(lambda connection, count: None)
    one.socket.close()
    (outcome,) = ask(one.url, ["a"], retries=1)
    assert isinstance(outcome, ConnectionError) and one.url in str(outcome)


def test_attempts_end_with_the_time(garbage, monkeypatch):
    monkeypatch.setattr(remote_module, "FIRST_PAUSE", 0.2)
    one = garbage(lambda connection, count: connection.sendall(http(b"", "503 Busy")))
    begin = time.perf_counter()
    assert "answered 503" in str(ask(one.url, ["a"], retries=50, request_timeout=0.5)[0])
    assert time.perf_counter() - begin < 5
    assert one.count == 2


def test_a_run_goes_on_or_stops_as_configured(garbage):
    answers = [fine(1, 2), http(b'{"outcomes": [null, {"error": {"type": "OSError", "message": "no GPU"}}]}'),
               http(b"garbage")]  # fmt: skip
    spec = {"url": "", "name": "remote", "as": "video", "batch_size": 2, "weight": 2.0}
    one = garbage(lambda connection, count: connection.sendall(answers[(count - 1) % 3]))
    spec["url"] = one.url

    rolled = rollouts([["text"] * 2] * 3)
    rewards = Rewards.from_config([spec], where="recipe.yaml: rewards", max_failed=0.5)
    assert rewards.entries[0].waits
    rewards.score(rolled, step=0, total=1)
    assert rolled.reward.nan_to_num(nan=-1.0).tolist() == [2, 4, -1, -1, -1, -1]
    assert [notes.get("video", {}).get("error", "")[:36] for notes in rolled.notes] == [
        "", "", "", "OSError: no GPU", *[f"ValueError: {one.url}/score"[:36]] * 2
    ]  # fmt: skip
    assert rewards.metrics(rolled) == {"score/video": 1.5, "failed/video": 3}

    with pytest.raises(RewardFailure, match=r"failed on 3 of 6.*\n.*OSError: no GPU"):
        Rewards.from_config([spec], where="w", max_failed=0.4).score(rollouts([["text"] * 2] * 3), step=0, total=1)


def test_a_remote_reward_runs_in_a_worker_too(garbage):
    one = garbage(lambda connection, count: connection.sendall(fine(1, 1)))
    spec = {"name": "remote", "url": one.url, "timeout": 5.0}
    rewards = Rewards.from_config([spec], where="w")
    rolled = rollouts([["text"] * 2])
    rewards.score(rolled, step=0, total=1)
    rewards.close()
    assert rolled.reward.tolist() == [1, 1]


def test_an_error_of_the_server_is_not_code():
    (outcome,) = wire.decode_outcomes({"outcomes": [{"error": {"type": "os.system", "message": "x"}}]}, count=1)
    assert type(outcome) is RemoteError
