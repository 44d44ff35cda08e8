"""Inversion, letter shuffling and noise: the gold follows the prompt, and what cannot be changed stays right."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.makers import TRANSFORMS
from data_pipelines.reading import Problem
from data_pipelines.video.options import find_options
from data_pipelines.video.prompts import FORMS, ask_for_answer, with_options
from data_pipelines.video.render import read_video, write_video
from data_pipelines.video.transforms import frame_noise, invert_questions, negate, noisy, shuffle_letters
from mmrl.plugins import ConfigError, load

QUESTION, OPTIONS = "what did the boy do after he sat down?", ["clap", "sing", "wave", "jump", "A dog. B. cat"]


def row(question=QUESTION, options=OPTIONS, right="B", *, kind="one", text=None):
    asked = text or ask_for_answer(with_options(question, options), kind, "think")
    return {
        "id": "x",
        "messages": [
            {"role": "system", "content": "A. clap"},
            {"role": "user", "content": [{"type": "video", "video": "/v.mp4"}, {"type": "text", "text": asked}]},
        ],
        "target": {"answer": right, "choices": right.split(",")},
        "meta": {"task": "mcq", "question": question, "options": list(options)},
    }


def prompt(changed):
    return changed["messages"][1]["content"][1]["text"]


def listed(changed):
    """Letter -> option, as the prompt says."""
    options = changed["meta"]["options"]
    assert find_options(prompt(changed), options)
    lines = [line for line in prompt(changed).split("\n") if line[1:3] == ". "]
    assert [line[3:] for line in lines] == options
    return {line[0]: line[3:] for line in lines}


# -- inversion ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "negated"),
    [
        ("what did the boy do after he was called", "what didn't the boy do after he was called"),
        ("Which object was eaten by the person?", "Which object wasn't eaten by the person?"),
        ("What will the person do next?", "What won't the person do next?"),
        ("What happened after the person took the cup?", "What didn't happen after the person took the cup?"),
        ("what happened?", "what didn't happen?"),
        ("Did she stay?", "Didn't she stay?"),
        ("why is the man smiling", "why isn't the man smiling"),
        ("where are they going?", "where aren't they going?"),
        ("What else is the person able to do with the bag?", "What else isn't the person able to do with the bag?"),
        ("what color is the ball?", "what color isn't the ball?"),
        # No place, or one that belongs to a clause, or a negation already.
        ("which boy in the picture is running?", None),
        ("what the boy with the hat is doing?", None),
        ("how many people are there?", None),
        ("what didn't he do?", None),
        ("Which of these is not seen?", None),
        ("what's in the box?", None),
        ("the man is sitting where?", None),
        ("", None),
        ("is", None),
    ],
)  # fmt: skip
def test_a_question_is_negated_where_its_verb_is_known_or_not_at_all(question, negated):
    assert negate(question) == negated


@given(st.text(max_size=60))
def test_negation_takes_any_text(question):
    negated = negate(question)
    assert negated is None or ("n't" in negated.lower() and negated != question)


@given(st.integers(0, 10**6), st.integers(0, 4))
def test_after_inversion_all_but_the_old_answer_are_right(seed, right):
    before = row(right="ABCDE"[right])
    kept = copy.deepcopy(before)
    after = invert_questions(before, rng=Random(seed), probability=1)
    assert before == kept
    assert after["meta"]["question"] == "what didn't the boy do after he sat down?"
    assert prompt(after).startswith("what didn't the boy do after he sat down?\n")
    options = listed(after)
    assert OPTIONS[right] in options.values()
    assert 2 <= len(options) <= 5
    assert after["target"]["choices"] == [letter for letter, option in options.items() if option != OPTIONS[right]]
    assert after["target"]["answer"] == ",".join(after["target"]["choices"])
    assert after["meta"]["inverted"] == {"question": QUESTION, "options": OPTIONS, "answer": "ABCDE"[right]}
    assert FORMS["mixed"] in prompt(after)
    assert FORMS["one"] not in prompt(after)


def test_about_the_given_share_is_inverted_with_one_to_all_wrong_options_kept():
    made = [invert_questions(row(), rng=Random(seed)) for seed in range(2000)]
    inverted = [m for m in made if m["meta"]["inverted"]]
    assert 0.46 < len(inverted) / len(made) < 0.54
    kept = Counter(len(m["target"]["choices"]) for m in inverted)
    assert set(kept) == {1, 2, 3, 4}
    assert min(kept.values()) > 0.8 * max(kept.values())
    assert Counter(letter for m in inverted for letter in m["target"]["choices"]).keys() == set("ABCDE")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (row("which boy in the picture is running?"), "the question could not be negated"),
        (row("how many boys are there?"), "the question could not be negated"),
        (row(right="A,C"), "several options are right"),
        (row(options=["clap", "sing", "none of the above", "wave"]), "an option speaks about others"),
        (row(options=["clap", "sing", "both A and B", "wave"]), "an option speaks about others"),
    ],
)
def test_what_cannot_be_inverted_keeps_its_answer(changed, why):
    after = invert_questions(changed, rng=Random(0), probability=1)
    assert after["target"] == changed["target"]
    assert (after["meta"]["inverted"], after["meta"]["not_inverted"]) == (False, why)
    assert after["meta"]["options"] == changed["meta"]["options"]
    # The wording tells nothing about inversion.
    assert prompt(after) == prompt(changed).replace(FORMS["one"], FORMS["mixed"])


def test_causes_may_be_left_alone():
    why = row("why did the boy laugh?")
    assert invert_questions(why, rng=Random(0), probability=1)["meta"]["inverted"]
    after = invert_questions(why, rng=Random(0), probability=1, causes=False)
    assert after["meta"]["not_inverted"] == "it asks for a cause"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"meta": {"task": "x"}}, "no `meta.options`"),
        ({"meta": {"question": QUESTION, "options": "clap"}}, "no `meta.options`"),
        ({"meta": {"options": OPTIONS}}, "no `meta.question`"),
        ({"target": {"answer": "F"}}, "names no letters of 5 options"),
        ({"target": {"choices": ["3", "7"]}}, "names no letters of 5 options"),
        ({"meta": {"question": "another", "options": OPTIONS}}, "no text of the prompt holds"),
        (row(text=f"{with_options(QUESTION, OPTIONS)}\nSay one letter."), "no text of the prompt holds"),
    ],
)
def test_a_row_of_another_form_is_a_problem(bad, message):
    found = invert_questions(row() | bad, rng=Random(0), probability=1)
    assert isinstance(found, Problem)
    assert message in found.message


# -- letters -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.sampled_from(["A", "B", "E", "A,C", "A,B,C,D,E"]))
def test_letters_follow_their_options(seed, right):
    before = row(right=right)
    after = shuffle_letters(before, rng=Random(seed))
    options = listed(after)
    assert {options[letter] for letter in after["target"]["choices"]} == {
        OPTIONS["ABCDE".index(x)] for x in right.split(",")
    }
    assert [OPTIONS[place] for place in after["meta"]["order"]] == list(options.values())
    assert before["messages"][0] == after["messages"][0]  # only the user is asked


def test_all_orders_come_up():
    orders = Counter(
        tuple(shuffle_letters(row(options=["x", "y", "z"], right="A"), rng=Random(s))["meta"]["order"])
        for s in range(600)
    )
    assert len(orders) == 6
    assert min(orders.values()) > 60


@pytest.mark.parametrize("mark", ["({}) ", "{}) ", "{}: ", "{} ", "{}. "])
@pytest.mark.parametrize("between", ["\n", " ", "  ", ", "])
def test_every_way_to_list_options_is_found(mark, between):
    texts = ["clap", "sing", "wave"]
    lettered = between.join(mark.format(letter) + option for letter, option in zip("ABC", texts, strict=True))
    after = shuffle_letters(row(options=texts, text=f"which? {lettered}"), rng=Random(6))
    order = after["meta"]["order"]
    assert order != [0, 1, 2]
    relisted = between.join(mark.format(letter) + texts[place] for letter, place in zip("ABC", order, strict=True))
    assert prompt(after) == f"which? {relisted}"


def test_options_that_speak_about_others_stay():
    options = ["clap", "sing", "all of the above"]
    after = shuffle_letters(row(options=options, right="C"), rng=Random(1))
    assert after["meta"]["order"] == [0, 1, 2]
    assert after["target"]["answer"] == "C"
    assert prompt(after) == prompt(row(options=options))


def test_a_prompt_without_its_options_is_a_problem():
    found = shuffle_letters(row(text="which letter?"), rng=Random(0))
    assert isinstance(found, Problem)
    assert "lists `meta.options`" in found.message


# -- noise -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "grey.mp4", [np.full((64, 96, 3), 128, "uint8")] * 8, 4)


def with_video(path):
    changed = row()
    changed["messages"][1]["content"][0]["video"] = str(path)
    return changed


@pytest.mark.parametrize("std", [10.0, 40.0])
def test_frames_become_as_noisy_as_asked(tmp_path, clip, std):
    before = with_video(clip)
    after = frame_noise(before, rng=Random(3), out=tmp_path / "noisy", std=std)
    stored = Path(after["messages"][1]["content"][0]["video"])
    assert stored.parent == tmp_path / "noisy"
    assert before["messages"][1]["content"][0]["video"] == str(clip)
    (noise,) = after["meta"]["noise"]
    assert (noise["of"], noise["std"]) == (str(clip), std)
    clean, fps = read_video(clip)
    pixels, noisy_fps = read_video(stored)
    assert (pixels.shape, noisy_fps) == (clean.shape, fps)
    exact = noisy(clean, std=std, seed=noise["seed"]).astype(float) - clean
    assert exact.std() == pytest.approx(std, rel=0.05)
    luma = (pixels.astype(float) - clean).mean(
        -1
    )  # video keeps colour at half the resolution, so brightness is compared
    assert luma.std() == pytest.approx(exact.mean(-1).std(), rel=0.2)
    again = frame_noise(before, rng=Random(3), out=tmp_path / "again", std=std)
    assert Path(again["messages"][1]["content"][0]["video"]).read_bytes() == stored.read_bytes()


def test_noise_needs_a_video_that_opens(tmp_path, clip):
    missing = frame_noise(with_video(tmp_path / "none.mp4"), rng=Random(0), out=tmp_path)
    assert isinstance(missing, Problem)
    assert "none.mp4" in missing.message
    clip.write_bytes(clip.read_bytes()[:200])
    assert isinstance(frame_noise(with_video(clip), rng=Random(0), out=tmp_path), Problem)
    still = row()
    still["messages"] = [{"role": "user", "content": "what?"}]
    assert "no video" in frame_noise(still, rng=Random(0), out=tmp_path).message
    with pytest.raises(ConfigError, match="std = 0"):
        frame_noise(still, rng=Random(0), out=tmp_path, std=0)


def test_all_are_registered():
    for name, function in (
        ("invert-questions", invert_questions),
        ("shuffle-letters", shuffle_letters),
        ("frame-noise", frame_noise),
    ):
        assert load(name, TRANSFORMS, kind="transform", where="test") is function
