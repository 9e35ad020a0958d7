"""LARS, and the learning-rate schedules of the papers as pure functions of the optimiser step.

A schedule takes `step`, the number of optimiser steps already done, and returns a learning rate in the unit of its
`peak` and `floor` (with peak 1 it is a factor, as `torch.optim.lr_scheduler.LambdaLR` wants it). All lengths are
counted in optimiser steps; `epoch_cosine` alone counts epochs.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling with momentum (You et al. 2017, arXiv:1708.03888), as Barlow Twins trains.

    Per parameter tensor p with gradient g:  d = g + weight_decay p;  d *= eta |p| / |d| (1 where a norm is 0);
    mu = momentum mu + d;  p -= lr mu. Biases, BatchNorm weights and scalars (fewer than two dimensions) are spared
    the decay by `weight_decay_filter` and the rescaling by `lars_adaptation_filter`. A parameter without a gradient
    is left as it is.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        eta: float = 0.001,
        weight_decay_filter: bool = True,
        lars_adaptation_filter: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "eta": eta,
            "weight_decay_filter": weight_decay_filter,
            "lars_adaptation_filter": lars_adaptation_filter,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter once; `closure`, if given, recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict) -> None:
        is_matrix = parameter.ndim > 1
        direction = parameter.grad
        if is_matrix or not group["weight_decay_filter"]:
            direction = direction.add(parameter, alpha=group["weight_decay"])
        if is_matrix or not group["lars_adaptation_filter"]:
            size, change = parameter.norm(), direction.norm()
            # decided on the device: reading a norm back would stall a GPU once per tensor
            trust = torch.where((size > 0) & (change > 0), group["eta"] * size / change, 1.0)
            direction = direction * trust
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(direction)
        parameter.add_(state["momentum"], alpha=-group["lr"])


def _cosine(progress: float, peak: float, floor: float) -> float:
    """Half a cosine from `peak` at progress 0 to `floor` at progress 1."""
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(step: int, total: int, warmup: int, peak: float, floor: float) -> float:
    """MGCA's schedule: linear from `floor` to `peak` over `warmup` steps, cosine back over `total - warmup`.

    The cycle, warm-up included, starts again every `total` steps. The very first step of a run is taken at `floor`
    even without a warm-up, as the official scheduler does.
    """
    if step == 0:
        return floor
    step %= total
    if step < warmup:
        return floor + (peak - floor) * step / warmup
    return _cosine((step - warmup) / (total - warmup), peak, floor)


def cosine_restarts(step: int, period: int, peak: float, floor: float) -> float:
    """Cosine from `peak` towards `floor`, back at `peak` every `period` steps (SGDR, Loshchilov & Hutter 2017).

    The schedule of M-FLAG's and Med-UniC's official code, with floor 1e-8.
    """
    return _cosine(step % period / period, peak, floor)


def epoch_cosine(epoch: int, epochs: int, warmup: int, warmup_lr: float, peak: float) -> float:
    """The schedule of CoOp and its kin: `warmup_lr` for `warmup` epochs, then half a cosine of `epochs` epochs.

    The rate holds for a whole epoch, counted from 0. The cosine starts at `peak` after the warm-up and is as long as
    the run, so a run ends before it reaches 0.
    """
    return warmup_lr if epoch < warmup else _cosine((epoch - warmup) / epochs, peak, 0.0)


def barlow_twins(step: int, total: int, warmup: int, peak: float) -> float:
    """Linear from 0 to `peak` over `warmup` steps, then cosine to `peak` / 1000 at step `total`.

    Barlow Twins (Zbontar et al. 2021) has peak 0.2 for weights, 0.0048 for biases and BatchNorm, times
    batch size / 256.
    """
    if step < warmup:
        return peak * step / warmup
    return _cosine((step - warmup) / (total - warmup), peak, peak / 1000)


def bert_adam_triangle(step: int, total: int, warmup: float, peak: float) -> float:
    """BertAdam's `warmup_linear`: 0 to `peak` over the fraction `warmup` of `total`, then linear to 0, then 0.

    `step` counts from 1 here, because BertAdam counts the step it is about to take.
    """
    progress = step / total
    if progress < warmup:
        return peak * progress / warmup
    return peak * max(0.0, (1 - progress) / (1 - warmup))
