"""The files of the page: `web/`, and the chart library out of its Python package. Any other path is the page."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mmrl.viewer.sending import file_response

FOLDER = Path(__file__).resolve().parent / "web"
TYPES = {
    ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png",
    ".ico": "image/x-icon", ".woff2": "font/woff2", ".json": "application/manifest+json",
}  # fmt: skip
CHARTS = "vendor/plotly.min.js"


def page_file(path: str, request: Request) -> Response:
    """The file of the page at `path`; index.html where the path is none, for the page reads its state from it."""
    if path == CHARTS:
        return file_response(charts(), TYPES[".js"], request)
    if "\0" in path:
        raise HTTPException(404, "the page has no such file")
    file = (FOLDER / path).resolve()
    kind = TYPES.get(file.suffix)
    if kind and file.is_relative_to(FOLDER.resolve()) and file.is_file():
        return file_response(file, kind, request)
    if kind and not path.startswith("run/"):  # a run may be called anything, `run.js` among them
        raise HTTPException(404, f"the page has no file {path}")
    index = FOLDER / "index.html"
    if not index.is_file():
        raise HTTPException(404, f"the page is not installed: {index} is missing. Reinstall mmrl.")
    return file_response(index, TYPES[".html"], request)


@cache
def charts() -> Path:
    """plotly.min.js, without importing plotly."""
    found = importlib.util.find_spec("plotly")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise HTTPException(404, "plotly is not installed: pip install plotly")
    return Path(folders[0]) / "package_data" / "plotly.min.js"
