"""Drawn clips: what the script says is what the frames of the stored video show, and answers follow from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.dataset import read_samples
from data_pipelines.gui.shapes import COLOURS
from data_pipelines.makers import MAKERS
from data_pipelines.media import Budget, load
from data_pipelines.video.ask import TASKS, draw_question, grounding
from data_pipelines.video.ask import highlight as highlights_of
from data_pipelines.video.build import make_video, make_video_cold_start, noisy_answer
from data_pipelines.video.clips import BACKGROUNDS, FLAT, FORMS, Actor, Clip, draw_clip, form_of
from data_pipelines.video.render import _encoder, frames, paint, read_video, write_video
from mmrl.plugins import ConfigError
from mmrl.plugins import load as load_plugin
from mmrl.records import Sample
from rewards.boxes import count as count_reward
from rewards.choices import letter_choice, soft_choices
from rewards.parsing.times import last_span
from rewards.temporal import highlight, temporal_iou, tiou

SEEDS = st.integers(0, 10**6)
SCALES = st.sampled_from(["tiny", "full"])
REWARD = {
    "grounding": tiou, "highlight": highlight, "count": count_reward, "mcq": letter_choice, "mcq_several": soft_choices,
}  # fmt: skip
RGB = np.array(list(COLOURS.values()))


def box_of(image, colour, within=None):
    """(x1, y1, x2, y2) of the pixels of a colour, None if there are none."""
    pixels = np.asarray(image).astype(int)
    found = (np.abs(pixels - COLOURS[colour]).sum(-1)) < 30
    if within is not None:
        mask = np.zeros_like(found)
        x1, y1, x2, y2 = (round(side) for side in within)
        mask[max(y1, 0) : y2, max(x1, 0) : x2] = True
        found &= mask
    if not found.any():
        return None
    ys, xs = np.nonzero(found)
    return xs.min(), ys.min(), xs.max() + 1, ys.max() + 1


def home(clip, actor):
    """Where an actor ever is."""
    half = actor.diameter / 2 + 1
    xs, ys = [x for _, x, _ in actor.track], [y for _, _, y in actor.track]
    return min(xs) - half, min(ys) - half, max(xs) + half, max(ys) + half


# -- scripts -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(SEEDS, SCALES)
def test_scripts_are_exact_and_shapes_stay_apart(seed, scale):
    form = FORMS[scale]
    clip = draw_clip(Random(seed), form)
    assert clip.events()
    assert 1 <= len(clip.actors) <= form.actors[1]
    looks = [look for a in clip.actors for look in {(a.colour, a.kind), (a.turns[1] if a.turns else a.colour, a.kind)}]
    assert len(set(looks)) == len(looks)
    if scale == "tiny":
        colours = [colour for colour, _ in looks]
        assert len(set(colours)) == len(colours)
    times = [t for a in clip.actors for t in (*a.seen, *(a.moving or ()), *((a.turns or ())[:1]))]
    times += [time for time, _, _ in clip.hits]
    for time in times:
        assert 0 <= time <= form.seconds
        assert (time / form.step) % 1 == 0
        assert (time * form.fps) % 1 == 0
    pairs = {frozenset(pair[1:]) for pair in clip.hits}
    for number in range(form.fps * form.seconds):
        time = number / form.fps
        places = [(*a.place(time), a.diameter / 2) for a in clip.actors]
        for i, (x, y, r) in enumerate(places):
            assert r <= x <= form.size[0] - r
            assert r <= y <= form.size[1] - r
            for j, (u, v, s) in enumerate(places[:i]):
                gap = max(abs(x - u), abs(y - v)) - r - s
                assert gap >= -0.02
                if frozenset((i, j)) not in pairs:
                    assert gap > 0.5


@settings(deadline=None, max_examples=100)
@given(SEEDS, SCALES)
def test_colliding_shapes_touch_once_in_their_frame(seed, scale):
    clip = draw_clip(Random(seed), FORMS[scale])
    for time, a, b in clip.hits:
        left, right = clip.actors[a], clip.actors[b]
        assert {left.kind, right.kind} <= set(FLAT)
        gaps = {}
        for number in range(clip.form.fps * clip.form.seconds):
            at = number / clip.form.fps
            gaps[at] = right.place(at)[0] - left.place(at)[0] - (left.diameter + right.diameter) / 2
        assert gaps[time] == pytest.approx(0, abs=0.02)
        assert all(gap > 0.05 for at, gap in gaps.items() if at != time)
        assert gaps[left.moving[0]] > 1
        assert left.moving == right.moving
        # A look at the pixels: the gap in the frame is closed, and open where they started.
        if scale == "tiny":
            for at, open_ in ((time, False), (left.moving[0], True)):
                image = paint(clip, at)
                boxes = [box_of(image, actor.colour) for actor in (left, right)]
                if all(boxes):
                    assert (boxes[1][0] - boxes[0][2] > 2) <= open_


# -- frames ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["tiny", "full"])
def test_answers_can_be_read_off_the_stored_frames(tmp_path, scale):
    """Colour, presence and movement in the decoded mp4, against the spans that questions have as their target."""
    seen = Counter()
    for seed in range(25 if scale == "tiny" else 4):
        clip = draw_clip(Random(f"frames {seed}"), FORMS[scale])
        pixels, fps = read_video(write_video(tmp_path / f"{seed}.mp4", frames(clip), clip.form.fps))
        assert fps == clip.form.fps
        assert pixels.shape == (fps * clip.form.seconds, *clip.form.size[::-1], 3)
        plain = np.array(BACKGROUNDS[clip.background])
        for actor in clip.actors:
            x1, y1, x2, y2 = (round(side) for side in home(clip, actor))
            area = pixels[:, max(y1, 0) : y2, max(x1, 0) : x2].astype(int)
            there = np.abs(area - plain).sum(-1).max((1, 2)) > 60
            assert there.tolist() == [actor.in_view(k / fps) for k in range(len(pixels))]
            for k in np.nonzero(there)[0]:
                x, y = actor.place(k / fps)
                middle = pixels[k, round(y - 0.5), round(x - 0.5)].astype(int)
                nearest = list(COLOURS)[np.abs(RGB - middle).sum(-1).argmin()]
                assert nearest == actor.colour_at(k / fps)
            if actor.moving:
                changed = np.abs(np.diff(area, axis=0)).max((1, 2, 3)) > 40
                first, last = (round(time * fps) for time in actor.moving)
                assert not changed[:first].any()
                assert not changed[last:].any()
                assert changed[first:last].mean() > 0.5
            seen[bool(actor.moving), bool(actor.turns), actor.seen == (0, clip.form.seconds)] += 1
    assert len(seen) == 4  # visitors, changers, movers, still ones


def test_decord_pyav_and_qwen_vl_utils_read_the_same_clip(tmp_path):
    decord = pytest.importorskip("decord")
    clip = draw_clip(Random(4), FORMS["tiny"])
    path = write_video(tmp_path / "x.mp4", frames(clip), clip.form.fps)
    pixels, _ = read_video(path)
    reader = decord.VideoReader(str(path))
    assert (len(reader), reader.get_avg_fps()) == (16, 2.0)
    assert np.abs(reader.get_batch(range(16)).asnumpy().astype(int) - pixels).max() <= 6  # two colour conversions
    chat = [{"role": "user", "content": [{"type": "video", "video": str(path)}]}]
    seen = load(chat, Budget(max_pixels=32 * 32, fps=2, max_frames=16), patch_size=8)
    assert seen.videos[0].shape == (16, 3, 32, 32)
    assert seen.times == (tuple(k / 2 for k in range(16)),)
    assert np.abs(seen.videos[0].permute(0, 2, 3, 1).numpy() - pixels).max() <= 6


def test_encoding_is_h264_and_repeats(tmp_path):
    import av

    clip = draw_clip(Random(4), FORMS["tiny"])
    first, second = (write_video(tmp_path / name, frames(clip), 2) for name in ("a.mp4", "b.mp4"))
    assert first.read_bytes() == second.read_bytes()
    with av.open(str(first)) as container:
        assert container.format.name.startswith("mov,mp4")
        assert container.streams.video[0].codec_context.name == ("h264" if "264" in _encoder() else "mpeg4")
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "none.mp4", [], 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


# -- questions ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(SEEDS, SCALES, st.sampled_from(TASKS))
def test_the_answer_of_a_question_earns_the_full_reward(seed, scale, task):
    rng = Random(seed)
    question = draw_question(rng, draw_clip(rng, FORMS[scale]), task, scale)
    if question is None:
        return
    sample = Sample("x", (), target=json.loads(json.dumps(question.target)))
    assert REWARD[task](f"<answer>{question.answer}</answer>", sample).value == pytest.approx(1)
    assert REWARD[task](question.answer, sample).value == pytest.approx(1)
    if "options" in question.meta:
        options = question.meta["options"]
        assert 2 <= len(options) == len(set(options))
        assert 1 <= len(question.target["choices"]) < len(options)
        separator = "\n{}. {}" if scale == "full" else " {} {}"
        for letter, option in zip("ABCD", options, strict=False):
            assert separator.format(letter, option) in question.text


@settings(deadline=None, max_examples=150)
@given(SEEDS, SCALES)
def test_choices_are_right_exactly_where_the_script_says_so(seed, scale):
    """Against a second, slower reading of the script, made for every option of every question."""
    rng = Random(seed)
    clip = draw_clip(rng, FORMS[scale])
    by_name = {actor.name: actor for actor in clip.actors}

    def holds(question, option):
        actor = by_name.get(option)
        if match := re.search(r"at second (\d+)|view (\d+) seconds", question):
            second = int(match[1] or match[2])
            return actor is not None and actor.seen[0] <= second < actor.seen[1]
        if "moves" in question:
            return len(actor.track) > 1
        if "appears first" in question or "which is first" in question:
            return actor.seen[0] == min(a.seen[0] for a in clip.actors if a.seen[0] > 0)
        if match := re.match(r"Which colour does the (.+) have at the end", question):
            return by_name[match[1]].turns[1] == option
        if match := re.match(r"Which shape does the (.+) hit", question):
            return any({clip.actors[a].name, clip.actors[b].name} == {match[1], option} for _, a, b in clip.hits)
        times = [time_of(option) for option in options]
        return time_of(option) is not None and ("first" not in question or time_of(option) == min(times))

    def time_of(sentence):
        if match := re.fullmatch(r"the (.+) and the (.+) hit each other", sentence):
            return next(
                (t for t, a, b in clip.hits if {clip.actors[a].name, clip.actors[b].name} == set(match.groups())), None
            )
        name, what = re.fullmatch(r"the (\w+ \w+) (.+)", sentence).groups()
        actor = by_name[name]
        if what == "appears":
            return actor.seen[0] or None
        if what == "leaves":
            return actor.seen[1] if actor.seen[1] < clip.form.seconds else None
        if what == "begins to move":
            return actor.track[0][0] if len(actor.track) > 1 else None
        return actor.turns[0] if actor.turns and what == f"turns {actor.turns[1]}" else None

    for task in ("mcq", "mcq_several"):
        question = draw_question(rng, clip, task, scale)
        if question:
            options = question.meta["options"]
            right = [letter for letter, o in zip("ABCD", options, strict=False) if holds(question.meta["question"], o)]
            assert right == question.target["choices"]


@settings(deadline=None, max_examples=100)
@given(SEEDS, SCALES)
def test_moments_and_highlights_and_counts_follow_from_frames(seed, scale):
    """Spans, parts and counts found again by looking at every frame of the script."""
    rng = Random(seed)
    clip = draw_clip(rng, FORMS[scale])
    fps = clip.form.fps
    times = [k / fps for k in range(fps * clip.form.seconds + 1)]
    states = [{(i, a.colour_at(t)) for i, a in enumerate(clip.actors) if a.in_view(t)} for t in times]
    spans = {tuple(q.target["span"]) for q in grounding(rng, clip, scale)}
    for a in clip.actors:
        views = [t for t in times if a.in_view(t)]
        if len(views) < len(times) - 1:
            assert (views[0], views[-1] + 1 / fps) in spans
    changes = Counter()
    length = {"tiny": 1, "full": 2}[scale]
    for before, after, t in zip(states[:-1], states[1:-1], times[1:-1], strict=False):
        # A shape that turns leaves one state and enters another: one event.
        changes[int(t // length) * length] += len({i for i, _ in before ^ after})
    for t, _, _ in clip.hits:
        changes[int(t // length) * length] += 1
    expected = [[t, min(5, 1 + n)] for t, n in sorted(changes.items()) if n]
    question = draw_question(rng, clip, "highlight", scale)
    assert (question.target["highlights"] if question else []) == expected
    for _ in range(8):
        question = draw_question(rng, clip, "count", scale)
        if match := re.search(r"at second (\d+)|view (\d+) seconds", question.text):
            assert question.target["count"] == len(states[int(match[1] or match[2]) * fps])


def test_saliency_ends_at_five():
    form = form_of("full", seconds=6)
    actors = tuple(
        Actor("red", kind, 40, (seen, 6.0), ((0.0, 50.0, 50.0),))
        for kind, seen in zip(form.kinds, (2.0, 2.25, 2.5, 3.0, 3.75, 4.0), strict=True)
    )
    (question,) = highlights_of(Random(0), Clip(form, "light", actors), "full")
    assert question.target == {"highlights": [[2, 5], [4, 2]]}
    assert question.answer.endswith("in the 2, 4 seconds. Their saliency scores are 5, 2.")


# -- data sets ---------------------------------------------------------------------------------------------------------


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_makes_the_same_files_and_more_rows_begin_alike(tmp_path):
    for name, seed, count in (("a", 0, 5), ("b", 0, 5), ("c", 1, 5), ("d", 0, 8)):
        make_video(tmp_path / name, count=count, test_count=2, seed=seed, tasks=TASKS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != contents(tmp_path / "c")
    assert (tmp_path / "d/train.jsonl").read_text().startswith((tmp_path / "a/train.jsonl").read_text())


def test_rows_are_read_as_samples(tmp_path):
    paths = make_video(tmp_path, count=10, test_count=5, tasks=TASKS)
    train, test = (read_samples(paths[split]) for split in ("train", "test"))
    assert [sample.meta["task"] for sample in train] == [*TASKS, *TASKS]
    assert not {s.media[0].digest for s in train} & {s.media[0].digest for s in test}
    for sample in train:
        assert sample.media[0].size == (32, 32)
        assert sample.meta["duration"] == 8
        assert {"background", "actors", "hits", "source", "split"} <= set(sample.meta)
    assert {s.meta["task"] for s in read_samples(make_video(tmp_path / "tiny", count=4, test_count=1)["train"])} == {
        "grounding"
    }


def test_tiny_answers_are_a_few_tokens():
    from mmrl.policies.tiny import make_tokenizer

    tokenizer = make_tokenizer()
    longest = Counter()
    for seed in range(150):
        rng = Random(seed)
        clip = draw_clip(rng, FORMS["tiny"])
        for task in TASKS:
            question = draw_question(rng, clip, task, "tiny")
            if question:
                longest[task] = max(longest[task], len(tokenizer(question.answer)["input_ids"]))
    assert longest["grounding"] <= 4
    assert max(longest["count"], longest["mcq"]) == 1
    assert longest["mcq_several"] <= 5


def test_full_clips_of_another_size(tmp_path):
    paths = make_video(tmp_path, count=5, test_count=1, scale="full", size=(192, 128), fps=4, seconds=6)
    for sample in read_samples(paths["train"]):
        pixels, fps = read_video(Path(sample.media[0].path))
        assert pixels.shape == (24, 128, 192, 3)
        assert fps == 4


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (33, 32)}, "both must be even"),
        ({"size": (24, 24)}, "tiny clips are at least 32x32"),
        ({"scale": "full", "size": (60, 60)}, "full clips are at least 64x48"),
        ({"scale": "full", "fps": 6}, "multiple of 4"),
        ({"seconds": 3}, "at least 6"),
        ({"tasks": ["grounding", "captions"]}, "there is no 'captions'"),
    ],
)  # fmt: skip
def test_settings_that_no_clip_can_have(tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        make_video(tmp_path, **given)
    assert not list(tmp_path.iterdir())


def test_cold_start_chats_ask_for_all_moments_once(tmp_path):
    (path,) = make_video_cold_start(tmp_path, count=40, noise=0).values()
    asked = Counter()
    for sample in read_samples(path, need_target=False):
        questions, answers = sample.messages[::2], sample.messages[1::2]
        assert [message["role"] for message in sample.messages] == ["user", "assistant"] * len(questions)
        texts = [message["content"][-1]["text"] for message in questions]
        assert [len(message["content"]) for message in questions] == [2] + [1] * (len(texts) - 1)
        assert len(set(texts)) == len(texts)
        spans = [answer["content"] for text, answer in zip(texts, answers, strict=True) if text.startswith("when")]
        assert len(set(spans)) == len(spans) >= 1
        asked.update(text.split()[0] for text in texts)
    assert set(asked) == {"when", "how", "which", "highlight"}
    assert asked["when"] > max(asked["how"], asked["which"])


@pytest.mark.parametrize(("noise", "iou"), [(0.5, 0.85), (1.0, 0.69), (1.5, 0.59), (2.0, 0.53)])
def test_labels_are_as_noisy_as_the_docs_say(noise, iou):
    scores = []
    for seed in range(700):
        rng = Random(seed)
        for question in grounding(rng, draw_clip(rng, form_of("tiny")), "tiny"):
            answer = noisy_answer(rng, question, noise=noise, seconds=8)
            assert re.fullmatch("[0-8] to [0-8]", answer)
            start, end = last_span(answer)
            assert start < end
            scores.append(temporal_iou((start, end), question.target["span"]))
    assert sum(scores) / len(scores) == pytest.approx(iou, abs=0.025)


def test_makers_are_registered():
    assert load_plugin("video", MAKERS, kind="maker", where="test") is make_video
    assert load_plugin("video-cold-start", MAKERS, kind="maker", where="test") is make_video_cold_start
