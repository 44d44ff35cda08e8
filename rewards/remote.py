"""A reward on a server: `mmrl rewards serve`, or anything that answers `POST /score` in the form of `wire.py`.

What goes wrong is the failure of the rows that were asked, with the reason: a server that is not there, answers
garbage, redirects, sends without end or drips. Nothing waits longer than `request_timeout` per request.
"""

from __future__ import annotations

import math
import os
import queue
import reprlib
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from mmrl.records import Sample
from rewards import wire
from rewards.calling import Outcome
from rewards.registry import reward as declare

PING = 10.0
"""Seconds to wait for a server before a run."""
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled before each further one."""


@declare(range=(-math.inf, math.inf), scope="batch", reads="any", source="mmrl")
class remote:
    """The value of a reward on a server, for completions of any kind; see docs/reward_servers.md.

    Settings: `url` of the server; `reward`, a name if it serves several; `request_timeout`, seconds for one request
    with all its attempts; `retries` after a lost connection and the answers 429 and 5xx, after 0.5, 1, 2 ... s;
    `batch_size`, rows per request; `whole_groups`, whether those of one sample travel together, however many, for a
    reward that compares them; `max_bytes` of a request and of an answer; `token_env`, the environment variable that
    holds the token of the server.
    """

    waits = True

    def __init__(
        self,
        *,
        url: str,
        reward: str = "",
        request_timeout: float = 60.0,
        retries: int = 3,
        batch_size: int = 16,
        whole_groups: bool = False,
        max_bytes: int = wire.MAX_BYTES,
        token_env: str = "",
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is the http:// or https:// address of a reward server; found {url!r}")
        if min(request_timeout, batch_size, max_bytes) <= 0 or retries < 0:
            raise ValueError("request_timeout, batch_size and max_bytes are positive, retries is not negative")
        if token_env and not os.environ.get(token_env):
            raise ValueError(f"token_env: the environment variable {token_env} is empty")
        self.url = f"{url.rstrip('/').removesuffix('/score')}/score"
        self.about = {key: value for key, value in (("reward", reward), ("whole_groups", whole_groups)) if value}
        self.request_timeout, self.retries = request_timeout, retries
        self.batch_size, self.whole_groups, self.max_bytes = batch_size, whole_groups, max_bytes
        self.token = os.environ.get(token_env, "")

    def ping(self) -> None:
        """Raise ConnectionError if nobody answers at the address; what is answered does not matter."""
        import requests

        try:
            requests.get(self.url, timeout=PING, allow_redirects=False, stream=True).close()
        except requests.RequestException as error:
            raise ConnectionError(f"no reward server answers at {self.url} ({type(error).__name__})") from None

    def __call__(self, completions: Sequence[Any], samples: Sequence[Sample]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for rows in self._requests(samples):
            part = slice(rows.start, rows.stop)
            try:
                outcomes += self._ask(completions[part], samples[part])
            except Exception as error:
                outcomes += [error] * len(rows)
        return outcomes

    def _requests(self, samples: Sequence[Sample]) -> Iterator[range]:
        """The rows of each request."""
        together = (
            [len(list(group)) for _, group in groupby(samples, key=id)] if self.whole_groups else [1] * len(samples)
        )
        start = stop = 0
        for size in together:
            if stop > start and stop + size - start > self.batch_size:
                yield range(start, stop)
                start = stop
            stop += size
        if stop > start:
            yield range(start, stop)

    def _ask(self, completions: Sequence[Any], samples: Sequence[Sample]) -> list[Outcome]:
        import requests

        body = wire.dumps({**self.about, **wire.encode_call(completions, samples)})
        if len(body) > self.max_bytes:
            raise ValueError(
                f"{len(completions)} completions make a request of {len(body):,} bytes, more than max_bytes = "
                f"{self.max_bytes:,}; lower batch_size ({self.batch_size})"
            )
        deadline = time.monotonic() + self.request_timeout
        for attempt in range(self.retries + 1):
            problem: Exception
            try:
                status, answer = self._post(body, deadline)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                problem = ConnectionError(f"{self.url}: {error}")
            else:
                if status == 200:
                    return self._read(answer, count=len(completions))
                problem = ValueError(f"{self.url} answered {status}: {_excerpt(answer)}")
                if status != 429 and status < 500:
                    break
            pause = FIRST_PAUSE * 2**attempt
            if attempt == self.retries or time.monotonic() + pause >= deadline:
                break
            time.sleep(pause)
        raise problem

    def _read(self, answer: bytes, *, count: int) -> list[Outcome]:
        try:
            value = wire.loads(answer)
        except ValueError as error:
            raise ValueError(f"{self.url} answered no JSON ({error}): {_excerpt(answer)}") from None
        try:
            return wire.decode_outcomes(value, count=count)
        except ValueError as error:
            raise ValueError(f"{self.url} {error}") from None

    def _post(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        """Status and body of the answer. TimeoutError at the deadline, whatever the server is doing.

        In a thread of its own, because time limits of sockets begin anew with every byte that arrives.
        """
        answers: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()

        def exchange() -> None:
            try:
                answers.put(self._exchange(body, deadline))
            except Exception as error:
                answers.put(error)

        threading.Thread(target=exchange, daemon=True).start()
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"{self.url}: no complete answer within {self.request_timeout:g} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _exchange(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        import requests

        def authorized(request: Any) -> Any:
            if self.token:
                request.headers["Authorization"] = f"Bearer {self.token}"
            return request

        with requests.post(
            self.url,
            data=body,
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            auth=authorized,  # given, no password of ~/.netrc takes its place
            timeout=max(0.0, deadline - time.monotonic()) + 1.0,
            allow_redirects=False,
            stream=True,
        ) as response:
            answer = bytearray()
            for chunk in response.iter_content(1024):
                answer += chunk
                if len(answer) > self.max_bytes:
                    raise ValueError(f"{self.url} answered more than max_bytes = {self.max_bytes:,}")
                if time.monotonic() > deadline:
                    break
            if response.is_redirect:
                raise ValueError(f"{self.url} redirects to {response.headers['Location']!r}; give the address itself")
            return response.status_code, bytes(answer)


def _excerpt(answer: bytes) -> str:
    """What an answer says: the `error` of a reward server, else its beginning."""
    try:
        return str(wire.loads(answer)["error"])[: wire.LONGEST_MESSAGE]
    except (ValueError, TypeError, KeyError):
        return reprlib.repr(answer[:200].decode("utf-8", "replace"))
