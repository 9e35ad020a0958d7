"""MGCA's losses, projectors, word aggregation and codes."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from families.common import DTYPES, RTOL, Case, family, gradient_case
from torch import Tensor, nn

from nbcore.losses import mgca as losses
from nbcore.losses.sinkhorn import sinkhorn_codes
from nbcore.models.heads import TokenAttention, local_projector, mlp_projector
from nbcore.models.words import aggregate_words, word_segments

_ATTENTIONS = {"word": "word_local_atten_layer", "patch": "patch_local_atten_layer"}
_OFFICIAL = {"reduction": "sum", "mask_pads": False}
_CODES_RTOL = 1e-8  # the official codes end in float32, in a float64 run as well
_LOSS_ATOL = {"f64": 0.0, "f32": 1e-6}


class _Example:
    """The inputs of a file in one precision, and our functions on them."""

    def __init__(self, stem: str, golden: dict[str, np.ndarray], dtype: torch.dtype):
        self.golden, self.dtype = golden, dtype
        self.image, self.report, self.patches, self.words = (self._leaf(key) for key in ("img", "txt", "patch", "word"))
        # The official forward overwrites the parameter with its unit rows before it is used.
        self.prototypes = F.normalize(self._input("prototype_weight"), dim=1).requires_grad_()
        self.lengths = torch.from_numpy(golden["in__lens"])  # (B,)
        self.mask = torch.arange(self.words.shape[1]) < self.lengths[:, None]  # (B, L)
        self.is_vit = "resnet" not in stem
        self.weights = {"word": losses.clipped_weights(self._input("word_attn")), "patch": self._patch_weights()}
        heads = int(found[1]) if (found := re.search(r"mha(\d+)", stem)) else 1
        self.attentions = {
            kind: self._attention(name, heads)
            for kind, name in _ATTENTIONS.items()
            if f"in__{name}.in_proj_weight" in golden
        }

    def _input(self, key: str) -> Tensor:
        return torch.from_numpy(self.golden[f"in__{key}"]).to(self.dtype)

    def _leaf(self, key: str) -> Tensor:
        return self._input(key).clone().requires_grad_()

    def _patch_weights(self) -> Tensor:
        if not self.is_vit:
            return torch.full(self.patches.shape[:2], 1 / self.patches.shape[1], dtype=self.dtype)
        if "in__vit_attn" not in self.golden:  # too large to be kept
            return torch.from_numpy(self.golden["naive_code__patch_weights"]).to(self.dtype)
        return losses.clipped_weights(self._input("vit_attn")[:, :, 0, 1:].mean(dim=1))

    def _attention(self, name: str, heads: int) -> TokenAttention:
        module = TokenAttention(self.words.shape[2], heads).to(self.dtype)
        state = module.attention.state_dict()
        module.attention.load_state_dict({key: self._input(f"{name}.{key}") for key in state})
        return module

    def leaves(self) -> dict[str, Tensor]:
        """What may have a gradient, under the official names."""
        named = {"img": self.image, "txt": self.report, "patch": self.patches, "word": self.words}
        named["prototype_layer.weight"] = self.prototypes
        for kind, module in self.attentions.items():
            named |= {f"{_ATTENTIONS[kind]}.{key}": value for key, value in module.attention.named_parameters()}
        return named

    def attended(self) -> dict[str, Tensor]:
        """Weights and outputs of the attention of words to patches and of patches to words."""
        r, z = F.normalize(self.patches, dim=2), F.normalize(self.words, dim=2)
        pairs = {"word": (z, r, None), "patch": (r, z, self.mask)}
        found = {}
        for kind, (query, context, mask) in pairs.items():
            module = self.attentions.get(kind)
            weigh = losses.attention_weights if module is None else module.weights
            found[f"attn_{kind}_weights"] = weigh(query, context, mask)
            found[f"attn_{kind}_out"] = (
                found[f"attn_{kind}_weights"] @ context if module is None else module(query, context, mask)
            )
        return found

    def tokens(self, weights: dict[str, Tensor], **switches: Any) -> losses.TokenAlignment:
        weighed = weights["patch"], weights["word"], self.mask
        if not self.attentions:
            return losses.token_alignment(self.patches, self.words, *weighed, **switches)
        outputs = self.attended()
        return losses.attended_alignment(
            self.patches, self.words, outputs["attn_patch_out"], outputs["attn_word_out"], *weighed, **switches
        )

    def official_tokens(self) -> losses.TokenAlignment:
        return self.tokens(self.weights, normalize_patch_output=not self.is_vit, **_OFFICIAL)

    def codes(self) -> dict[str, Tensor]:
        embeddings = {"img_code": self.image, "txt_code": self.report}
        return {key: sinkhorn_codes(F.normalize(x, dim=1) @ self.prototypes.T) for key, x in embeddings.items()}


@family("mgca_*.npz")
def mgca(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """MGCA: the official forward pass and its gradients, and the paper's equations."""
    if "in__prototype_weight" not in golden:
        return  # another family's file
    for dtype in DTYPES:
        if any(key.startswith(f"{dtype}__") for key in golden):
            yield from _official(stem, golden, dtype)
    example = _Example(stem, golden, torch.float64)
    ours = {**_naive(example), **_paper(example)}
    for key in (key for key in ours if key in golden):
        yield Case(f"{stem} {key}", ours[key].detach().numpy(), golden[key], RTOL["f64"], 1e-15)


