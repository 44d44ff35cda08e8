"""How charts are asked about: the wording of drawn questions, and the instruction after a question.

The instruction is a setting of every maker and reader: a name of `PROMPTS`, or a text of your own with `{question}`.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrl.plugins import ConfigError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

PROMPTS: dict[str, str] = {
    "plain": "{question}",
    "short": "{question}\nAnswer with the value, the name, yes or no, and nothing else.",
    "bigcharts": (
        "{question}\n"
        "Think step by step. Write your thoughts between <thinking> and </thinking>, then your final answer between "
        "<answer> and </answer>.\n"
        "The final answer is a few words at most, in the words of the chart: full labels, not paraphrased. Write a "
        "list as [1, 2], a ratio as a decimal number, a percentage as a whole number, and leave units out."
    ),
}
"""`bigcharts` asks for the tags and the answer format of BigCharts-R1 (arXiv 2508.09804): `think_format` with
`think_tag: thinking` checks it."""

LETTERED: dict[str, str] = {
    "plain": "{question}",
    "short": "{question}\nAnswer with the letter of the right option and nothing else.",
    "bigcharts": (
        "{question}\n"
        "Think step by step. Write your thoughts between <thinking> and </thinking>, then the letter of the right "
        "option between <answer> and </answer>."
    ),
}
"""The same for questions with options."""

QUESTIONS: dict[str, tuple[str, ...]] = {
    "value": ("What is the {measure} for {cell}?", "How much is the {measure} for {cell}?"),
    "extreme": ("Which {category} has the {end} {measure}{within}?",
                "For which {category} is the {measure}{within} the {end}?"),
    "extreme_value": ("What is the {end} {measure}{within}?",),
    "difference": ("What is the difference between the {measure} for {a} and for {b}?",
                   "By how much do {a} and {b} differ in {measure}?"),
    "ratio": ("What is the ratio of the {measure} for {a} to that for {b}?",
              "How many times the {measure} for {b} is the {measure} for {a}?"),
    "sum": ("What is the sum of the {measure} for {a} and for {b}?",),
    "trend": ("Does the {measure}{within} increase or decrease from {a} to {b}?",
              "From {a} to {b}, did the {measure}{within} increase or decrease?"),
    "count": ("How many {things} does the chart show?", "How many {things} are in the chart?"),
    "count_above": ("For how many {things} is the {measure}{within} {side} {bound}?",),
    "comparison": ("Which has the higher {measure}, {a} or {b}?", "Which one is lower in {measure}: {a} or {b}?"),
    "yes_no": ("Is the {measure} for {a} {side} than for {b}?",),
    "total": ("What is the total {measure} for {cell}?",),
    "points": ("How many points does the chart show?", "How many points are drawn?"),
    "points_beyond": ("For how many points is the {measure} {side} {bound}?",),
    "points_of": ("How many points belong to {name}?",),
    "correlation": ("Does the {measure} tend to increase or decrease as the {across} grows?",),
    "group_extreme": ("Which {by} does the point with the {end} {measure} belong to?",),
    "statistic": ("What is the {name} of the {measure} for {cell}?",),
    "spread": ("For which {category} is the box, from the first to the third quartile, the {end}?",),
}  # fmt: skip
"""Kind of question -> wordings."""


def ask(question: str, prompt: str, *, options: Sequence[str] = ()) -> str:
    """The text of a row, its options (if any) a line each with a letter.

    ConfigError for a `prompt` that is neither a name of `PROMPTS` nor a text with `{question}`.
    """
    template = (LETTERED if options else PROMPTS).get(prompt, prompt)
    if "{question}" not in template:
        raise ConfigError(f"prompt = {prompt[:60]!r}: one of {', '.join(PROMPTS)}, or a text with {{question}} in it.")
    lines = [question, *(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))]
    return template.replace("{question}", "\n".join(lines))
