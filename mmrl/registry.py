"""The names a config can use: plain dicts from name to "module:attribute", so listing them imports nothing.

A new method adds its pieces here. Rewards have their own, in `rewards/registry.py`.
"""

SAMPLERS = {
    "shuffled": "mmrl.samplers:Shuffled",
    "variance_aware": "mmrl.methods.variance_sampling:VarianceAware",
    "curriculum": "mmrl.methods.craft_gui:Curriculum",
}

ROLLOUTS = {
    "on_policy": "mmrl.rollouts:on_policy",
    "dynamic": "mmrl.rollouts:dynamic",
    "ground_truth": "mmrl.methods.tempsamp:ground_truth",
    "votes": "mmrl.methods.ttrv:votes",
    "success_replay": "mmrl.methods.arpo:success_replay",
    "with_and_without": "mmrl.methods.geometryzero:with_and_without",
    "difficulty_aware": "mmrl.methods.deepvideo_r1:difficulty_aware",
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
    "soft_advantage": "mmrl.methods.tempsamp:soft_advantage",
    "downscale_off_policy": "mmrl.methods.tempsamp:downscale_off_policy",
    "anchor_off_policy": "mmrl.methods.tempsamp:anchor_off_policy",
    "format_off_policy": "mmrl.methods.tempsamp:format_off_policy",
    "token_weights": "mmrl.methods.tw_grpo:token_weights",
    "skip_ratio": "mmrl.methods.ton:skip_ratio",
    "implicit_format": "mmrl.methods.vlaa_thinker:implicit_format",
    "contrastive_mask": "mmrl.methods.geometryzero:contrastive_mask",
    "truncated_importance": "mmrl.serving.importance:truncated_importance",
}

LOSSES = {
    **{name: f"mmrl.losses:{name}" for name in ("clipped", "gspo", "cispo", "gmpo", "sapo", "kl", "entropy_bonus")},
    "gaussian_kl": "mmrl.methods.flow_grpo:gaussian_kl",
    "velocity_kl": "mmrl.methods.flow_grpo:velocity_kl",
    "behaviour_kl": "mmrl.methods.mixgrpo:behaviour_kl",
    "grpo_guard": "mmrl.methods.grpo_guard:grpo_guard",
    "reg_grpo": "mmrl.methods.deepvideo_r1:RegGRPO",
}

METRICS = {
    "grounding": "mmrl.evaluation.moments:grounding",
    "highlights": "mmrl.evaluation.moments:highlights",
    "screenspot": "mmrl.evaluation.screens:screenspot",
    "aitz": "mmrl.evaluation.screens:aitz",
    "counting": "mmrl.evaluation.answers:counting",
    "thoughts": "mmrl.evaluation.answers:thoughts",
}

VOTES = {
    "majority": "mmrl.evaluation.votes:majority",
    "region": "mmrl.methods.gui_rc:region_vote",
}

LOGGERS = {
    "tensorboard": "mmrl.runs.loggers:TensorBoard",
    "wandb": "mmrl.runs.loggers:WandB",
    "trackio": "mmrl.runs.loggers:Trackio",
}
