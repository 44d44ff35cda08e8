"""`mmrl view`: opens the socket, says where, and serves until it is interrupted."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from urllib.parse import quote

from rich.console import Console

from mmrl.plugins import ConfigError

SHUTDOWN = 2
"""Seconds that requests under way are waited for."""


def serve(subject: Path, *, host: str, port: int, browser: bool, console: Console) -> None:
    """Show the runs of a folder, one run, or a data set. ConfigError if there is nothing to show, or no such port."""
    from mmrl.viewer.safety import LOCAL

    if not subject.exists():
        raise ConfigError(f"{subject} does not exist.\n  Give a folder of runs, a run, or a data set.")
    listening = _listen(host, port)
    token = "" if host in LOCAL else secrets.token_urlsafe(32)
    address = _address(listening, host) + (f"/?token={quote(token)}" if token else "/")
    # The socket takes connections from here on: a browser that is quicker than the imports below waits for them.
    console.print(f"mmrl view: {address}", highlight=False, markup=False, soft_wrap=True)
    if token:
        console.print("Others can reach this address; whoever has the token can read every run.", style="yellow")

    import uvicorn

    from mmrl.viewer.app import application
    from mmrl.viewer.library import library
    from mmrl.viewer.store import Store

    app = application(library(subject, Store()), host=host, token=token)
    if browser:
        import threading
        import webbrowser

        # A browser in the terminal would be waited for, and would wait for the server.
        threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=SHUTDOWN
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        raise ConfigError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}.\n"
            "  Choose another with --port; 0 takes a free one."
        ) from None
    return listening


def _address(listening: socket.socket, host: str) -> str:
    port = listening.getsockname()[1]
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname(), "": socket.gethostname()}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
