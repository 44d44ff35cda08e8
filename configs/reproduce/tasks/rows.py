"""Row transforms of the replications: `mmrl data transform FILE configs/reproduce/tasks/rows.py:NAME`.

`name_the_digit` asks for a digit itself instead of one of four letters (TTRV). `think_aloud` answers a click with a
thought before it, for cold starts that think (TON).
"""

from __future__ import annotations

from random import Random

from data_pipelines.reading import Row

LETTERS = "ABCD"
GLASSES = ("red", "green", "blue", "yellow", "white")


def name_the_digit(row: Row, *, rng: Random, answered: bool = False) -> Row:
    """A row of `mmrl data make digits` that asks `which digit?` without choices; the target is the digit, as a count.

    `answered` adds the assistant's turn, for a cold start: a word for the way it looks, drawn from `GLASSES`, then the
    digit as seen that way. Through glass g, digits g and g + 5 look like the next one: every way of looking is wrong
    about two digits of ten, and no two of them about the same.
    """
    digit = int(row["meta"]["options"][LETTERS.index(row["target"]["answer"])])
    image = next(part for part in row["messages"][0]["content"] if part["type"] == "image")
    messages = [{"role": "user", "content": [image, {"type": "text", "text": "which digit?"}]}]
    if answered:
        glass = rng.randrange(len(GLASSES))
        seen = (digit + 1) % 10 if digit % len(GLASSES) == glass else digit
        messages.append({"role": "assistant", "content": f"{GLASSES[glass]} {seen}"})
    return row | {"messages": messages, "target": {"count": digit}}


def think_aloud(row: Row, *, rng: Random, size: int = 64) -> Row:
    """A row of `mmrl data make gui` with the assistant's turn `<think>thought</think><answer>(x, y)</answer>`.

    The thought lists what is on the screen of `size` x `size` pixels, from top to bottom, with sides and centres, and
    ends at the element that is asked for: about 75 tokens of the tiny model. Nothing is drawn from `rng`.
    """
    elements = sorted(row["meta"]["elements"], key=lambda element: centre(element["box"])[::-1])
    wanted = next(element for element in elements if element["box"] == row["target"]["box"])
    listed = ". ".join(f"a {element['name']}: {place(element['box'], size)}" for element in elements)
    thought = f"the screen shows {listed}. click the {wanted['name']}: {place(wanted['box'], size)}."
    answer = f"<think>{thought}</think><answer>{centre(wanted['box'])}</answer>"
    return row | {"messages": [*row["messages"], {"role": "assistant", "content": answer}]}


def place(box: list[int], size: int) -> str:
    """`bottom left, at (13, 40)`."""
    x, y = centre(box)
    return f"{'top' if y < size / 2 else 'bottom'} {'left' if x < size / 2 else 'right'}, at {(x, y)}"


def centre(box: list[int]) -> tuple[int, int]:
    """The pixel at the centre of (x1, y1, x2, y2)."""
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
