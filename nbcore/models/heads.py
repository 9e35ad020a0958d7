"""Projection heads of the pre-training papers.

Shapes: B batch, N tokens of a sample, M tokens of the other modality, D input width, P output width.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Projector = Literal["mlp", "linear"]


def mlp_projector(width: int, hidden: int, out: int) -> nn.Sequential:
    """M-FLAG's official projector (and MGCA's global one): Linear-BN-ReLU-Linear-BN, (B, D) -> (B, P)."""
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, out),
        nn.BatchNorm1d(out, affine=False),
    )


def projector(kind: Projector, width: int, hidden: int, out: int) -> nn.Module:
    """`mlp` as in M-FLAG's code, `linear` as in its paper (then `hidden` has no meaning); (B, D) -> (B, P)."""
    return mlp_projector(width, hidden, out) if kind == "mlp" else nn.Linear(width, out)


class TokenProjector(nn.Module):
    """MGCA's local projector: the layers of `mlp_projector` on every token.

    The official one has convolutions of length 1 in place of the linear layers: the same numbers, in weights with one
    axis more, and its BatchNorm counts padding among the tokens.
    """

    def __init__(self, width: int, hidden: int, out: int):
        super().__init__()
        self.head = mlp_projector(width, hidden, out)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Project tokens, (B, N, D) -> (B, N, P).

        Args:
            mask: (B, N), False for padding, which then is left out of the BatchNorm's statistics and projected to 0.
                None projects everything, as the official code does.
        """
        if mask is None:
            return self.head(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])  # (B N, D) -> (B, N, P)
        rows = mask.flatten().nonzero().squeeze(1)  # of the n tokens that are none of padding
        projected = self.head(tokens.flatten(0, 1)[rows])  # (n, D) -> (n, P)
        empty = projected.new_zeros(mask.numel(), projected.shape[1])  # (B N, P)
        return empty.index_copy(0, rows, projected).unflatten(0, mask.shape)


def local_projector(width: int, hidden: int, out: int) -> TokenProjector:
    """MGCA's projector of patches and words, (B, N, D) -> (B, N, P)."""
    return TokenProjector(width, hidden, out)


class TokenAttention(nn.Module):
    """Learned attention of the tokens of one modality to those of the other, MGCA's Eq. 4 (which has one head).

    Unlike Eq. 4, the official (unused) option gives the four matrices biases; so does this.
    """

    def __init__(self, width: int, heads: int = 1):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """Outputs o, (B, N, D).

        Args:
            query: tokens that attend, (B, N, D). Normalised here, as in Eq. 4.
            context: tokens attended to, (B, M, D). Normalised here.
            mask: (B, M), False for padding of the context.
        """
        return self._attend(query, context, mask, need_weights=False)[0]

    def weights(self, query: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """What each token attends to, mean over the heads: (B, N, M), rows of sum 1, 0 on padding."""
        return self._attend(query, context, mask, need_weights=True)[1]

    def _attend(
        self, query: Tensor, context: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        query, context = F.normalize(query, dim=2), F.normalize(context, dim=2)
        padding = None if mask is None else ~mask
        return self.attention(query, context, context, key_padding_mask=padding, need_weights=need_weights)
