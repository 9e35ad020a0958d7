"""Context prompts at their true length, against prompts put together piece by piece and padded to the full length."""

import pytest
import torch
from torch import Tensor

from nbcore.errors import UsageError
from nbcore.models.clip import small_clip
from nbcore.models.medclip import small_medclip

NAMES = ["normal", "Stage_1_Retinopathy", "tuberculosis of the lung", "TB"]
FULL = 77


def build(kind: str):
    torch.manual_seed(0)
    if kind == "clip":
        return small_clip(16, hidden=32, layers=1).double()
    return small_medclip(["normal stage retinopathy lung . a photo of a"], 28, hidden=8).double()


@pytest.fixture(scope="module", params=["clip", "medclip"])
def model(request):
    return build(request.param)


def padded_full_length(model, names: list[str], context: Tensor, position: str) -> Tensor:
    """Each prompt from its pieces, one class at a time, padded to the full length, (C, M, d) -> (C, D)."""
    features = []
    for name, words in zip(names, context):
        first, *middle, last = model.word_embeddings(model.tokenize([name.replace("_", " ")]))[0]
        dot = model.word_embeddings(model.tokenize(["."]))[0, 1]
        half = len(words) // 2
        inner = {
            "end": [*words, *middle],
            "middle": [*words[:half], *middle, *words[half:]],
            "front": [*middle, *words],
        }[position]
        pieces = [first, *inner, dot, last]
        padding = model.word_embeddings(torch.zeros(1, 1, dtype=torch.long))[0, 0]
        embeddings = torch.stack(pieces + [padding] * (FULL - len(pieces)))[None]  # (1, L, d)
        features.append(model.forward_embeddings(embeddings, (torch.arange(FULL) < len(pieces))[None])[0])
    return torch.stack(features)


def random_context(model, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(*shape, model.context_width, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (1, 5)])
def test_true_length_equals_full_length(model, position, shape):
    context = random_context(model, *shape)
    ours = model.prompts(NAMES, 5, position).features(context)
    full = padded_full_length(model, NAMES, context.expand(4, 5, -1), position)
    assert ours.shape == (4, 64)
    torch.testing.assert_close(ours, full, atol=1e-10, rtol=1e-10)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (expected,), (got,) = (torch.autograd.grad((f * weight).sum(), context) for f in (full, ours))
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-8)
    assert got.norm(dim=-1).min() > 0


@pytest.mark.parametrize("shared", [True, False])
def test_leading_dimensions_are_contexts_of_their_own(model, shared):
    prompts = model.prompts(NAMES, 2)
    contexts = random_context(model, 5, 1 if shared else 4, 2)
    together = prompts.features(contexts)
    assert together.shape == (5, 4, 64)
    torch.testing.assert_close(together, torch.stack([prompts.features(context) for context in contexts]))


def test_words_as_context_give_the_written_text(model):
    ours = model.prompts(NAMES).features(model.context("a photo of a"))
    written = model.text_features([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    torch.testing.assert_close(ours, written, atol=1e-10, rtol=1e-10)


def test_positions_differ(model):
    context = random_context(model, 4)
    end, middle, front = (model.prompts(NAMES, 4, p).features(context) for p in ("end", "middle", "front"))
    assert not end.allclose(middle, atol=1e-3)
    assert not middle.allclose(front, atol=1e-3)


def test_a_prompt_does_not_depend_on_the_other_classes(model):
    context = random_context(model, 4)
    alone = torch.cat([model.prompts([name]).features(context) for name in NAMES])
    torch.testing.assert_close(model.prompts(NAMES).features(context), alone, atol=1e-10, rtol=1e-10)


def test_gradient_stays_out_of_the_tower(model):
    context = random_context(model, 4)
    model.prompts(NAMES).features(context).sum().backward()
    assert context.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_wrong_use_is_one_sentence(model):
    with pytest.raises(UsageError, match="'centre' is unknown; choose one of end, middle, front"):
        model.prompts(NAMES, 4, "centre")
    with pytest.raises(UsageError, match="needs a context word and a class name; got 0 and 4"):
        model.prompts(NAMES, 0)
    for shape in ((3, 64), (4, 32), (3, 4, 64)):
        with pytest.raises(UsageError, match=r"does not fit prompts of 4 words of width 64 for 4 classes"):
            model.prompts(NAMES, 4).features(torch.zeros(shape))
