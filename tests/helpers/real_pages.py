"""What tests of the viewer's page share: window sizes, patience, and what a page must never have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SIZES = {"laptop": {"width": 1380, "height": 860}, "phone": {"width": 390, "height": 844}}
PATIENCE = 60_000
"""Milliseconds for anything on a machine that has other work."""


@dataclass
class Trouble:
    """What a page must never have: dialogs, errors, breaches of its policy, requests to other places."""

    found: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of messages that a test provokes."""

    def watch(self, page: Any) -> None:
        def said(message: Any) -> None:
            if message.type in ("error", "warning"):
                self.add(f"console: {message.text} {message.location.get('url', '')}")

        def asked(dialog: Any) -> None:
            self.add(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("console", said)
        page.on("dialog", asked)
        page.on("pageerror", lambda error: self.add(f"error: {error}"))
        page.on("request", lambda request: self._own(page, request.url))

    def _own(self, page: Any, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:")):
            self.add(f"request: {url}")

    def add(self, text: str) -> None:
        if not any(part in text for part in self.expected):
            self.found.append(text)
