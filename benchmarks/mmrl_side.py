"""mmrl's side of the step-time benchmark: the real training loop and recorder, a step each time it is asked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from flops import costs_of
from rich.console import Console
from workload import LEARNING_RATE, QUESTION, Setting, Stopwatch, changed_parts, make, snapshot, undrawable

from mmrl.runs.run import Run


class TimedRun(Run):
    """Records as every run does, then reports the step. Keeps no checkpoint."""

    watch: Stopwatch
    image_token: int

    def record(self, step: int, rollouts: Any, metrics: Any, *, pieces: Any = None) -> None:
        super().record(step, rollouts, metrics, pieces=pieces)
        self.watch.seconds["training"] = metrics["seconds/learn"]
        lengths = [len(prompt) for prompt in rollouts.prompts]
        vision = [int((prompt.ids == self.image_token).sum()) for prompt in rollouts.prompts]
        self.watch.done(
            prompt_tokens=sum(lengths[p] for p in rollouts.prompt.tolist()),
            completion_tokens=int(rollouts.length.sum()),
            vision_tokens=sum(vision[p] for p in rollouts.prompt.tolist()),
        )

    def checkpoint(self, *arguments: Any, **settings: Any) -> None:
        pass


def work(connection: Any, setting: Setting, images: list[Path], folder: Path) -> None:
    """The process: sends the model's costs, reports `Step`s, then the parts of the model that training changed."""
    import torch

    from data_pipelines.media import probe
    from mmrl.config import Config, dump, parse
    from mmrl.console import StepPrinter
    from mmrl.policies.vlm import VLMPolicy
    from mmrl.recipe import make_recipe
    from mmrl.records import Sample
    from mmrl.trainer import train

    model, processor = make(setting)
    steps = setting.steps + 1
    config: Config = parse(
        {
            "name": "step_time",
            "runs": str(folder),
            "steps": steps,
            "prompts_per_step": setting.prompts,
            "group_size": setting.group,
            "micro_batch_tokens": 1 << 30,
            "model": {"vision": "trained"},
            "data": {"train": "", "budget": {"max_tokens": 1 << 20, "max_pixels": 1 << 26}},
            "sampling": {"max_new_tokens": setting.new_tokens},
            "rewards": [f"{Path(__file__).parent / 'workload.py'}:parity"],
            "optimizer": {"learning_rate": LEARNING_RATE},
        },
        Config,
        where="benchmark",
    )
    recipe = make_recipe(config, VLMPolicy, where="benchmark")
    policy = VLMPolicy(model, processor, settings=config.model, budget=config.data.budget)
    policy.engine.forbidden = torch.tensor(undrawable(model, processor))
    policy.engine.stops = torch.tensor([], dtype=torch.long)
    samples = {
        str(i): Sample(
            id=str(i),
            messages=(
                {
                    "role": "user",
                    "content": [{"type": "image", "image": str(path)}, {"type": "text", "text": QUESTION}],
                },
            ),
            media=(probe(path, "image"),),
        )
        for i, path in enumerate(images)
    }
    watch = Stopwatch(connection, steps)
    generate = policy.engine.generate

    def timed_generate(*arguments: Any) -> Any:
        with watch("generation"):
            return generate(*arguments)

    policy.engine.generate = timed_generate  # type: ignore[method-assign]
    run = TimedRun.open(
        folder / "run", dump(config), StepPrinter(Console(file=io.StringIO()), steps=steps), resume=False
    )
    assert isinstance(run, TimedRun)
    run.watch, run.image_token = watch, model.config.image_token_id
    before = snapshot(model)
    connection.send(costs_of(model.config, setting.vision_tokens))
    watch.wait()
    train(run, policy, recipe, samples)
    connection.send(changed_parts(before, model))
