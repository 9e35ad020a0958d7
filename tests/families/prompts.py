"""CoOp, CoCoOp, KgCoOp and BiomedCoOp: logits, losses and gradients, and steps of their optimiser."""

from collections.abc import Iterator

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family, gradient_case
from families.vision_language import tiny_text_clip
from torch import Tensor

from nbcore.losses.prompts import description_scores, knowledge_distance, select_descriptions
from nbcore.methods import biomedcoop, cocoop, coop, kgcoop
from nbcore.methods.prompt_learning import PromptConfig, PromptLearner
from nbcore.models.clip import OpenClip
from nbcore.train import _optimizer

Golden = dict[str, np.ndarray]
_ATOL = {"f64": 1e-12, "f32": 5e-6}  # of the largest entry


def _value(name: str, ours: Tensor, golden: np.ndarray, dtype: str) -> Case:
    atol = _ATOL[dtype] * float(np.abs(golden).max(initial=0))
    return Case(name, ours.detach().numpy(), golden, RTOL[dtype], atol)


def _gradient(name: str, value: Tensor, of: Tensor, golden: np.ndarray, dtype: str) -> Case:
    (gradient,) = torch.autograd.grad(value, of, retain_graph=True)
    return gradient_case(name, gradient, golden, dtype)


def _any_tower(width: int, log_scale: np.ndarray | float, dtype: torch.dtype) -> OpenClip:
    """A backbone of which a file with ready text features needs the scale of the logits alone."""
    vision = {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8}
    text = {"width": 8, "heads": 1, "layers": 1, "context_length": 12}
    model = OpenClip({"embed_dim": width, "vision_cfg": vision, "text_cfg": text}, prompt_tokens=1).to(dtype)
    model.model.logit_scale.data.fill_(float(log_scale))
    return model


def _names(classes: int) -> list[str]:
    return [f"class {number}" for number in range(classes)]


