"""Text features of BiomedCLIP: of word pieces, and of context prompts in every position.

A file also holds prompts whose class names count as one piece whatever their length, a slip of the official code
(`*_official_bug`); these are not ours.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from families.common import DTYPES, RTOL, Case, family, gradient_case
from families.vision_language import weights
from torch import Tensor
from transformers import BertTokenizer

from nbcore.models.biomedclip import BiomedClip
from nbcore.models.weights import load_exactly

Golden = dict[str, np.ndarray]
_META = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
_VISION = {"model_name": "test_vit", "depth": 1}  # random, and not asked


def tiny_biomedclip(golden: Golden, dtype: torch.dtype) -> BiomedClip:
    """The BiomedCLIP of a golden file with a text encoder; piece number i of its vocabulary is written `wi`."""
    *sizes, width, length = map(int, golden["meta_H_layers_heads_int_vocab_out_ctxlen"])
    bert = dict(zip(_META, sizes))
    state = {f"text.{key}": value for key, value in weights(golden).items()}
    bert["max_position_embeddings"] = len(state["text.transformer.embeddings.position_embeddings.weight"])
    ids = golden["tokenized"][0]
    dot, last = ids[ids != golden["pad_token_id"]][-2:]
    special = {int(golden["pad_token_id"]): "[PAD]", int(ids[0]): "[CLS]", int(last): "[SEP]", int(dot): "."}
    pieces = {special.get(i, f"w{i}"): i for i in range(bert["vocab_size"])}
    model = BiomedClip(_VISION, bert, BertTokenizer(vocab=pieces), width=width, context_length=length)
    own = {**model.state_dict(), **state}
    unused = ("text.transformer.embeddings.position_ids", "text.transformer.pooler.")
    load_exactly(model, own, source="golden file", ignore=unused)
    return model.to(dtype)


def _names(model: BiomedClip, golden: Golden, words: int) -> list[str]:
    """The classes of prompts `[CLS] (words) name . [SEP]`."""
    ids = torch.from_numpy(golden["tokenized"])
    lengths = model.token_mask(ids).sum(dim=1).tolist()
    return [" ".join(f"w{i}" for i in row[1 + words : n - 2]) for row, n in zip(ids.tolist(), lengths)]


def _case(name: str, ours: Tensor, golden: np.ndarray, dtype: str) -> Case:
    atol = {"f32": 5e-6, "f64": 1e-12}[dtype] * float(np.abs(golden).max(initial=0))
    return Case(name, ours.detach().numpy(), golden, RTOL[dtype], atol)


@family("biomedclip_text*.npz")
def biomedclip_texts(stem: str, golden: Golden) -> Iterator[Case]:
    """Plain texts at full and at true length; features and gradients of prompts against both lengths."""
    ids = torch.from_numpy(golden["tokenized"])
    for dtype in (dtype for dtype in DTYPES if f"{dtype}_plain_text_features" in golden):
        model = tiny_biomedclip(golden, DTYPES[dtype])
        expected = golden[f"{dtype}_plain_text_features"]
        longest = int(model.token_mask(ids).sum(dim=1).max())
        for length in (ids.shape[1], longest):
            ours = model.encode_tokens(ids[:, :length])
            yield _case(f"{stem} {dtype} plain, {length} pieces", ours, expected, dtype)
        for key in (
            key for key in golden if key.startswith(f"{dtype}_") and key.endswith("_ctx") and "grad" not in key
        ):
            yield from _prompts(stem, model, golden, key.removesuffix("ctx"), dtype)
    yield from _positions(stem, golden)


def _prompts(stem: str, model: BiomedClip, golden: Golden, prefix: str, dtype: str) -> Iterator[Case]:
    context = torch.from_numpy(golden[f"{prefix}ctx"]).to(DTYPES[dtype]).requires_grad_()
    words = context.shape[-2]
    features = model.prompts(_names(model, golden, words), words).features(context)
    unit = F.normalize(features, dim=-1)
    scalar = (unit * torch.arange(unit.numel(), dtype=unit.dtype).sin().view_as(unit)).sum()
    scalar.backward()
    for length in (length for length in ("full", "trunc") if f"{prefix}{length}_features_raw" in golden):
        yield _case(f"{stem} {prefix}{length}", features, golden[f"{prefix}{length}_features_raw"], dtype)
        yield _case(f"{stem} {prefix}{length} scalar", scalar, golden[f"{prefix}{length}_scalar"], dtype)
        gradient = golden[f"{prefix}{length}_grad_ctx"]
        yield gradient_case(f"{stem} {prefix}{length} grad ctx", context.grad, gradient, dtype)


def _positions(stem: str, golden: Golden) -> Iterator[Case]:
    """Prompts whose name stands elsewhere; the context is what is no word embedding in the official prompts."""
    table = golden["sd_transformer.embeddings.word_embeddings.weight"]
    for position in ("middle", "front"):
        if f"prompts_{position}_correct" not in golden:
            continue
        prompts = golden[f"prompts_{position}_correct"]  # (C, L, d)
        learnt = np.abs(prompts[:, :, None] - table).max(axis=-1).min(axis=-1) > 0  # (C, L)
        context = torch.from_numpy(np.stack([row[own] for row, own in zip(prompts, learnt)])).float()  # (C, M, d)
        model = tiny_biomedclip(golden, torch.float32)
        names = _names(model, golden, context.shape[1])
        ours = model.prompts(names, context.shape[1], position).features(context)
        yield _case(f"{stem} {position}", ours, golden[f"features_{position}_correct"], "f32")
