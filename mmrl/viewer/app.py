"""The routes. Each is a line or two: what it does is in the module it calls, what it answers in `answers.py`.

Everything under /api is this; every other path is a file of the page, or the page itself, whose address is its state.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from mmrl import __version__
from mmrl.plugins import ConfigError
from mmrl.viewer import answers, queries
from mmrl.viewer.annotations import Notebooks
from mmrl.viewer.documentation import document
from mmrl.viewer.export import export
from mmrl.viewer.files import TYPES
from mmrl.viewer.filters import GroupPage, RowPage
from mmrl.viewer.groups import group_view
from mmrl.viewer.media import Frames, video
from mmrl.viewer.page import page_file
from mmrl.viewer.safety import HEADERS, Guard
from mmrl.viewer.sending import HashedAnswers, file_response, media_response
from mmrl.viewer.subjects import Gone, Library

logger = logging.getLogger("mmrl.viewer")

AS_JSON = {"model": answers.Problem}


def application(library: Library, *, host: str = "127.0.0.1", token: str = "") -> FastAPI:
    """The viewer of a folder of runs, or of a data set, as an ASGI application."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        library.store.close()

    app = FastAPI(
        title="mmrl view",
        version=__version__,
        description="Reads run directories. Pixels are those of stored images, times are seconds.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses={"4XX": AS_JSON},
    )
    app.add_middleware(HashedAnswers)
    app.add_middleware(Guard, host=host, token=token)
    notebooks, frames = Notebooks(), Frames()

    @app.get("/api/runs")
    def list_runs() -> answers.RunList:
        """All runs, the latest first."""
        return answers.RunList(folder=library.name, runs=library.summaries())

    @app.get("/api/runs/{run}")
    def get_run(run: str) -> answers.RunDetail:
        """One run: its config, its events, and what its rollouts can be filtered by."""
        return library[run].detail()

    @app.get("/api/runs/{run}/metrics")
    def get_metrics(run: str, after: int | None = None) -> answers.Metrics:
        """Numbers per step, those after a step."""
        return library[run].metrics(after)

    @app.get("/api/runs/{run}/groups")
    def list_groups(run: str, asked: Annotated[GroupPage, Query()]) -> answers.GroupList:
        """Groups that are, or of which a row is, as the filters say."""
        found = library[run]
        steps = [asked.step] if asked.step is not None else []
        return queries.groups(found.index(steps=steps), run, asked, notebooks[found].stars())

    @app.get("/api/runs/{run}/rows")
    def list_rows(run: str, asked: Annotated[RowPage, Query()]) -> answers.RowList:
        """Single completions, likewise."""
        found = library[run]
        steps = [asked.step] if asked.step is not None else []
        return queries.rows(found.index(steps=steps), run, asked, notebooks[found].stars())

    @app.get("/api/runs/{run}/groups/{step}/{rank}/{group}")
    def get_group(run: str, step: int, rank: int, group: int) -> answers.GroupView:
        """One prompt with its media, and all its completions with scores, notes and predictions."""
        found = library[run]
        return group_view(found, step, rank, group, notebooks[found].all())

    @app.get("/api/runs/{run}/tokens/{step}/{rank}/{row}")
    def get_tokens(run: str, step: int, rank: int, row: int) -> answers.Tokens:
        """A completion token by token, or a picture by its denoising steps."""
        return library[run].tokens(step, rank, row)

    @app.get("/api/runs/{run}/history")
    def get_history(run: str, sample: str) -> answers.History:
        """One prompt over the steps."""
        return answers.History(sample_id=sample, points=queries.history(library[run].index(), sample))

    @app.get("/api/runs/{run}/media/{name}", response_class=Response)
    def get_media(run: str, name: str, request: Request) -> Response:
        """An image or a video by the hash it is named by; ranges of it for players."""
        found = library[run]
        path = found.media_path(name)
        if path is not None and found.kind == "dataset":  # named by its path, at which something else may come to stand
            return file_response(path, TYPES[path.suffix.lower()], request)
        return media_response(path, name, request)

    @app.get("/api/runs/{run}/frames/{step}/{rank}/{group}/{index}", response_class=Response)
    def get_frame(
        run: str, step: int, rank: int, group: int, index: int, request: Request, time: float | None = None
    ) -> Response:
        """A frame that the model saw, nearest to `time`; `index` counts the media of the prompt."""
        path, item = video(library[run], step, rank, group, index)
        content, kind = frames(path, item, time)
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    @app.get("/api/runs/{run}/annotations")
    def list_annotations(run: str) -> answers.Annotations:
        """Stars and notes."""
        return answers.Annotations(annotations=list(notebooks[library[run]].all().values()))

    @app.put("/api/runs/{run}/annotations")
    def put_annotation(run: str, mark: answers.Annotation) -> answers.Annotations:
        """Star or annotate a row; without star and note it has none."""
        found = library[run]
        if found.kind == "dataset":
            raise ConfigError("A data set cannot be annotated: only runs keep stars and notes.")
        found.check()
        notebooks[found].put(mark)
        return answers.Annotations(annotations=list(notebooks[found].all().values()))

    @app.post("/api/export", response_class=Response)
    def post_export(wanted: answers.ExportRequest) -> Response:
        """Rows as JSON Lines for `mmrl sft`, or as a zipped folder that opens from disk."""
        found = library[wanted.run]
        file = export(found, wanted, notebooks[found].all())
        disposition = f'attachment; filename="{file.name}"'
        return Response(file.content, media_type=file.kind, headers={"content-disposition": disposition})

    @app.get("/api/live")
    def get_live(run: str | None = None) -> answers.Live:
        """A version that differs when anything of a run, or of the list of runs, does: for polling."""
        if run is not None:
            return library[run].live()
        seen = [(found.id, found.step, found.state, found.updated) for found in library.summaries()]
        version = hashlib.sha256(repr(seen).encode()).hexdigest()[:16]
        nothing = answers.Indexing(done=0, total=0)
        return answers.Live(version=version, state=None, step=None, rollout_steps=0, indexing=nothing)

    @app.get("/api/docs", response_class=HTMLResponse, include_in_schema=False)
    def get_documentation() -> HTMLResponse:
        return HTMLResponse(document(app.openapi()))

    @app.api_route("/api/{path:path}", methods=["GET", "PUT", "POST", "DELETE", "PATCH"], include_in_schema=False)
    def no_such_route(path: str) -> Response:
        raise HTTPException(404, f"there is no /api/{path}; /api/docs lists what there is")

    @app.get("/{path:path}", response_class=Response, include_in_schema=False)
    def get_page(path: str, request: Request) -> Response:
        return page_file(path, request)

    _explain_errors(app)
    return app


def _explain_errors(app: FastAPI) -> None:
    """Every error is JSON with a sentence in `detail`."""

    def say(status: int, detail: str) -> JSONResponse:
        return JSONResponse({"detail": detail}, status)

    @app.exception_handler(ConfigError)
    async def wrong(request: Request, error: ConfigError) -> JSONResponse:
        return say(404 if isinstance(error, Gone) else 400, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found: list[Any] = list(error.errors())
        return say(422, "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in found[:3]))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return say(error.status_code, str(error.detail))

    @app.exception_handler(FileNotFoundError)
    async def vanished(request: Request, error: FileNotFoundError) -> JSONResponse:
        return say(404, f"{Path(str(error.filename)).name} went away while it was read; the run may have been deleted.")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        logger.exception("%s %s", request.method, request.url.path)
        answer = say(500, f"The viewer failed ({type(error).__name__}); its terminal shows where.")
        answer.headers.update(HEADERS)  # it is sent past the Guard
        return answer
