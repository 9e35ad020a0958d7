"""Zero-shot classification of classes, test-time prompt tuning, and the metrics of classification."""

import re
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from families.common import DTYPES, RTOL, Case, family, gradient_case
from families.vision_language import tiny_text_clip
from torch import Tensor

from nbcore.models.prompts import ContextPrompts
from nbcore.tasks.classification import accuracy_of, class_recalls, confusion, harmonic_mean, macro_f1
from nbcore.tasks.few_shot import draw_shots
from nbcore.tasks.tpt import TptConfig, confident_views, marginal_entropy, predict, tpt_loss, tuned_contexts
from nbcore.tasks.zero_shot import class_scores, class_weights, prompt_scores

Golden = dict[str, np.ndarray]
_ATOL = {"f64": 1e-12, "f32": 1e-6}


def _cases(stem: str, ours: dict[str, object], golden: Golden, rtol: float, atol: float = 0) -> Iterator[Case]:
    """A case for each of our numbers, under the names of the golden ones, that the file holds."""
    for key in (key for key in ours if key in golden):
        yield Case(f"{stem} {key}", np.asarray(ours[key]), golden[key], rtol, atol)


@family("metrics*.npz")
def metrics(stem: str, golden: Golden) -> Iterator[Case]:
    """Accuracy, F1 in both conventions, confusion; harmonic means of each pair and of the means."""
    for case in golden.get("cases", []):
        logits, labels = golden[f"{case}_logits"], golden[f"{case}_labels"]
        classes, predictions = logits.shape[1], logits.argmax(axis=1)
        matrix = confusion(labels, predictions, classes)
        ours = {
            "accuracy": 100 * accuracy_of(labels, predictions),
            "macro_f1_official": 100 * macro_f1(labels, predictions, classes, present_only=True),
            "macro_f1_all_classes": 100 * macro_f1(labels, predictions, classes),
            "perclass_accuracy": 100 * np.nanmean(class_recalls(matrix)),
            "cm": matrix,
        }
        yield from _cases(stem, {f"{case}_{key}": value for key, value in ours.items()}, golden, RTOL["f64"])
    for prefix, start in (("hm_", ""), ("seeds_", "seeds_")):
        if f"{prefix}hi" in golden:
            hi, lo = golden[f"{prefix}hi"], golden[f"{prefix}lo"]
            each = harmonic_mean(hi, lo)
            ours = {"hm": each, "mean_of_hm": each.mean(), "hm_of_means": harmonic_mean(hi.mean(), lo.mean())}
            yield from _cases(stem, {f"{start}{key}": value for key, value in ours.items()}, golden, RTOL["f64"])


@family("clip_zeroshot*.npz")
def clip_zero_shot(stem: str, golden: Golden) -> Iterator[Case]:
    """CLIP's prompt ensemble; the alternatives in the file, other orders of mean and normalisation, are not ours."""
    weights = class_weights(golden["prompt_features_raw"].swapaxes(0, 1))
    images = golden["images_l2"]
    ours = {"weights": weights.T, "scores_no_scale": class_scores(images, weights)}
    for key in golden:
        if found := re.fullmatch(r"logits_scale(\d+)", key):
            ours[key] = class_scores(images, weights, float(found[1]))
    yield from _cases(stem, ours, golden, RTOL["f64"], 1e-12)


@family("medclip_text_and_zeroshot*.npz")
def medclip_zero_shot(stem: str, golden: Golden) -> Iterator[Case]:
    """MedCLIP's rule over several prompts a class at its first scale, 1 / 0.07; cosines at its largest one."""
    names = sorted(key for key in golden if key.startswith("zs_prompts_"))
    if not names:
        return
    images, prompts = golden["zs_images"], [golden[name] for name in names]
    ours = {
        "zs_logits_ensemble_False": prompt_scores(images, prompts, 1 / 0.07),
        "zs_logits_ensemble_True": prompt_scores(images, prompts, 1 / 0.07, reduce="mean"),
        "zs_logits_clamped_scale": class_scores(images, prompts[0], float(np.exp(golden["logit_scale_clamp_max_log"]))),
    }
    yield from _cases(stem, ours, golden, RTOL["f32"], 1e-5)


