"""Projection heads of the pre-training papers.

Shapes: B batch, D input width, P output width.
"""

from typing import Literal

from torch import nn

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
