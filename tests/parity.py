"""Compare our losses, optimisers and schedules with golden numbers of the official implementations.

    python tests/parity.py DIR

prints one line per case of every known family found in DIR and exits 1 if any case misses its tolerance, or if DIR
holds no known family. A family is a file pattern and a function that yields `Case`s; add one by decorating it with
`@family("pattern")`. Files may hold any cases and sizes of their family.
"""

import re
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
_LARS_DEFAULTS = {"weight_decay_filter": False, "lars_adaptation_filter": False}  # of the official class


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
            yield _gradient_case(f"{stem} {dtype} grad {key}", tensor.grad, expected, dtype)


@family("lars_*.npz")
def lars(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """LARS: the trajectory of every parameter under fixed gradients, one that has none included."""
    names = [key.removeprefix("in__p0_") for key in golden if key.startswith("in__p0_")]
    settings = {key.removeprefix("hp__"): golden[key].item() for key in golden if key.startswith("hp__")}
    for dtype in DTYPES:
        if f"{dtype}__traj_{names[0]}" not in golden:
            continue
        parameters = {name: torch.from_numpy(golden[f"in__p0_{name}"]).to(DTYPES[dtype]) for name in names}
        parameters = {name: torch.nn.Parameter(value.clone()) for name, value in parameters.items()}
        optimizer = optim.LARS(list(parameters.values()), **{**_LARS_DEFAULTS, **settings})
        gradients = {n: torch.from_numpy(golden[f"in__grads_{n}"]).to(DTYPES[dtype]) for n in names}
        paths: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for step in range(len(next(iter(gradients.values())))):
            for name, parameter in parameters.items():
                parameter.grad = None if name == "nograd" else gradients[name][step].clone()
            optimizer.step()
            for name, parameter in parameters.items():
                paths[name].append(parameter.detach().numpy().copy())
        for name, path in paths.items():
            expected = golden[f"{dtype}__traj_{name}"]
            atol = (1e-12 if dtype == "f64" else 1e-6) * float(np.abs(expected).max(initial=0))
            yield Case(f"{stem} {dtype} {name}", np.stack(path), expected, RTOL[dtype], atol)


@family("lr_schedules.npz")
def schedules(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Learning rates step by step; the file names the parameters of each schedule in its keys."""
    for key, expected in golden.items():
        steps = range(len(expected))
        if found := re.fullmatch(r"mgca_T(\d+)_W(\d+)", key):
            total, warmup = map(int, found.groups())
            ours = [optim.warmup_cosine(step, total, warmup, 2e-5, 1e-8) for step in steps]
        elif found := re.fullmatch(r"restarts_lr([\d.e+-]+)_T0_(\d+)", key):
            ours = [optim.cosine_restarts(step, int(found[2]), float(found[1]), 1e-8) for step in steps]
        elif found := re.fullmatch(r"barlow_epochs(\d+)_iters(\d+)_bs(\d+)__weights_biases", key):
            epochs, iterations, batch = map(int, found.groups())
            total, warmup = epochs * iterations, 10 * iterations
            peaks = [0.2 * batch / 256, 0.0048 * batch / 256]
            ours = [[optim.barlow_twins(step, total, warmup, peak) for peak in peaks] for step in steps]
        elif found := re.fullmatch(r"bertadam_warmup_linear_lr([\d.e+-]+)_T(\d+)_w([\d.]+)", key):
            peak, total, warmup = float(found[1]), int(found[2]), float(found[3])
            ours = [optim.bert_adam_triangle(step + 1, total, warmup, peak) for step in steps]
        else:
            continue
        yield Case(f"{stem} {key}", np.array(ours), expected, RTOL["f64"], 1e-15)


def check(folder: Path) -> Iterator[Case]:
    """All cases of all known families in `folder`, in the order of the files."""
    for pattern, function in FAMILIES:
        for path in sorted(folder.glob(pattern)):
            with np.load(path, allow_pickle=False) as file:
                yield from function(path.stem, dict(file))


def main(arguments: list[str]) -> int:
    """Print a line a case; 0 if all match, 1 if one does not or none was found, 2 for wrong use."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python tests/parity.py DIR, the folder of golden numbers", file=sys.stderr)
        return 2
    cases = list(check(Path(arguments[0])))
    for case in cases:
        print(f"{'ok  ' if case.ok else 'FAIL'} {case.name}  (relative error {case.error:.1e}, rtol {case.rtol:.0e})")
    failed = sum(not case.ok for case in cases)
    print(f"{len(cases) - failed} of {len(cases)} cases match" if cases else "no case of a known family in this folder")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.exit(main(sys.argv[1:]))
