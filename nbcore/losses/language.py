"""Masked language modelling.

Shapes: B batch, L word pieces.
"""

import torch
from torch import Tensor


def mask_words(
    ids: Tensor, special: Tensor, mask_id: int, vocabulary: int, rate: float = 0.15
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

    Returns:
        the ids to read (B, L), and the target (B, L): the original id where it must be restored, -1 elsewhere.
    """
    chosen = (torch.rand(ids.shape, device=ids.device) < rate) & ~torch.isin(ids, special)
    fate = torch.rand(ids.shape, device=ids.device)
    read = torch.where(chosen & (fate < 0.8), mask_id, ids)
    random_words = torch.randint(0, vocabulary, ids.shape, device=ids.device)
    read = torch.where(chosen & (fate >= 0.9), random_words, read)
    return read, torch.where(chosen, ids, -1)
