"""From word pieces to words: which pieces make a word, and the states of a word's pieces added up.

Shapes: B batch, L word pieces, W word slots, D hidden width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertTokenizer


def continuing_pieces(tokenizer: BertTokenizer) -> Tensor:
    """Whether each piece of the vocabulary continues a word (begins with "##"), (V,) bool."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return torch.tensor([piece.startswith("##") for piece in pieces])


def word_segments(ids: Tensor, mask: Tensor, continues: Tensor) -> Tensor:
    """Number the words of each report, [SEP] being the last of them.

    Args:
        ids: word-piece ids, (B, L); the first is [CLS].
        mask: 1 for pieces and 0 for padding, (B, L).
        continues: of `continuing_pieces`, (V,).

    Returns:
        The word of each piece, (B, L) int64, counted from 0; -1 for [CLS] and padding.
    """
    begins = mask.bool() & ~continues[ids]  # (B, L)
    return torch.where(mask.bool(), begins.cumsum(dim=1) - 2, -1)  # [CLS] begins a word, too, which has number -1


def aggregate_words(
    states: Tensor, attention: Tensor, segments: Tensor, official_shift: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Add up the states, and the attention, of each word's pieces (MGCA, Sect. 3.1).

    Args:
        states: last hidden states of the language model, (B, L, D).
        attention: what [CLS] pays to each piece in the last layer, mean over the heads, (B, L).
        segments: the word of each piece, from `word_segments`, (B, L).
        official_shift: as in the official code, give each piece the attention of its successor, and stop before
            position L, so that a report that fills all L loses its last word and [SEP]. There are always L - 1 slots;
            the official L is 112, whatever the reports' lengths.

    Returns:
        words (B, W, D), 0 in empty slots; their attention (B, W), 0 in empty slots; and a mask (B, W), True for words.
        W is the largest number of words in the batch.
    """
    if official_shift:
        attention = F.pad(attention[:, 1:], (0, 1))  # (B, L)
        full = segments[:, -1:] >= 0  # (B, 1)
        segments = segments.masked_fill(full & (segments >= segments[:, -2:-1]), -1)
        slots = segments.shape[1] - 1
    else:
        slots = int(segments.max()) + 1
    numbers = torch.arange(slots, device=segments.device)
    pieces = segments[:, None] == numbers[:, None]  # (B, W, L)
    # A product with zeros and ones: faster than scattering rows, forward and backward, and free of atomic additions.
    members = pieces.to(states.dtype)
    return members @ states, (members @ attention[:, :, None]).squeeze(2), pieces.any(dim=2)
