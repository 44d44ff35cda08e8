"""Answers that a browser need not fetch twice: a hash of what they hold, and ranges of files."""

from __future__ import annotations

import hashlib
from email.utils import formatdate
from pathlib import Path

from fastapi import Request
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmrl.viewer.files import TYPES

FOREVER = "private, max-age=31536000, immutable"
"""For what is named by its hash."""
ASK = "no-cache"
"""Keep it, and ask whether it is still the same."""


class HashedAnswers:
    """JSON answers with their hash as ETag; a client that has the same one is told so and sent nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = bytearray()

        async def collect(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] == 200 and _is_json(message):
                start = message
            elif start is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    await self._finish(scope, send, start, bytes(body))

        await self.app(scope, receive, collect)

    async def _finish(self, scope: Scope, send: Send, start: Message, body: bytes) -> None:
        tag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'.encode()
        asked = dict(scope["headers"]).get(b"if-none-match", b"")
        headers = [(b"etag", tag), (b"cache-control", ASK.encode())]
        if tag in [one.strip().removeprefix(b"W/") for one in asked.split(b",")]:
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({**start, "headers": [*start["headers"], *headers]})
        await send({"type": "http.response.body", "body": body})


def _is_json(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"application/json") for name, value in message["headers"])


def media_response(path: Path | None, name: str, request: Request) -> Response:
    """A file named by its hash, or the range of it that was asked for."""
    if path is None:
        raise HTTPException(404, "this file is not in the run's media folder: it was never kept, or was deleted")
    headers = {"cache-control": FOREVER, "etag": f'"{name}"', "content-security-policy": "default-src 'none'; sandbox"}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=TYPES[Path(name).suffix], headers=headers)


def file_response(path: Path, kind: str, request: Request) -> Response:
    """A file of the page, asked for again at every load."""
    about = path.stat()
    tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    headers = {"cache-control": ASK, "etag": tag, "last-modified": formatdate(about.st_mtime, usegmt=True)}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return FileResponse(path, media_type=kind, headers=headers)
