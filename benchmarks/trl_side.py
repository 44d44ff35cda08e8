"""TRL's side of the step-time benchmark: its GRPOTrainer as its documentation would have it for speed.

The whole step is generated and, where it fits, trained in one batch; no vLLM, no gradient checkpointing, no reference
model (beta = 0), nothing logged. The subclass only starts and stops the clock.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from flops import costs_of
from workload import LEARNING_RATE, QUESTION, Setting, Stopwatch, changed_parts, make, now, parity, snapshot, undrawable


def reward(completions: list[Any], **_: Any) -> list[float]:
    return [parity(completion[0]["content"]) for completion in completions]


def work(connection: Any, setting: Setting, images: list[Path], folder: Path) -> None:
    """The process: sends the model's costs, reports `Step`s, then the parts of the model that training changed."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    model, processor = make(setting)

    import datasets
    import transformers
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    on_gpu = model.device.type == "cuda"
    rows, steps = setting.prompts * setting.group, setting.steps + 1
    watch = Stopwatch(connection, steps)
    counted: dict[str, int] = {}

    class TimedTrainer(GRPOTrainer):
        def _generate_single_turn(self, prompt_ids: Any, *arguments: Any, **settings: Any) -> Any:
            with watch("generation"):
                completion_ids, logprobs = super()._generate_single_turn(prompt_ids, *arguments, **settings)
            counted["prompt_tokens"] = sum(map(len, prompt_ids))
            counted["completion_tokens"] = sum(map(len, completion_ids))
            counted["vision_tokens"] = sum(list(ids).count(model.config.image_token_id) for ids in prompt_ids)
            return completion_ids, logprobs

        def _prepare_inputs(self, batch: Any) -> Any:
            generated = watch.seconds["generation"]
            inputs = super()._prepare_inputs(batch)
            if watch.seconds["generation"] > generated:  # the first micro-batch of a step
                self.training_since = now()
            return inputs

    class Report(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.wait()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            watch.seconds["training"] = now() - trainer.training_since
            watch.done(**counted)

    trainer = TimedTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_dict(
            {"prompt": [[{"role": "user", "content": QUESTION}]] * len(images), "image": [str(path) for path in images]}
        ).cast_column("image", datasets.Image()),
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=rows // setting.trl_micro_batches,
            gradient_accumulation_steps=setting.trl_micro_batches,
            num_generations=setting.group,
            max_completion_length=setting.new_tokens,
            generation_kwargs={"suppress_tokens": undrawable(model, processor)},
            beta=0.0,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            max_steps=steps,
            use_cpu=not on_gpu,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=on_gpu,
            disable_tqdm=True,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            log_completions=False,
        ),
        callbacks=[Report()],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    before = snapshot(model)
    connection.send(costs_of(model.config, setting.vision_tokens))
    trainer.train()
    connection.send(changed_parts(before, model))
