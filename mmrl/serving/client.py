"""HTTP to several servers at once: who is asked next, how long, how often, and what an operator is told in the end.

Workers, `concurrency` for each url, take requests from one queue, so a fast server does more of them and a dead one
none: after a lost connection a url is left alone for a while, then one worker tries it with one request. A failure
counts against its request, except where nobody was there at one url while another one is up.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from mmrl.faults.endings import Ending
from mmrl.plugins import ConfigError

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a second try; doubled before each further one."""
TRIED_AGAIN = frozenset({408, 425, 429})
"""Statuses below 500 after which the same request may succeed."""
PING = 10.0
"""Seconds to wait for a server before a run."""
EXCERPT = 300
"""Characters of an answer that a message shows."""


class ServerError(Ending):
    """No completion after all tries, none that can be learned from, or no server that takes the weights."""

    exit_code = 68


class BadAnswer(ValueError):
    """An answer that is none; what is wrong with it."""


@dataclass
class Server:
    """One url, and how it fares."""

    url: str
    failures: int = 0
    """Connections lost since the last answer."""
    until: float = 0.0
    """`time.monotonic()` before which nobody asks it."""
    returning: bool = False
    """It was away, and may have been started anew with other weights."""

    def lost(self) -> None:
        """Leave it alone for a while; requests that fail together count once."""
        self.returning = True
        if (now := time.monotonic()) >= self.until:
            self.failures += 1
            self.until = now + pause(self.failures)


def pause(failures: int) -> float:
    return min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)


@dataclass
class Request(Generic[T]):
    """A POST of JSON, and what to make of the answer."""

    where: str
    """The prompt, for messages."""
    path: str
    body: Callable[[], dict[str, Any]]
    """Made anew for each try: the weights that are asked for change."""
    read: Callable[[Any], T]
    """From the answer's JSON; BadAnswer where it is none."""
    most_bytes: int
    """Of the answer."""
    tries: int = 0
    problem: str = ""


