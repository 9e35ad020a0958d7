"""Image and text features of CLIP and MedCLIP, and context prompts in CLIP's text encoder."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from families.common import DTYPES, RTOL, Case, family, gradient_case
from torch import Tensor, nn

from nbcore.models.clip import OpenClip, insert_after_first
from nbcore.models.medclip import MedClip, plain_key
from nbcore.models.text import train_tokenizer
from nbcore.models.weights import load_exactly

Golden = dict[str, np.ndarray]


def weights(golden: Golden, prefix: str = "sd_") -> dict[str, Tensor]:
    """The weights that a golden file holds under `prefix`."""
    return {key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)}


def _fill(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the weights that a golden file has; the other encoder of the model keeps its random ones."""
    load_exactly(module, {**module.state_dict(), **state}, source="golden file")


def _clip(vision: dict[str, int], text: dict[str, int], width: int, prompt_tokens: int = 1) -> OpenClip:
    config = {"embed_dim": width, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    return OpenClip(config, prompt_tokens=prompt_tokens)


def tiny_clip(golden: Golden, dtype: torch.dtype) -> OpenClip:
    """The CLIP of a golden file with a vision transformer; its text encoder is random and small."""
    of = {key.removeprefix("meta_"): int(golden[key]) for key in golden if key.startswith("meta_")}
    vision = {"image_size": of["res"], "patch_size": of["patch"], "width": of["width"], "layers": of["layers"]}
    vision["head_width"] = of["width"] // of["heads"]
    text = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model = _clip(vision, text, of["embed_dim"], of["num_tokens"])
    _fill(model.model.visual, weights(golden, "sd_model.visual."))
    return model.to(dtype)


def tiny_text_clip(golden: Golden, dtype: torch.dtype = torch.float32) -> OpenClip:
    """The CLIP of a golden file with a text transformer; its image encoder is random and small.

    The file holds the word embeddings of its prompts alone (`[<case>_]token_prefix`, `_token_suffix`, `_tokenized`, the
    start of the context as `[<case>_]ctx` or `ctx_init`, and `pad_token_embedding`); other words keep random ones.
    """
    state = weights(golden)
    length, width = state["positional_embedding"].shape
    layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("transformer."))
    text = {"context_length": length, "vocab_size": 49408, "width": width, "heads": 1, "layers": layers}
    vision = {"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8}
    model = _clip(vision, text, state["text_projection"].shape[1])
    _fill(model.model, state)
    table = model.model.token_embedding.weight.data
    table[0] = torch.from_numpy(golden["pad_token_embedding"])
    for key in (key for key in golden if key.endswith("tokenized")):
        case = key.removesuffix("tokenized")
        ids, suffix = torch.from_numpy(golden[key]), torch.from_numpy(golden[f"{case}token_suffix"])
        words = golden.get(f"{case}ctx", golden.get("ctx_init")).shape[-2]
        if "ctx_init" in golden:
            table[ids[:, 1 : 1 + words]] = torch.from_numpy(golden["ctx_init"])
        table[ids[:, :1]] = torch.from_numpy(golden[f"{case}token_prefix"])
        table[ids[:, 1 + words : 1 + words + suffix.shape[1]]] = suffix
    return model.to(dtype)


def tiny_medclip(golden: Golden, dtype: torch.dtype, prompt_layout: str = "official") -> MedClip:
    """The MedCLIP of a golden file that holds either encoder; the other one is random and small."""
    state = weights(golden)
    if "meta" in golden:
        width, _, _, _, projection, window, patch = map(int, golden["meta"])
        side = patch * int(golden["patch_dims"][0])
        swin = {"embed_dim": width, "window_size": window, "patch_size": patch, "image_size": side}
        swin |= {"depths": golden["depths"].tolist(), "num_heads": golden["heads"].tolist()}
        bert = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 1, "vocab_size": 60}
        bert |= {"intermediate_size": 8, "max_position_embeddings": 8}
        state = {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
    else:
        swin = {"embed_dim": 8, "window_size": 7, "patch_size": 4, "image_size": 28, "depths": [1], "num_heads": [1]}
        vocabulary, hidden = state["model.embeddings.word_embeddings.weight"].shape
        bert = {"hidden_size": hidden, "vocab_size": vocabulary, "num_attention_heads": hidden // 8}
        bert["intermediate_size"] = len(state["model.encoder.layer.0.intermediate.dense.bias"])
        bert["num_hidden_layers"] = 1 + max(int(key.split(".")[3]) for key in state if ".layer." in key)
        bert["max_position_embeddings"] = len(state["model.embeddings.position_embeddings.weight"])
        projection = len(state["projection_head.weight"])
        state = {f"text_model.{key}": value for key, value in state.items()}
    model = MedClip(swin, bert, train_tokenizer(["a"], 8), width=projection, prompt_layout=prompt_layout)
    named = {plain_key(key): value for key, value in state.items()}
    _fill(model, {key: value for key, value in named.items() if key is not None})
    return model.to(dtype)


def _forward_case(name: str, ours: Tensor, golden: np.ndarray, dtype: str = "f32") -> Case:
    """Features of a whole encoder are compared with an absolute tolerance relative to the largest."""
    atol = {"f32": 5e-6, "f64": 1e-12}[dtype] * float(np.abs(golden).max(initial=0))
    return Case(name, ours.detach().numpy(), golden, RTOL[dtype], atol)


def adapters(golden: Golden, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Visual prompt (N, hidden), adapter (C, D) and pseudo-label adapter (C, D) of a golden file with images."""
    prompts, *rest = (golden[f"sd_{key}"] for key in ("prompt_embeddings", "adapter.0.weight", "adapter_pl.0.weight"))
    return tuple(torch.from_numpy(array).to(dtype) for array in (prompts[0], *rest))


@family("clipvit_prompt_forward*.npz")
def clip_images(stem: str, golden: Golden) -> Iterator[Case]:
    """Prompted and plain image features of CLIP, and what zero-shot and adapters make of them.

    The file holds what enters the patch embedding in single precision only: its double-precision numbers agree with
    ours to some 1e-7, already in `patch_embeddings` and there in all rows but [CLS]. So both precisions are compared
    with the tolerance of the lower one.
    """
    for dtype in (dtype for dtype in DTYPES if f"{dtype}_strong_features" in golden):
        model = tiny_clip(golden, DTYPES[dtype])
        weak, strong = (torch.from_numpy(golden[f"img_{key}"]).to(DTYPES[dtype]) for key in ("weak", "strong"))
        prompts, adapter, labeller = adapters(golden, DTYPES[dtype])
        prompted, plain = model.image_features(strong, prompts), F.normalize(model.image_features(weak), dim=-1)
        values = {
            "patch_embeddings": model.patch_states(strong),
            "after_prompt_insert": insert_after_first(model.patch_states(strong), prompts),
            "strong_features": prompted,
            "weak_features_l2": plain,
            "pl_logits": plain @ labeller.T,
            "strong_logits": prompted @ adapter.T,
            "eval_logits_on_weak": model.image_features(weak, prompts) @ adapter.T,
            "zeroshot_scores": plain @ torch.from_numpy(golden["zs_text_features"]).to(DTYPES[dtype]),
        }
        for key, value in values.items():
            yield _forward_case(f"{stem} {dtype} {key}", value, golden[f"{dtype}_{key}"])


@family("medclip_swin_prompt_forward*.npz")
def medclip_images(stem: str, golden: Golden) -> Iterator[Case]:
    """Prompted and plain image features of MedCLIP-Swin in the official layout, and what the adapters make of them."""
    repeat = tiny_medclip(golden, torch.float32).image_size // golden["img_small_weak"].shape[-1]
    enlarge = nn.Upsample(scale_factor=repeat, mode="nearest")
    for dtype in (dtype for dtype in DTYPES if f"{dtype}_strong_logits" in golden):
        model = tiny_medclip(golden, DTYPES[dtype])
        images = (torch.from_numpy(golden[f"img_small_{key}"]).to(DTYPES[dtype]) for key in ("weak", "strong"))
        weak, strong = map(enlarge, images)
        prompts, adapter, labeller = adapters(golden, DTYPES[dtype])
        prompted, plain = model.image_features(strong, prompts), F.normalize(model.image_features(weak), dim=-1)
        values = {
            "strong_features_unnormalised": prompted,
            "weak_features_l2": plain,
            "pl_logits": plain @ labeller.T,
            "strong_logits": prompted @ adapter.T,
            "eval_logits_on_weak": model.image_features(weak, prompts) @ adapter.T,
        }
        for key, value in values.items():
            yield _forward_case(f"{stem} {dtype} {key}", value, golden[f"{dtype}_{key}"], dtype)
    model = tiny_medclip(golden, torch.float32)
    prompts = adapters(golden, torch.float32)[0]
    strong = enlarge(torch.from_numpy(golden["img_small_strong"][:1]))
    states = model.swin.embeddings(strong)[0]
    yield _forward_case(f"{stem} patch_emb_first_img", states[0], golden["patch_emb_first_img"])
    inserted = model.with_prompts(states, prompts)[0]
    yield _forward_case(f"{stem} after_insert_first_img", inserted, golden["after_insert_first_img"])


@family("medclip_text*.npz")
def medclip_texts(stem: str, golden: Golden) -> Iterator[Case]:
    """Text features of MedCLIP: over all positions as in the official code, and of a text alone."""
    model = tiny_medclip(golden, torch.float32)
    ids = torch.from_numpy(golden["ids"])
    everywhere, own = model.encode_tokens(ids, token_mean="all"), model.encode_tokens(ids)[:1]
    values = {
        "text_raw_batch_padded": everywhere,
        "text_raw_row0_alone": own,
        "text_embed_batch_padded": F.normalize(everywhere, dim=-1),
        "text_embed_row0_alone_nopad": F.normalize(own, dim=-1),
        "text_embed_row0_nomask_nopad": F.normalize(own, dim=-1),
    }
    for key, value in values.items():
        yield _forward_case(f"{stem} {key}", value, golden[key])


@family("coop.npz")
def context_prompts(stem: str, golden: Golden) -> Iterator[Case]:
    """CoOp: text features of context prompts in every position, logits, loss and the gradient of the context."""
    names = [str(name) for name in golden["classnames"]]
    for case in map(str, golden["cases"]):
        own = {key.removeprefix(f"{case}_"): value for key, value in golden.items() if key.startswith(f"{case}_")}
        shared = {key: value for key, value in golden.items() if key.startswith(("sd_", "pad_"))}
        for dtype in (dtype for dtype in DTYPES if f"{dtype}_logits" in own):
            model = tiny_text_clip({**shared, **own}, DTYPES[dtype])
            context = torch.from_numpy(own["ctx"]).to(DTYPES[dtype]).requires_grad_()
            position = next(position for position in ("middle", "front", "end", "init") if case.startswith(position))
            prompts = model.prompts(names, context.shape[-2], "end" if position == "init" else position)
            features = prompts.features(context)
            images = F.normalize(torch.from_numpy(golden["image_features_raw"]).to(DTYPES[dtype]), dim=-1)
            logits = model.logit_scale * images @ F.normalize(features, dim=-1).T
            loss = F.cross_entropy(logits, torch.from_numpy(golden["labels"]))
            loss.backward()
            values = {"text_features_raw": features, "logits": logits, "loss": loss}
            for key, value in values.items():
                yield _forward_case(f"{stem} {case} {dtype} {key}", value, own[f"{dtype}_{key}"])
            yield gradient_case(f"{stem} {case} {dtype} grad ctx", context.grad, own[f"{dtype}_grad_ctx"], "f32")
