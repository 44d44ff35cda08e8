"""The rollouts of a step from servers: when it is their turn, or up to `settings.ahead` steps before, in a thread.

What is collected ahead is planned in the main thread, with what the sampler had observed by then: the plan of step s is
made before what steps s - ahead to s - 1 taught it. The thread works on copies of the plan's state and shares nothing
with the step that is learned meanwhile but the policy's tokenizer and processor. Rollouts that are collected and not
yet used are nowhere saved: a resumed run makes them again.
"""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, NoReturn

from mmrl import distributed
from mmrl.plugins import ConfigError
from mmrl.recipe import Recipe
from mmrl.records import Rollouts, Sample
from mmrl.report import Clock
from mmrl.serving.importance import mismatch
from mmrl.serving.settings import ahead
from mmrl.stages import Context, Policy, Sampler
from mmrl.trainer import Collector, collect, make_context

Collected = tuple[Rollouts, dict[str, float]]
"""Scored rollouts, and the seconds of each phase."""


class ServedCollector(Collector):
    """`policy` is a `ServedPolicy`, or one shared by several ranks."""

    def __init__(self, policy: Policy, recipe: Recipe, sampler: Sampler, samples: Mapping[str, Sample]) -> None:
        super().__init__(policy, recipe, sampler, samples)
        self.served: Any = policy
        self.ahead = ahead(recipe.config)
        self.background: Background | None = None
        self._coming: dict[int, Future[Collected]] = {}
        self._seconds: dict[str, float] = {}
        if self.ahead:
            if hasattr(sampler, "survey"):
                raise ConfigError(
                    f"sampler.name = {recipe.config.sampler['name']} completes prompts before a step is planned, so no "
                    "step can be collected ahead. Set server.staleness=0, or take another sampler."
                )
            self.background = Background()

    def take(self, context: Context, clock: Clock) -> Rollouts:
        with clock("weights"):
            self.served.weights.update(context.step, under_way=bool(self._coming))
        if self.background is None:
            return super().take(context, clock)
        for step in range(context.step, min(context.step + self.ahead, context.total - 1) + 1):
            if step not in self._coming:
                self._coming[step] = self.background.call(self._plan(step, context))
        with clock("wait"):
            rollouts, seconds = self._coming.pop(context.step).result()
        self._seconds = {f"collected/{phase}": value for phase, value in seconds.items()}
        return rollouts

    def _plan(self, step: int, now: Context) -> Callable[[], Collected]:
        sampler = self.recipe.make_sampler(self.samples)
        sampler.load_state_dict(copy.deepcopy(self.sampler.state_dict()))
        context = make_context(step, self.policy, self.recipe, sampler, self.samples, now.metrics, NoMemory())

        def collect_it() -> Collected:
            clock = Clock()
            rollouts = collect(self.policy, self.recipe, sampler, self.samples, context, clock)
            return rollouts, clock.seconds

        return collect_it

    @contextmanager
    def in_process(self) -> Iterator[None]:
        """What is being collected is finished first: it goes to the servers through the same policy."""
        for coming in self._coming.values():
            coming.exception()
        with self.served.in_process():
            yield

    def metrics(self, rollouts: Rollouts) -> dict[str, float]:
        failed, self.served.servers.failed = self.served.servers.failed, 0
        return {**mismatch(rollouts), **self._seconds, "server/failed_tries": float(failed)}


class NoMemory(dict[str, Any]):
    """The memory of a step that is collected ahead: there is none, for the step before it is not over."""

    def _refuse(self, *arguments: Any) -> NoReturn:
        raise ConfigError(
            "this rollout keeps a memory from step to step, so no step can be collected ahead. Set server.staleness=0."
        )

    setdefault = get = __getitem__ = __setitem__ = __contains__ = pop = update = _refuse  # type: ignore[assignment]


class Background:
    """One thread that does what it is given, in order. Its ranks' collectives have a group of their own."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Collected], Future[Collected]]] = queue.SimpleQueue()
        group = distributed.another_group()
        # A daemon: at the end of the program nobody waits for a server.
        threading.Thread(target=self._work, args=(group,), daemon=True, name="collecting").start()

    def call(self, work: Callable[[], Collected]) -> Future[Collected]:
        future: Future[Collected] = Future()
        self._calls.put((work, future))
        return future

    def _work(self, group: object) -> None:
        with distributed.within(group):
            while True:
                work, future = self._calls.get()
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
