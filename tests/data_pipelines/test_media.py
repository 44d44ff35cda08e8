"""Media: sizes, digests and frame times are those of the file and of what the model sees."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines import media
from data_pipelines.budget import vision_process, within
from data_pipelines.cache import ByteCache
from data_pipelines.decoding import Decoders
from data_pipelines.media import (
    Budget,
    Decoding,
    configure,
    load,
    measured,
    open_image,
    outcome,
    probe,
    readers_used,
    verify,
)
from mmrl.records import Sample


def picture(path: Path, size: tuple[int, int], **options) -> Path:
    Image.new("RGB", size, "white").save(path, **options)
    return path


def movie(path: Path, *, frames: int = 40, fps: int = 10, size: tuple[int, int] = (64, 48), rotation: int = 0) -> Path:
    """Frame i is a flat grey of 6 * i (modulo 256), darker in its left half."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(frames):
            pixels = np.full((size[1], size[0], 3), 6 * i % 256, np.uint8)
            pixels[:, : size[0] // 2] //= 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def ask(kind: str, path: Path, **settings) -> list[dict]:
    return [{"role": "user", "content": [{"type": kind, kind: str(path), **settings}, {"type": "text", "text": "?"}]}]


@pytest.fixture(params=["decord", "pyav"])
def reader(request, monkeypatch):
    """Both installed ways to read a container file; the second reads what decord cannot, and where there is none."""
    if request.param == "decord":
        pytest.importorskip("decord")
    describe = Decoders.describe
    monkeypatch.setattr(Decoders, "describe", lambda *args: replace(describe(*args), readers=(request.param,)))
    configure(Decoding(cache_bytes=0))
    yield request.param
    configure(Decoding())


def test_a_portrait_photo_has_its_upright_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "phone.jpg", (40, 20), exif=exif)
    found = probe(path, "image")
    assert found.size == open_image(path).size == (20, 40)
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    verify(found)
    assert load(ask("image", path), Budget(), patch_size=5).seen == ((20, 40),)


def test_transparency_is_seen_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    image = open_image(tmp_path / "clear.png")
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_a_file_that_changes_is_probed_again(tmp_path):
    path = picture(tmp_path / "1.png", (8, 8))
    before = probe(path, "image")
    assert probe(path, "image") is before
    picture(path, (16, 8))
    assert probe(path, "image").size == (16, 8)


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(16, 300), st.integers(16, 300)),
    patch_size=st.sampled_from([8, 14, 16]),
    tokens=st.tuples(st.integers(1, 30), st.integers(60, 200)),
)
def test_seen_images_keep_the_budget(tmp_path_factory, size, patch_size, tokens):
    path = picture(tmp_path_factory.mktemp("images") / "1.png", size)
    per_token = (2 * patch_size) ** 2
    low, high = (count * per_token for count in tokens)
    loaded = load(ask("image", path), Budget(min_pixels=low, max_pixels=high), patch_size=patch_size)
    ((width, height),) = loaded.seen
    assert loaded.images[0].size == (width, height)
    assert width % (2 * patch_size) == height % (2 * patch_size) == 0
    assert low <= width * height <= high


def test_a_budget_under_the_default_minimum_holds_and_a_part_may_set_its_own(tmp_path):
    path = picture(tmp_path / "1.png", (400, 400))
    assert load(ask("image", path), Budget(max_pixels=256), patch_size=8).seen == ((16, 16),)
    assert load(ask("image", path, max_pixels=64 * 64), Budget(max_pixels=256), patch_size=8).seen == ((64, 64),)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"min_pixels": 100, "max_pixels": 50}, "min_pixels 100 is above"),
        ({"fps": 0.0}, "fps = 0.0"),
        ({"max_frames": 1}, "at least 2"),
        ({"max_tokens": -1}, "must be positive"),
    ],
)
def test_an_impossible_budget_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Budget(**settings)


