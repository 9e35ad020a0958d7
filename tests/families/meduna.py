"""MedUnA's and LaFTer's losses, MedUnA's Stage 1, and one training step of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case
from families.vision_language import tiny_clip, tiny_medclip
from torch import Tensor

from nbcore.losses.meduna import confident_entropy, consistency, description_loss, self_entropy
from nbcore.methods import lafter, meduna
from nbcore.methods.prompted import PromptedClassifier
from nbcore.methods.text_classifier import TextClassifierConfig, description_gradient, smoothed_targets
from nbcore.models.clip import VisionLanguage
from nbcore.train import _optimizer

Golden = dict[str, np.ndarray]


@dataclass(frozen=True)
class GivenNoise:
    """The noise of a golden file, in the place of `GaussianNoise`."""

    noise: Tensor  # (n, D)

    def on_features(self, basis: Tensor, rows: int) -> Tensor:
        return (self.noise @ basis).mT

    def on_rows(self, basis: Tensor, width: int) -> Tensor:
        return basis.mT @ self.noise


def _case_prefixes(golden: Golden, name: str) -> Iterator[tuple[str, str]]:
    """What stands before `name` in its keys, up to and with the precision, and the precision."""
    for key in golden:
        for dtype in DTYPES:
            if key.endswith(f"_{dtype}_{name}"):
                yield key.removesuffix(name), dtype


@family("meduna_stage1*.npz")
def stage_1(stem: str, golden: Golden) -> Iterator[Case]:
    """The loss of descriptions in both readings, its gradient by both routes, and steps of the official training."""
    for prefix, dtype in _case_prefixes(golden, "loss_ls01"):
        t, w, noise = (torch.from_numpy(golden[f"{prefix}{key}"]).to(DTYPES[dtype]) for key in ("feats", "W", "noise"))
        labels = torch.from_numpy(golden[f"{prefix}labels"])
        readings = {"ls01": (noise, 0.1), "plainCE_nonoise": (None, 0.0)}
        for key, (added, smoothing) in readings.items():
            name, weight = f"{stem} {prefix}{key}", w.clone().requires_grad_()
            loss = description_loss(t, labels, weight, added, smoothing)
            loss.backward()
            yield Case(name, loss.detach().numpy(), golden[f"{prefix}loss_{key}"], RTOL[dtype])
            yield gradient_case(f"{name} grad", weight.grad, golden[f"{prefix}gradW_{key}"], dtype)
            given = None if added is None else GivenNoise(added)
            quick = description_gradient(t, smoothed_targets(labels, len(w), smoothing, t.dtype), w, given)
            yield gradient_case(f"{name} grad by projections", quick, golden[f"{prefix}gradW_{key}"], dtype)
        if f"{prefix}acc_text" in golden:
            accuracy = ((t @ w.mT).argmax(dim=1) == labels).float().mean()
            yield Case(f"{stem} {prefix}accuracy", accuracy.numpy(), golden[f"{prefix}acc_text"], 1e-6)
    for key in (key for key in golden if key.startswith("traj_") and key.endswith("_W")):
        yield from _trajectory(stem, golden, key.removesuffix("W"))


def _trajectory(stem: str, golden: Golden, prefix: str) -> Iterator[Case]:
    dtype = prefix.split("_")[1]
    t, labels, noises, weights = (
        torch.from_numpy(golden[f"{prefix}{key}"]) for key in ("feats", "labels", "noise", "W")
    )
    config = TextClassifierConfig(learning_rate=float(golden[f"{prefix}lr"]))
    targets = smoothed_targets(labels, weights.shape[1], config.smoothing, t.dtype)  # (C, n)
    weight = weights[0].clone()
    optimizer = config.optimizer(weight)
    path, losses = [weight.detach().clone()], []
    for noise in noises:
        with torch.no_grad():
            losses.append(description_loss(t, labels, weight, noise, config.smoothing))
            weight.grad = description_gradient(t, targets, weight, GivenNoise(noise))
        optimizer.step()
        path.append(weight.detach().clone())
    yield Case(f"{stem} {prefix}loss", torch.stack(losses).numpy(), golden[f"{prefix}loss"], RTOL[dtype])
    yield gradient_case(f"{stem} {prefix}W", torch.stack(path), golden[f"{prefix}W"], dtype)


@family("meduna_stage2_losses*.npz")
def stage_2(stem: str, golden: Golden) -> Iterator[Case]:
    """Official and paper's terms with their gradients; batches too small for the official entropy."""
    for prefix, dtype in _case_prefixes(golden, "out_logits"):
        weak = torch.from_numpy(golden[f"{prefix}pl_logits"])
        terms = {
            ("ce_ls01", "grad_ce"): lambda out, weak=weak: consistency(weak, out, "hard", 0.1),
            ("ent_marginal_top10pct", "grad_ent"): confident_entropy,
            ("total_07ce_15ent", "grad_total"): lambda out, weak=weak: (
                0.7 * consistency(weak, out, "hard", 0.1) + 1.5 * confident_entropy(out)
            ),
            ("lit_softCE", "lit_grad_softCE"): lambda out, weak=weak: consistency(weak, out),
            ("lit_hardCE", "lit_grad_hardCE"): lambda out, weak=weak: consistency(weak, out, "hard"),
            ("lit_selfent_mean", "lit_grad_selfent"): self_entropy,
            ("lit_marginal_ent_fullbatch", "lit_grad_marginal_fullbatch"): lambda out: confident_entropy(out, 1.0),
        }
        for (value, gradient), loss in terms.items():
            if f"{prefix}{value}" in golden:
                out = torch.from_numpy(golden[f"{prefix}out_logits"]).requires_grad_()
                ours = loss(out)
                ours.backward()
                name = f"{stem} {prefix}{value}"
                # what rounding leaves of an entropy, or a gradient, that is all but 0
                floor = {"f32": 1e-7, "f64": 1e-14}[dtype]
                yield Case(name, ours.detach().numpy(), golden[f"{prefix}{value}"], RTOL[dtype], floor)
                yield _near(f"{name} grad", out.grad, golden[f"{prefix}{gradient}"], RTOL[dtype], floor)
        labels = weak.argmax(dim=1).numpy()
        yield Case(f"{stem} {prefix}pseudo-labels", labels, golden[f"{prefix}pseudo_label"], 0)
        if f"{prefix}lit_eq2_grad_wrt_weak_logits" in golden:
            leaf = weak.clone().requires_grad_()
            consistency(leaf, torch.from_numpy(golden[f"{prefix}out_logits"])).backward()
            expected = golden[f"{prefix}lit_eq2_grad_wrt_weak_logits"]
            yield gradient_case(f"{stem} {prefix}Eq. 2 grad", leaf.grad, expected, dtype)
    for key in (key for key in golden if key.startswith("edge_") and key.endswith("_logits")):
        yield from _small_batch(stem, golden, key.removesuffix("logits"))


