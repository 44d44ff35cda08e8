"""Rewards as they are written for other trainers. mmrl calls them unchanged; see docs/rewards.md.

rewards:
  - {name: docs/examples/other_trainers.py:format_reward}
  - {name: docs/examples/other_trainers.py:boxed_reward, form: trl_text}
  - {name: docs/examples/other_trainers.py:compute_score, as: verl_exact, partial_credit: 0.2}
  - {name: docs/examples/other_trainers.py:brevity_and_accuracy, length_weight: 0.1}
  - {name: docs/examples/other_trainers.py:Keywords, minimum: 2}
"""

import re


# TRL, conversational: a completion is a list of messages. Columns come as keyword arguments, one value per completion.
def format_reward(completions, **kwargs):
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", c, re.DOTALL) else 0.0 for c in contents]


# TRL, standard: a completion is a string. Nothing in the signature says so, so the entry does: `form: trl_text`.
def boxed_reward(completions, ground_truth, log_extra=None, **kwargs):
    found = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
    answers = [match.group(1) if match else "" for match in found]
    if log_extra:
        log_extra("boxed", answers)
    return [float(answer == truth) for answer, truth in zip(answers, ground_truth)]  # noqa: B905


# verl: one completion at a time. Other parameters are reward_kwargs there, settings here.
def compute_score(data_source, solution_str, ground_truth, extra_info=None, partial_credit=0.0):
    exact = solution_str.strip() == ground_truth
    return {"score": 1.0 if exact else partial_credit * (ground_truth in solution_str), "exact": exact}


# EasyR1: a list of dicts in, a list of dicts out; `overall` is the reward.
def brevity_and_accuracy(reward_inputs: list[dict], length_weight: float = 0.5) -> list[dict]:
    scores = []
    for one in reward_inputs:
        accuracy = float(one["ground_truth"] in one["response"])
        brevity = 1 / (1 + one["response_length"])
        overall = (1 - length_weight) * accuracy + length_weight * brevity
        scores.append({"overall": overall, "accuracy": accuracy, "brevity": brevity})
    return scores


# ms-swift: an ORM class, built once. There it derives from swift.rewards.ORM and is entered in `orms`.
class Keywords:
    def __init__(self, args=None, minimum: int = 1, **kwargs):
        self.minimum = minimum

    def __call__(self, completions, solution, **kwargs) -> list[float]:
        counts = [completion.count(truth) for completion, truth in zip(completions, solution)]  # noqa: B905
        return [float(count >= self.minimum) for count in counts]
