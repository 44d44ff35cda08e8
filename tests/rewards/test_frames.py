"""Image rewards on videos: which frame they read, what a mean is worth, and what is refused before the run."""

from __future__ import annotations

import math

import pytest
from PIL import Image
from reward_rows import rollouts, run

from mmrl.plugins import ConfigError
from mmrl.records import Rollouts, Sample
from rewards import Score, reward
from rewards.scoring import RewardFailure, Rewards, check_reads


def film(*reds: int) -> list[Image.Image]:
    """Small frames, each of one red."""
    return [Image.new("RGB", (4, 4), (red, 0, 0)) for red in reds]


def rolled(*groups: list[list[Image.Image]]) -> Rollouts:
    return rollouts([[""] * len(group) for group in groups], images=[video for group in groups for video in group])


@reward(range=(0, 255), reads="image")
def red(image, sample):
    value = image.getpixel((0, 0))[0]
    if value == 13:
        raise ValueError("an unlucky frame")
    return None if value == 0 else Score(value, parsed=image.size)


@reward(range=(0, 255), reads="image", scope="group")
def above_the_least(images, sample):
    values = [image.getpixel((0, 0))[0] for image in images]
    return [value - min(values) for value in values]


@reward(range=(0, 255), reads="image", scope="batch")
def red_of_all(images, samples):
    assert len(images) == len(samples)
    return [image.getpixel((0, 0))[0] + int(sample.id[1:]) for image, sample in zip(images, samples, strict=True)]


def values(rewards: Rewards, made: Rollouts) -> list[float]:
    run(rewards, made)
    return made.reward.tolist()


@pytest.mark.parametrize(
    ("frame", "expected"),
    [("first", [1, 5]), ("middle", [3, 7]), ("last", [4, 7]), (0, [1, 5]), (1, [2, 7]), ("mean", [2.5, 6])],
)
def test_the_frame_that_is_read(config, frame, expected):
    made = rolled([film(1, 2, 3, 4), film(5, 7)])
    assert values(config({"name": red, "frame": frame}), made) == expected
    seen = [notes.get("red", {}) for notes in made.notes]
    if frame == "mean":
        assert seen == [{"why": "mean of 4 frames, 1 to 4"}, {"why": "mean of 2 frames, 5 to 7"}]
    else:
        assert seen == [{"parsed": (4, 4)}] * 2


@pytest.mark.parametrize("plugin", [red, above_the_least, red_of_all])
def test_the_mean_is_that_of_the_single_frames(config, plugin):
    def made() -> Rollouts:
        return rolled([film(1, 20, 3), film(5, 7, 90)], [film(60, 2, 9)])

    single = [values(config({"name": plugin, "frame": place}), made()) for place in range(3)]
    assert len({tuple(row) for row in single}) == 3
    means = [sum(row) / 3 for row in zip(*single, strict=True)]
    assert values(config({"name": plugin, "frame": "mean"}), made()) == pytest.approx(means)


def test_videos_of_different_lengths_have_means_of_their_own(config):
    made = rolled([film(9), film(5, 7, 90)])
    assert values(config({"name": above_the_least, "frame": "mean"}), made) == [4, 0]
    assert values(config({"name": red_of_all, "frame": "mean"}), rolled([film(9)], [film(5, 7, 9)])) == [9, 8]


def test_a_threshold_is_asked_of_the_mean(config):
    made = rolled([film(1, 9), film(1, 3)])
    assert values(config({"name": red, "frame": "mean", "threshold": 5}), made) == [1, 0]


def test_a_missing_frame_and_a_frame_that_fails_are_failures_of_their_rows(config):
    made = rolled([film(1, 2, 3), film(4, 5), []])
    run(config({"name": red, "frame": 2}, max_failed=0.7), made)
    assert made.reward[0] == 3 and made.reward[1:].isnan().all()
    assert made.notes[1]["red"]["error"] == "IndexError: the video has no frame 2; it has 2"
    assert made.notes[2]["red"]["error"] == "IndexError: the video has no frame 2; it has 0"
    with pytest.raises(RewardFailure, match="failed on 2 of 3"):
        run(config({"name": red, "frame": 2}), rolled([film(1, 2, 3), film(4, 5), []]))

    made = rolled([film(1, 13, 3), film(4, 6), []])
    run(config({"name": red, "frame": "mean"}, max_failed=0.7), made)
    assert made.reward[1] == 5 and made.reward[[0, 2]].isnan().all()
    assert "unlucky" in made.notes[0]["red"]["error"]


