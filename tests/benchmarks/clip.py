"""Vision-language stand-ins: images a second with and without a visual prompt, and context prompts at true length."""

import torch

from nbcore.models.clip import VisionLanguage, insert_after_first, small_clip
from nbcore.models.medclip import small_medclip
from tests.benchmarks.timing import THREADS, median_seconds

BATCH = 50


def images(name: str, model: VisionLanguage) -> None:
    batch = torch.randn(BATCH, 3, model.image_size, model.image_size)
    prompts = torch.zeros(model.prompt_shape, requires_grad=True)
    plain = median_seconds(lambda: model.image_features(batch))
    prompted = median_seconds(lambda: model.image_features(batch, prompts).sum().backward())
    print(
        f"{name}, {model.image_size} px, {THREADS} threads: {BATCH / plain:.0f} images/s plain, {BATCH / prompted:.0f} "
        "prompted, forward and backward"
    )


def last_block() -> None:
    model = small_clip()
    visual, batch = model.model.visual, torch.randn(BATCH, 3, model.image_size, model.image_size)
    prompts = torch.zeros(model.prompt_shape, requires_grad=True)

    def all_tokens() -> None:
        states = visual.transformer(insert_after_first(model.patch_states(batch), prompts))
        (visual.ln_post(states)[:, 0] @ visual.proj).sum().backward()

    ours = median_seconds(lambda: model.image_features(batch, prompts).sum().backward())
    whole = median_seconds(all_tokens)
    print(f"small CLIP, last block for [CLS] alone: {ours * 1e3:.0f} ms, for all tokens {whole * 1e3:.0f} ms")


def context_prompts() -> None:
    model = small_clip()
    context = model.context().requires_grad_()
    prompts = model.prompts(["normal", "tuberculosis"])
    ids, full = model.tokenize(["a photo of a tuberculosis."] * 2), model.model.context_length
    padded = torch.nn.functional.pad(ids, (0, full - ids.shape[1]))

    def padded_pass() -> None:
        embeddings = torch.cat([model.word_embeddings(padded[:, :1]), context.expand(2, -1, -1)], dim=1)
        embeddings = torch.cat([embeddings, model.word_embeddings(padded[:, 5:])], dim=1)
        model.forward_embeddings(embeddings, model.token_mask(padded)).sum().backward()

    ours = median_seconds(lambda: prompts.features(context).sum().backward())
    whole = median_seconds(padded_pass)
    print(
        f"two context prompts, forward and backward: {ours * 1e3:.1f} ms at true length, {whole * 1e3:.1f} ms padded "
        f"to {full}, ratio {whole / ours:.1f}"
    )


def run() -> None:
    images("small CLIP", small_clip())
    images("small MedCLIP", small_medclip(["a chest x-ray"]))
    last_block()
    context_prompts()
