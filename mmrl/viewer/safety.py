"""Who may ask, and what a browser may do with the answers. Completions, prompts and file names are hostile.

A page of another site can make a browser send requests here, or, by pointing its own name at 127.0.0.1, read answers.
So the Host must be this server's, the Origin of a request, if it has one, this page's, and a change must be sent as
JSON, which no form can. On an address that others reach, a random token is asked for as well. The policy lets a browser
run the files of this server only: whatever slipped into a page as markup would still not run.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
COOKIE = "mmrl_view"
LONGEST_BODY = 4 << 20

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def _cookie(headers: dict[str, str]) -> str:
    """The token's name: browsers send cookies to all ports of a host, where other viewers may listen."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port if port.isdecimal() else 80}"


class Guard:
    """Answers what may not be asked, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", token: str = "") -> None:
        self.app, self.token = app, token
        self.names = names_of(host)
        """Hosts that requests may be for; with none of its own names, a server everywhere takes any address."""
        self.any_address = host in EVERYWHERE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # there are none
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                further = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in known
                ]
                message = {**message, "headers": [*message["headers"], *further]}
            await send(message)

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(send_with_headers, *refusal)
        elif (address := self._with_token(scope)) is not None:
            cookie = f"{_cookie(headers)}={self.token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send_with_headers, 303, "", {"location": address, "set-cookie": cookie})
        else:
            await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason for a request that must not be answered."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return (
                421,
                f"this server is not {host or 'a host without a name'}: open the address that `mmrl view` printed.",
            )
        origin = headers.get("origin")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc.lower() != host.lower()):
            return 403, "a page of another site asked; only the viewer's own page may."
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "a page of another site asked; only the viewer's own page may."
            if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
                return 415, "send application/json."
            if not headers.get("content-length", "").isdecimal():
                return 411, "say the length of what is sent (Content-Length)."
            if int(headers["content-length"]) > LONGEST_BODY:
                return 413, f"at most {LONGEST_BODY:,} bytes are read: choose by filters instead of single rows."
        if self.token and not self._has_token(headers) and self._with_token(scope) is None:
            return 401, "this viewer asks for its token: open the address with ?token=... that `mmrl view` printed."
        return None

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        return name in self.names or (self.any_address and _is_address(name))

    def _has_token(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(_cookie(headers))
        except CookieError:
            return False
        given = "" if cookie is None else cookie.value
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _with_token(self, scope: Scope) -> str | None:
        """The same address without its token, if it has the right one: it becomes a cookie and leaves the address."""
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        right = bool(self.token) and len(given) == 1 and hmac.compare_digest(given[0].encode(), self.token.encode())
        if not right or scope["method"] != "GET" or scope["path"].startswith("/api/"):
            return None
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + scope["path"].lstrip("/")  # two slashes would be another host
        return _encoded(path) + (f"?{rest}" if rest else "")


def names_of(host: str) -> Collection[str]:
    """What a server on this address may be called."""
    names = {*LOCAL}
    if host not in LOCAL:
        names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        if host not in EVERYWHERE:
            names.add(host.lower())
    return names


def _name(host: str) -> str:
    """Of a Host header, without its port and the brackets of an IPv6 address; empty where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _encoded(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


async def _answer(send: Send, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"detail": reason}).encode() if reason else b""
    all_headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    start = {"type": "http.response.start", "status": status}
    await send({**start, "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()]})
    await send({"type": "http.response.body", "body": body})
