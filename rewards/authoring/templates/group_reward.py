"""One reward for a group of completions. Edit it, then: mmrl rewards check group_reward.py:group_reward"""

from __future__ import annotations

from mmrl.records import Sample
from rewards import Score, reward
from rewards.parsing import answer_or_text, normalised


# range: the lowest and highest value it can give.  needs: keys that `target` has in every row of the data.
@reward(range=(0, 1), needs=("answer",), scope="group")
def group_reward(completions: list[str], sample: Sample, *, discount: float = 0.5) -> list[Score]:
    """A right answer is worth more the rarer it is: 1 - discount * (share of the others that are right), else 0."""
    gold = normalised(str(sample.target["answer"]))
    answers = [normalised(answer_or_text(completion)) for completion in completions]
    right = [answer == gold for answer in answers]

    others_right = (sum(right) - 1) / max(1, len(completions) - 1)
    value = 1 - discount * others_right
    return [Score(value if is_right else 0.0, parsed=answer) for is_right, answer in zip(right, answers, strict=True)]


# One value per completion, in their order; a value must not depend on that order.
# A completion is never an error: what cannot be read earns the lowest value, and `why` says so in the viewer.
# A value of None is "does not apply". Keyword-only parameters, such as `discount`, are settings of a recipe.
# `sample` also has `prompt`, `messages`, `meta` and `media` (path, size, size the model saw, times of frames).