def _features(golden: Golden, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
    """Image features (B, D) and text features (C, D), to be differentiated, and labels (B,)."""
    images, texts = (torch.from_numpy(golden[f"{prefix}{key}_raw"]).requires_grad_() for key in ("image", "text"))
    return images, texts, torch.from_numpy(golden[f"{prefix}labels"])


def _cases(golden: Golden) -> Iterator[tuple[str, str]]:
    """Prefix and precision of each case of a file whose keys are `<case>_<precision>_<name>`."""
    for case in map(str, golden.get("cases", [])):
        yield from ((f"{case}_{dtype}_", dtype) for dtype in DTYPES if f"{case}_{dtype}_image_raw" in golden)


def _log_scale(golden: Golden, prefix: str, images: Tensor, texts: Tensor) -> float:
    """The logarithm of the scale of a file that holds its logits alone."""
    cosines = torch.nn.functional.cosine_similarity(images[:, None], texts, dim=-1).detach().double()
    logits = torch.from_numpy(golden[f"{prefix}logits"]).double()
    return float(((logits * cosines).sum() / (cosines**2).sum()).log())


@family("coop_logits_ce*.npz")
def coop_loss(stem: str, golden: Golden) -> Iterator[Case]:
    """CoOp's objective on ready features, with its gradient in either side."""
    for prefix, dtype in _cases(golden):
        images, texts, labels = _features(golden, prefix)
        tower = _any_tower(texts.shape[1], golden[f"{prefix}logit_scale_log"], DTYPES[dtype])
        learner = coop.CoOp(tower, _names(len(texts)), coop.Config(), torch.Generator())
        loss = learner.objective(images, texts, labels)["total"]
        learner.text_features = lambda texts=texts: texts
        yield _value(f"{stem} {prefix}logits", learner.scores(images), golden[f"{prefix}logits"], dtype)
        yield _value(f"{stem} {prefix}loss", loss, golden[f"{prefix}loss"], dtype)
        for key, of in (("text", texts), ("image", images)):
            yield _gradient(f"{stem} {prefix}grad_{key}", loss, of, golden[f"{prefix}grad_{key}"], dtype)


@family("kgcoop*.npz")
def kgcoop_loss(stem: str, golden: Golden) -> Iterator[Case]:
    """KgCoOp's objective on ready features; "euclidean" is twice the golden score."""
    for prefix, dtype in _cases(golden):
        images, texts, labels = _features(golden, prefix)
        zero_shot = torch.from_numpy(golden[f"{prefix}text_zs_raw"])
        for distance, factor in (("cosine", 1), ("euclidean", 2)):
            score = knowledge_distance(texts, zero_shot, distance) / factor
            name = f"{stem} {prefix}{distance} {{}}".format
            yield _value(name("score"), score, golden[f"{prefix}score"], dtype)
            yield _gradient(name("grad_score"), score, texts, golden[f"{prefix}grad_score"], dtype)
        config = kgcoop.Config(knowledge_weight=float(golden[f"{prefix}w"]))
        tower = _any_tower(texts.shape[1], _log_scale(golden, prefix, images, texts), DTYPES[dtype])
        learner = kgcoop.KgCoOp(tower, _names(len(texts)), config, torch.Generator(), zero_shot)
        losses = learner.objective(images, texts, labels)
        yield _value(f"{stem} {prefix}ce", losses["cross_entropy"], golden[f"{prefix}ce"], dtype)
        yield _value(f"{stem} {prefix}loss", losses["total"], golden[f"{prefix}loss"], dtype)
        yield _gradient(f"{stem} {prefix}grad_loss", losses["total"], texts, golden[f"{prefix}grad_loss"], dtype)


@family("biomedcoop*.npz")
def biomedcoop_loss(stem: str, golden: Golden) -> Iterator[Case]:
    """BiomedCoOp's objective on ready features, term by term, and the descriptions it selects, which match exactly.

    The official scores are rounded to single precision in files of either precision.
    """
    terms = {"ce": "cross_entropy", "sccm": "sccm", "kdsp": "kdsp", "total": "total"}
    for prefix, dtype in _cases(golden):
        images, texts, labels = _features(golden, prefix)
        descriptions = torch.from_numpy(golden[f"{prefix}fixed_raw"])
        sccm, kdsp, threshold = map(float, golden[f"{prefix}hyper_sccm_kdsp_tau"])
        config = biomedcoop.Config(sccm_weight=sccm, kdsp_weight=kdsp, selection_threshold=threshold)
        tower = _any_tower(texts.shape[1], golden[f"{prefix}logit_scale_log"], DTYPES[dtype])
        learner = biomedcoop.BiomedCoOp(tower, _names(len(texts)), config, torch.Generator(), descriptions)
        scores = description_scores(images, descriptions, tower.logit_scale).detach()
        yield _value(f"{stem} {prefix}scores", scores, golden[f"{prefix}scores"], "f32")
        kept = select_descriptions(scores, threshold).numpy()
        yield Case(f"{stem} {prefix}mask", kept, golden[f"{prefix}mask"], 0)
        losses = learner.objective(images, texts, labels)
        for key, ours in ((key, ours) for key, ours in terms.items() if ours in losses):
            yield _value(f"{stem} {prefix}loss_{key}", losses[ours], golden[f"{prefix}loss_{key}"], dtype)
            golden_gradient = golden[f"{prefix}grad_{key}"]
            yield _gradient(f"{stem} {prefix}grad_{key}", losses[ours], texts, golden_gradient, dtype)


def _filled(learner: PromptLearner, **tensors: np.ndarray) -> PromptLearner:
    """The learner with these values in its parameters, named by their place."""
    own = dict(learner.named_parameters())
    for name, value in tensors.items():
        own[name.replace("__", ".")].data = torch.from_numpy(value).to(own[name.replace("__", ".")])
    return learner


def _batch(golden: Golden, dtype: torch.dtype, rows: int | None = None) -> dict[str, Tensor]:
    features = torch.from_numpy(golden["image_features_raw"])[:rows].to(dtype)
    return {"features": features, "label": torch.from_numpy(golden["labels"])[:rows]}


@family("cocoop*.npz")
def cocoop_loss(stem: str, golden: Golden) -> Iterator[Case]:
    """CoCoOp through a text tower: the shift of each image, logits, loss and all gradients, in one batched pass."""
    names = [str(name) for name in golden["classnames"]]
    runs = {key.removesuffix("_logits") for key in golden if key.endswith("_logits")}  # b<rows>_<precision>
    for run in sorted(runs):
        rows, dtype = run.split("_")
        tower = tiny_text_clip(golden, DTYPES[dtype])
        config = cocoop.Config(context_length=len(golden["ctx"]))
        learner = _filled(
            cocoop.CoCoOp(tower, names, config, torch.Generator()),
            context=golden["ctx"],
            meta__0__weight=golden["meta_w1"],
            meta__0__bias=golden["meta_b1"],
            meta__2__weight=golden["meta_w2"],
            meta__2__bias=golden["meta_b2"],
        )
        batch = _batch(golden, DTYPES[dtype], int(rows.removeprefix("b")))
        shift = learner.meta(torch.nn.functional.normalize(batch["features"], dim=-1))
        loss = learner.losses(batch)["total"]
        values = {"meta_bias": shift, "ctx_shifted": learner.context + shift[:, None], "loss": loss}
        values["logits"] = learner.scores(batch["features"])
        for key, value in values.items():
            yield _value(f"{stem} {run}_{key}", value, golden[f"{run}_{key}"], dtype)
        layers = {"linear1": learner.meta[0], "linear2": learner.meta[2]}
        places = {
            f"{name}_{kind}": getattr(layer, kind) for name, layer in layers.items() for kind in ("weight", "bias")
        }
        for key, of in {"ctx": learner.context, **places}.items():
            (gradient,) = torch.autograd.grad(loss, of, retain_graph=True)
            # sums that cancel, behind a tower and logits of scale 100: single precision leaves them some five digits
            atol = {"f32": 5e-5, "f64": 1e-12}[dtype] * float(np.abs(golden[f"{run}_grad_{key}"]).max())
            name = f"{stem} {run}_grad_{key}"
            yield Case(name, gradient.numpy(), golden[f"{run}_grad_{key}"], RTOL[dtype], atol)


@family("coop.npz")
def coop_step(stem: str, golden: Golden) -> Iterator[Case]:
    """CoOp through a text tower: loss and one step of the official SGD, made by the training loop's optimiser."""
    names = [str(name) for name in golden["classnames"]]
    for case in map(str, golden["cases"]):
        own = {key.removeprefix(f"{case}_"): value for key, value in golden.items() if key.startswith(f"{case}_")}
        shared = {key: value for key, value in golden.items() if key.startswith(("sd_", "pad_"))}
        position = next((place for place in ("middle", "front") if case.startswith(place)), "end")
        for dtype in (dtype for dtype in DTYPES if f"{dtype}_ctx_after_sgd" in own):
            start = own["ctx"]
            config: PromptConfig = coop.Config(
                context_length=start.shape[-2], class_specific=start.ndim == 3, position=position, learning_rate=0.002
            )
            tower = tiny_text_clip({**shared, **own}, DTYPES[dtype])
            learner = _filled(coop.CoOp(tower, names, config, torch.Generator()), context=start)
            loss = learner.losses(_batch(golden, DTYPES[dtype]))["total"]
            yield _value(f"{stem} {case} {dtype} learner's loss", loss, own[f"{dtype}_loss"], dtype)
            loss.backward()
            _optimizer(learner, config).step()
            after = own[f"{dtype}_ctx_after_sgd"]
            yield _value(f"{stem} {case} {dtype} ctx_after_sgd", learner.context, after, dtype)
