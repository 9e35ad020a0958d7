"""Losses and BatchNorm over the batch of all processes.

Both collectives are differentiable with one convention: the backward pass sums over processes, so what flows back is
the gradient of the sum of all processes' losses. DistributedDataParallel then averages over processes, and every
parameter ends up with the gradient of the mean loss, the one a single process with the whole batch would have.

Letters: B rows of one process, W processes, C channels.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from nbcore.errors import UserError


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum_over_processes(tensor: Tensor) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.count = len(rows)
        blocks = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(blocks, rows)
        return torch.cat(blocks)  # (W B, ...)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _sum_over_processes(gradient).split(ctx.count)[dist.get_rank()]  # (B, ...)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor) -> Tensor:
        return _sum_over_processes(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _sum_over_processes(gradient)


def gather(rows: Tensor) -> Tensor:
    """The rows (B, ...) of all processes in rank order, (W B, ...); gradients flow back to the process they came from.

    Every process must bring the same number of rows. Without several processes it returns `rows` itself.
    """
    return _Gather.apply(rows.contiguous()) if is_distributed() else rows


class _BatchNormOverProcesses(_BatchNorm):
    """BatchNorm over all processes for CPU tensors, which torch's SyncBatchNorm (and DDP with it) refuses."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes from two on; the second holds the channels."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not is_distributed():
            return super().forward(input)
        over = [axis for axis in range(input.ndim) if axis != 1]  # every axis but the channels
        count = input.numel() // input.shape[1] * dist.get_world_size()
        shape = [1, -1] + [1] * (input.ndim - 2)
        mean = _Sum.apply(input.sum(over)) / count  # (C,)
        centred = input - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(over)) / count  # (C,)
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1))
        output = centred * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            output = output * self.weight.view(shape)
        return output if self.bias is None else output + self.bias.view(shape)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards this batch's; like torch's, the variance (C,) is the unbiased one."""
        self.num_batches_tracked.add_(1)
        momentum = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def sync_batchnorm(module: nn.Module) -> nn.Module:
    """Return `module` with every BatchNorm taking its statistics over the batch of all processes.

    Parameters, buffers and their names stay as they are; in a single process nothing changes. Errors: UserError for
    a BatchNorm subclass, whose additions (an activation, say) the conversion would silently drop.
    """
    plain = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, _BatchNormOverProcesses)
    norms = {name: part for name, part in module.named_modules() if isinstance(part, _BatchNorm)}
    for name, part in norms.items():
        if type(part) not in plain:
            raise UserError(f"Layer '{name}', a {type(part).__name__}, cannot be synchronised: use a plain BatchNorm.")
    if torch.cuda.is_available():
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for part in norms.values():
        part.__class__ = _BatchNormOverProcesses  # the layers differ in their forward pass alone
    return module
