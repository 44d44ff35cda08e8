"""Numbers, lists and expressions: golden values, the laws of the formulas, and texts that are no numbers."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.parsing.quantities import quantity
from rewards.parsing.words import items
from rewards.quantities import chart_value, list_match, math_answer, relaxed_accuracy

HOSTILE = [
    "", " ", "nan", "inf", "-inf", "1e999", "9" * 5000, "1," * 50_000, "1 000" * 20_000, "-" * 100_000, "(" * 100_000,
    "<answer>" * 20_000, "\u0663", "\U0001f4c8" * 1000, "5 " + "a" * 100_000 + "!", "1." + "0" * 100_000 + "x",
    "9" * 100_000 + "e", "1" + " 000" * 25_000 + "!", "\x00", "\ud800", "[" * 1000 + "1" + "]" * 1000, ";" * 100_000,
]  # fmt: skip
TEXTS = st.text(alphabet="0123456789.,-+eE%$kKmMB ()[];\n\\{}<>/answerint\u2212\u0663", max_size=40) | st.text(
    max_size=40
)


def asking(answer) -> Sample:
    return Sample("s", (), target={"answer": answer})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", 42), ("-5", -5), ("\u22125", -5), ("+5", 5), (".5", 0.5), ("5.", 5), ("1e5", 1e5), ("**5**", 5),
        ("$1,234.5", 1234.5), ("-$5", -5), ("US$5 bn", 5e9), ("\u20ac1,234,567", 1234567), ("USD 5", 5), ("$42$", 42),
        ("1 234 567.5", 1234567.5), ("1\u00a0234", 1234), ("1\u202f234", 1234),
        ("3.4 million", 3.4e6), ("1.2k", 1200), ("1.2K people", 1200), ("5M$", 5e6), ("2 trillion.", 2e12),
        ("12%", 0.12), ("12 \\%", 0.12), ("12 per cent", 0.12), ("12 pp", 0.12), ("12% increase", 0.12),
        ("5 kg", 5), ("5kg", 5), ("100 m2", 100), ("5 km/h", 5), ("5 t", 5), ("about 5", 5), ("\u22485", 5),
    ],
)  # fmt: skip
def test_what_is_a_quantity(text, value):
    found = quantity(text)
    assert found is not None
    assert found.value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "1e999", "\u0663", "five", "5 and 6", "10-20", "1/2", "1,2345", "1,5", "1.234,5", "2019 Q2",
     "2nd quarter", "65+", "(5)", "No 5", "1 0000", "12 345,678", "65 years and older", "- - 5", "5 5"],
)  # fmt: skip
def test_what_is_no_quantity(text):
    assert quantity(text) is None


# Vector bigcharts_cerm_and_eval: target, prediction, CERM, relaxed accuracy. The original strips neither texts nor
# thousands separators before it compares them ("yes ", "1,000"); here both are 1.
BIGCHARTS = [
    ("100", "100", 1.0, 1),
    ("100", "105", 0.952381, 1),
    ("100", "150", 0.6666667, 0),
    ("100", "300", 0.3333333, 0),
    ("100", "-100", 0.3333333, 0),
    ("0", "0", 1.0, 1),
    ("0", "0.001", 0.0, 0),
    ("50%", "0.5", 1.0, 1),
    ("50%", "50", 0.01, 0),
    ("Yes", "yes ", 1.0, 1),
    ("Yes", "No", 0.0, 0),
    ("1,000", "1000", 1.0, 1),
    ("2010", "2011", 0.9995027, 1),
]


@pytest.mark.parametrize(("target", "answer", "cerm", "relaxed"), BIGCHARTS)
def test_the_vectors_of_bigcharts(target, answer, cerm, relaxed):
    for completion in (answer, f"<think>7</think><answer>\n{answer}\n</answer>"):
        assert chart_value(completion, asking(target)).value == pytest.approx(cerm, abs=1e-6)
        assert relaxed_accuracy(completion, asking(target)).value == relaxed


@pytest.mark.parametrize(
    ("target", "answer", "value"),
    [
        (42, "42 people", 1),
        (42, "the value is 42", 0),
        ("42 kg", "42 km", 0),
        ("42 kg", "42 kgs", 1),
        ("42 km", "42", 1),
        (3400000, "3.4 million", 1),
        (3.4, "3.4 million", 0),
        (1.0, "1.05", 1),
        (1.0, "1.0500001", 0),
        (-100, "-95", 1),
        (-100, "-94.9", 0),
        (0, "-0", 1),
        (0, "0%", 1),
        ("Product 7", "Product 7.", 1),
        ("Product 7", "Product 8", 0),
        ("2019 Q2", "2019 Q3", 0),
        (5, "nan", 0),
    ],
)
def test_relaxed_accuracy(target, answer, value):
    assert relaxed_accuracy(answer, asking(target)).value == value


def test_a_percent_sign_may_stand_for_either_number_when_asked():
    for target, answer in [("12", "12%"), ("12%", "12"), ("0.12", "12%"), ("12%", "0.12"), ("12%", "12%")]:
        assert relaxed_accuracy(answer, asking(target), percent="either").value == 1
        assert chart_value(answer, asking(target), percent="either").value == 1
    assert relaxed_accuracy("12", asking("0.12"), percent="either").value == 0
    assert chart_value("12%", asking("12")).value == pytest.approx(1 / 1.99)


def test_what_was_read_and_why_is_shown():
    assert relaxed_accuracy("12%", asking(5)).parsed == 0.12
    assert "no number" in relaxed_accuracy("many", asking(5)).why
    assert "kg" in chart_value("5 kg", asking("5 km")).why


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_chart_value_falls_with_the_relative_error_and_is_one_only_for_the_target(p, t):
    value = chart_value(repr(p), asking(t)).value
    assert 0 <= value <= 1
    assert chart_value(repr(t), asking(t)).value == 1
    if t != 0:
        assert value == pytest.approx(1 / (1 + abs(p - t) / abs(t)), rel=1e-9)
        assert chart_value(repr(t + 2 * (p - t)), asking(t)).value <= value + 1e-9
    else:
        assert value == (p == 0)
    signed = chart_value(repr(p), asking(t), signed=True).value
    assert signed == (0 if p * t < 0 else value) or abs(p * t) < 1e-300


@given(st.integers(-10_000, 10_000), st.integers(-10_000, 10_000), st.integers(0, 20))
def test_relaxed_accuracy_is_its_formula(p, t, percent_off):
    value = relaxed_accuracy(str(p), asking(t), tolerance=percent_off / 100).value
    assert value == (100 * abs(p - t) <= percent_off * abs(t))


@given(st.floats(0.001, 1e6).map(lambda x: round(x, 3)), st.sampled_from(["{:,}", "${:,}", "{}", "{} million", "{}%"]))
def test_a_number_written_in_another_way_is_the_same_answer(number, form):
    text = form.format(number)
    meant = number * (1e6 if "million" in form else 0.01 if "%" in form else 1)
    assert relaxed_accuracy(text, asking(meant), tolerance=0).value == 1
    assert relaxed_accuracy(str(meant * 1.06), asking(text)).value == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1, 2]", ["1", "2"]),
        ("[100,200]", ["100", "200"]),
        ("1,234, 5,678", ["1,234", "5,678"]),
        ("['a b', \"c\"]", ["a b", "c"]),
        ("a, b, and c", ["a", "b", "c"]),
        ("- a\n- b\n", ["a", "b"]),
        ("a, x; b", ["a, x", "b"]),
        ("[[1, 2], [3]]", ["1", "2", "3"]),
        ("-5, -6", ["-5", "-6"]),
        ("[]", []),
        (", ,", []),
    ],
)
def test_items_of_a_list(text, expected):
    assert items(text) == expected


@pytest.mark.parametrize(
    ("target", "answer", "settings", "value"),
    [
        ("[1, 2]", "[1, 2]", {}, 1),
        ("[1, 2]", "2, 1", {}, 1),
        ("[1, 2]", "2, 1", {"ordered": True}, 0),
        ("[1, 2]", "1, 3", {"ordered": True}, 0.5),
        ([1, "two"], "<answer>Two, 1.0</answer>", {}, 1),
        (["a"], "a, b, c", {}, 0.5),
        (["a", "b", "c"], "a", {}, 0.5),
        (["a", "a"], "a", {}, 2 / 3),
        (["a"], "a, a, a", {}, 0.5),
        ([100, 104], "102, 100", {"tolerance": 0.02}, 1),  # taking the first that fits would match one only
        ([100, 104], "102, 100", {}, 0.5),
        (["x"], "", {}, 0),
        (["12%"], "0.12", {}, 1),
    ],
)
def test_list_match(target, answer, settings, value):
    assert list_match(answer, asking(target), **settings).value == pytest.approx(value)


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=8), st.lists(st.integers(-50, 50), max_size=8))
def test_list_match_is_the_f1_of_two_multisets(target, answer):
    common = sum(min(target.count(n), answer.count(n)) for n in set(target))
    expected = 2 * common / (len(target) + len(answer))
    assert list_match(str(answer), asking(target)).value == pytest.approx(expected)
    assert list_match(str(target), asking(target), ordered=True).value == 1
    assert list_match(str(answer), asking(target), ordered=True).value <= expected + 1e-9


@pytest.mark.parametrize(
    ("target", "answer", "value"),
    [
        ("3", "3", 1),
        ("3", "<think>4</think><answer>$3.0$</answer>", 1),
        ("3", "The answer is 3.", 1),
        ("1/2", r"\boxed{\frac{1}{2}}", 1),
        (r"\sqrt{2}", "√2", 1),
        (r"\sqrt{2}", r"\sqrt{2}", 1),
        ("2", r"\sqrt{2}", 0),
        ("2", r"The answer is 2\sqrt{3}", 0),
        ("yes", "sey", 0),
        ("x^2-1", "(x-1)(x+1)", 1),
        (r"\sin x", "sin(x)", 1),
        (r"5\text{ cm}", "5", 1),
        ("1e3", "1,000", 1),
        ("50%", "0.5", 1),
        ("no", "on", 0),
        ("no", "No.", 1),
        ("5", "", 0),
        ("5", "nothing", 0),
        # Vector mmr1_rule_accuracy_quirks: the original pays all but the last.
        ("2", r"\boxed{12}", 0),
        ("A", r"\boxed{B}", 0),
        ("E", r"\boxed{B}", 0),
        ("B", "<answer>B</answer>", 1),
    ],
)
def test_math_answer(target, answer, value):
    assert math_answer(answer, asking(target)).value == value


# Vector count_math_rewards_string_path; 3.0 is 3 here, and an answer with line breaks is read.
@pytest.mark.parametrize("reward", [math_answer, relaxed_accuracy, chart_value])
def test_a_count_is_read_with_and_without_tags(reward):
    for completion in ["<think>\n\n</think><answer>3</answer>", "<think>\n\n</think>\n<answer> 3 </answer>",
                       "<answer>3</answer>", "3", "<think>a</think><answer>3.0</answer>",
                       "<think>a</think><answer>\n3\n</answer>", "x <think>a</think><answer>3</answer>"]:  # fmt: skip
        assert reward(completion, asking(3)).value == 1


def test_math_answer_runs_in_a_worker_process_and_without_signals():
    import signal

    assert math_answer.reward_info.timeout is not None
    handler = signal.getsignal(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, 300)  # the worker's own timer
    try:
        math_answer("$x+1$", asking("1+x"))
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 200
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize(
    "gold", [None, {"a": 1}, [], "", "  ", math.nan, math.inf, "nan", "1e999", pytest.param(10**5000, id="huge")]
)
@pytest.mark.parametrize("reward", [relaxed_accuracy, chart_value, list_match, math_answer])
def test_a_wrong_gold_is_an_error_not_a_zero(reward, gold):
    with pytest.raises((TypeError, ValueError), match=r"target\.answer"):
        reward("5", asking(gold))


def test_settings_are_checked():
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="tolerance"):
            relaxed_accuracy("5", asking(5), tolerance=wrong)
        with pytest.raises(ValueError, match="tolerance"):
            list_match("5", asking([5]), tolerance=wrong)
    with pytest.raises(ValueError, match="percent"):
        chart_value("5", asking(5), percent="both")


REWARDS = [(relaxed_accuracy, 12.5), (chart_value, 12.5), (chart_value, "blue"), (list_match, [1, "a"])]


@pytest.mark.parametrize(("reward", "gold"), REWARDS)
@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_any_completion_has_a_finite_value_in_range(reward, gold, text):
    for completion in (text, f"<answer>{text}</answer>"):
        assert 0 <= reward(completion, asking(gold)).value <= 1


@settings(max_examples=30, deadline=None)
@given(text=TEXTS)
def test_any_short_text_may_be_an_expression(text):
    assert math_answer(text, asking("7")).value in (0, 1)


@pytest.mark.parametrize(("reward", "gold"), REWARDS)
def test_hostile_completions_are_worth_nothing_and_take_no_time(reward, gold):
    for text in HOSTILE:
        start = time.process_time()
        assert reward(text, asking(gold)).value < 0.7
        assert time.process_time() - start < 1, text[:20]
