"""Masked language modelling.

Shapes: B batch, L word pieces.
"""

import torch
from torch import Tensor


def mask_words(
    ids: Tensor, special: Tensor, mask_id: int, vocabulary: int, rate: float = 0.15, *, at_least_one: bool = False
) -> tuple[Tensor, Tensor]:
    """Hide words for a masked language model to restore (Devlin et al., 2019, Sect. 3.1).

    A share `rate` of the positions is chosen; of these 80 % become [MASK], 10 % a random word and 10 % stay. Special
    tokens and padding are never chosen.

    Args:
        ids: word-piece ids, (B, L).
        special: ids of the special tokens, padding included.
        mask_id: id of [MASK].
        vocabulary: number of word pieces.
        rate: share of positions to restore, in (0, 1).
        at_least_one: choose a position of every row that has a real word piece, however short it is.

    Returns:
        the ids to read (B, L), and the target (B, L): the original id where it must be restored, -1 elsewhere.
    """
    eligible = ~torch.isin(ids, special)
    lot = torch.rand(ids.shape, device=ids.device).masked_fill(~eligible, 1)
    chosen = lot < rate
    if at_least_one:
        lowest = torch.zeros_like(chosen).scatter_(1, lot.argmin(dim=1, keepdim=True), True)
        chosen = chosen | (lowest & eligible & ~chosen.any(dim=1, keepdim=True))
    fate = torch.rand(ids.shape, device=ids.device)
    read = torch.where(chosen & (fate < 0.8), mask_id, ids)
    random_words = torch.randint(0, vocabulary, ids.shape, device=ids.device)
    read = torch.where(chosen & (fate >= 0.9), random_words, read)
    return read, torch.where(chosen, ids, -1)
