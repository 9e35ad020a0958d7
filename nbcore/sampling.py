"""Which rows a step sees and which random numbers it draws: pure functions of (seed, epoch, step, rank).

Nothing here has a state, so a run can be picked up at any step without replaying the data before it.
"""

import numpy as np
import torch


def stream_seed(*coordinates: int) -> int:
    """A 64-bit seed; tuples of non-negative integers that differ in any place give unrelated streams."""
    return int(np.random.SeedSequence(coordinates).generate_state(1, np.uint64)[0])


def epoch_batches(
    rows: int, *, batch_size: int, processes: int, rank: int, seed: int, epoch: int, batches: int, first: int = 0
) -> list[list[int]]:
    """The row numbers of batches `first` ... `batches - 1` of one epoch, as process `rank` sees them.

    All processes shuffle the `rows` alike, cut the order into global batches of `processes * batch_size` rows and
    take the `rank`-th block of each; so their blocks, in rank order, are the batch that one process with
    `processes` times the batch size would see. Rows beyond the last batch sit out this epoch.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, epoch))
    order = torch.randperm(rows, generator=generator)[: batches * processes * batch_size]
    return order.view(batches, processes, batch_size)[first:, rank].tolist()


def augmentation_generator(device: torch.device, *position: int) -> torch.Generator:
    """The generator on `device` from which one batch's augmentation is drawn; `position` = seed, epoch, batch, rank."""
    return torch.Generator(device).manual_seed(stream_seed(*position))
