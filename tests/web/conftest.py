"""The page in the real Chromium, served by the real `mmrl view`, over runs made by the demo recipes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from real_pages import PATIENCE, SIZES, Trouble

from data_pipelines.gui.browser import find_browser
from mmrl.plugins import ConfigError

REPOSITORY = Path(__file__).parents[2]
DEMOS = {"gui": "gui", "video": "video", "charts": "charts-tiny", "uav": "uav", "dance": "figures"}
"""Recipe -> maker of its data."""


@pytest.fixture(scope="session")
def demo_runs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder with a run of every demo recipe, two steps long; made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    folder = shared / "demo"
    with FileLock(shared / "demo.lock"):
        if not (folder / "done").exists():
            _train_demos(folder)
            (folder / "done").touch()
    return folder / "runs"


def _train_demos(folder: Path) -> None:
    from rich.console import Console

    from data_pipelines.makers import MAKERS
    from mmrl.launch import run_training
    from mmrl.plugins import load

    for recipe, maker in DEMOS.items():
        data = folder / "data" / recipe
        settings: dict[str, Any] = {} if maker == "figures" else {"count": 12, "test_count": 2}
        load(maker, MAKERS, kind="dataset", where="tests")(data, **settings)
        overrides = {
            "name": recipe, "runs": folder / "runs",
            "data.train": data / "train.jsonl", "data.test": data / "test.jsonl", "steps": 2,
            "prompts_per_step": 8, "group_size": 6,
        }  # fmt: skip
        run_training(
            str(REPOSITORY / "configs" / "demo" / f"{recipe}.yaml"),
            [f"{name}={value}" for name, value in overrides.items()],
            resume=False,
            console=Console(quiet=True),
        )


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], str]]:
    """Starts `mmrl view` of a path, as a process of its own, and gives its address. Stopped at the end."""
    cache = tmp_path_factory.mktemp("cache")
    processes: dict[Path, tuple[subprocess.Popen[str], str]] = {}

    def start(subject: Path) -> str:
        if subject not in processes:
            process = subprocess.Popen(
                [sys.executable, "-m", "mmrl.cli", "view", str(subject), "--port", "0", "--no-browser"],
                cwd=REPOSITORY,
                env={**os.environ, "XDG_CACHE_HOME": str(cache)},
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "http://" in line, f"mmrl view said {line!r}"
            processes[subject] = (process, line.split("mmrl view:")[1].strip().rstrip("/"))
        return processes[subject][1]

    yield start
    for process, _ in processes.values():
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    try:
        executable = find_browser(None)
        from playwright.sync_api import sync_playwright
    except (ConfigError, ImportError) as error:
        pytest.skip(f"no page can be opened: {error}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--disable-gpu"], chromium_sandbox=os.geteuid() != 0
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def until() -> Callable[[Any, str], None]:
    """Waits until an expression is true in a page. Playwright's own way needs eval, which the page's policy forbids."""

    def wait(page: Any, expression: str) -> None:
        for _ in range(PATIENCE // 50):
            if page.evaluate(expression):
                return
            page.wait_for_timeout(50)
        raise AssertionError(f"never true: {expression}")

    return wait


@pytest.fixture(scope="session")
def checks() -> Callable[[str], str]:
    """A function of `checks.js` as an expression for a page."""
    source = (Path(__file__).parent / "checks.js").read_text(encoding="utf-8")
    body = source[source.index("({") :].rstrip().rstrip(";")
    return lambda name: f"() => {body}.{name}()"


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a fresh context; at the end of the test, no page may have had trouble."""
    trouble = Trouble()
    contexts = []

    def open_it(address: str, *, size: str = "laptop", theme: str = "light", expected: list[str] | None = None) -> Any:
        trouble.expected += expected or []
        context = chromium.new_context(viewport=SIZES[size], color_scheme=theme, reduced_motion="reduce")
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        trouble.watch(page)
        page.goto(address)
        page.wait_for_selector("main h1")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert trouble.found == []