def test_frames_to_which_a_reward_does_not_apply_are_not_in_the_mean(config):
    made = rolled([film(0, 4, 6), film(0, 0)])
    run(config({"name": red, "frame": "mean"}), made)
    assert made.reward[0] == 5 and math.isnan(made.reward[1])
    assert "red" not in made.notes[1]


def test_rows_of_other_tasks_are_not_read(config):
    made = rolled([film(1, 2)], [film(3, 4)])
    made.samples = [Sample("a", (), meta={"task": "a"}), Sample("b", (), meta={"task": "b"})]
    run(config({"name": red, "frame": "mean", "task": "b"}), made)
    assert math.isnan(made.reward[0]) and made.reward[1] == 3.5


def test_frames_are_read_in_workers_too(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from rewards import reward\n\n@reward(reads='image', range=(0, 255))\n"
        "def red(image, sample):\n    return image.getpixel((0, 0))[0]\n"
    )
    spec = {"name": f"{file}:red", "frame": "mean", "timeout": 20}
    assert values(Rewards.from_config([spec], where="w"), rolled([film(1, 2), film(8)])) == [1.5, 8]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "hps", "frame": "frist"}, r"rewards\.0\.frame = 'frist' names no frame.*\n.*Did you mean first"),
        ({"name": "hps", "frame": -1}, r"rewards\.0\.frame is first, middle, last, mean or .*; found -1"),
        ({"name": "hps", "frame": True}, "found True"),
        ({"name": "hps", "frame": 1.5}, "found 1.5"),
        ({"name": "hps", "frame": ["first"]}, r"found \['first'\]"),
        ({"name": "motion", "frame": "first"}, r"rewards\.0\.frame .*; motion reads video"),
        ({"name": "rouge", "frame": "first"}, "rouge reads text"),
        ({"name": "length_budget", "budget": 3, "frame": "first"}, "length_budget reads rollouts"),
    ],
)
def test_a_wrong_frame_is_refused(entry, message):
    with pytest.raises(ConfigError, match=message):
        Rewards.from_config([entry], where="rewards")


def test_the_start_checks_frames_against_what_the_policy_makes():
    def check(spec: dict, makes: str) -> None:
        check_reads(Rewards.from_config([spec], where="w"), makes, where="recipe.yaml")

    framed = {"name": "hps", "frame": "first"}
    remote = {"name": "remote", "url": "http://localhost:1", "frame": "mean"}
    check(framed, "video")
    check(remote, "video")
    check({"name": "hps"}, "image")
    with pytest.raises(ConfigError, match=r"rewards\.0: hps reads image, but .* video\.\n.*`frame: first`"):
        check({"name": "hps"}, "video")
    with pytest.raises(ConfigError, match=r"text\.$"):
        check({"name": "hps"}, "text")
    for spec, makes in ((framed, "image"), (framed, "text"), (remote, "image"), (remote, "text")):
        with pytest.raises(
            ConfigError, match=rf"reads a frame of a video \(frame: \w+\), but this policy makes {makes}"
        ):
            check(spec, makes)


def test_a_frame_of_what_is_no_video_is_refused(config):
    images = rollouts([["", ""]], images=film(1, 2))
    with pytest.raises(ConfigError, match="reads a frame of videos; these completions are images"):
        run(config({"name": red, "frame": "first"}), images)
    with pytest.raises(ConfigError, match="these completions are texts"):
        run(config({"name": red, "frame": "first"}), rollouts([["a"]]))


def test_a_batched_reward_scores_frames_as_it_scores_pictures():
    sample = Sample("s", (), target={"caption": "a red circle"})
    videos = [film(250, 10, 90), film(40, 200, 0)]
    made = rollouts([["", ""]], [sample], images=videos)
    alone = rollouts([["", ""]], [sample], images=[video[1] for video in videos])
    clip = {"name": "clip_score", "model": "tiny", "device": "cpu"}
    assert values(Rewards.from_config([{**clip, "frame": "middle"}], where="w"), made) == values(
        Rewards.from_config([clip], where="w"), alone
    )
