"""Folders of frames and arrays as videos; and files that are not what they should be, each named with the reason."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from data_pipelines.decoding import Decoders
from data_pipelines.media import BadMedia, Budget, Decoding, configure, load, locate, open_image, outcome, probe, verify


def movie(path: Path, *, frames: int = 40, container: str | None = None, **options: str) -> Path:
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream("libx264" if path.suffix != ".avi" else "mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        generator = np.random.default_rng(0)
        for _ in range(frames):
            pixels = generator.integers(0, 255, (48, 64, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path


def pictures(count: int = 12, size: tuple[int, int] = (40, 30)) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 255, (count, size[1], size[0], 3), np.uint8)


def folder_of(frames: np.ndarray, folder: Path) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{number}.png")
    (folder / "notes.txt").write_text("no frame")
    return folder


def ask(path: Path, **part) -> list[dict]:
    return [{"role": "user", "content": [{"type": "video", "video": str(path), **part}]}]


# -- frames that are no container file -----------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_folder_and_an_array_are_the_video_of_their_frames(tmp_path, save):
    frames = pictures()
    folder = folder_of(frames, tmp_path / "film")
    save(tmp_path / "film.npz", frames=frames, fps=4.0)
    array = tmp_path / "film.npz"
    budget = Budget(fps=2, min_pixels=40 * 30)
    of_folder, of_array = (
        load(ask(path, **part), budget, patch_size=5) for path, part in ((folder, {"sample_fps": 4}), (array, {}))
    )
    assert of_folder.outcomes == of_array.outcomes
    assert of_folder.videos[0].equal(of_array.videos[0])
    (seen,) = of_folder.outcomes
    assert seen.indices == (0, 2, 4, 7, 9, 11) and seen.times == tuple(i / 4 for i in seen.indices)
    assert seen.size == (40, 30)
    assert np.array_equal(of_folder.videos[0].permute(0, 2, 3, 1), frames[list(seen.indices)])
    for path, part in ((folder, {"sample_fps": 4}), (array, {})):
        media = probe(path, "video")
        verify(media)
        assert outcome(media, budget, patch_size=5, part=part) == seen


def test_a_folder_with_only_fps_is_seen_whole(tmp_path):
    folder = folder_of(pictures(), tmp_path / "film")
    (seen,) = load(ask(folder, fps=2), Budget(), patch_size=8).outcomes
    assert seen.indices == tuple(range(12)) and seen.times[-1] == 5.5
    (seen,) = load(ask(folder, fps=2), Budget(max_frames=4), patch_size=8).outcomes
    assert seen.frames == 4
    with pytest.raises(ValueError, match=r"film: frames without a rate; give `sample_fps`"):
        load(ask(folder), Budget(fps=2), patch_size=8)


def test_the_digest_of_a_folder_is_that_of_its_frames(tmp_path):
    frames = pictures(4)
    one, two = (probe(folder_of(frames, tmp_path / name), "video") for name in ("a", "b"))
    assert one.digest == two.digest and (one.frames, one.size) == (4, (40, 30))
    Image.fromarray(frames[0]).save(tmp_path / "b" / "frame_3.png")
    assert probe(tmp_path / "b", "video").digest != one.digest


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"frames": pictures().astype(float), "fps": 2}, "must be uint8"),
        ({"frames": pictures()[..., 0], "fps": 2}, "must be uint8"),
        ({"frames": np.array([{}], object), "fps": 2}, "must be uint8"),
        ({"frames": pictures(), "fps": 0}, "`fps` must be one positive number"),
        ({"frames": pictures(), "fps": np.array([{}], object)}, "Object arrays cannot be loaded"),
        ({"video": pictures()}, "has no array `frames`"),
        ({"frames": pictures(1), "fps": 2}, "has one frame"),
    ],
)
def test_an_array_of_another_form_is_refused_and_nothing_unpickled(tmp_path, arrays, said):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BadMedia, match=rf"x\.npz.*{said}"):
        probe(tmp_path / "x.npz", "video")


def test_an_array_that_holds_less_than_its_header_says_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", frames=pictures(), fps=2)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data[:-5000] if name == "frames.npy" else data)
    with pytest.raises(BadMedia, match=r"x\.npz cannot be decoded: numpy: .*ends before its last frame"):
        verify(probe(tmp_path / "x.npz", "video"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: [file.unlink() for file in folder.glob("*.png")], "is a folder without frames"),
        (lambda folder: Image.new("RGB", (8, 8)).save(folder / "frame_5.png"), r"frame_5\.png has 8 x 8 pixels"),
        (lambda folder: (folder / "frame_5.png").write_bytes(b""), r"frame_5\.png is not a readable image"),
    ],
)
def test_a_folder_that_is_no_video_is_refused(tmp_path, spoil, said):
    folder = folder_of(pictures(), tmp_path / "film")
    spoil(folder)
    with pytest.raises(BadMedia, match=said):
        probe(folder, "video")


# -- bad files -----------------------------------------------------------------------------------------------------


def cut_mp4(path: Path) -> None:
    whole = movie(path, movflags="faststart").read_bytes()
    path.write_bytes(whole[: whole.index(b"mdat") + 30_000])


def long_header(path: Path) -> None:
    whole = bytearray(movie(path, container="matroska").read_bytes())
    place = whole.index(bytes.fromhex("4489")) + 3
    whole[place : place + 8] = struct.pack(">d", 60_000.0)
    path.write_bytes(whole)


def no_frames(path: Path) -> None:
    whole = movie(path, container="matroska").read_bytes()
    path.write_bytes(whole[: whole.index(bytes.fromhex("1f43b675"))])


def only_sound(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nother.mp4\n#EXT-X-ENDLIST\n"
BAD_VIDEOS = {
    "empty": (lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
    "text": (lambda path: path.write_text("no video"), "is not a readable video"),
    "noise": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "is not a readable video"),
    "picture": (lambda path: Image.new("RGB", (64, 64)).save(path, format="PNG"), "is not a readable video"),
    "playlist": (lambda path: path.write_text(PLAYLIST), "is not a readable video"),
    "no frames": (no_frames, "is not a readable video: End of file"),
    "one frame": (lambda path: movie(path, frames=1), "has one frame; a video needs at least 2"),
    "sound": (only_sound, "it has no video"),
    "cut": (cut_mp4, "it is cut short: its header counts 40 frames"),
    "half": (lambda path: path.write_bytes(movie(path).read_bytes()[:5000]), "is not a readable video"),
    "long header": (long_header, r"its header says 60\.0 s and its 40 frames last 4\.0 s"),
}


@pytest.mark.parametrize("name", BAD_VIDEOS)
def test_a_bad_video_is_named_with_its_reason(tmp_path, name):
    spoil, said = BAD_VIDEOS[name]
    path = tmp_path / "a.mp4"
    spoil(path)
    with pytest.raises(BadMedia, match=rf"^{path} .*{said}"):
        probe(path, "video")


def test_a_video_damaged_inside_is_found_by_decoding(tmp_path):
    path = movie(tmp_path / "a.mp4", movflags="faststart")
    whole = bytearray(path.read_bytes())
    start = whole.index(b"mdat") + 4
    whole[start:] = bytes(len(whole) - start)
    path.write_bytes(whole)
    with pytest.raises(BadMedia, match=rf"^{path} "):
        verify(probe(path, "video"))


def test_a_wrong_duration_in_an_mp4_header_changes_nothing(tmp_path):
    path = movie(tmp_path / "a.mp4")
    whole = bytearray(path.read_bytes())
    for box in (b"mdhd", b"mvhd"):
        place = whole.index(box) + 20
        whole[place : place + 4] = struct.pack(">I", 1_000_000)
    path.write_bytes(whole)
    media = probe(path, "video")
    assert (media.frames, media.fps) == (40, 10.0)


def test_frames_that_an_edit_hides_are_not_counted(tmp_path):
    """decord counts them, so another reader is asked; the first frame is the first one shown."""
    path = movie(tmp_path / "a.mp4", bf="0", g="5")
    (whole,) = load(ask(path), Budget(fps=10, min_pixels=64 * 48), patch_size=8).videos
    edited = bytearray(path.read_bytes())
    place = edited.index(b"elst") + 16
    (begin,) = struct.unpack(">I", edited[place : place + 4])
    edited[place : place + 4] = struct.pack(">I", begin + 10 * 1024)
    path.write_bytes(edited)
    assert probe(path, "video").frames == 30
    loaded = load(ask(path), Budget(fps=10, min_pixels=64 * 48), patch_size=8)
    assert loaded.video_metadata[0]["video_backend"] == "pyav"
    assert (loaded.videos[0] - whole[10:]).abs().mean() < 3


BAD_IMAGES = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "text": (b"no image", "is not a readable image"),
    "html": (b"<!DOCTYPE html><html>not found</html>" * 20, "is not a readable image"),
    "png header": (b"\x89PNG\r\n\x1a\n" + bytes(40), "is not a readable image"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_named_with_its_reason(tmp_path, name):
    data, said = BAD_IMAGES[name]
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(BadMedia, match=rf"^{path} {said}"):
        probe(path, "image")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif"])
def test_an_image_cut_in_half_is_found_by_decoding(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pictures(1, (200, 150))[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadMedia, match=rf"^{path} "):
        verify(probe(path, "image"))


def test_a_png_named_jpg_is_an_image(tmp_path):
    Image.new("RGB", (9, 5)).save(tmp_path / "a.jpg", format="PNG")
    verify(probe(tmp_path / "a.jpg", "image"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, side):
    """100 megapixels are over PIL's warning, 400 over its error."""
    path = tmp_path / "big.png"
    Image.new("1", (side, side)).save(path)
    for opener in (lambda: probe(path, "image"), lambda: open_image(path)):
        with pytest.raises(ValueError, match=rf"^{path} .*raise data\.decode\.max_image_pixels"):
            opener()


