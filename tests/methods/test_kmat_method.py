"""K-MaT's prompts: which context learns from what, in all combinations of CSC and MSC, and the objective by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbcore.errors import UsageError
from nbcore.losses import transport
from nbcore.methods.kmat import Config, KMat
from nbcore.models.clip import small_clip

NAMES = ["melanoma", "nevus", "basal cell carcinoma"]
CLASSES = len(NAMES)
COMBINATIONS = [(False, False), (True, False), (False, True), (True, True)]


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return small_clip().double()


def learner(backbone, seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    prototypes = F.normalize(torch.randn(2, CLASSES, backbone.width, generator=generator).double(), dim=-1)
    config = Config(**changes)
    modalities = ("dermoscopic image", "clinical photograph")
    return KMat(backbone, NAMES, config, torch.Generator().manual_seed(seed), prototypes, modalities)


def batch(backbone, size=5):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size, backbone.width, generator=generator).double()
    return {"features": features, "label": torch.arange(size) % CLASSES}


def gradient(method, name, data):
    method.zero_grad()
    method.losses(data)[name].backward()
    return method.context.grad


@pytest.mark.parametrize("csc, msc", COMBINATIONS)
def test_contexts_have_the_shape_of_their_factors(backbone, csc, msc):
    method = learner(backbone, class_specific=csc, modality_specific=msc)
    assert method.context.shape == (1 + msc, CLASSES if csc else 1, 4, backbone.context_width)
    texts = method.text_features()
    assert texts.shape == (2, CLASSES, backbone.width)
    assert torch.equal(texts[0], texts[1]) == (not msc)
    assert set(method.state_dict()) == {"context"}


@pytest.mark.parametrize("csc, msc", COMBINATIONS)
def test_both_modalities_in_one_pass_are_each_by_itself(backbone, csc, msc):
    method = learner(backbone, class_specific=csc, modality_specific=msc)
    for side, texts in enumerate(method.text_features()):
        alone = method.prompts.features(method.context[side if msc else 0])
        torch.testing.assert_close(texts, alone, rtol=1e-10, atol=1e-12)


def test_the_objective_by_hand(backbone):
    method = learner(backbone, anchor_weight=0.7, fgw_weight=0.3, alpha=0.4, epsilon=0.2)
    data = batch(backbone)
    losses = {name: value.detach() for name, value in method.losses(data).items()}
    w = F.normalize(method.text_features(), dim=-1).detach().numpy()
    x = F.normalize(data["features"], dim=-1).numpy()
    logits = float(backbone.logit_scale) * x @ w[0].T
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert losses["cross_entropy"].item() == pytest.approx(-log_p[range(5), data["label"]].mean(), rel=1e-9)
    away = w - method.prototypes.numpy()
    assert float(losses["anchor"]) == pytest.approx(0.7 * (away**2).sum() / (2 * CLASSES), rel=1e-9)
    plan = transport.coupling(*torch.from_numpy(w), alpha=0.4, epsilon=0.2).numpy()
    distance = [np.linalg.norm(side[:, None] - side[None], axis=-1) for side in w]
    cost = ((w[0][:, None] - w[1][None]) ** 2).sum(-1)
    structure = sum(
        (distance[0][i, k] - distance[1][j, m]) ** 2 * plan[i, j] * plan[k, m]
        for i, j, k, m in np.ndindex(*(CLASSES,) * 4)
    )
    assert float(losses["fgw"]) == pytest.approx(0.3 * (0.6 * (cost * plan).sum() + 0.4 * structure), rel=1e-8)
    assert float(losses["diagonal"]) == pytest.approx(np.trace(plan), rel=1e-9)
    parts = losses["cross_entropy"] + losses["anchor"] + losses["fgw"]
    assert float(losses["total"]) == pytest.approx(float(parts))


def test_images_move_the_high_end_and_transport_the_low_end_alone(backbone):
    method, data = learner(backbone), batch(backbone)
    high, low = gradient(method, "cross_entropy", data)
    assert high.abs().max() > 0 and not low.any()
    high, low = gradient(method, "fgw", data)
    assert not high.any() and low.abs().max() > 0
    high, low = gradient(method, "anchor", data)
    assert high.abs().max() > 0 and low.abs().max() > 0


def test_without_modality_specific_contexts_transport_still_has_a_low_end(backbone):
    """The high end is a copy: what both share moves as the low end."""
    method = learner(backbone, modality_specific=False, epsilon=5.0)
    assert gradient(method, "fgw", batch(backbone)).abs().max() > 0


@pytest.mark.parametrize("name", ["anchor", "fgw"])
def test_a_loss_of_weight_0_is_left_out(backbone, name):
    losses = learner(backbone, **{f"{name}_weight": 0.0}).losses(batch(backbone))
    assert name not in losses and ("diagonal" in losses) == (name == "anchor")


@pytest.mark.parametrize("solver", ["entropic", "proximal", "exact", "identity"])
def test_every_solver_gives_a_coupling_of_uniform_marginals(backbone, solver):
    method = learner(backbone, solver=solver)
    plan = method.coupling(F.normalize(method.text_features(), dim=-1))
    assert not plan.requires_grad
    np.testing.assert_allclose(plan.sum(dim=0), np.full(CLASSES, 1 / CLASSES), atol=1e-6)
    matching = bool(((plan > 0).sum(dim=0) == 1).all())
    assert matching == (solver in ("exact", "identity"))


def test_unnormalised_reading_of_the_equations(backbone):
    """`paper`: prompts and prototypes as they come."""
    method, data = learner(backbone, variant="paper", fgw_weight=0.0), batch(backbone)
    away = method.text_features() - method.prototypes
    assert float(method.losses(data)["anchor"]) == pytest.approx(float(away.square().sum() / (2 * CLASSES)))


@pytest.mark.parametrize("csc, msc", COMBINATIONS)
def test_modality_words_tell_the_ends_apart(backbone, csc, msc):
    method = learner(backbone, class_specific=csc, modality_specific=msc, modality_words=True)
    texts = method.text_features()
    assert texts.shape == (2, CLASSES, backbone.width)
    assert not torch.equal(texts[0], texts[1])
    plain = backbone.prompts([f"{name} in a clinical photograph" for name in NAMES])
    torch.testing.assert_close(texts[1], plain.features(method.context[-1]), rtol=1e-10, atol=1e-12)


def test_factorised_contexts_share_a_part_that_both_ends_move(backbone):
    method, data = learner(backbone, factorized=True), batch(backbone)
    assert set(method.state_dict()) == {"context", "shared"} and not method.context.any()
    method.losses(data)["cross_entropy"].backward()
    assert method.shared.grad.abs().max() > 0 and not method.context.grad[1].any()
    direct = method.prompts.features(method.context + method.shared)
    torch.testing.assert_close(method.text_features(), direct)


def test_a_seed_gives_one_start_and_the_ends_start_apart(backbone):
    first, again, other = (learner(backbone, seed).context for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_a_few_steps_learn_the_shots_and_reach_the_prototypes(backbone):
    method, data = learner(backbone), batch(backbone, 9)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    totals = []
    for _ in range(30):
        optimizer.zero_grad()
        losses = method.losses(data)
        losses["total"].backward()
        optimizer.step()
        totals.append(float(losses["total"]))
    assert totals[-1] < 0.7 * totals[0]


def test_prototypes_that_do_not_fit_are_one_sentence(backbone):
    with pytest.raises(UsageError, match=r"shape \(2, 2, 64\) do not fit two modalities of 3 classes"):
        KMat(backbone, NAMES, Config(), torch.Generator(), torch.zeros(2, 2, backbone.width))
