"""One reward in one function. Edit it, then: mmrl rewards check row_reward.py:row_reward"""

from __future__ import annotations

from mmrl.records import Sample
from rewards import Score, reward
from rewards.parsing import answer_or_text, normalised


# range: the lowest and highest value it can give.  needs: keys that `target` has in every row of the data.
@reward(range=(0, 1), needs=("answer",))
def row_reward(completion: str, sample: Sample, *, partial: float = 0.0) -> Score:
    """1 if the answer is `target.answer`, `partial` if it only contains it, else 0."""
    gold = normalised(str(sample.target["answer"]))
    answer = normalised(answer_or_text(completion))  # what its last <answer> tag holds; without one, all of it

    if answer == gold:
        return Score(1.0, parsed=answer)
    if gold in answer:
        return Score(partial, parsed=answer, why="there is more than the answer")
    return Score(0.0, parsed=answer)


# A completion is never an error: what cannot be read earns the lowest value, and `why` says so in the viewer.
# Return None where the reward does not apply. Keyword-only parameters, such as `partial`, are settings of a recipe.
# `sample` also has `prompt`, `messages`, `meta` and `media` (path, size, size the model saw, times of frames).
