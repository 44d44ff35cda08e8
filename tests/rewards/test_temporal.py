"""Spans in time: golden values, the laws of temporal IoU, and everything a completion may write a span as."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.plugins import ConfigError, check_settings
from mmrl.records import Sample
from rewards.parsing import times
from rewards.temporal import (
    grounded_answer,
    highlight,
    interval_iou,
    temporal_iou,
    temporal_json,
    temporal_recall,
    tiou,
    union_iou,
)

REWARDS = [tiou, temporal_recall, interval_iou, highlight, temporal_json, grounded_answer]
READERS = [times.spans, times.last_span, times.json_span, times.span_list, times.highlights]
GOLD = {"span": [10, 20], "spans": [[12, 22], [30, 40]], "highlights": [[2, 3]], "answer": "C"}

SPANS = st.tuples(st.integers(0, 40), st.integers(0, 40))
PROPER = SPANS.filter(lambda span: span[0] < span[1])
TEXTS = st.lists(
    st.sampled_from([
        "<think>", "</think>", "<answer>", "</answer>", "<glue>", "</glue>", "[", "]", "(", ")", "{", "}", ",", ":",
        '"', "'", " ", "\n", "to", " and ", "-", "–", "s", "seconds", "10", "20.5", "01:02", "1:02:03.5", "nan", "inf",  # noqa: RUF001
        "-3", "1e999", "9" * 400, "1e5", "start_time", "end_time", "timestamps", "saliency", "٣", "\ud800", "\0", "C",
        '{"start_time": 1, "end_time": 2}', "[(1, 2), (3, 4)]", "The answer is B.", "10 to 20",
    ])
    | st.text(max_size=5),
    max_size=25,
).map("".join)  # fmt: skip


def sample(**target) -> Sample:
    return Sample("s", (), (), target)


# Vector tg_iou_and_format_rewards. Its IoU of `10-20`, of `10.0to20.0` and of a text without an answer tag is 0, for
# TimeZero's parser takes single blanks only; here they are read. Its format is `think_format`.
@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>a</think><answer>12.54 to 17.83</answer>", 0.529),
        ("<answer>5.0 to 15.0</answer>", 0.333333),
        ("<think>x</think>\n<answer> 10 and 20 </answer>", 1.0),
        ("<answer>10-20</answer>", 1.0),
        ("no tags 10 to 20", 1.0),
        ("<answer>1 to 2</answer> then <answer>10.0 to 20.0</answer>", 1.0),
        ("<answer>20.0 to 10.0</answer>", 0.0),
        ("<answer>3 to 4, finally 12.0 to 22.0</answer>", 0.666667),
        ("<answer>10.0to20.0</answer>", 1.0),
        ("10 to 20 <answer>no idea</answer>", 0.0),
        ("<answer>15 to 15</answer>", 0.0),
        ('<answer>{"start_time": "5.0", "end_time": 15}</answer>', 1 / 3),
        ("<answer>-10 to 20</answer>", 1 / 3),
        ("", 0.0),
    ],
)
def test_tiou(completion, value):
    assert tiou(completion, sample(span=[10.0, 20.0])).value == pytest.approx(value, abs=1e-5)


# Vector temporal_iou_pairs.
@pytest.mark.parametrize(
    ("a", "b", "value"),
    [([0, 10], [5, 15], 0.333333), ([0, 1], [2, 3], 0), ([75, 127], [85, 139.5], 0.651163), ([8, 2], [3, 6], 0)],
)
def test_temporal_iou(a, b, value):
    assert temporal_iou(a, b) == pytest.approx(value, abs=1e-5)
    written = tiou(f"{a[0]} to {a[1]}", sample(span=b))
    assert written.value == temporal_iou(a, b)
    assert written.parsed == {"span": a}


@given(SPANS, SPANS)
def test_temporal_iou_counts_seconds(a, b):
    inside, other = set(range(*a)), set(range(*b))
    assert temporal_iou(a, b) == (len(inside & other) / len(inside | other) if inside and other else 0)
    assert temporal_iou(a, b) == temporal_iou(b, a)


@given(PROPER, PROPER, st.integers(1, 9))
def test_shares_of_the_video_give_the_value_of_seconds(a, b, length):
    shares = [[time / (40.0 * length) for time in span] for span in (a, b)]
    assert temporal_iou(*shares) == pytest.approx(temporal_iou(a, b), abs=1e-12)


@given(SPANS, PROPER)
def test_one_span_is_a_list_of_one(a, b):
    assert union_iou([a], [b]) == pytest.approx(temporal_iou(a, b))


@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=6))
def test_union_iou_counts_seconds(a, b):
    covered, other = ({second for span in spans for second in range(*span)} for spans in (a, b))
    expected = len(covered & other) / len(covered | other) if covered | other else float(not a and not b)
    assert union_iou(a, b) == pytest.approx(expected, abs=1e-12)
    assert union_iou(a, b) == union_iou(b, a)


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), max_size=8), st.lists(PROPER, max_size=8))
def test_union_iou_stays_in_range_in_floats(a, b):
    assert 0 <= union_iou(a, b) <= 1
    if any(start < end for start, end in a):
        assert union_iou(a, a) == 1


def test_pieces_never_round_to_more_than_their_whole():
    tenths = [(i / 10 + 1e-12, (i + 1) / 10) for i in range(1000)]
    assert 0.999 < union_iou(tenths, [(0, 100)]) <= 1
    assert union_iou([(0, 0.3), (0.5, 1)], [(0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.5, 1)]) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 1.5 to 2.5", [(1.5, 2.5)]),
        ("Between 3 AND 4.", [(3, 4)]),
        ("3   -  4, 5 – 6, 7—8", [(3, 4), (5, 6), (7, 8)]),  # noqa: RUF001
        ("10 -20", [(10, 20)]),
        ("-5 to 10", [(-5, 10)]),
        ("3s to 4 seconds, 5 sec. to 6 sec", [(3, 4), (5, 6)]),
        ("01:10 - 01:20.5", [(70, 80.5)]),
        ("1:02:03.5 to 100:00:00", [(3723.5, 360000)]),
        ("0:61 to 2, 1:2:3:04 to 5, 1.5:20 to 30, 12345:00 to 1", []),
        ("1 to 2 to 3", [(1, 2)]),
        ("1 to 2 and 3 to 4", [(1, 2), (3, 4)]),
        ("[(1, 2), (3, 4)] and [[5, 6]]", [(1, 2), (3, 4), (5, 6)]),
        ("(01:00, 02:00) ( 3 , -4 )", [(60, 120), (3, -4)]),
        ("1, 2 (3, 4 5, 6) [7, 8, 9]", []),
        ("1 two 2; 3 or 4; 5 to nan; 5 to inf", []),
        ("1 to 1e999, 2 to 2e9", []),
        ("٣ to ٤", []),
        ("", []),
    ],
)
def test_spans_in_order(text, expected):
    assert times.spans(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"start_time": "12.3", "end_time": "17.8"}', (12.3, 17.8)),
        ('{"end_time": 17, "start_time": 12, "why": "x"}', (12, 17)),
        ('{"start_time": "00:12", "end_time": " 1:00 "}', (12, 60)),
        ('{"start_time": true, "end_time": 2}', None),
        ('{"start_time": NaN, "end_time": 2}', None),
        ('{"start_time": "nan", "end_time": "Infinity"}', None),
        (f'{{"start_time": 1, "end_time": {"9" * 5000}}}', None),
        ('{"start_time": [1], "end_time": 2}', None),
        ('{"start_time": 1}', None),
        ('[{"start_time": 1, "end_time": 2}]', None),
        ('{"start_time": 1, "end_time": 2', None),
        ("[" * 100_000, None),
    ],
)
def test_json_span(text, expected):
    assert times.json_span(text) == expected


def test_the_last_span_counts_and_a_json_object_before_others():
    assert times.last_span("1 to 2 or 3 to 4") == (3, 4)
    assert times.last_span('1 to 2 ```json\n{"start_time": 5, "end_time": 6}\n```') == (5, 6)
    assert times.last_span('{"start_time": "5 to 6"}') == (5, 6)
    assert times.last_span("}{ 1 to 2") == (1, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[(10.0, 20.0)]", [(10, 20)]),
        ("[ ( 1,2 ) , (3, 3), ]", [(1, 2), (3, 3)]),
        ("[]", []),
        ("[ ]", []),
        ("[[10.0, 20.0]]", None),
        ("[(20.0, 10.0)]", None),
        ("[(1, 2), (4, 3)]", None),
        ("[(1, 2, 3)]", None),
        ("[(1, 1e999)]", None),
        ("(1, 2)", None),
        ("[(1, 2)] yes", None),
        ("[,]", None),
        ("", None),
    ],
)
def test_span_list(text, expected):
    assert times.span_list(text) == expected


def test_recall_is_the_share_of_thresholds_reached():
    gold = sample(span=[0, 10])
    assert [temporal_recall(f"0 to {end}", gold).value for end in (2, 3, 5, 6, 7, 10)] == pytest.approx(
        [0, 1 / 3, 2 / 3, 2 / 3, 1, 1]
    )
    assert temporal_recall("0 to 5", gold, thresholds=(0.5,)).value == 1
    assert temporal_recall("0 to 5", gold, thresholds=(0.500001,)).value == 0
    assert temporal_recall("nothing", gold).value == 0
    assert check_settings(temporal_recall, {"thresholds": [0.5, 1]}, name="", where="") == {"thresholds": (0.5, 1.0)}
    for thresholds in ((), (0.0,), (1.5,), (float("nan"),)):
        with pytest.raises(ValueError, match="thresholds"):
            temporal_recall("0 to 5", gold, thresholds=thresholds)


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<answer>12 to 22, 30 to 40</answer>", 1),
        ("<answer>[(30, 40), (12, 22)]</answer>", 1),
        ("<answer>12 to 22, 12 to 22, 20 to 21, 30 to 40, 9 to 8</answer>", 1),
        ("<answer>12 to 22</answer>", 0.5),
        ("<answer>12 to 40</answer>", 20 / 28),
        ("<answer>0 to 10</answer>", 0),
        ("<answer>[]</answer>", 0),
        ("12 to 22, 30 to 40 <answer>?</answer>", 0),
        ("", 0),
    ],
)
def test_interval_iou(completion, value):
    assert interval_iou(completion, sample(spans=[[12, 22], [30, 40]])).value == pytest.approx(value)


def test_an_empty_answer_is_right_where_nothing_happens_but_an_unreadable_one_is_not():
    nothing = sample(spans=[])
    assert [interval_iou(f"<answer>{text}</answer>", nothing).value for text in ("[]", "None.")] == [1, 1]
    assert [interval_iou(f"<answer>{text}</answer>", nothing).value for text in ("", "?", "3 to 4", "4 to 3")] == [
        0
    ] * 4


def said(pairs) -> str:
    listed, scores = (", ".join(str(pair[i]) for pair in pairs) for i in (0, 1))
    return f"The highlight timestamps are in the {listed} seconds. Their saliency scores are {scores}."


def test_highlight():
    # Vector highlight_timestamp_matching_reward_INTERPRETATION.
    gold = sample(highlights=[[84, 2.0], [86, 3.0], [88, 2.0], [90, 2.0]])
    written = [(82, 1.3), (84, 2.0), (86, 3.0), (90, 2.0)]
    score = highlight(f"<think>80 s?</think><answer>{said(written)}</answer>", gold)
    assert score.value == pytest.approx(0.677027, abs=1e-5)
    assert score.why == "F2 0.75, WMSE 0.7619"
    assert score.parsed == {"highlights": [list(pair) for pair in written]}


@given(
    st.dictionaries(st.integers(0, 75).map(lambda clip: 2 * clip), st.integers(1, 50).map(lambda x: x / 10), min_size=1)
)
def test_the_gold_highlights_are_worth_one_and_no_others(gold):
    pairs = list(gold.items())
    target = sample(highlights=[list(pair) for pair in pairs])
    assert highlight(said(pairs), target).value == 1
    assert highlight(said([*pairs, (151, 1)]), target).value < 1
    assert highlight(said([(second, score + 1) for second, score in pairs]), target).value < 1
    assert highlight(said([(second + 1, score) for second, score in pairs]), target).value < 0.4


def test_f2_weighs_recall_more_than_precision():
    gold = sample(highlights=[[0, 1], [2, 1]])
    assert "F2 0.5556" in highlight(said([(0, 1)]), gold).why  # precision 1, recall 1/2
    assert "F2 0.8333" in highlight(said([(0, 1), (2, 1), (4, 1), (6, 1)]), gold).why  # precision 1/2, recall 1


def test_only_times_after_the_word_timestamps_count():
    assert times.highlights("In 150 s, 3 times: timestamps 2, 4 s. Saliency scores 1.5 and 2.") == {2: 1.5, 4: 2}


def test_highlights_without_scores_without_times_and_of_any_size():
    gold = sample(highlights=[[2, 3.0], [4, 0]])
    assert highlight("The highlight timestamps are in the 2, 4 seconds. Saliency: ", gold).value == pytest.approx(
        0.6 + 0.4 / (1 + 9)
    )
    assert highlight(said([(2, "1e300"), (4, "-1e300")]), gold).value == pytest.approx(0.6)
    assert [highlight(text, gold).value for text in ("2, 4", "saliency scores 3, 0", "")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ('<think>t</think><answer>{"start_time": "10", "end_time": "20.0"}</answer>', 1),
        ('<think>t</think>\n<answer>\n{ "start_time" : "5", "end_time": "15"}\n</answer>', 0.5 / 3 + 0.5),
        ('<think>t</think><answer>{"start_time": 10, "end_time": 20}</answer>', 0.5),
        ('<think>t</think><answer>{"end_time": "20", "start_time": "10"}</answer>', 0.5),
        ('<answer>{"start_time": "10", "end_time": "20"}</answer>', 0.5),
        ('<think>t</think><answer>{"start_time": "10", "end_time": "20"}</answer> done', 0.5),
        ('<think>t</think><answer>{"start_time": "20", "end_time": "10"}</answer>', 0.5),
        ('<think>t</think><answer>{"start_time": "10", "end_time": "20", "more": 1}</answer>', 0.5),
        ('<think>t</think><answer>it is {"start_time": "10", "end_time": "20"}</answer>', 0),
        ("<think>t</think><answer>10 to 20</answer>", 0),
        ('{"start_time": "10", "end_time": "20"}', 0),
        ("", 0),
    ],
)
def test_temporal_json(completion, value):
    assert temporal_json(completion, sample(span=[10, 20])).value == pytest.approx(value)


# Vector nextgqa_rewards_videochat_r1_recipe.
@pytest.mark.parametrize(
    ("completion", "answer", "iou", "form"),
    [
        ("<think>t</think><answer>C</answer><glue>[(10.0, 20.0)]</glue>", 1, 0.666667, 1),
        ("<think>t</think>\n<answer>(C) x</answer>\n<glue>[(10, 14), (13, 18), (30, 31)]</glue>", 1, 0.461538, 1),
        ("<think>t</think><answer>B</answer><glue>[[10.0, 20.0]]</glue>", 0, 0, 0),
        ("<answer>C</answer><glue>[(20.0, 10.0)]</glue>", 1, 0, 0),
        ("<think>t</think><answer>The answer is C.</answer>", 1, 0, 0),
        ("<think>t</think><answer>C</answer><glue>[]</glue>", 1, 0, 1),
        ("<think>t</think><glue>[(12, 22)]</glue><answer>C</answer>", 1, 1, 0),
        ("<think>t</think><answer>A dog</answer><glue>[(12, 22)]</glue>", 0, 1, 1),
        ("", 0, 0, 0),
    ],
)
@pytest.mark.parametrize("gold", ["(C)", "C"])
def test_grounded_answer(completion, answer, iou, form, gold):
    target = sample(answer=gold, spans=[[12.0, 22.0]])
    parts = {"answer": answer, "iou": iou, "format": form, "sum": answer + iou + form}
    for part, value in parts.items():
        assert grounded_answer(completion, target, part=part).value == pytest.approx(value, abs=1e-5)
    assert grounded_answer(completion, target) == grounded_answer(completion, target, part="sum")


def test_a_part_is_one_that_exists():
    with pytest.raises(ConfigError, match="part"):
        check_settings(grounded_answer, {"part": "accuracy"}, name="grounded_answer", where="rewards.0")
    with pytest.raises(ValueError, match="part is sum, answer or iou or format"):
        grounded_answer("", sample(**GOLD), part="accuracy")


@pytest.mark.parametrize(
    ("key", "found"),
    [
        *[
            ("span", wrong)
            for wrong in ([5, 1], [5, 5], [1], 3, None, ["a", "b"], [0, float("nan")], [0, 1e300], [-1e300, 0])
        ],
        *[("spans", wrong) for wrong in ([[5, 1]], [1, 2], 3, "12", {"a": 1}, [[1, 2], [3]])],
        *[("highlights", wrong) for wrong in ([], [[2, 0]], [2, 4], 3, [[2, float("inf")]])],
        ("answer", "the dog"),
    ],
)
def test_a_wrong_target_is_an_error_that_names_it(key, found):
    for function in REWARDS:
        if key in function.reward_info.needs:
            with pytest.raises((ValueError, TypeError), match=rf"target\.{key}.*found"):
                function("1 to 2", sample(**{**GOLD, key: found}))


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_any_text_is_read_and_every_value_is_in_range(text):
    check_any(text)


def check_any(text: str) -> None:
    for reader in READERS:
        reader(text)
    target = sample(**GOLD)
    for function in REWARDS:
        low, high = function.reward_info.range
        score = function(text, target)
        assert low <= score.value <= high
        json.dumps(score.parsed, allow_nan=False)


PIECES = [
    "1", "1 ", " ", "1.", "1:", "1:00:", "01:02 ", "1e", "-", "1-", "1 to ", "(", "(1,", "(1, 2), ", "[", "{", "{}",
    "s ", "1s ", '{"start_time": 1, ', "saliency", "saliency 1 ", "timestamps 1 ", "<answer>", "</glue>", "<glue>",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("frame", ["{}!", "<think></think><answer>C {}</answer><glue>[(1, 2){}</glue>"])
def test_time_is_linear_in_length(piece, frame):
    text = frame.replace("{}", piece * (50_000 // len(piece)))
    start = time.process_time()
    for function in REWARDS:
        function(text, sample(**GOLD))
    times.span_list(text)
    assert time.process_time() - start < 5