def test_the_limit_of_pixels_is_a_setting_for_frames_as_well(tmp_path):
    film, image = movie(tmp_path / "a.mp4"), tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(image)
    folder = folder_of(pictures(4, (64, 48)), tmp_path / "film")
    configure(Decoding(max_image_pixels=64 * 48 - 1))
    try:
        for path, kind in ((film, "video"), (folder, "video"), (image, "image")):
            with pytest.raises(BadMedia, match="64 x 48 = 3,072 pixels and at most 3,071 are decoded"):
                probe(path, kind)
    finally:
        configure(Decoding())
    assert probe(film, "video").size == probe(image, "image").size == (64, 48)


def test_what_is_not_there_or_is_a_folder_is_named(tmp_path):
    with pytest.raises(BadMedia, match=r"image .*none\.png does not exist"):
        probe(tmp_path / "none.png", "image")
    with pytest.raises(BadMedia, match=rf"^{tmp_path} is no regular file"):
        probe(tmp_path, "image")


# -- paths ---------------------------------------------------------------------------------------------------------


def test_a_path_stays_in_the_data_folder_or_the_roots(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data / "images", other):
        folder.mkdir(parents=True)
    (other / "x.png").write_bytes(b"x")
    (data / "link.png").symlink_to(other / "x.png")
    assert locate("images/a.png", folder=data) == data / "images" / "a.png"
    assert locate("images/../b.png", folder=data) == data / "b.png"
    for file in ("../other/x.png", "../../etc/passwd", "images/../../other/x.png", "link.png"):
        with pytest.raises(ValueError, match=r"leaves the data folder .*name its folder in data\.roots"):
            locate(file, folder=data)
    assert locate("../other/x.png", folder=data, roots=[other]) == other / "x.png"
    assert locate("link.png", folder=data, roots=[other]) == data / "link.png"
    with pytest.raises(ValueError, match="leaves the data folder"):
        locate("../other2/x.png", folder=data, roots=[other])


def test_an_absolute_path_may_lead_anywhere_until_roots_are_named(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    file = str(tmp_path / "elsewhere" / "x.png")
    assert locate(file, folder=data) == Path(file)
    with pytest.raises(ValueError, match="leaves the data folder"):
        locate(file, folder=data, roots=[other])
    assert locate(str(data / "x.png"), folder=data, roots=[other]) == data / "x.png"


def test_a_file_that_is_bad_is_opened_once_until_it_changes(tmp_path, monkeypatch):
    """A file that hangs its reader would hold up every row that names it."""
    path, asked = tmp_path / "a.mp4", []
    path.write_text("no video")
    describe = Decoders.describe
    monkeypatch.setattr(Decoders, "describe", lambda self, file: asked.append(file) or describe(self, file))
    for _ in range(3):
        with pytest.raises(BadMedia, match="is not a readable video"):
            probe(path, "video")
    assert len(asked) == 1
    movie(path)
    assert probe(path, "video").frames == 40
