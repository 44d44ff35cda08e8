"""Media: sizes, digests and frame times are those of the file and of what the model sees."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipelines import media
from data_pipelines.media import Budget, load, open_image, probe, verify


def picture(path: Path, size: tuple[int, int], **options) -> Path:
    Image.new("RGB", size, "white").save(path, **options)
    return path


def movie(path: Path, *, frames: int = 40, fps: int = 10, size: tuple[int, int] = (64, 48), rotation: int = 0) -> Path:
    """Frame i is a flat grey of 6 * i, darker in its left half."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(frames):
            pixels = np.full((size[1], size[0], 3), 6 * i, np.uint8)
            pixels[:, : size[0] // 2] //= 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def ask(kind: str, path: Path, **settings) -> list[dict]:
    return [{"role": "user", "content": [{"type": kind, kind: str(path), **settings}, {"type": "text", "text": "?"}]}]


@pytest.fixture(params=["decord", "torchvision"])
def reader(request, monkeypatch):
    """Both ways to read a video; the second is ours, with PyAV."""
    if request.param == "decord":
        pytest.importorskip("decord")
    monkeypatch.setattr(media._vision_process(), "get_video_reader_backend", lambda: request.param)
    return request.param


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
        ({"max_prompt_tokens": -1}, "must be positive"),
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
def test_a_video_held_upright_is_seen_upright(tmp_path, reader, size):
    path = movie(tmp_path / "phone.mp4", size=size, rotation=90)
    assert probe(path, "video").size == size[::-1]
    loaded = load(ask("video", path, nframes=2), Budget(max_pixels=8192), patch_size=8)
    ((width, height),) = loaded.seen
    assert height > width
    last = loaded.videos[0][-1, 0]
    assert last[height // 4].mean() > 1.8 * last[height * 3 // 4].mean()


def test_a_damaged_video_is_named_with_its_reason(tmp_path):
    path = movie(tmp_path / "a.mp4", frames=40, size=(128, 96))
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"mdat") + 1500])
    with pytest.raises(ValueError, match=r"a.mp4"):
        verify(probe(path, "video"))
    path.write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"a.mp4 is not a readable video"):
        probe(path, "video")
