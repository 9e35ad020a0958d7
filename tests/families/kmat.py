"""Golden numbers of K-MaT's losses and of the couplings within."""

import re
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from families.common import RTOL, Case, family, gradient_case
from torch import Tensor

from nbcore.losses.kmat import (
    alignment_costs,
    anchoring,
    feature_costs,
    fused_gromov_wasserstein,
    pairwise_distances,
)
from nbcore.losses.transport import entropic_fgw, exact_fgw, identity_coupling, proximal_fgw, sinkhorn_plan

Golden = dict[str, np.ndarray]
_COUPLING = {"entropic": 1e-6, "exact": 1e-8}  # absolute
_VALUE = 1e-5  # relative, of losses taken at a coupling of our own solver, or by POT's formula for exact marginals
_FLOOR = 1e-14  # what rounding leaves of a structure that is all but equal


@family("kmat_anc*.npz")
def anchor(stem: str, golden: Golden) -> Iterator[Case]:
    """L_anc in both precisions and its gradients."""
    for key in (key for key in golden if key.endswith("_L_anc")):
        case = key.removesuffix("_L_anc")
        for dtype, suffix in ((torch.float64, ""), (torch.float32, "_f32")):
            texts, prototypes = (
                torch.stack([torch.from_numpy(golden[f"{case}_{name}{side}"]) for side in "HL"]).to(dtype)
                for name in ("w", "pbar")
            )
            texts.requires_grad_()
            loss = anchoring(texts, prototypes)
            loss.backward()
            rtol = RTOL["f32" if suffix else "f64"]
            if key + suffix in golden:
                yield Case(f"{stem} {key}{suffix}", loss.detach().numpy(), golden[key + suffix], rtol)
            for side, gradient in zip("HL", texts.grad, strict=True):
                if not suffix:
                    yield gradient_case(f"{stem} {case} grad w{side}", gradient, golden[f"{case}_grad_w{side}"], "f64")


@family("kmat_fgw*.npz")
def alignment(stem: str, golden: Golden) -> Iterator[Case]:
    """Costs, couplings of all solvers, L_fgw and its gradient at every coupling.

    Not ours: `pot_fgw2_g*`, POT's gradients by the cost matrices, which our loss builds itself (their chain to the
    embeddings, `pot_fgw2_grad_wL`, is compared); `entropic2_torch_unrolled_grad_wL`, the gradient through Sinkhorn's
    iterations, where our coupling is a constant; `*_plain_sinkhorn_result`, POT's plan after an underflow; and
    G_product, G_random_*, which are given.
    """
    for case in (key.removesuffix("_alpha") for key in golden if key.endswith("_alpha")):
        own = {key.removeprefix(f"{case}_"): value for key, value in golden.items() if key.startswith(f"{case}_")}
        name, alpha = f"{stem} {case}", float(own["alpha"])
        high, low = (torch.from_numpy(own[key]) for key in ("wH", "wL"))
        costs = feature_costs(high, low), pairwise_distances(high), pairwise_distances(low)
        for key, cost in zip(("M", "DH", "DL"), costs, strict=True):
            yield Case(f"{name} {key}", cost.numpy(), own[key], RTOL["f64"], 1e-12)
        for key in [key.removeprefix("G_") for key in own if key.startswith("G_")]:
            yield from _couplings(name, key, own, costs, alpha)
            yield from _losses(name, key, own, high, low, alpha)
        yield from _pot(name, own, high, low, alpha)


def _couplings(
    name: str, key: str, golden: Golden, costs: tuple[Tensor, Tensor, Tensor], alpha: float
) -> Iterator[Case]:
    ours, tolerance = _solve(key, costs, alpha)
    if ours is not None:
        expected = golden[f"G_{key}"]
        yield Case(f"{name} G_{key}", ours.numpy(), expected, 0, tolerance)


