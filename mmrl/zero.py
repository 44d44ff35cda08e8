"""DeepSpeed's ZeRO behind the same few methods as `optimization.Updater`: what is spread over the ranks is found again
by parameter, so a checkpoint is the same whatever the number of ranks and the strategy that wrote it.

DeepSpeed is given a module whose forward pass is any call, for the log-probs are no model's own forward. It averages
gradients over the ranks and ours are shares of a sum, so losses are scaled by the number of ranks. All its collectives
happen in `run`, `backward` and `update`: a rank with fewer micro-batches takes idle turns, and what the ranks' passes
differ in is evened out by `lockstep.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor

from mmrl import distributed
from mmrl.compat import tell_deepspeed
from mmrl.config import DistributionConfig, OptimizerConfig
from mmrl.lockstep import Lockstep
from mmrl.optimization import Updater
from mmrl.plugins import ConfigError
from mmrl.runs.checkpoints import OptimizerState

if TYPE_CHECKING:
    from mmrl.stages import Policy

T = TypeVar("T")

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state per weight."""

WHOLE_BELOW = 4096
"""ZeRO-3: smaller parameters (norms, biases) are not worth a message and stay whole."""


class AnyCall(torch.nn.Module):
    """A module around the model whose forward pass is the call it is given."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[], Any]) -> Any:
        return call()


class ZeroUpdater(Updater):
    """AdamW with its states (stage 1), the gradients too (2) and the weights too (3) spread over the ranks."""

    retries: ClassVar[bool] = False

    def __init__(self, policy: Policy, config: OptimizerConfig, distribution: DistributionConfig) -> None:
        stage = self.stage = int(distribution.strategy[-1])
        super().__init__(policy, config)
        deepspeed = import_deepspeed()
        self.groups = self.optimizer.state_dict()["param_groups"]
        self.ordered = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        """As a checkpoint numbers them."""
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": config.max_grad_norm,
            "zero_optimization": {
                "stage": stage,
                "contiguous_gradients": True,
                "overlap_comm": False,
                "stage3_param_persistence_threshold": WHOLE_BELOW,
            },
            "zero_allow_untested_optimizer": True,
        }
        self.engine = deepspeed.initialize(model=AnyCall(policy.model), optimizer=self.optimizer, config=settings)[0]
        self.lockstep = Lockstep(policy.parts(), everywhere=stage == 3)
        self.kept_whole = policy.kept_whole()
        self.begin_states()
        self.gathered = stage == 3 and gathers(policy.model, distribution)
        if stage == 3:
            self.keep_whole()
            if len(self.lockstep.parts) > 1:
                # Ranks whose passes differ record different orders of layers, on which DeepSpeed insists; without an
                # order it fetches no layer ahead.
                self.forget_order()
                self.offload.fwd_pre_hook.remove()

    @property
    def offload(self) -> Any:
        return self.engine.optimizer.parameter_offload

    def keep_whole(self) -> None:
        """Leave the weights of `policy.kept_whole` on every rank. How often a pass uses them differs from rank to rank,
        also in the middle of a backward pass, so DeepSpeed must not gather them then."""
        persistent = self.offload.persistent_parameters
        for module in (inner for kept in self.kept_whole for inner in kept.modules()):
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key in [key for key, hook in hooks.items() if "deepspeed" in getattr(hook, "__module__", "")]:
                    del hooks[key]
            for parameter in module.parameters(recurse=False):
                if not getattr(parameter, "ds_persist", False):
                    setattr(parameter, "ds_persist", True)  # noqa: B010
                    persistent.append(parameter)
        if persistent:
            persistent[0].all_gather(persistent)

    def begin_states(self) -> None:
        """AdamW's states before the first update. DeepSpeed finds them by parameter only if all exist when it looks,
        which with several groups of parameters is not so after the first of them was updated."""
        sharded = self.engine.optimizer
        flat = sharded.fp32_partitioned_groups_flat if self.stage == 3 else sharded.single_partition_of_fp32_groups
        for part in flat:
            if not self.optimizer.state[part]:
                moments = {name: torch.zeros_like(part) for name in MOMENTS}
                self.optimizer.state[part] = {"step": torch.tensor(0.0), **moments}
        if self.stage < 3:
            sharded._lazy_init_hp_params_optimizer_state()

    def turns(self, batches: Sequence[T]) -> Iterator[tuple[T | None, bool]]:
        """As many on every rank as the rank with most has."""
        count = max(distributed.gather(len(batches)))
        for index in range(count):
            yield batches[index] if index < len(batches) else None, index + 1 == count

    @contextmanager
    def whole_weights(self, *, saving: bool = False) -> Iterator[None]:
        if self.stage < 3:
            yield
        elif saving:
            with self.on_cpu():
                yield
        elif self.gathered:
            with self.on_every_rank():
                yield
        else:
            self.forget_order()
            with self.lockstep.section():
                yield

    @contextmanager
    def on_every_rank(self) -> Iterator[None]:
        """Gather all weights, without DeepSpeed's hooks, which would let go of a module's after its forward pass."""
        import deepspeed

        parameters = list(self.engine.module.parameters())
        with deepspeed.zero.GatheredParameters(parameters):
            for parameter in parameters:
                parameter.ds_active_sub_modules.clear()
            for hook in [*self.offload.forward_hooks, *self.offload.backward_hooks]:
                hook.remove()
            self.offload.forward_hooks, self.offload.backward_hooks = [], []
            try:
                yield
            finally:
                self.offload._register_deepspeed_module(self.offload.module)
        self.keep_whole()

    @contextmanager
    def on_cpu(self) -> Iterator[None]:
        """Rank 0 has all weights in its CPU's memory, gathered one after another: to be saved, not to be used."""
        import deepspeed

        parameters, own = list(self.engine.module.parameters()), []
        for parameter in parameters:
            with deepspeed.zero.GatheredParameters([parameter]):
                whole = parameter.detach().cpu().clone() if distributed.rank() == 0 else None
            own.append((parameter, parameter.data))
            if whole is not None:
                parameter.data = whole
        try:
            yield
        finally:
            for parameter, data in own:
                parameter.data = data
            self.keep_whole()

    def forget_order(self) -> None:
        """DeepSpeed records in which order layers are used, to fetch them ahead; generating has no fixed one."""
        coordinator = self.offload.get_param_coordinator()
        if not coordinator.is_invalid_trace():
            coordinator._invalidate_trace()

    def run(self, call: Callable[[], T]) -> T:
        found: T = self.engine(lambda: self.lockstep.run(call))
        return found

    def backward(self, loss: Tensor, *, last: bool) -> None:
        for nothing in self.lockstep.loose:
            loss = loss + nothing
        self.lockstep.loose.clear()
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * distributed.size())

    def step(self, *, rate: float, skip: bool) -> float:
        """DeepSpeed itself makes no update where the norm of all ranks' gradients is not finite, and clears them."""
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        if skip:
            self.spoil()
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def clear(self) -> None:
        """After a last `backward`, on all ranks."""
        self.spoil()
        self.engine.step()

    def spoil(self) -> None:
        """Make the gradients such that DeepSpeed throws them away."""
        for gradients in self.engine.optimizer.averaged_gradients.values():
            for gradient in gradients or ():
                gradient.fill_(float("nan"))

    @contextmanager
    def states_to_come(self) -> Iterator[None]:
        yield  # they are there from the start

    def state(self) -> OptimizerState:
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = self.steps()
        tensors: dict[str, Tensor] = {}
        for index, parameter in enumerate(self.ordered):
            for name in MOMENTS if steps else ():
                whole = safe_get_full_optimizer_state(parameter, name)
                if distributed.rank() == 0:
                    tensors[f"{index}.{name}"] = whole.detach().cpu().clone()
                    tensors[f"{index}.step"] = torch.tensor(float(steps))
        rate = self.engine.optimizer.param_groups[0]["lr"]
        return tensors, {"param_groups": [{**group, "lr": rate} for group in self.groups], "state": {}}

    def restore(self, state: OptimizerState) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        tensors, numbers = state
        saved, present = (
            [len(group["params"]) for group in groups] for groups in (numbers["param_groups"], self.groups)
        )
        if saved != present:
            raise ConfigError(
                f"the saved optimizer has {saved} parameters in its groups, this one {present}.\n"
                f"  Resume with the model and the trained parts of the original config."
            )
        for index, parameter in enumerate(self.ordered):
            for name in MOMENTS:
                if f"{index}.{name}" in tensors:
                    safe_set_full_optimizer_state(parameter, tensors[f"{index}.{name}"].to(parameter.device), name)
        for entries in self.optimizer.state.values():
            entries["step"].fill_(float(tensors.get("0.step", 0.0)))

    def steps(self) -> int:
        """Updates so far."""
        return max((int(entries["step"]) for entries in self.optimizer.state.values()), default=0)


def gathers(model: torch.nn.Module, distribution: DistributionConfig) -> bool:
    """Whether ZeRO-3 gathers all weights on every rank to generate: if asked to, or if they fit into half of what is
    free on the fullest GPU."""
    if distribution.generation != "auto" or not torch.cuda.is_available():
        return distribution.generation != "synchronised"
    needed = sum(getattr(parameter, "ds_numel", 0) * parameter.element_size() for parameter in model.parameters())
    fits = needed < 0.5 * torch.cuda.mem_get_info()[0]
    return all(distributed.gather(bool(fits)))


def import_deepspeed() -> Any:
    """DeepSpeed, on a CPU without the shared-memory operator that it would compile for minutes to save microseconds."""
    tell_deepspeed()
    # At every exchange of ZeRO-2 and 3, about what DeepSpeed calls in torch.
    warnings.filterwarnings("ignore", category=FutureWarning, module="deepspeed|torch.distributed")
    import deepspeed

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend=None, auto_mpi_discovery=False)
    return deepspeed