@family("tpt*.npz")
def tpt(stem: str, golden: Golden) -> Iterator[Case]:
    """Test-time prompt tuning: the loss with its choice of views, or whole steps through a text encoder."""
    for case in golden.get("cases", []):
        for dtype in (dtype for dtype in DTYPES if f"{case}_{dtype}_logits" in golden):
            yield from _tpt_loss(stem, f"{case}_{dtype}_", golden, dtype)
    if "ctx_init" in golden:
        runs = sorted(int(found[1]) for key in golden if (found := re.fullmatch(r"steps(\d+)_idx", key)))
        for steps in runs:
            yield from _tpt_steps(stem, golden, steps)
        contexts = {steps: golden[f"steps{steps}_ctx_after"] for steps in runs if f"steps{steps}_ctx_after" in golden}
        for steps, context in contexts.items():
            # where a longer run has overwritten it, a context is that run's, and compared there
            if not any(longer > steps and np.array_equal(context, other) for longer, other in contexts.items()):
                yield _tpt_context(stem, golden, steps)


def _tpt_loss(stem: str, prefix: str, golden: Golden, dtype: str) -> Iterator[Case]:
    logits = torch.from_numpy(golden[f"{prefix}logits"]).requires_grad_()
    share = float(golden[f"{prefix}selection_p"])
    kept = confident_views(logits.detach(), share)
    loss = tpt_loss(logits, share)
    loss.backward()
    ours = {"idx": kept, "selected": logits.detach()[kept], "loss": loss.detach()}
    ours["sample_entropy"] = marginal_entropy(logits.detach()[:, None])  # of one view: its own
    yield from _cases(stem, {f"{prefix}{key}": value for key, value in ours.items()}, golden, RTOL[dtype], _ATOL[dtype])
    # differences of numbers of order 1, so right to their last digit, not to that of a small gradient
    rounding = torch.finfo(DTYPES[dtype]).eps
    yield Case(f"{stem} {prefix}grad", logits.grad.numpy(), golden[f"{prefix}grad"], RTOL[dtype], rounding)


def _tpt_setting(golden: Golden) -> tuple[Tensor, ContextPrompts, Tensor, Tensor]:
    """Views (1, V, D), prompts, context to start from and scale of a file with whole steps."""
    model = tiny_text_clip(golden)
    start = torch.from_numpy(golden["ctx_init"])
    prompts = model.prompts([str(name) for name in golden["classnames"]], length=len(start))
    views = F.normalize(torch.from_numpy(golden["views_features_raw"]), dim=-1)[None]
    return views, prompts, start, model.logit_scale


def _tpt_steps(stem: str, golden: Golden, steps: int) -> Iterator[Case]:
    """Losses and gradients of a run of `steps` steps, of which step j starts where j steps lead, and its answer."""
    prefix = f"steps{steps}_"
    views, prompts, start, scale = _tpt_setting(golden)
    ours = {}
    for step in range(steps):
        context = start
        if step:
            context = tuned_contexts(views, prompts, start, scale, TptConfig(steps=step))[0]
        context = context.clone().requires_grad_()
        logits = scale * views[0] @ F.normalize(prompts.features(context), dim=-1).T
        if step == 0:
            kept = confident_views(logits.detach(), TptConfig().share)
            ours |= {"logits0": logits.detach(), "idx": kept}
        loss = marginal_entropy(logits[kept])
        (gradient,) = torch.autograd.grad(loss, context)
        ours[f"loss{step}"] = loss.detach()
        key = f"{prefix}grad_ctx{step}"
        if key in golden:
            yield gradient_case(f"{stem} {key}", gradient, golden[key], "f32")
    ours["final_logits_view0"] = predict(views, prompts, start, scale, TptConfig(steps=steps))
    yield from _cases(stem, {f"{prefix}{key}": value for key, value in ours.items()}, golden, RTOL["f32"], 1e-5)


def _tpt_context(stem: str, golden: Golden, steps: int) -> Case:
    """AdamW's first step has the gradient's sign and not its size: noise where the gradient is."""
    views, prompts, start, scale = _tpt_setting(golden)
    context = tuned_contexts(views, prompts, start, scale, TptConfig(steps=steps))[0].numpy()
    sure = np.abs(golden[f"steps{steps}_grad_ctx0"]) >= 1e-8
    key = f"steps{steps}_ctx_after"
    return Case(f"{stem} {key}", context[sure], golden[key][sure], RTOL["f32"], 1e-5)


@family("fewshot*.npz")
def few_shot(stem: str, golden: Golden) -> Iterator[Case]:
    """The images drawn of an official split, for every seed and number of shots in the file."""
    for key in golden:
        if found := re.fullmatch(r"seed(\d+)_shot(\d+)_train_idx", key):
            train, valid = draw_shots(golden["train_labels"], golden["val_labels"], int(found[2]), int(found[1]))
            for part, drawn in (("train", train), ("val", valid)):
                name = key.replace("train", part)
                yield Case(f"{stem} {name}", drawn, golden[name], 0)