def _solve(key: str, costs: tuple[Tensor, Tensor, Tensor], alpha: float) -> tuple[Tensor | None, float]:
    """Our coupling of a golden's name, and how far off it may be; None for a coupling that is given."""
    if key == "identity":
        return identity_coupling(len(costs[0])), 0.0
    if key == "exact_cg":
        return exact_fgw(*costs, alpha), _COUPLING["exact"]
    match = re.fullmatch(r"(ent|ppa|sinkhornM)_eps([\d.]+)_it(\d+)(?:_inner(\d+))?", key)
    if match is None:
        return None, 0.0
    epsilon, iterations = float(match[2]), int(match[3])
    if match[1] == "sinkhornM":
        return sinkhorn_plan(costs[0], epsilon, iterations), _COUPLING["entropic"]
    # the file's cases of 1000 outer iterations were run with 20 000 inner ones, all else with POT's default
    inner = int(match[4] or (20_000 if iterations == 1000 else 1000))
    solver = {"ent": entropic_fgw, "ppa": proximal_fgw}[match[1]]
    return solver(*costs, alpha, epsilon, iterations, inner), _COUPLING["entropic"]


def _losses(name: str, key: str, golden: Golden, high: Tensor, low: Tensor, alpha: float) -> Iterator[Case]:
    """L_fgw, its two parts and its gradient at a golden coupling, in both precisions."""
    for dtype, suffix in ((torch.float64, ""), (torch.float32, "32")):
        if f"L{suffix}_{key}" not in golden:
            continue
        plan, leaf = torch.from_numpy(golden[f"G_{key}"]), low.to(dtype, copy=True).requires_grad_()
        loss = fused_gromov_wasserstein(high.to(dtype), leaf, plan, alpha)
        loss.backward()
        precision = "f32" if suffix else "f64"
        yield Case(
            f"{name} L{suffix}_{key}", loss.detach().numpy(), golden[f"L{suffix}_{key}"], RTOL[precision], _FLOOR
        )
        yield gradient_case(f"{name} gradwL{suffix}_{key}", leaf.grad, golden[f"gradwL{suffix}_{key}"], precision)
    for part, value in zip(("lin", "quad"), alignment_costs(high, low, plan), strict=True):
        yield Case(f"{name} {part}_{key}", value.numpy(), golden[f"{part}_{key}"], RTOL["f64"], _FLOOR)
    if f"potvalue_{key}" in golden:
        value = fused_gromov_wasserstein(high, low, plan, alpha).numpy()
        yield Case(f"{name} potvalue_{key}", value, golden[f"potvalue_{key}"], _VALUE, 2e-5)


def _pot(name: str, golden: Golden, high: Tensor, low: Tensor, alpha: float) -> Iterator[Case]:
    """POT's own values and gradients at our couplings, and the gradient by embeddings before their normalisation."""
    costs = feature_costs(high, low), pairwise_distances(high), pairwise_distances(low)
    if "pot_fgw2_value" in golden:
        leaf = low.clone().requires_grad_()
        loss = fused_gromov_wasserstein(high, leaf, exact_fgw(*costs, alpha), alpha)
        loss.backward()
        yield Case(f"{name} pot_fgw2_value", loss.detach().numpy(), golden["pot_fgw2_value"], RTOL["f64"], _FLOOR)
        yield gradient_case(f"{name} pot_fgw2_grad_wL", leaf.grad, golden["pot_fgw2_grad_wL"], "f64")
    if "entropic2_torch_value" in golden:
        loss = fused_gromov_wasserstein(high, low, entropic_fgw(*costs, alpha), alpha).numpy()
        yield Case(f"{name} entropic2_torch_value", loss, golden["entropic2_torch_value"], _VALUE, 2e-5)
    for key in (key for key in golden if key.startswith("grad_rawL_")):
        leaf = torch.from_numpy(golden["rawL"]).requires_grad_()
        plan = torch.from_numpy(golden[f"G_{key.removeprefix('grad_rawL_')}"])
        fused_gromov_wasserstein(high, F.normalize(leaf, dim=1), plan, alpha).backward()
        yield gradient_case(f"{name} {key}", leaf.grad, golden[key], "f64")
