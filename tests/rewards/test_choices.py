"""Multiple choice: one letter, sets of letters, and letters that are none."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrl.records import Sample
from rewards.choices import letter_choice, soft_choices
from rewards.parsing.choices import option_letter, option_letters

LETTERS = st.sets(st.sampled_from("ABCDEF"), min_size=1)


def asking(answer=None, **target) -> Sample:
    return Sample("s", (), target={"answer": answer, **target})


def test_letter_choice():
    assert letter_choice("<answer>B</answer>", asking("B")).value == 1
    assert letter_choice("(C)", asking("B")).value == 0
    assert letter_choice("(C)", asking("B")).parsed == "C"
    assert letter_choice("a red car", asking("A")).value == 0
    assert letter_choice("A red car", asking("A")).value == 0
    with pytest.raises(ValueError, match="letter"):
        letter_choice("B", asking("blue"))


@pytest.mark.parametrize(
    ("completion", "value"),
    [
        ("<think>x</think><answer>B. pick up celery</answer>", 1),
        ("<answer>B</answer>", 1),
        ("<answer></answer>", 0),
        # The original wants the tag and compares first characters: 0, 0 and 1 there.
        ("B", 1),
        ("<answer>The answer is B</answer>", 1),
        ("<answer>BC</answer>", 0),
    ],
)
def test_seedbench_first_letter_accuracy(completion, value):
    assert letter_choice(completion, asking("B")).value == value


# Vector mathvista_normalise, the rows that a letter decides: choices 1, 2, 3. Where the original then takes the choice
# nearest to any text, letter_choice reads none.
@pytest.mark.parametrize(("extraction", "letter"), [("B", "B"), ("(C) 3", "C"), ("two point five", None)])
def test_mathvista_letters(extraction, letter):
    assert letter_choice(extraction, asking("B")).parsed == letter


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("A", "A"), ("A,C", "AC"), ("A, C", "AC"), ("C,A", "AC"), ("A, A", "A"), ("A C", "AC"), ("AC", "AC"),
        ("A and C", "AC"), ("A, B, and D", "ABD"), ("(A), (C)", "AC"), ("[A, C].", "AC"), ("**A**, **C**", "AC"),
        ("A.", "A"), ("A\nC", "AC"), ("<think>B</think><answer> A,C </answer>", "AC"),
        ("The answer is A and C.", "AC"), ("The answers are (A), (C)", "AC"), ("Answer: A, C", "AC"),
        ("The answer is A, C. I am sure.", "AC"), ("Answer: A. cat, C. dog", "AC"), ("Answer:\n**A, C**", "AC"),
        ("answer is B. No, the answer is C.", "C"),
        ("A. cat\nC. dog", "AC"), ("(A) a cat and (C) a dog", "AC"), ("I choose (B).", "B"),
        ("", ""), ("a", ""), ("a,c", ""), ("A man", ""), ("A dog and a cat", ""), ("the answer is a dog", ""),
        ("The answer is A man", ""), ("A, C. Sure", ""), ("A or C", ""), ("CA", ""), ("DATA", ""), ("BAD", ""),
        ("I see a cat", ""), ("\uff21,\uff23", ""), ("A/C", ""),
    ],
)  # fmt: skip
def test_option_letters(text, letters):
    assert "".join(option_letters(text)) == letters


@pytest.mark.parametrize(
    ("completion", "value"),
    [("<answer>A,C</answer>", 1), ("A", 0.5), ("C", 0.5), ("A,B", 0), ("A,B,C", 0), ("B", 0), ("<answer></answer>", 0),
     ("A, A", 0.5), ("A.", 0.5), ("a,c", 0), ("A cat", 0)],
)  # fmt: skip
def test_soft_choices(completion, value):
    for gold in (asking("A,C"), asking("<answer>A,C</answer>"), asking(choices=["A", "C"])):
        assert soft_choices(completion, gold).value == value
        assert soft_choices(completion, gold, partial=False).value == (value == 1)


@given(LETTERS, LETTERS, st.sampled_from([",", ", ", " and ", "\n"]))
def test_soft_choices_is_the_share_of_a_subset(right, chosen, separator):
    gold = asking(choices=sorted(right))
    value = soft_choices(separator.join(chosen), gold).value
    assert value == (len(chosen) / len(right) if chosen <= right else 0)
    assert (value == 1) == (chosen == right)


@pytest.mark.parametrize(
    "target",
    [{}, {"answer": ""}, {"answer": "the cat"}, {"answer": 3}, {"answer": ["A"]}, {"choices": []}, {"choices": "AC"},
     {"choices": ["A", "cat"]}, {"choices": ["a"]}, {"choices": [1], "answer": "A"}],
)  # fmt: skip
def test_a_wrong_gold_is_an_error_not_a_zero(target):
    with pytest.raises(ValueError, match=r"target\.(answer|choices)"):
        soft_choices("A", Sample("s", (), target=target))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ABCIand ,;&.()*:<>/nswer\n", max_size=60) | st.text(max_size=60))
def test_any_text_is_read(text):
    letters = option_letters(text)
    assert letters == sorted(set(letters))
    assert all("A" <= letter <= "Z" for letter in letters)
    assert 0 <= soft_choices(text, asking("A,C")).value <= 1


def test_time_is_linear_in_the_length():
    pieces = [
        "A,",
        "A, ",
        "(A)",
        "A and ",
        "answer is A, ",
        "answers are ",
        "and ",
        "*",
        "(",
        " ",
        "A. ",
        "A",
        "answer: ",
    ]
    for piece in pieces:
        for end in ("", "x", "?"):
            text = piece * (40_000 // len(piece)) + end
            start = time.process_time()
            option_letters(text)
            option_letters("answer is A" + text)
            assert time.process_time() - start < 0.5, piece


@pytest.mark.parametrize(
    ("completion", "letter"),
    [
        (r"\boxed{B}", "B"),
        (r"<answer>\boxed{\text{B}}</answer>", "B"),
        ("The answer is B because the bar is higher.", "B"),
        ("The answer is A because the bar is higher.", "A"),
        ("The answer is option C", "C"),
        ("The correct option is D.", "D"),
        ("The answer is A dog", None),
        ("The answer is a dog because it barks", None),
        ("an option for everybody", None),
    ],
)
def test_usual_ways_to_choose_are_read(completion, letter):
    assert option_letter(completion) == letter
