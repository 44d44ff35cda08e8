"""The names a config can use: plain dicts from name to "module:attribute", so listing them imports nothing.

A new method adds its pieces here. Rewards have their own, in `rewards/registry.py`.
"""

SAMPLERS = {"shuffled": "mmrl.samplers:Shuffled"}

ROLLOUTS = {
    "on_policy": "mmrl.rollouts:on_policy",
    "dynamic": "mmrl.rollouts:dynamic",
}

ADVANTAGES = {
    **{
        name: f"mmrl.advantages:{name}"
        for name in (
            "group_relative",
            "group_relative_each",
            "leave_one_out",
            "length_weighted_baseline",
            "best_only",
            "whiten",
            "clip_advantage",
            "overlong_penalty",
            "overlong_filter",
        )
    },
    "best_and_worst": "mmrl.methods.dance_grpo:best_and_worst",
    "per_prompt": "mmrl.methods.ddpo:per_prompt",
}

LOSSES = {
    **{name: f"mmrl.losses:{name}" for name in ("clipped", "gspo", "cispo", "gmpo", "sapo", "kl", "entropy_bonus")},
    "gaussian_kl": "mmrl.methods.flow_grpo:gaussian_kl",
    "velocity_kl": "mmrl.methods.flow_grpo:velocity_kl",
    "behaviour_kl": "mmrl.methods.mixgrpo:behaviour_kl",
    "grpo_guard": "mmrl.methods.grpo_guard:grpo_guard",
}
