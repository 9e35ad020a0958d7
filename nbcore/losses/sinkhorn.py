"""Soft, balanced assignment of samples to prototypes.

Shapes: B batch, K prototypes.
"""

import math

import torch
from torch import Tensor


@torch.no_grad()
def sinkhorn_codes(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Codes of the Sinkhorn-Knopp algorithm (Cuturi, 2013; Caron et al., 2020, Sect. 3.1).

    exp(scores / epsilon) is scaled in turn so that every prototype receives B / K samples and every sample is assigned
    once. All steps are taken on logarithms, in single precision or better, so that nothing overflows: the official code
    takes exp(1 / 0.05) in the precision of the scores, which is beyond half precision.

    Args:
        scores: similarity of samples and prototypes, (B, K); of any size.
        epsilon: > 0, strength of the entropy; the smaller, the harder the codes.
        iterations: rounds of scaling.

    Returns:
        Codes (B, K) >= 0 without gradient, each row of sum 1; float64 if the scores are, else float32.
    """
    batch, prototypes = scores.shape
    log_codes = scores.to(torch.promote_types(scores.dtype, torch.float32)) / epsilon
    for _ in range(iterations):
        log_codes = log_codes - log_codes.logsumexp(dim=0) - math.log(prototypes)
        log_codes = log_codes - log_codes.logsumexp(dim=1, keepdim=True) - math.log(batch)
    return log_codes.softmax(dim=1)
