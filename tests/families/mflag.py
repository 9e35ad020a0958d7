"""M-FLAG's losses."""

from collections.abc import Iterator

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case

from nbcore.losses.mflag import alignment_loss, orthogonality_loss


@family("mflag_*.npz")
def mflag(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """M-FLAG: the official variant in both precisions with gradients, and every reading of the paper's Eq. 3."""
    for dtype in DTYPES:
        if f"{dtype}__loss_total" in golden:
            yield from _mflag_official(stem, golden, dtype)
    z, image, text = (torch.from_numpy(golden[f"in__{key}"]) for key in ("img_emb", "proj_img", "proj_txt"))
    paper = {"off_diagonal": 1.0, "half": False}
    values = {
        "naive_code__orth": lambda: orthogonality_loss(z),
        "naive_code__align": lambda: alignment_loss(image, text, weight=2),
        "paper__align": lambda: alignment_loss(image, text),
        "paper__orth_rowL2": lambda: orthogonality_loss(z, "row", **paper),
        "paper__orth_colL2": lambda: orthogonality_loss(z, "column", **paper),
        "paper__orth_pearson": lambda: orthogonality_loss(z, "pearson", **paper),
        "variant__orth_colL2_lambda0051_half": lambda: orthogonality_loss(z, "column"),
    }
    for key in (key for key in values if key in golden):
        yield Case(f"{stem} {key}", values[key]().numpy(), golden[key], RTOL["f64"])


def _mflag_official(stem: str, golden: dict[str, np.ndarray], dtype: str) -> Iterator[Case]:
    inputs = {
        key: torch.from_numpy(golden[f"in__{key}"]).to(DTYPES[dtype]).requires_grad_()
        for key in ("img_emb", "proj_img", "proj_txt")
    }
    orth = orthogonality_loss(inputs["img_emb"])
    align = alignment_loss(inputs["proj_img"], inputs["proj_txt"], weight=2)
    (orth + align).backward()
    for key, value in {"orth": orth, "align": align, "total": orth + align}.items():
        yield Case(f"{stem} {dtype} {key}", value.detach().numpy(), golden[f"{dtype}__loss_{key}"], RTOL[dtype])
    for key, tensor in inputs.items():
        expected = golden.get(f"{dtype}__grad_{key}")
        if expected is not None:
            yield gradient_case(f"{stem} {dtype} grad {key}", tensor.grad, expected, dtype)
