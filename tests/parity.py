"""Compare our losses, optimisers and schedules with golden numbers of the official implementations.

    python tests/parity.py DIR

prints one line per case of every known family found in DIR and exits 1 if any case misses its tolerance, or if DIR
holds no known family. A family is a file pattern and a function that yields `Case`s; add one by decorating it with
`@family("pattern")`. Files may hold any cases and sizes of their family.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nbcore import optim
from nbcore.losses.mflag import alignment_loss, orthogonality_loss

DTYPES = {"f64": torch.float64, "f32": torch.float32}
RTOL = {"f64": 1e-9, "f32": 2e-5}


@dataclass(frozen=True)
class Case:
    """One comparison: our number(s), the golden one(s), and how far apart they may be."""

    name: str
    ours: np.ndarray
    golden: np.ndarray
    rtol: float
    atol: float = 0.0

    @property
    def error(self) -> float:
        """Largest |ours - golden|, relative to the largest |golden| of the array."""
        if self.ours.shape != self.golden.shape:
            return float("inf")
        difference = np.abs(self.ours.astype(np.float64) - self.golden.astype(np.float64))
        return float(difference.max(initial=0) / max(np.abs(self.golden).max(initial=0), 1e-300))

    @property
    def ok(self) -> bool:
        same_shape = self.ours.shape == self.golden.shape
        return same_shape and np.allclose(self.ours, self.golden, rtol=self.rtol, atol=self.atol)


Family = Callable[[str, dict[str, np.ndarray]], Iterator[Case]]
FAMILIES: list[tuple[str, Family]] = []


def family(pattern: str) -> Callable[[Family], Family]:
    """Register the checker of all files that match `pattern`."""

    def register(function: Family) -> Family:
        FAMILIES.append((pattern, function))
        return function

    return register


def _gradient_case(name: str, ours: Tensor | None, golden: np.ndarray, dtype: str) -> Case:
    """Gradients are compared entry by entry, with an absolute tolerance relative to the largest entry."""
    ours = np.zeros_like(golden) if ours is None else ours.numpy()
    atol = (1e-5 if dtype == "f32" else 1e-12) * float(np.abs(golden).max(initial=0))
    return Case(name, ours, golden, RTOL[dtype], atol)


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
        "naive_code__second_moment": lambda: z.T @ z / len(z),
        "paper__align": lambda: alignment_loss(image, text),
        "paper__orth_rowL2": lambda: orthogonality_loss(z, "row", **paper),
        "paper__orth_colL2": lambda: orthogonality_loss(z, "column", **paper),
        "paper__orth_pearson": lambda: orthogonality_loss(z, "pearson", **paper),
        "variant__orth_colL2_lambda0051_half": lambda: orthogonality_loss(z, "column"),
    }
    for key in golden.keys() & values.keys():
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
            yield _gradient_case(f"{stem} {dtype} grad {key}", tensor.grad, expected, dtype)