def test_frame_times_are_those_of_the_frames_seen(tmp_path, reader):
    path = movie(tmp_path / "a.mp4")
    loaded = load(ask("video", path), Budget(fps=2, max_pixels=4096), patch_size=8)
    (frames,), (times,), ((width, height),) = loaded.videos, loaded.times, loaded.seen
    assert frames.shape == (len(times), 3, height, width)
    assert width * height <= 4096
    # The right half of frame i is grey 6 * i, up to the codec's rounding.
    shown = frames[:, :, :, width * 3 // 4].mean((1, 2)) / 6
    assert [round(float(value)) / 10 for value in shown] == pytest.approx(times, abs=0.101)
    assert len(times) == 8
    assert (times[0], times[-1]) == (0.0, 3.9)
    assert loaded.video_kwargs == {"do_sample_frames": False}
    assert [about["video_backend"] for about in loaded.video_metadata] == [reader]


def test_a_clip_keeps_the_times_of_the_whole_video(tmp_path, reader):
    path = movie(tmp_path / "a.mp4")
    (times,) = load(ask("video", path, video_start=1.0, video_end=3.0, nframes=4), Budget(fps=2), patch_size=8).times
    assert times == (1.0, 1.7, 2.3, 3.0)


def test_images_and_videos_keep_their_order(tmp_path):
    image, video = picture(tmp_path / "1.png", (32, 64)), movie(tmp_path / "a.mp4", frames=8)
    chat = ask("image", image) + ask("video", video, nframes=4) + ask("image", picture(tmp_path / "2.png", (64, 32)))
    loaded = load(chat, Budget(max_pixels=32 * 64), patch_size=8)
    assert [bool(times) for times in loaded.times] == [False, True, False]
    assert (loaded.seen[0], loaded.seen[2]) == ((32, 64), (64, 32))
    assert (len(loaded.images), len(loaded.videos), len(loaded.video_metadata)) == (2, 1, 1)


def test_a_chat_without_media_loads_nothing():
    assert load([{"role": "user", "content": "hello"}], Budget(), patch_size=8) == media.LoadedMedia()


@pytest.mark.parametrize("size", [(64, 48), (128, 64)])
def test_a_video_held_upright_is_seen_upright(tmp_path, size):
    path = movie(tmp_path / "phone.mp4", size=size, rotation=90)
    assert probe(path, "video").size == size[::-1]
    loaded = load(ask("video", path, nframes=2), Budget(max_pixels=8192), patch_size=8)
    ((width, height),) = loaded.seen
    assert height > width
    last = loaded.videos[0][-1, 0]
    assert last[height // 4].mean() > 1.8 * last[height * 3 // 4].mean()


# -- what the model sees is known before decoding ------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    """Container files of several sizes, lengths and rates."""
    folder = tmp_path_factory.mktemp("films")
    shapes = [((64, 48), 40, 10), ((96, 34), 25, 25), ((34, 120), 12, 3), ((160, 120), 61, 30)]
    return [movie(folder / f"{i}.mp4", size=size, frames=n, fps=fps) for i, (size, n, fps) in enumerate(shapes)]


@settings(deadline=None, max_examples=30)
@given(
    film=st.integers(0, 3),
    patch_size=st.sampled_from([14, 16]),
    budget=st.builds(
        Budget,
        max_pixels=st.sampled_from([None, 4096, 20_000, 60_000]),
        fps=st.sampled_from([None, 0.5, 1.7, 4.0, 60.0]),
        max_frames=st.sampled_from([None, 2, 6, 7]),
        total_pixels=st.sampled_from([None, 30_000, 100_000]),
    ),
    part=st.sampled_from([{}, {"nframes": 6}, {"video_start": 0.4, "video_end": 2.9}, {"min_pixels": 3000}]),
)
def test_the_outcome_is_what_qwen_vl_utils_makes_of_the_video(films, film, patch_size, budget, part):
    """`outcome` from the probe, `load` in another process, and the library reading with decord itself: all the same."""
    pytest.importorskip("decord")
    path = films[film]
    try:
        seen = outcome(probe(path, "video"), budget, patch_size=patch_size, part=part)
    except ValueError as error:
        with pytest.raises(ValueError, match=r"nframes should|Invalid time|is above"):
            load(ask("video", path, **part), budget, patch_size=patch_size)
        assert str(path) in str(error)
        return
    loaded = load(ask("video", path, **part), budget, patch_size=patch_size)
    assert loaded.outcomes == (seen,)
    (frames,), (about,) = loaded.videos, loaded.video_metadata
    assert frames.shape == (seen.frames, 3, seen.size[1], seen.size[0])
    assert seen.grid == (len(frames) // 2, frames.shape[2] // patch_size, frames.shape[3] // patch_size)
    assert seen.tokens * 4 == np.prod(seen.grid)

    vision = vision_process()
    vision.get_video_reader_backend = lambda: "decord"
    asked = within(budget, part, "video", patch_size=patch_size) | {"video": str(path)}
    theirs, told = vision.fetch_video(asked, patch_size, return_video_metadata=True)
    assert theirs.equal(frames)
    assert {key: about[key] for key in told} == told
    assert seen.times == tuple(index / told["fps"] for index in told["frames_indices"])


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    patch_size=st.sampled_from([14, 16]),
    max_pixels=st.sampled_from([None, 1100, 5000, 100_000]),
    resized=st.sampled_from([{}, {"resized_width": 200, "resized_height": 90}]),
)
def test_the_outcome_is_what_qwen_vl_utils_makes_of_the_image(tmp_path_factory, size, patch_size, max_pixels, resized):
    path = picture(tmp_path_factory.mktemp("images") / "1.png", size)
    budget = Budget(max_pixels=max_pixels)
    try:
        seen = outcome(probe(path, "image"), budget, patch_size=patch_size, part=resized)
    except ValueError as error:
        assert str(path) in str(error) and re.search("aspect ratio|shrink to nothing", str(error))
        return
    loaded = load(ask("image", path, **resized), budget, patch_size=patch_size)
    asked = within(budget, resized, "image", patch_size=patch_size) | {"image": Image.open(path)}
    theirs = vision_process().fetch_image(asked, patch_size)
    assert loaded.outcomes == (seen,)
    assert np.array_equal(theirs, loaded.images[0]) and theirs.size == seen.size
    assert (seen.frames, seen.times, seen.grid[0], seen.tokens * 4) == (1, (), 1, np.prod(seen.grid))


@pytest.mark.parametrize("name", ["MODEL_SEQ_LEN", "FORCE_QWENVL_VIDEO_READER", "VIDEO_MAX_PIXELS"])
def test_the_environment_does_not_matter(films, name):
    """In a process of its own: qwen_vl_utils reads its variables when it is imported."""
    code = (
        "from data_pipelines.media import *; from mmrl.records import Media; m = Media('video', 'x', '', (640, 480),"
        " frames=900, fps=30.0); print(outcome(m, Budget(fps=8), patch_size=14))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **extra}, capture_output=True, check=True
        ).stdout
        for extra in ({}, {name: "2000"})
    ]
    assert told[0] == told[1] and b"Seen(size" in told[0]


@pytest.mark.parametrize("part", [{"fps": "2"}, {"nframes": 0}, {"max_pixels": True}, {"video_end": float("nan")}])
def test_a_setting_of_a_part_that_is_no_positive_number_is_named(films, part):
    with pytest.raises(ValueError, match=rf"0\.mp4: `{next(iter(part))}` of the video part"):
        load(ask("video", films[0], **part), Budget(), patch_size=14)


def test_a_sample_is_measured_without_decoding(films, monkeypatch):
    media = probe(films[0], "video")
    monkeypatch.setattr(Decoders, "read", lambda *_: pytest.fail("decoded"))
    sample = Sample(id="1", messages=tuple(ask("video", films[0], nframes=4)), media=(media,))
    (item,) = measured(sample, Budget(max_pixels=50_000), patch_size=14).media
    assert (len(item.times), item.tokens) == (4, 2 * (item.seen[0] // 28) * (item.seen[1] // 28))


# -- frames kept ---------------------------------------------------------------------------------------------------


def test_what_was_decoded_is_kept_under_the_limit_and_is_the_same(films):
    configure(Decoding(cache_bytes=1_000_000))
    try:
        first, again = (load(ask("video", films[0]), Budget(), patch_size=8).videos[0] for _ in range(2))
        assert readers_used() == {"decord": 1} and first.equal(again)
        again.zero_()
        assert load(ask("video", films[0]), Budget(), patch_size=8).videos[0].equal(first)
        load(ask("video", films[0], nframes=2), Budget(), patch_size=8)
        assert readers_used() == {"decord": 2}, "other settings are another entry"
    finally:
        configure(Decoding())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=40), st.integers(0, 100))
def test_a_cache_holds_the_latest_values_that_fit(puts, limit):
    cache: ByteCache[int] = ByteCache(limit)
    model: dict[int, int] = {}
    for key, size in puts:
        model.pop(key, None)
        if size <= limit:
            model[key] = size
        while sum(model.values()) > limit:
            del model[next(iter(model))]
        cache.put(key, size, size)
        assert cache.bytes == sum(model.values()) <= limit and len(cache) == len(model)
    assert [cache.get(key) for key in range(6)] == [model.get(key) for key in range(6)]
