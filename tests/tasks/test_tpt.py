"""Test-time prompt tuning: the cached, blockwise path against the plain loop, analytic values, seeds."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from nbcore.losses.meduna import confident_entropy
from nbcore.models.clip import OpenClip
from nbcore.tasks.tpt import (
    TptConfig,
    confident_views,
    marginal_entropy,
    predict,
    tpt_loss,
    tuned_contexts,
    view_features,
)

NAMES = ["melanoma", "basal cell carcinoma", "nevus"]


@pytest.fixture(scope="module")
def model() -> OpenClip:
    torch.manual_seed(0)
    vision = {"image_size": 16, "patch_size": 8, "width": 16, "layers": 1, "head_width": 8}
    text = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    config = {"embed_dim": 12, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    model = OpenClip(config)
    model.model.text_projection.data *= 20  # or all classes would look alike
    return model.double()


@pytest.fixture(scope="module")
def features() -> torch.Tensor:
    drawn = torch.randn(5, 20, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return F.normalize(drawn, dim=-1)


def plain_loop(features, prompts, context, scale, config):
    """One image after another, every text pass anew, an optimiser each."""
    contexts, logits = [], []
    for views in features:
        own = torch.nn.Parameter(context.clone())
        optimizer = torch.optim.AdamW([own], lr=config.learning_rate, weight_decay=config.weight_decay)
        kept = None
        for _ in range(config.steps):
            scores = scale * views @ F.normalize(prompts.features(own), dim=-1).T  # (V, C)
            if kept is None:
                p = scores.detach().softmax(dim=-1)
                kept = (-(p * p.log()).sum(dim=-1)).argsort()[: int(config.share * len(views))]
            mean = scores[kept].softmax(dim=-1).mean(dim=0)
            optimizer.zero_grad()
            (-(mean * mean.log()).sum()).backward()
            optimizer.step()
        contexts.append(own.detach())
        logits.append(scale * views[0] @ F.normalize(prompts.features(own.detach()), dim=-1).T)
    return torch.stack(contexts), torch.stack(logits)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("block", [2, 5, 100])
def test_the_cached_path_equals_the_plain_loop(model, features, steps, block):
    config = TptConfig(views=20, steps=steps, share=0.2, learning_rate=0.02)
    prompts, context = model.prompts(NAMES, length=4), model.context()
    contexts, logits = plain_loop(features, prompts, context, model.logit_scale, config)
    found = tuned_contexts(features, prompts, context, model.logit_scale, config, block)
    torch.testing.assert_close(found, contexts, rtol=1e-8, atol=1e-10)
    found = predict(features, prompts, context, model.logit_scale, config, block)
    torch.testing.assert_close(found, logits, rtol=1e-8, atol=1e-8)
    assert not found.requires_grad and not context.requires_grad


def test_a_step_lowers_the_loss_and_images_do_not_meet(model, features):
    config = TptConfig(views=20, share=0.2, learning_rate=1e-5)  # small against the random model's word embeddings
    prompts, context = model.prompts(NAMES, length=4), model.context()
    contexts = tuned_contexts(features, prompts, context, model.logit_scale, config)
    for views, own in zip(features, contexts):
        before, after = (
            tpt_loss(model.logit_scale * views @ F.normalize(prompts.features(words), dim=-1).T, 0.2)
            for words in (context, own)
        )
        assert after < before
    alone = tuned_contexts(features[3:4], prompts, context, model.logit_scale, config)
    torch.testing.assert_close(alone[0], contexts[3], rtol=1e-10, atol=1e-12)
    assert all(not torch.equal(a, b) for a, b in pairwise(contexts))


def test_it_works_where_gradients_are_off(model, features):
    config = TptConfig(views=20)
    arguments = features, model.prompts(NAMES, length=4), model.context(), model.logit_scale, config
    with torch.no_grad():
        quiet = predict(*arguments)
    torch.testing.assert_close(quiet, predict(*arguments))


def test_the_most_confident_views_come_first_and_there_is_always_one():
    logits = torch.tensor([[0.0, 0.0], [0.0, 5.0], [2.0, 0.0], [0.0, 1.0]])
    assert confident_views(logits, 0.5).tolist() == [1, 2]
    assert confident_views(logits, 1.0).tolist() == [1, 2, 3, 0]
    assert confident_views(logits, 0.01).tolist() == [1]
    assert confident_views(torch.zeros(64, 7), 0.1).shape == (6,)
    assert confident_views(torch.stack([logits, logits.flip(0)]), 0.25).tolist() == [[1], [2]]


def test_entropies_have_their_analytic_values():
    uniform, certain = torch.zeros(6, 4), torch.full((6, 4), -1e4).fill_diagonal_(1e4)[:4]
    assert marginal_entropy(uniform).item() == pytest.approx(np.log(4))
    assert marginal_entropy(certain).item() == pytest.approx(np.log(4))  # four certain views of four classes
    assert marginal_entropy(certain[:1]).item() == 0
    assert tpt_loss(certain, 0.5).item() == pytest.approx(np.log(2))


def test_the_loss_is_the_confident_entropy_of_each_images_views():
    logits = torch.randn(4, 32, 5, generator=torch.Generator().manual_seed(2))
    each = torch.stack([confident_entropy(views, 0.25) for views in logits])
    torch.testing.assert_close(tpt_loss(logits, 0.25), each)


def test_view_features_are_those_of_the_views_of_each_image(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    config = TptConfig(views=4)
    features = view_features(model, images, config, seed=5)
    assert features.shape == (3, 4, 12)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3, 4, dtype=torch.float64))
    clean = model.image_features(model.normalize(torch.from_numpy(images).permute(0, 3, 1, 2)))
    torch.testing.assert_close(features[:, 0], F.normalize(clean, dim=-1))
    torch.testing.assert_close(view_features(model, images, config, seed=5), features)
    torch.testing.assert_close(view_features(model, images[:1], config, seed=5), features[:1])
    other = view_features(model, np.repeat(images[:1], 2, axis=0), config, seed=5)
    assert not torch.equal(other[0, 1:], other[1, 1:])  # the same image in another place is seen anew
    assert not torch.equal(view_features(model, images, config, seed=6)[:, 1:], features[:, 1:])
    plain = view_features(model, images, TptConfig(views=4, augmix=False), seed=5)
    assert torch.equal(plain[:, 0], features[:, 0]) and not torch.equal(plain[:, 1:], features[:, 1:])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"share": 0}, {"views": 0}, {"view": 64}])
def test_settings_out_of_range_or_unknown_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        TptConfig(**wrong)
