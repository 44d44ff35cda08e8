"""The one place that reads completions, a module per kind of thing that is written in them.

Every function takes any text, runs in time linear in its length, and answers None (or an empty list) when the text
does not have the asked form. The regular expressions never repeat two patterns in a row that can match the same
character, so they cannot backtrack more than once over a text.
"""

from rewards.parsing.choices import option_letter
from rewards.parsing.coordinates import Values, centre, is_point, last_box, last_point, shapes, to_pixels
from rewards.parsing.quantities import numbers
from rewards.parsing.tags import answer_or_text, last_answer, think_answer
from rewards.parsing.words import normalised, sentences

__all__ = [
    "Values",
    "answer_or_text",
    "centre",
    "is_point",
    "last_answer",
    "last_box",
    "last_point",
    "normalised",
    "numbers",
    "option_letter",
    "sentences",
    "shapes",
    "think_answer",
    "to_pixels",
]