def _official(stem: str, golden: dict[str, np.ndarray], dtype: str) -> Iterator[Case]:
    example = _Example(stem, golden, DTYPES[dtype])
    leaves = example.leaves()
    values = {
        "ita": losses.instance_alignment(example.image, example.report, reduction="sum"),
        "local": example.official_tokens().loss,
        "proto": losses.prototype_alignment(
            example.image, example.report, example.prototypes, normalize_prototypes=False
        ),
    }
    values["total"] = sum(values.values())
    for key, value in values.items():
        slack = _CODES_RTOL if key in ("proto", "total") else 0
        expected = golden.get(f"{dtype}__loss_{key}")
        if expected is not None:
            rtol = max(RTOL[dtype], slack)
            yield Case(f"{stem} {dtype} {key}", value.detach().numpy(), expected, rtol, _LOSS_ATOL[dtype])
        gradients = torch.autograd.grad(value, list(leaves.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(leaves, gradients):
            expected = golden.get(f"{dtype}__grad_{key}__{name}")
            if expected is not None:
                case = gradient_case(f"{stem} {dtype} grad {key} {name}", gradient, expected, dtype)
                atol = max(case.atol, 10 * slack * float(np.abs(expected).max(initial=0)))
                yield Case(case.name, case.ours, expected, max(case.rtol, slack), atol)
    shown = {**example.attended(), **example.codes(), "proto_weight_after": example.prototypes}
    shown |= _retrieval(example.image, example.report)
    for key, value in shown.items():
        expected = golden.get(f"{dtype}__{key}")
        if expected is not None:
            ours = value.detach().numpy()
            # A large file keeps the attention of its first sample only.
            ours = ours[: len(expected)] if ours.ndim == expected.ndim else ours[0]
            rtol = 2e-5 if expected.dtype == np.float32 else RTOL[dtype]
            atol = (1e-6 if expected.dtype == np.float32 else 1e-12) * float(np.abs(expected).max(initial=0))
            yield Case(f"{stem} {dtype} {key}", ours, expected, rtol, atol)


def _retrieval(image: Tensor, report: Tensor) -> dict[str, Tensor]:
    """Percentage of pairs found among the best k of the batch, mean of both directions."""
    scores = F.normalize(image, dim=1) @ F.normalize(report, dim=1).T  # (B, B)
    rank = [(direction > direction.diagonal()[:, None]).sum(dim=1) for direction in (scores, scores.T)]
    return {f"acc{k}": 100 * sum((r < k).float().mean() for r in rank)[None] / 2 for k in (1, 5)}


def _naive(example: _Example) -> dict[str, Tensor]:
    tokens = example.official_tokens()
    found = {
        "ita": losses.instance_alignment(example.image, example.report, reduction="sum"),
        "local": tokens.loss,
        "local_word": tokens.text_to_image,
        "local_patch": tokens.image_to_text,
        "proto": losses.prototype_alignment(example.image, example.report, example.prototypes),
        "word_weights": example.weights["word"],
        "patch_weights": example.weights["patch"],
        **example.codes(),
    }
    return {f"naive_code__{key}": value for key, value in found.items()}


def _paper(example: _Example) -> dict[str, Tensor]:
    """Eq. 2-10 with the paper's temperatures; Eq. 5's division by the number of tokens goes into the weights."""
    weights = {
        "word": example.weights["word"] / example.lengths[:, None],
        "patch": example.weights["patch"] / example.patches.shape[1],
    }
    ita = losses.instance_alignment(example.image, example.report, 0.1)
    tokens = example.tokens(weights, temperature=0.07)
    cpa = losses.prototype_alignment(example.image, example.report, example.prototypes)
    found = {"ita": ita, "lia": tokens.image_to_text, "lta": tokens.text_to_image, "cta": tokens.loss, "cpa": cpa}
    found |= {"cpa_as_printed_sign": -cpa, "total_l1_l2_l3_eq_1": ita + tokens.loss + cpa}
    return {f"paper__{key}": value for key, value in found.items()}


@family("mgca_projectors*.npz")
def projectors(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """The projectors of pooled features and of tokens: one training pass with gradients, then an evaluation."""
    for dtype in DTYPES:
        for kind in ("global", "local"):
            if f"{dtype}__{kind}_out_train" in golden:
                yield from _projector(stem, golden, dtype, kind)


def _projector(stem: str, golden: dict[str, np.ndarray], dtype: str, kind: str) -> Iterator[Case]:
    weights = {
        key.removeprefix(f"in__{kind}.head."): torch.from_numpy(value).to(DTYPES[dtype])
        for key, value in golden.items()
        if key.startswith(f"in__{kind}.head.")
    }
    weights = {key: w.squeeze(2) if w.ndim == 3 else w for key, w in weights.items()}  # a convolution of length 1
    (hidden, width), out = weights["0.weight"].shape, len(weights["3.weight"])
    module: nn.Module = (mlp_projector if kind == "global" else local_projector)(width, hidden, out).to(DTYPES[dtype])
    head = module if kind == "global" else module.head
    head.load_state_dict(weights, strict=False)  # the running statistics stay as they begin
    inputs = torch.from_numpy(golden[f"in__x_{kind}"]).to(DTYPES[dtype]).requires_grad_()
    output = module(inputs)
    factors = torch.linspace(-1, 1, output.numel()).to(output.dtype).view_as(output)  # the goldens round it
    (output * factors).sum().backward()
    ours = {f"{kind}_out_train": output, f"grad_{kind}_in": inputs.grad, f"{kind}_out_eval": module.eval()(inputs)}
    ours |= {f"{kind}.head.{key}__after": value for key, value in head.state_dict().items()}
    ours |= {f"grad_{kind}.head.{key}": value.grad for key, value in head.named_parameters()}
    largest = max(float(np.abs(golden[f"{dtype}__{key}"]).max()) for key in ours if f"{dtype}__{key}" in golden)
    for key, value in ours.items():
        expected = golden.get(f"{dtype}__{key}")
        if expected is not None:
            # Biases before a BatchNorm have the gradient 0, of which only rounding is seen.
            atol = (1e-6 if dtype == "f32" else 1e-13) * largest
            shaped = value.detach().numpy().reshape(expected.shape)
            yield Case(f"{stem} {dtype} {key}", shaped, expected, RTOL[dtype], atol)


@family("mgca_word_aggregation*.npz")
def word_aggregation(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Words from word pieces, with the official code's shift and without."""
    ids, mask = torch.from_numpy(golden["in__ids"]), torch.from_numpy(golden["in__attention_mask"])
    continues = torch.tensor([str(piece).startswith("##") for piece in golden["in__vocab"]])
    states = torch.from_numpy(golden["in__hidden"])
    attention = torch.from_numpy(golden["in__attention_last_layer"])[:, :, 0].mean(dim=1)  # (B, H, L, L) -> (B, L)
    segments = word_segments(ids, mask, continues)
    for form in ("official", "aligned"):
        words, weights, _ = aggregate_words(states, attention, segments, official_shift=form == "official")
        for key, ours in {"word_feat": words, "word_attn": weights}.items():
            expected = golden.get(f"{form}__{key}")
            if expected is not None:
                padding = [0, 0] * (ours.ndim - 2) + [0, expected.shape[1] - ours.shape[1]]
                yield Case(f"{stem} {form} {key}", F.pad(ours, padding).numpy(), expected, RTOL["f32"], 1e-6)
    if "official__report_feat" in golden:
        yield Case(f"{stem} report_feat", states[:, 0].numpy(), golden["official__report_feat"], RTOL["f32"])


@family("sinkhorn*.npz")
def sinkhorn(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Codes in double precision against the loops, and in both precisions against the official code."""
    for name in [key.removesuffix("__scores") for key in golden if key.endswith("__scores")]:
        scores, (epsilon, iterations) = torch.from_numpy(golden[f"{name}__scores"]), golden[f"{name}__eps_iters"]
        forms = {"codes_naive_f64": scores, "codes_official": scores, "codes_official_f32in": scores.float()}
        for form, given in forms.items():
            expected = golden.get(f"{name}__{form}")
            if expected is not None:
                ours = sinkhorn_codes(given, float(epsilon), int(iterations)).numpy()
                yield Case(f"{stem} {name} {form}", ours, expected, RTOL["f64" if "naive" in form else "f32"], 1e-12)
