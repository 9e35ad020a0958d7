"""What every family of golden numbers shares: cases, tolerances, and the register of checkers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
        return float(difference.max(initial=0) / max(float(np.abs(self.golden).max(initial=0)), 1e-300))

    @property
    def ok(self) -> bool:
        same_shape = self.ours.shape == self.golden.shape
        return same_shape and np.allclose(self.ours, self.golden, rtol=self.rtol, atol=self.atol)


Family = Callable[[str, dict[str, Any]], Iterator[Case]]  # (stem of the file, its content) -> cases
FAMILIES: list[tuple[str, Family]] = []


def family(pattern: str) -> Callable[[Family], Family]:
    """Register the checker of all files (.npz or .json) that match `pattern`."""

    def register(function: Family) -> Family:
        FAMILIES.append((pattern, function))
        return function

    return register


def gradient_case(name: str, ours: Tensor | None, golden: np.ndarray, dtype: str) -> Case:
    """Gradients are compared entry by entry, with an absolute tolerance relative to the largest entry."""
    ours = np.zeros_like(golden) if ours is None else ours.numpy()
    atol = (1e-5 if dtype == "f32" else 1e-12) * float(np.abs(golden).max(initial=0))
    return Case(name, ours, golden, RTOL[dtype], atol)
