"""Between the server's distribution and the trainer's: truncated importance weights, and numbers that say how far.

A server computes in another precision, with other kernels, and with weights of some steps ago. Completions are then not
drawn from the policy that learns from them. Truncated importance sampling (Yao et al. 2025, "Your Efficient RL
Framework Secretly Brings You Off-Policy RL Training") weighs each token with min(pi_trainer / pi_server, cap), the
trainer's log-probs being those before the step's first update; what the updates then change is the loss's own ratio.
"""

from __future__ import annotations

from torch import Tensor

from mmrl.plugins import needs
from mmrl.records import Rollouts
from mmrl.stages import Context


@needs("logp_old")
def truncated_importance(advantage: Tensor, rollouts: Rollouts, context: Context, *, cap: float = 2.0) -> Tensor:
    """A * min(exp(log-prob of the trainer - log-prob of the generation), cap), token by token (TIS, Yao et al. 2025).

    Rows that come from elsewhere, and padding, keep their advantage. With `rollout.engine: server` it ends the chain by
    itself, with `cap` as `server.importance_cap`.
    """
    if rollouts.logp_rollout is None:
        raise ValueError(
            "truncated_importance: whoever made these completions gave no log-probs, so there is nothing to weigh with."
        )
    assert rollouts.logp_old is not None
    weight = (rollouts.logp_old - rollouts.logp_rollout).exp().clamp(max=cap)
    return advantage.where(~(rollouts.made & rollouts.own[:, None]), weight * advantage)


def mismatch(rollouts: Rollouts) -> dict[str, float]:
    """How far the log-probs of the generation are from the trainer's, before the step's first update, in nats per token
    of the policy's own rows; nothing where either is not there.

    `mismatch/mean` and `/max` of |trainer - generation|; `mismatch/kl`, KL(generation || trainer) by the estimate
    r - 1 - log r with r = pi_trainer / pi_generation, which is never negative. With stale completions the steps between
    are in it.
    """
    if rollouts.logp_rollout is None or rollouts.logp_old is None:
        return {}
    own = rollouts.made & rollouts.own[:, None]
    ahead = (rollouts.logp_old - rollouts.logp_rollout)[own].double()
    if not len(ahead):
        return {}
    return {
        "mismatch/mean": float(ahead.abs().mean()),
        "mismatch/max": float(ahead.abs().max()),
        "mismatch/kl": float((ahead.exp() - 1 - ahead).mean()),
    }
