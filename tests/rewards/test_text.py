"""Answers compared with the gold text: exactly, by edits, by words, and by another reward with a reference."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.plugins import ConfigError
from mmrl.records import Sample
from rewards import reward
from rewards.entry import Entry
from rewards.parsing.words import vqa_normalised
from rewards.registry import Score
from rewards.text import anls, better_than_reference, exact_match, levenshtein, rouge, token_recall

WORDS = st.lists(st.sampled_from(["red", "blue", "car", "the", "on", "7", "x1"]), min_size=1, max_size=8).map(" ".join)
FEW = st.text(alphabet="abc \u00e9", max_size=12)
HOSTILE = ["", " ", "\x00", "\ud800", "nan", "a" * 100_000, "a b " * 50_000, "x." * 50_000, "<answer>" * 20_000,
           "\U0001f600" * 10_000, "-" * 100_000, "'" * 100_000, "9," * 50_000]  # fmt: skip


def asking(answer=None, **target) -> Sample:
    return Sample("s", (), target={"answer": answer, **target})


@pytest.mark.parametrize(
    ("completion", "answer", "value"),
    [
        ("New  york.", "new York", 1),
        ("<think>Rome?</think><answer>Paris</answer>", "Paris", 1),
        ("Paris, France", "Paris", 0),
        ("7", 7, 1),
        ("7.5", 7.5, 1),
        ("", "x", 0),
        ("None", "falsene", 0),
        ("", "...", 0),
    ],
)
def test_exact_match(completion, answer, value):
    assert exact_match(completion, asking(answer)).value == value


# Vector count_math_rewards_string_path, but for the last but one: the original reads no answer with a line break.
@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>\n\n</think><answer>3</answer>", 1),
        ("<think>\n\n</think>\n<answer> 3 </answer>", 1),
        ("<answer>3</answer>", 1),
        ("3", 1),
        ("<think>a</think><answer>3.0</answer>", 0),
        ("<think>a</think><answer>\n3\n</answer>", 1),
        ("x <think>a</think><answer>3</answer>", 1),
    ],
)
def test_a_count_as_a_string(completion, value):
    assert exact_match(completion, asking("3")).value == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The red car!", "red car"),
        ("two", "2"), ("None", "0"), ("Ten cars", "10 cars"), ("twofold", "twofold"),
        ("Don't", "dont"), ("dont", "dont"), ("it\u2019s", "its"),
        ("1,000", "1000"), ("3.5", "3.5"), ("-5", "-5"), ("10-20", "10 20"), ("black-and-white", "black and white"),
        ("a/b", "b"), ("U.S.", "us"), ("yes,\n\tno", "yes no"), ("fitness or soccer", "fitness or soccer"),
        ("between 0m2 and 10m2", "between 0m2 and 10m2"),
        ("A", "a"), ("the", "the"), ("?!", ""),
    ],
)  # fmt: skip
def test_vqa_normalised(text, expected):
    assert vqa_normalised(text) == expected


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(text):
    once = vqa_normalised(text)
    assert vqa_normalised(once) == once or set(once.split()) & {"a", "an", "the"} or "." in once or "-" in once


def test_exact_match_as_in_vqa():
    assert exact_match("There: the two cars.", asking("there: 2 cars"), normalise="vqa").value == 1
    assert exact_match("Two", asking(2), normalise="vqa").value == 1
    assert exact_match("Two", asking(2)).value == 0
    assert exact_match("?", asking("!"), normalise="vqa").value == 0
    with pytest.raises(ValueError, match="normalise"):
        exact_match("x", asking("x"), normalise="full")


@pytest.mark.parametrize(
    ("completion", "answers", "value"),
    [
        ("hello", ["hello"], 1),
        ("Hello  World", ["hello world"], 1),
        ("hallo", ["hello"], 0.8),
        ("ab", ["ac"], 0),  # half is not more than half
        ("abc", ["abd"], 2 / 3),
        ("hallo", ["world", "hello", "x"], 0.8),
        ("<answer>1990</answer>", [1990], 1),
        ("", ["x"], 0),
    ],
)
def test_anls(completion, answers, value):
    assert anls(completion, asking(answers=answers)).value == pytest.approx(value)
    if len(answers) == 1:
        assert anls(completion, asking(answers[0])).value == pytest.approx(value)
    assert anls("ab", asking("ac"), threshold=0.4).value == 0.5


@given(FEW, FEW)
def test_levenshtein_is_the_table_of_wagner_and_fischer(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    assert levenshtein(a, b) == levenshtein(b, a) == row[-1]


@given(FEW.filter(str.strip), FEW, st.sampled_from([0.0, 0.3, 0.5]))
def test_anls_is_cut_at_the_threshold(gold, answer, threshold):
    a, b = (" ".join(text.split()) for text in (answer, gold))
    similarity = 1 - levenshtein(a, b) / max(len(a), len(b))
    expected = similarity if similarity > threshold else 0
    assert anls(answer, asking(gold), threshold=threshold).value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("rouge1", 12 / 13),  # 6 of 6 and 6 of 7
        ("rouge2", 6 / 11),  # the cat, sat on, on the: 3 of 5 and 3 of 6
        ("rougeL", 10 / 13),  # the cat sat on the: 5 of 6 and 5 of 7
    ],
)
def test_rouge(kind, value):
    gold = asking("the cat quietly sat on the mat")
    answer = {
        "rouge1": "the cat sat on the mat",
        "rouge2": "the cat sat on the dog",
        "rougeL": "the cat sat on the dog",
    }
    assert rouge(answer[kind], gold, kind=kind).value == pytest.approx(value)
    assert rouge("<answer>The cat quietly sat on the mat.</answer>", gold, kind=kind).value == 1
    assert rouge("dog", gold, kind=kind).value == 0


@given(WORDS, WORDS)
def test_rouge_l_is_symmetric_bounded_and_one_for_the_gold(a, b):
    value = rouge(a, asking(b)).value
    assert value == pytest.approx(rouge(b, asking(a)).value)
    assert 0 <= value <= 1
    assert (value == 1) == (a == b)
    assert rouge(a, asking(answers=["zzz", a])).value == 1


@pytest.mark.parametrize(
    ("completion", "golds", "value"),
    [
        ("it is the Eiffel Tower, surely", ["Eiffel Tower"], 1),
        ("a tower", ["Eiffel Tower"], 0),
        ("a tower in Paris", ["a big iron tower built in Paris"], 0.5),  # big iron tower built in paris: 3 of 6
        ("two two", ["two dogs saw two other cats"], 1 / 3),  # 2 of 6
        ("red", ["red", "dark red"], 1),
        ("dark red", ["red", "dark red"], 1),
        ("dark", ["red", "dark red"], 0),
        ("", ["x"], 0),
    ],
)
def test_token_recall(completion, golds, value):
    assert token_recall(completion, asking(answers=golds)).value == pytest.approx(value)
    if len(golds) == 1:
        assert token_recall(completion, asking(golds[0])).value == pytest.approx(value)


@given(WORDS.filter(lambda words: set(words.split()) != {"the"}), WORDS)
def test_padding_an_answer_never_costs_recall(gold, padding):
    assert token_recall(f"{padding} {gold}", asking(gold)).value == 1


@pytest.mark.parametrize("function", [exact_match, anls, rouge, token_recall])
@pytest.mark.parametrize("answer", [["x"], None, {}, "", pytest.param(10**5000, id="huge")])
def test_a_gold_that_cannot_match_is_an_error_not_a_zero(function, answer):
    with pytest.raises((TypeError, ValueError), match=r"target\.answer"):
        function("x", asking(answer))


@pytest.mark.parametrize("function", [anls, rouge, token_recall])
def test_alternatives_are_a_list(function):
    for wrong in ("x", [], [None], [""], [["x"]]):
        with pytest.raises((TypeError, ValueError), match=r"target\.answer"):
            function("x", asking(answers=wrong))
    for blank in ("?!", "\u0663\u0663"):
        if function is not anls and not (function is token_recall and blank != "?!"):
            with pytest.raises(ValueError, match="no word"):
                function("x", asking(blank))


@pytest.mark.parametrize("function", [exact_match, anls, rouge, token_recall])
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_any_completion_has_a_finite_value_in_range(function, text):
    assert 0 <= function(text, asking("a red car, 7")).value <= 1


@pytest.mark.parametrize("function", [exact_match, anls, rouge, token_recall])
def test_hostile_completions_take_no_time(function):
    for text in HOSTILE:
        start = time.process_time()
        assert 0 <= function(text, asking("the red car " * 20)).value <= 1
        assert time.process_time() - start < 2, text[:20]
    exact_match("9," * 50_000, asking("x"), normalise="vqa")


# Vector vlaa_open_ended: S(pred), S(ref), beta, reward.
@pytest.mark.parametrize(
    ("ours", "theirs", "beta", "value"),
    [(1.0, 0.5, 1.0, 0.3934693), (0.5, 0.5, 1.0, 0.0), (-0.2, -1.2, 2.0, 0.8646647), (0.1, 0.4, 1.0, 0.0)],
)
def test_better_than_reference(ours, theirs, beta, value):
    judge = better_than_reference(scorer={"name": f"{__file__}:number_in_it"}, beta=beta)
    samples = [asking(reference=str(theirs)), asking(reference="0")]
    first, second = judge([f"<think>9</think><answer>{ours}</answer>", "3"], samples)
    assert first.value == pytest.approx(value, abs=1e-6)
    assert second.value == pytest.approx(1 - math.exp(-3 * beta))


@reward(range=(-math.inf, math.inf))
def number_in_it(completion, sample):
    return None if completion == "skip" else float(completion)


@reward(range=(0, 10), scope="batch")
def texts_at_once(completions, samples, *, factor: float = 1.0):
    assert len(completions) == len(samples)
    return [len(completions) * factor] * len(completions)


def test_failures_of_the_scorer_are_failures_of_their_rows_only():
    judge = better_than_reference(scorer={"name": f"{__file__}:number_in_it"})
    good, bad = asking(reference="1"), asking(reference="words")
    outcomes = judge(["2", "words", "2", "", "skip"], [good, good, bad, good, good])
    assert outcomes[0].value == pytest.approx(1 - math.exp(-1))
    assert all(isinstance(outcomes[row], ValueError) for row in (1, 2, 3))
    assert outcomes[4] is None


def test_a_batch_scorer_sees_each_reference_once():
    judge = better_than_reference(scorer={"name": f"{__file__}:texts_at_once", "factor": 0.5})
    one, two = asking(reference="x"), asking(reference="y")
    values = [score.value for score in judge(["a", "", "b", "c"], [one, one, one, two])]
    assert values == pytest.approx([1 - math.exp(-1), 0, 1 - math.exp(-1), 1 - math.exp(-1)])


def test_better_than_reference_stands_in_a_config():
    entry = Entry.from_config(
        {"name": "better_than_reference", "scorer": {"name": "rouge", "kind": "rouge1"}, "beta": 2}, where="x"
    )
    sample = asking("a red car on a road", reference="a red car")
    better, same = entry.reward.attempt(entry.stage.settings, ["a red car on a road", "a red car"], [sample] * 2)
    assert isinstance(better, Score) and isinstance(same, Score)
    assert better.value == pytest.approx(1 - math.exp(-2 * (1 - 6 / 9)))
    assert same.value == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scorer": {"name": "roug"}}, "rouge"),
        ({"scorer": {"name": "rouge", "knd": "rouge1"}}, "kind"),
        ({"scorer": {"kind": "rouge1"}}, "scorer"),
        ({"scorer": {"name": "rouge", "weight": 2}}, "weight"),
        ({"scorer": {"name": "majority_vote"}}, "row or batch"),
        ({"scorer": {"name": "math_answer"}}, "worker"),
        ({"scorer": {"name": "rouge"}, "beta": 0}, "beta"),
        ({"scorer": {"name": "rouge"}, "beta": math.inf}, "beta"),
    ],
)
def test_a_wrong_scorer_is_refused_when_it_is_built(wrong, message):
    with pytest.raises(ConfigError, match=message):
        better_than_reference(**wrong)


def test_a_missing_reference_is_an_error():
    judge = better_than_reference(scorer={"name": "rouge"})
    with pytest.raises(TypeError, match=r"target\.reference"):
        judge(["x"], [asking("x")])
