"""A server for rewards that need an environment or a GPU of their own. Its client is `remote.py`.

    GET  /rewards    what it serves: names, ranges, scopes, what they read
    POST /score      a call in the form of `wire.py`, with `reward` if it serves several -> {"outcomes": [...]}

Every other answer is {"error": "..."} with its status. Settings are given when the server starts, never by a client:
they name files and devices. This module and what it imports need neither torch nor transformers, so that it runs in an
environment with old versions of both.
"""

from __future__ import annotations

import contextlib
import hmac
import math
import os
import sys
import threading
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mmrl.mappings import settings_from
from mmrl.plugins import ConfigError, nearest
from mmrl.records import Sample
from rewards import wire
from rewards.calling import Outcome
from rewards.entry import RESERVED, Entry

MAX_PIXELS = 2**28
"""Of all images of a request: a small PNG can hold a huge image."""
MAX_REQUESTS = 16
"""At a time, most of them waiting; more are answered 503, and the client tries again."""
SHUTDOWN = 3
"""Seconds that requests under way are waited for."""
LOCAL = ("127.0.0.1", "localhost", "::1")


class Served:
    """One reward, loaded, answering one request at a time."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.name = entry.name
        self.settings = entry.stage.settings_at(0, 1)
        self.lock = threading.Lock()
        entry.load(self.settings)

    def score(self, call: wire.Call) -> list[Outcome]:
        asked = [
            ([call.completions[row] for row in rows], [call.samples[row] for row in rows])
            for rows in _calls(self.entry.info.scope, call.samples)
        ]
        with self.lock:
            answers = self.entry.attempt_all(self.settings, asked)
        return [outcome for outcomes in answers for outcome in outcomes]

    def describe(self) -> dict[str, Any]:
        info = self.entry.info
        bounds = [bound if math.isfinite(bound) else None for bound in info.range]
        return {
            "name": self.name,
            "range": bounds,
            "scope": info.scope,
            "reads": info.reads,
            "needs": info.needs,
            "source": info.source,
        }


def _calls(scope: str, samples: Sequence[Sample]) -> list[list[int]]:
    """The rows of each call; neighbours with the same sample are a group."""
    rows = list(range(len(samples)))
    if scope == "row":
        return [[row] for row in rows]
    if scope == "group":
        return [list(group) for _, group in groupby(rows, key=lambda row: id(samples[row]))]
    return [rows] if rows else []


def application(served: Sequence[Served], *, max_bytes: int, token: str = "") -> Starlette:
    rewards = {one.name: one for one in served}

    async def list_rewards(request: Request) -> Response:
        _check_token(request, token)
        return _json({"rewards": [one.describe() for one in served]})

    async def score(request: Request) -> Response:
        _check_token(request, token)
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            raise HTTPException(415, "send application/json")  # which no page of another site can send from a browser
        body = await _body(request, max_bytes)
        return _json(await run_in_threadpool(_score, rewards, body))

    def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else f"{type(error).__name__}: {error}"
        return _json({"error": detail}, status)

    return Starlette(
        routes=[Route("/rewards", list_rewards), Route("/score", score, methods=["POST"])],
        exception_handlers={HTTPException: failed, Exception: failed},
    )


def _score(rewards: dict[str, Served], body: bytes) -> dict[str, Any]:
    try:
        value = wire.loads(body)
        asked = value if isinstance(value, dict) else {}
        name, whole_groups = asked.pop("reward", None), asked.pop("whole_groups", False)
        call = wire.decode_call(value, max_pixels=MAX_PIXELS)
    except ValueError as error:
        raise HTTPException(400, f"not a call: {error}") from None
    if name is None and len(rewards) == 1:
        (name,) = rewards
    if not isinstance(name, str) or name not in rewards:
        problem = f"no reward named {name}" if name else "`reward` is missing"
        raise HTTPException(404, f"{problem}. {nearest(str(name), rewards)}")
    if call.settings:
        raise HTTPException(400, "settings are given when the server starts: mmrl rewards serve --settings")
    reads, scope = rewards[name].entry.info.reads, rewards[name].entry.info.scope
    if scope == "group" and whole_groups is not True:
        raise HTTPException(400, f"{name} compares the completions of a sample: set whole_groups: true")
    for row, completion in enumerate(call.completions):
        kind = "text" if isinstance(completion, str) else "video" if isinstance(completion, list) else "image"
        if reads not in ("any", kind):
            raise HTTPException(400, f"{name} reads {reads}; completions[{row}] is {kind}")
    return wire.encode_outcomes(rewards[name].score(call))


async def _body(request: Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise HTTPException(413, f"a request has at most {max_bytes:,} bytes: send fewer rows at a time")
    return bytes(body)


def _check_token(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "the header Authorization is not `Bearer` and the token of this server")


def _json(value: Any, status: int = 200) -> Response:
    return Response(wire.dumps(value), status, media_type="application/json")


def serve(
    names: Sequence[str],
    *,
    host: str,
    port: int,
    max_bytes: int,
    timeout: float | None,
    settings: Sequence[str],
    token_env: str,
) -> None:
    """Load the rewards and serve them until interrupted. Raises `ConfigError` for what is not a reward or a setting.

    `settings` are `reward.key=value`. `timeout`, seconds a call may take, makes every reward run in a worker process.
    """
    import uvicorn

    token = os.environ.get(token_env, "") if token_env else ""
    if token_env and not token:
        raise ConfigError(f"--token-env: the environment variable {token_env} is empty.")
    served = load(names, settings, timeout=timeout)
    if host not in LOCAL and not token:
        print(f"warning: whoever reaches {host}:{port} can use this server; see --token-env.", file=sys.stderr)

    config = uvicorn.Config(
        application(served, max_bytes=max_bytes, token=token),
        host=host,
        port=port,
        log_level="warning",
        limit_concurrency=MAX_REQUESTS,
        timeout_graceful_shutdown=SHUTDOWN,
    )
    listening = config.bind_socket()
    listening.listen()  # whoever reads the address may connect at once
    address = f"http://{host}:{listening.getsockname()[1]}"
    print(f"serving {', '.join(one.name for one in served)} on {address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    for one in served:
        one.entry.close()
    os._exit(0)  # not `return`, which waits for threads: a reward may hang in one


def load(names: Sequence[str], settings: Sequence[str], *, timeout: float | None) -> list[Served]:
    """The rewards with their settings. Raises `ConfigError`, and whatever the loading of a model raises."""
    where = "mmrl rewards serve"
    known = {name.rpartition(":")[2] for name in names}
    given: dict[str, Any] = {key: {} for key in known} | settings_from(settings)
    for key, chosen in given.items():
        if key not in known or not isinstance(chosen, dict):
            raise ConfigError(f"{where}: --settings is NAME.setting=value; found {key}.\n  {nearest(key, known)}")
        if mistaken := sorted(set(chosen) & set(RESERVED)):
            raise ConfigError(f"{where}: {key}.{mistaken[0]} belongs to the recipe that uses the reward.")
    limit = {} if timeout is None else {"timeout": timeout}
    entries = [
        Entry.from_config({"name": name, **limit, **given[name.rpartition(":")[2]]}, where=where) for name in names
    ]
    for entry in entries:
        if entry.info.reads == "rollouts":
            raise ConfigError(f"{where}: {entry.name} reads rollouts, which exist only where they are made.")
        if sum(entry.name == other.name for other in entries) > 1:
            raise ConfigError(f"{where}: two rewards named {entry.name}; serve them on two ports.")
    return [Served(entry) for entry in entries]