def _small_batch(stem: str, golden: Golden, prefix: str) -> Iterator[Case]:
    """Where the official entropy is NaN because it takes no row, ours is that of the most certain row."""
    logits = golden[f"{prefix}logits"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = exponentials / exponentials.sum(axis=1, keepdims=True)
    entropies = -(p * np.log(p)).sum(axis=1)
    expected = entropies.min() if np.isnan(golden[f"{prefix}ent"]) else golden[f"{prefix}ent"]
    ours = confident_entropy(torch.from_numpy(logits)).numpy()
    yield Case(f"{stem} {prefix}ent (official: {golden[f'{prefix}ent']})", ours, np.asarray(expected), RTOL["f32"])


@family("lafter_loss*.npz")
def lafter_loss(stem: str, golden: Golden) -> Iterator[Case]:
    """Smoothed cross-entropy on hard pseudo-labels."""
    for prefix, dtype in _case_prefixes(golden, "out_logits"):
        weak = torch.from_numpy(golden[f"{prefix}pl_logits"])
        out = torch.from_numpy(golden[f"{prefix}out_logits"]).requires_grad_()
        loss = consistency(weak, out, "hard", 0.1)
        loss.backward()
        for key in ("loss", "torch_ls_ce"):
            yield Case(f"{stem} {prefix}{key}", loss.detach().numpy(), golden[f"{prefix}{key}"], RTOL[dtype])
        yield gradient_case(f"{stem} {prefix}grad", out.grad, golden[f"{prefix}grad"], dtype)


# Of gradients and weights, relative to the largest entry. The CLIP file has its pictures in single precision, although
# its float64 numbers were computed from the unrounded ones.
_CLIP_TOLERANCE = {"f32": 2e-5, "f64": 1e-6}
_MEDCLIP_TOLERANCE = {"f32": 2e-5, "f64": 1e-9}


@family("clipvit_prompt_forward*.npz")
def clip_step(stem: str, golden: Golden) -> Iterator[Case]:
    """One step of LaFTer (AdamW) and of MedUnA (SGD) with CLIP."""
    for dtype, precision in DTYPES.items():
        for key in (key for key in golden if key.startswith(f"{dtype}_") and key.endswith("_lr")):
            prefix = key.removesuffix("lr")
            method = _method(prefix, golden, tiny_clip(golden, precision))
            images = {name: torch.from_numpy(golden[f"img_{name}"]).to(precision) for name in ("weak", "strong")}
            losses = method.losses({"image": images["strong"], "weak_image": images["weak"]})
            loss, tolerance = losses["total"], _CLIP_TOLERANCE[dtype]
            yield Case(f"{stem} {prefix}loss", loss.detach().numpy(), golden[f"{prefix}loss"], tolerance)
            yield from _step(f"{stem} {prefix}", golden, (f"{prefix}grad_", f"{prefix}after_"), method, loss, tolerance)


@family("medclip_swin_prompt_forward*.npz")
def medclip_step(stem: str, golden: Golden) -> Iterator[Case]:
    """One step of MedUnA with MedCLIP."""
    for dtype, precision in DTYPES.items():
        if f"{dtype}_loss" not in golden:
            continue
        backbone = tiny_medclip(golden, precision)
        factor = backbone.image_size // golden["img_small_weak"].shape[-1]
        images = {
            name: torch.from_numpy(golden[f"img_small_{name}"].repeat(factor, -1).repeat(factor, -2)).to(precision)
            for name in ("weak", "strong")
        }
        method = _method(f"{dtype}_meduna", golden, backbone)
        losses = method.losses({"image": images["strong"], "weak_image": images["weak"]})
        ours = {
            "ce": losses["consistency"] / method.config.consistency_weight,
            "ent": losses["entropy"] / method.config.entropy_weight,
            "loss": losses["total"],
        }
        tolerance, keys = _MEDCLIP_TOLERANCE[dtype], (f"{dtype}_grad_", f"{dtype}_after_sgd_")
        for key, value in ours.items():
            yield Case(f"{stem} {dtype} {key}", value.detach().numpy(), golden[f"{dtype}_{key}"], tolerance)
        yield from _step(f"{stem} {dtype} ", golden, keys, method, losses["total"], tolerance)


def _method(prefix: str, golden: Golden, backbone: VisionLanguage) -> PromptedClassifier:
    """The official method of a golden step, from the file's own start."""
    dtype, name = prefix.split("_")[:2]
    kind, generator = DTYPES[dtype], torch.Generator()
    start = torch.from_numpy(golden["sd_adapter_pl.0.weight"]).to(kind)
    rate = {"learning_rate": float(golden.get(f"{prefix}lr", 5e-4))}
    if name == "lafter":
        method = lafter.LaFTer(backbone, start, lafter.Config(**rate), generator)
    else:
        method = meduna.MedUnA(backbone, start, meduna.Config(variant="official", **rate), generator)
    with torch.no_grad():
        method.prompts.copy_(torch.from_numpy(golden["sd_prompt_embeddings"])[0])
        method.adapter.copy_(torch.from_numpy(golden["sd_adapter.0.weight"]))
    return method


def _step(
    name: str, golden: Golden, prefixes: tuple[str, str], method: PromptedClassifier, loss: Tensor, tolerance: float
) -> Iterator[Case]:
    """All gradients of the loss, and the weights after the optimiser's step."""
    optimizer = _optimizer(method, method.config)
    loss.backward()
    optimizer.step()
    official = {"prompt_embeddings": method.prompts, "adapter.0.weight": method.adapter}
    official |= {f"model.{key}": value for key, value in _norms(method).items()}
    grad_prefix, after_prefix = prefixes
    tested = {key.removeprefix(grad_prefix) for key in golden if key.startswith(grad_prefix)}
    trained = {key for key, value in official.items() if value.requires_grad}
    yield Case(f"{name}what is trained", np.array(trained == tested), np.array(True), 0)
    for key in sorted(tested & trained):
        grad, after = golden[f"{grad_prefix}{key}"], golden[f"{after_prefix}{key}"]
        yield _near(f"{name}grad {key}", official[key].grad.reshape(grad.shape), grad, tolerance)
        # AdamW's first step is the sign of the gradient, which is rounding's where that is 0
        sure = np.abs(grad) > tolerance * np.abs(grad).max()
        ours = official[key].detach().reshape(after.shape)
        yield _near(f"{name}after {key}", ours[torch.from_numpy(sure)], after[sure], tolerance)


def _near(name: str, ours: Tensor, golden: np.ndarray, tolerance: float, floor: float = 0.0) -> Case:
    """Entry by entry, with the tolerance for small ones relative to the largest, or absolute where that is more."""
    return Case(name, ours.numpy(), golden, tolerance, max(floor, tolerance * float(np.abs(golden).max(initial=0))))


def _norms(method: PromptedClassifier) -> dict[str, Tensor]:
    """The layer normalisations of CLIP's image encoder by their official names; MedUnA's are frozen."""
    model = getattr(method.backbone, "model", None)
    if model is None:
        return {}
    norms = {id(module) for module in method.backbone.layer_norms()}
    return {
        f"{name}.{key}": parameter
        for name, module in model.named_modules()
        if id(module) in norms
        for key, parameter in module.named_parameters()
    }