@dataclass
class Servers:
    """All urls. `restore` is called with a server that was away before it is asked again."""

    urls: Sequence[str]
    concurrency: int
    timeout: float
    retries: int
    key: str = ""
    restore: Callable[[httpx.AsyncClient, Server], Awaitable[None]] | None = None
    failed: int = 0
    """Tries that failed since somebody last looked."""
    servers: list[Server] = field(default_factory=list)
    stopped: bool = False
    _under_way: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def __post_init__(self) -> None:
        self.servers = [Server(url.rstrip("/").removesuffix("/v1")) for url in self.urls]

    def ping(self) -> list[str]:
        """The urls where nobody answers; ConfigError if they are all of them. What is answered does not matter."""

        async def ask(client: httpx.AsyncClient, server: Server) -> str | None:
            try:
                await asyncio.wait_for(client.get(f"{server.url}/health"), PING)
            except (httpx.HTTPError, httpx.InvalidURL, asyncio.TimeoutError) as error:
                server.lost()
                return f"{server.url} ({said(error)})"
            return None

        async def ask_all() -> list[str | None]:
            async with self._client() as client:
                return await asyncio.gather(*(ask(client, server) for server in self.servers))

        silent = [word for word in self._run(ask_all()) if word]
        if len(silent) == len(self.servers):
            raise ConfigError(
                f"no rollout server answers at {', '.join(silent)}.\n  Start it first (docs/rollout_servers.md), or "
                "set server.urls, or rollout.engine=in_process."
            )
        return silent

    def ask(self, requests: Sequence[Request[T]]) -> list[T]:
        """The answers, in order. ServerError as soon as one request has failed for good; the others are given up."""
        return self._run(self._ask(requests)) if requests else []

    def each(self, call: Callable[[httpx.AsyncClient, Server], Awaitable[None]]) -> None:
        """`call` for every server that is there; one that fails is as if it had been away. ServerError if all fail."""

        async def one(client: httpx.AsyncClient, server: Server) -> str:
            try:
                await call(client, server)
            except (httpx.HTTPError, asyncio.TimeoutError, BadAnswer) as error:
                server.lost()
                return f"{server.url}: {said(error)}"
            server.returning = False
            return ""

        async def all_of_them() -> list[str]:
            async with self._client() as client:
                return await asyncio.gather(*(one(client, server) for server in self.servers))

        told = [word for word in self._run(all_of_them()) if word]
        if len(told) == len(self.servers):
            raise ServerError(
                "no rollout server took the new weights:\n  " + "\n  ".join(told) + "\n  Start one as "
                "docs/rollout_servers.md says, where it sees the run directory; then go on from the latest checkpoint "
                "with --resume."
            )

    def stop(self) -> None:
        """Give up what is under way, from another thread, and ask nothing more."""
        self.stopped = True
        if self._under_way is not None:
            loop, task = self._under_way
            loop.call_soon_threadsafe(task.cancel)

    async def post(
        self, client: httpx.AsyncClient, server: Server, path: str, body: dict[str, Any], *, most_bytes: int = 2**20
    ) -> tuple[int, bytes]:
        """Status and body of an answer, all of it within `timeout`."""

        async def exchange() -> tuple[int, bytes]:
            content = json.dumps(body).encode()
            async with client.stream("POST", server.url + path, content=content) as response:
                answer = bytearray()
                async for chunk in response.aiter_raw():
                    answer += chunk
                    if len(answer) > most_bytes:
                        raise BadAnswer(f"an answer of more than {most_bytes:,} bytes")
                return response.status_code, bytes(answer)

        return await asyncio.wait_for(exchange(), self.timeout)

    # -- inside --------------------------------------------------------------------------------------------------

    def _client(self) -> httpx.AsyncClient:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None), headers=headers)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        async def noted() -> T:
            if self.stopped:
                raise asyncio.CancelledError("the run is over")
            task = asyncio.current_task()
            assert task is not None
            self._under_way = asyncio.get_running_loop(), task
            try:
                return await work
            finally:
                self._under_way = None

        return asyncio.run(noted())

    async def _ask(self, requests: Sequence[Request[T]]) -> list[T]:
        # Most tried first: a request that nobody answers fails soon, instead of all of them late.
        queue: asyncio.PriorityQueue[tuple[int, int]] = asyncio.PriorityQueue()
        for index in range(len(requests)):
            queue.put_nowait((0, index))
        answers: dict[int, T] = {}
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work(client: httpx.AsyncClient, server: Server, probe: asyncio.Lock) -> None:
            while True:
                async with probe:  # one at a time while it is not known whether the server is there
                    while (wait := server.until - time.monotonic()) > 0:
                        await asyncio.sleep(wait)
                    _, index = await queue.get()
                    if server.failures:
                        await attempt(client, server, index)
                        continue
                await attempt(client, server, index)

        async def attempt(client: httpx.AsyncClient, server: Server, index: int) -> None:
            request = requests[index]
            try:
                answers[index] = await self._try(client, server, request)
            except (httpx.HTTPError, asyncio.TimeoutError, BadAnswer) as error:
                self.failed += 1
                others = any(other is not server and not other.failures for other in self.servers)
                request.tries += not (isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and others)
                request.problem = f"{server.url}: {said(error)}"
                if request.tries > self.retries:
                    raise ServerError(explained(request)) from None
                wait = 0.0 if server.failures else pause(request.tries)  # a lost server has a pause of its own
                asyncio.get_running_loop().call_later(wait, queue.put_nowait, (-request.tries, index))
            if len(answers) == len(requests) and not done.done():
                done.set_result(None)

        async with self._client() as client:
            workers = []
            for server in self.servers:
                probe = asyncio.Lock()
                workers += [asyncio.create_task(work(client, server, probe)) for _ in range(self.concurrency)]
            try:
                ended, _ = await asyncio.wait([done, *workers], return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        return [answers[index] for index in range(len(requests))]

    async def _try(self, client: httpx.AsyncClient, server: Server, request: Request[T]) -> T:
        try:
            if server.returning and self.restore is not None:
                await self.restore(client, server)
            server.returning = False
            status, answer = await self.post(
                client, server, request.path, request.body(), most_bytes=request.most_bytes
            )
        except (httpx.TransportError, asyncio.TimeoutError):
            server.lost()
            raise
        server.failures = 0
        if status == 404:
            server.returning = True
        if status == 200:
            return request.read(parsed(answer))
        problem = f"status {status}: {excerpt(answer)}"
        if status >= 500 or status in TRIED_AGAIN or (status == 404 and self.restore is not None):
            raise BadAnswer(problem)
        raise ServerError(
            f"{server.url}{request.path} refuses {request.where}: {problem}\n"
            "  It will not take it later either. Compare server.kind and server.model with what runs there."
        )


def parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise BadAnswer(f"no JSON: {excerpt(answer)}") from None


def excerpt(answer: bytes) -> str:
    text = "".join(c if c.isprintable() else " " for c in answer[: 4 * EXCERPT].decode("utf-8", "replace"))
    return text[:EXCERPT] + ("..." if len(text) > EXCERPT else "")


def said(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return "no complete answer in time"
    return str(error) if isinstance(error, BadAnswer) else f"{type(error).__name__} {error}".strip()


def explained(request: Request[Any]) -> str:
    times = f"{request.tries} tries" if request.tries > 1 else "one try"
    return (
        f"no completion of {request.where} after {times}; the last: {request.problem}\n"
        "  Is the server up, and does its log say why? Then go on from the latest checkpoint with --resume. "
        "server.retries, server.timeout and server.concurrency say how patiently it is asked."
    )
