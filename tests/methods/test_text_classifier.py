"""Stage 1: the gradient without its noise, the law of what is drawn instead, and the training as a whole."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from nbcore.errors import UserError
from nbcore.losses.meduna import description_loss
from nbcore.methods import text_classifier
from nbcore.methods.text_classifier import (
    GaussianNoise,
    TextClassifierConfig,
    description_gradient,
    fit_text_classifier,
    smoothed_targets,
    text_accuracy,
)


def texts(
    classes: int, each: int = 12, width: int = 16, spread: float = 0.3, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors around one centre a class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes * each) % classes
    centres = torch.randn(classes, width, generator=generator)
    noise = torch.randn(len(labels), width, generator=generator)
    return F.normalize(centres[labels] + spread * noise * width**0.5, dim=1), labels


@dataclass(frozen=True)
class WholeNoise:
    """Noise that is known entry by entry."""

    noise: torch.Tensor

    def on_features(self, basis, rows):
        return (self.noise @ basis).mT

    def on_rows(self, basis, width):
        return basis.mT @ self.noise


def autograd(features, labels, weight, noise, smoothing):
    leaf = weight.clone().requires_grad_()
    description_loss(features, labels, leaf, noise, smoothing).backward()
    return leaf.grad


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("classes", "each", "width"), [(3, 12, 16), (2, 5, 8), (5, 1, 4), (7, 3, 64)])
def test_gradient_by_projections_is_that_of_the_loss(classes, each, width, smoothing):
    features, labels = (x.double() if x.is_floating_point() else x for x in texts(classes, each, width))
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(classes, width, generator=generator, dtype=torch.float64)
    noise = 0.5 * torch.randn(features.shape, generator=generator, dtype=torch.float64)
    targets = smoothed_targets(labels, classes, smoothing, torch.float64)
    for given, wrapped in ((noise, WholeNoise(noise)), (None, None)):
        ours = description_gradient(features, targets, weight, wrapped)
        torch.testing.assert_close(ours, autograd(features, labels, weight, given, smoothing), rtol=1e-10, atol=1e-12)


def test_projected_noise_has_the_law_of_whole_noise():
    """Mean and covariance of the gradient over many draws, by projections and by the loss itself."""
    features, labels = texts(3, each=4, width=5)
    generator = torch.Generator().manual_seed(2)
    weight, scale, draws = torch.randn(3, 5, generator=generator), 0.7, 6000
    targets, noise = smoothed_targets(labels, 3, 0.1, torch.float32), GaussianNoise(scale, generator)
    ours = torch.stack([description_gradient(features, targets, weight, noise) for _ in range(draws)]).flatten(1)
    whole = scale * torch.randn(draws, *features.shape, generator=generator)
    error = ((features + whole) @ weight.mT).softmax(dim=2) - F.one_hot(labels, 3) * 0.9 - 0.1 / 3  # (draws, n, C)
    plain = (error.mT @ (features + whole) / len(features)).flatten(1)  # (draws, C * D)
    sample = autograd(features, labels, weight, whole[0], 0.1).flatten()
    torch.testing.assert_close(plain[0], sample)
    deviation = plain.std(dim=0)
    assert ((ours.mean(dim=0) - plain.mean(dim=0)) / deviation).abs().max() < 5 * (2 / draws) ** 0.5
    gap = (ours.T.cov() - plain.T.cov()) / deviation.outer(deviation)
    assert gap.abs().max() < 6 * (2 / draws) ** 0.5


def test_training_is_a_function_of_the_seed_alone():
    features, labels = texts(4)
    config = TextClassifierConfig(iterations=20)
    first = fit_text_classifier(features, labels, 4, config, seed=3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(first, fit_text_classifier(features, labels, 4, config, seed=3))
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, fit_text_classifier(features, labels, 4, config, seed=4))
    assert first.shape == (4, 16) and not first.requires_grad


def test_it_starts_as_a_linear_layer_and_learns():
    features, labels = texts(4, each=20, spread=0.1)
    start = fit_text_classifier(features, labels, 4, TextClassifierConfig(iterations=1, learning_rate=1e-12), seed=0)
    assert 0.2 < start.abs().max() <= 16**-0.5
    weight = fit_text_classifier(features, labels, 4, TextClassifierConfig(iterations=1500), seed=0)
    losses = [description_loss(features, labels, w).item() for w in (start, weight)]
    assert losses[1] < 0.75 * losses[0]
    assert ((features @ weight.mT).argmax(dim=1) == labels).float().mean() == 1


def test_noise_and_smoothing_keep_the_weights_small():
    features, labels = texts(3)
    norms = {
        noise: fit_text_classifier(
            features, labels, 3, TextClassifierConfig(iterations=800, learning_rate=1e-2, noise=noise, smoothing=0), 0
        ).norm()
        for noise in (0.0, 1.0)
    }
    assert norms[1.0] < 0.5 * norms[0.0]


def test_accuracy_on_held_out_descriptions():
    config = TextClassifierConfig(iterations=300, learning_rate=1e-2)
    apart, labels = texts(3, each=20, spread=0.1)
    accuracy = text_accuracy(apart, labels, 3, config, seeds=[0, 1, 2])
    assert accuracy.tolist() == [1, 1, 1]
    nonsense = F.normalize(torch.randn(90, 64, generator=torch.Generator().manual_seed(5)), dim=1)
    accuracy = text_accuracy(nonsense, torch.arange(90) % 3, 3, config, seeds=range(5))
    assert 0.15 < accuracy.mean() < 0.5  # what it has not seen it cannot know, though it fits what it has
    assert len(set(accuracy.tolist())) > 1


def test_the_same_share_of_every_class_is_held_out(monkeypatch):
    fits = []
    monkeypatch.setattr(
        text_classifier,
        "fit_text_classifier",
        lambda features, labels, *_: fits.append((features, labels)) or torch.zeros(3, features.shape[1]),
    )
    labels = torch.tensor([0] * 30 + [1] * 2 + [2] * 10)
    features = torch.arange(42.0)[:, None]  # tells which rows are learnt from
    text_accuracy(features, labels, 3, TextClassifierConfig(), seeds=[0, 1])
    assert all(torch.bincount(known).tolist() == [24, 1, 8] for _, known in fits)
    assert all(torch.equal(labels[rows[:, 0].long()], known) for rows, known in fits)
    assert not torch.equal(fits[0][0], fits[1][0])


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 1]])
def test_a_class_with_too_few_descriptions_is_an_error(labels):
    with pytest.raises(UserError, match=r"Class number 2 .* two of each class"):
        text_accuracy(torch.randn(6, 4), torch.tensor(labels), 3, TextClassifierConfig(), seeds=[0])


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ValidationError):
        TextClassifierConfig(iteration=3)
