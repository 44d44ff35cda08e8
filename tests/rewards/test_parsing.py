"""Reading a completion never fails, never takes long, and never reads what is not written."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.records import Media
from rewards import parsing

IMAGE = Media("image", "a.png", "0", (1920, 1080), (960, 540))
READERS = [
    parsing.numbers, parsing.shapes, parsing.last_point, parsing.last_box, parsing.is_point, parsing.last_answer,
    parsing.answer_or_text, parsing.think_answer, parsing.option_letter, parsing.normalised, parsing.sentences,
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 and -4.5, then 1e3.", [3, -4.5, 1000]),
        ("10-20", [10, 20]),
        ("x-5 - 6 -7", [5, 6, -7]),
        ("nan inf 1e999 -1e999 ٣ ²", []),
        ("5.", [5]),
        ("", []),
    ],
)
def test_numbers(text, expected):
    assert parsing.numbers(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("click (3, -4)", [(3, -4)]),
        ("[{'action': 'click', 'coordinate': [540, 1210]}]", [(540, 1210)]),
        ('```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "x"}]\n```', [(10, 20, 30, 40)]),
        ('{"point_2d": [1.5, 2.5]}', [(1.5, 2.5)]),
        ("<|box_start|>(1,2),(3,4)<|box_end|>", [(1, 2, 3, 4)]),
        ("[[1, 2], [3, 4]]", [(1, 2, 3, 4)]),
        ("(1,2), (3,4), (5,6)", [(1, 2), (3, 4), (5, 6)]),
        ("(1,2) then (3,4)", [(1, 2), (3, 4)]),
        ("[1,2,3,4], [5,6,7,8]", [(1, 2, 3, 4), (5, 6, 7, 8)]),
        ("[1, 2, 3] (1) box 1: 4, 5", []),
        ("(1, 2] [3, 4) (5; 6) (7 8)", []),
        ("(nan, 1) (1e999, 2) (2e9, 1) (1, x)", []),
        ("(٣, ٤)", []),
    ],
)
def test_shapes_are_bracketed_points_and_boxes_in_order(text, expected):
    assert parsing.shapes(text) == expected


def test_the_last_shape_counts():
    text = "maybe (1, 2), no: [10, 20, 30, 60] or (5, 6)"
    assert parsing.last_point(text) == (5, 6)
    assert parsing.last_box(text) == (10, 20, 30, 60)
    assert parsing.last_point("(1, 2) in [10, 20, 30, 60]") == (20, 40)
    assert parsing.last_point("none") is None
    assert parsing.last_box("(1, 2)") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>x</think><answer> 7 </answer>", "7"),
        ("<answer>1</answer> no, <answer>2</answer>", "2"),
        ("<answer>1</answer> and <answer>2", "1"),
        ("<answer>1</answer> stray </answer>", "1"),
        ("<answer>a<answer>b</answer>", "b"),
        ("</answer><answer>", None),
        ("<answer></answer>", ""),
        ("<ANSWER>7</ANSWER>", None),
        ("", None),
    ],
)
def test_the_last_complete_answer_tag_counts(text, expected):
    assert parsing.last_answer(text) == expected


def test_think_answer_splits_the_exact_form_only():
    assert parsing.think_answer(" <think>a\nb</think>\n<answer> c </answer>\n") == ("a\nb", "c")
    assert parsing.think_answer("<answer>c</answer><think>a</think>") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("B", "B"),
        (" (B) ", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("(B).", "B"),
        ("B. A red car", "B"),
        ("B) the dog", "B"),
        ("I think the answer is B", "B"),
        ("The answer is (C).", "C"),
        ("Answer: D", "D"),
        ("Answer:\n**D**", "D"),
        ("so the answer is A, not B", "A"),
        ("the answer is B. No: the answer is C.", "C"),
        ("<think>(A) or (C)?</think><answer>B</answer>", "B"),
        ("<answer>B</answer>", "B"),
        ("It shows (B) clearly", "B"),
        ("a", None),
        ("a red car", None),
        ("A man is walking", None),
        ("A", "A"),
        ("the answer is a dog", None),
        ("Answer: A man", None),
        ("The answer is A-frame", None),
        ("The answer is T-shirt", None),
        ("the answer is BC", None),
        ("(A) cat (B) dog", None),
        ("A. cat\nB. dog", None),
        ("(a)", None),
        ("I", "I"),
        ("I see a cat", None),
        ("\uff22", None),
        ("", None),
    ],
)
def test_a_letter_is_read_strictly(text, expected):
    assert parsing.option_letter(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  New\n York. ", "new york"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("3.5", "3.5"), ("...", "")],
)
def test_normalised(text, expected):
    assert parsing.normalised(text) == expected


@pytest.mark.parametrize(
    ("convention", "values", "expected"),
    [
        ("pixel", (0.1, 7), (0.1, 7)),
        ("seen", (480, 270, 960, 540), (960, 540, 1920, 1080)),
        ("norm1", (0.5, 1), (960, 1080)),
        ("norm1000", (500, 250, 1000, 1000), (960, 270, 1920, 1080)),
    ],
)
def test_coordinates_move_to_stored_pixels(convention, values, expected):
    assert parsing.to_pixels(values, convention, IMAGE) == expected


def test_coordinates_are_never_guessed():
    with pytest.raises(ValueError, match="norm1000"):
        parsing.to_pixels((1, 2), "norm100", IMAGE)
    with pytest.raises(ValueError, match="encoded"):
        parsing.to_pixels((1, 2), "seen", Media("image", "a.png", "0", (10, 10)))


@given(st.lists(st.tuples(*[st.integers(-2000, 2000)] * 2), min_size=1, max_size=5))
def test_what_is_written_is_what_is_read(points):
    text = " then ".join(f"({x}, {y})" for x, y in points)
    assert parsing.shapes(text) == points
    assert parsing.numbers(text) == [value for point in points for value in point]
    assert parsing.is_point(text) == (len(points) == 1)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="()[]<>/,.-+eE0123456789 \nABanswerthik:*\u0663", max_size=60) | st.text(max_size=60))
def test_no_text_makes_a_reader_fail(text):
    for reader in READERS:
        reader(text)


PIECES = ["(", "[", "(1,", "(1 ,", "9", "9.", "1e", "1e9", "-", " ", "\n", "(1, 2),", "[1,2,3,4],", "<answer>",
          "</answer>", "<think>", "answer is ", "answer: (", "A.\n", "(A)", "A ", "answer is A ", "\u0663",
          "a"]  # fmt: skip
STARTS = ("(1", "(1,", "<think>", "answer is A", "(")
HUGE = [
    *(piece * (100_000 // len(piece)) for piece in PIECES),
    *(start + fill * 100_000 + end for start in STARTS for fill in " 9\n" for end in ("", "x")),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!  Three?\nand four", ["One.", "Two!", "Three?", "and four"]),
        ("3.5 km, e.g. here", ["3.5 km, e.g.", "here"]),
        ("\n a line\n \nanother.\n", ["a line", "another."]),
        (" \n", []),
    ],
)
def test_sentences_end_with_a_stop_or_with_their_line(text, expected):
    assert parsing.sentences(text) == expected


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_time_is_linear_in_the_length(reader):
    for text in HUGE:
        start = time.process_time()
        reader(text)
        assert time.process_time() - start < 1, text[:20]
