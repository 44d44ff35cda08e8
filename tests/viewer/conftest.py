from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mmrl.viewer.app import application
from mmrl.viewer.library import library
from mmrl.viewer.store import Store


class Viewer(TestClient):
    """A client that speaks to the viewer as its own page does."""

    def json(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = self.get(path, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    def settled(self, run: str) -> None:
        """Wait until the run's files are all read."""
        for _ in range(200):
            found = self.json("/api/live", run=run)["indexing"]
            if found["done"] == found["total"] > 0:
                return
        raise AssertionError(f"{run} was not read: {found}")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Callable[..., Viewer]]:
    """Opens a viewer of a path; its cache is the test's."""
    opened = []

    def open_viewer(path: Path, **safety: Any) -> Viewer:
        app = application(library(path, Store(tmp_path / "cache")), **safety)
        client = Viewer(app, base_url="http://127.0.0.1:8100", raise_server_exceptions=False)
        opened.append(client.__enter__())
        return client

    yield open_viewer
    for client in opened:
        client.__exit__(None, None, None)
