"""CoOp, CoCoOp, KgCoOp and BiomedCoOp: what each minimises, what it moves, and what is saved."""

import pytest
import torch
import torch.nn.functional as F
from adapted import SIZE, WIDTH, backbone, snapshot
from pydantic import ValidationError

from nbcore.errors import UsageError
from nbcore.losses.prompts import cosine_logits, knowledge_distance, selective_distillation, semantic_consistency
from nbcore.methods import biomedcoop, cocoop, coop, kgcoop
from nbcore.models.clip import OpenClip, small_clip
from nbcore.train import fit

NAMES = ["melanoma", "basal cell carcinoma", "benign nevus"]
METHODS = {"coop": coop, "cocoop": cocoop, "kgcoop": kgcoop, "biomedcoop": biomedcoop}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def learner(name: str, tower: OpenClip | None = None, names=NAMES, seed: int = 0, **changes):
    """One of the four methods with made-up knowledge of the classes."""
    tower, generator = tower or backbone(), torch.Generator().manual_seed(seed)
    knowledge = {"kgcoop": [draw(len(names), WIDTH, seed=5)], "biomedcoop": [draw(len(names), 7, WIDTH, seed=6)]}
    kind = {"coop": coop.CoOp, "cocoop": cocoop.CoCoOp, "kgcoop": kgcoop.KgCoOp, "biomedcoop": biomedcoop.BiomedCoOp}
    return kind[name](tower, names, METHODS[name].Config(**changes), generator, *knowledge.get(name, []))


def batch(rows: int = 6) -> dict[str, torch.Tensor]:
    return {"features": draw(rows, WIDTH, seed=1), "label": torch.arange(rows) % len(NAMES)}


@pytest.fixture(scope="module")
def exact() -> OpenClip:
    """A tower in double precision."""
    torch.manual_seed(1)
    return small_clip(SIZE, patch=8, width=WIDTH, hidden=32, layers=1, text_layers=2).double()


def test_coop_is_the_cross_entropy_of_cosines():
    model, data = learner("coop"), batch()
    losses = model.losses(data)
    logits = cosine_logits(data["features"], model.text_features(), backbone().logit_scale)
    torch.testing.assert_close(model.scores(data["features"]), logits)
    assert losses.keys() == {"cross_entropy", "total"}
    torch.testing.assert_close(losses["total"], F.cross_entropy(logits, data["label"]))


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_kgcoop_adds_the_distance_from_hand_written_prompts(distance):
    model, data = learner("kgcoop", distance=distance, knowledge_weight=3.0), batch()
    losses = model.losses(data)
    expected = 3 * knowledge_distance(model.text_features(), draw(3, WIDTH, seed=5), distance)
    torch.testing.assert_close(losses["knowledge"], expected)
    torch.testing.assert_close(losses["total"], losses["cross_entropy"] + losses["knowledge"])


def test_biomedcoop_adds_sccm_and_kdsp():
    model, data = learner("biomedcoop", sccm_weight=2.0, kdsp_weight=3.0, selection_threshold=1.25), batch()
    losses, texts, descriptions = model.losses(data), model.text_features(), draw(3, 7, WIDTH, seed=6)
    means = F.normalize(F.normalize(descriptions, dim=-1).mean(dim=1), dim=-1)
    torch.testing.assert_close(losses["sccm"], 2 * semantic_consistency(texts, means))
    scale, features = backbone().logit_scale, data["features"]
    distilled = selective_distillation(cosine_logits(features, texts, scale), features, descriptions, scale, 1.25)
    torch.testing.assert_close(losses["kdsp"], 3 * distilled)
    torch.testing.assert_close(losses["total"], losses["cross_entropy"] + losses["sccm"] + losses["kdsp"])


@pytest.mark.parametrize("variant", ["recommended", "paper", "official"])
def test_biomedcoop_has_the_weights_of_busi(variant):
    config = biomedcoop.Config(variant=variant)
    assert (config.sccm_weight, config.kdsp_weight, config.selection_threshold) == (0.75, 0.75, 1.5)


def test_of_unequally_described_classes_the_first_descriptions_count():
    uneven = [draw(5, WIDTH, seed=7), draw(3, WIDTH, seed=8), draw(4, WIDTH, seed=9)]
    config = biomedcoop.Config()
    trimmed = torch.stack([own[:3] for own in uneven])
    both = [biomedcoop.BiomedCoOp(backbone(), NAMES, config, torch.Generator(), own) for own in (uneven, trimmed)]
    assert both[0].descriptions.shape == (3, 3, WIDTH)
    torch.testing.assert_close(both[0].descriptions, both[1].descriptions)


def test_a_loss_of_weight_0_is_left_out():
    assert learner("kgcoop", knowledge_weight=0).losses(batch()).keys() == {"cross_entropy", "total"}
    assert learner("biomedcoop", sccm_weight=0).losses(batch()).keys() == {"cross_entropy", "kdsp", "total"}
    assert learner("biomedcoop", kdsp_weight=0).losses(batch()).keys() == {"cross_entropy", "sccm", "total"}


def looped(model: cocoop.CoCoOp, features: torch.Tensor) -> torch.Tensor:
    """CoCoOp's logits, one image after another."""
    rows = []
    for feature in features:
        image = F.normalize(feature, dim=0)
        hidden = F.relu(model.meta[0].weight @ image + model.meta[0].bias)
        shift = model.meta[2].weight @ hidden + model.meta[2].bias  # (d,)
        texts = F.normalize(model.prompts.features(model.context + shift), dim=-1)  # (C, D)
        rows.append(model.backbone.logit_scale * texts @ image)
    return torch.stack(rows)


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("images_at_once", [1, 4, 100])
def test_cocoop_in_one_pass_equals_the_loop_over_images(exact, class_specific, images_at_once):
    model = learner("cocoop", exact, class_specific=class_specific)
    model._images_at_once = images_at_once
    with torch.no_grad():  # shifts as large as the context, so that it matters whose is whose
        model.meta[2].weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    features, labels = draw(6, WIDTH, seed=1).double(), batch()["label"]
    slow = looped(model, features)
    torch.testing.assert_close(model.scores(features), slow, rtol=1e-10, atol=1e-12)
    assert (slow[0] - slow[1]).abs().max() > 1e-3
    expected = torch.autograd.grad(F.cross_entropy(slow, labels), list(model.parameters()))
    total = model.losses({"features": features, "label": labels})["total"]
    ours = torch.autograd.grad(total, list(model.parameters()))
    for gradient, golden in zip(ours, expected):
        assert gradient.any()
        torch.testing.assert_close(gradient, golden, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_only_the_own_parameters_are_trained_and_saved(name):
    model, before = learner(name), snapshot(backbone())
    own = {"context"} | (
        {f"meta.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")} if name == "cocoop" else set()
    )
    assert dict(model.named_parameters()).keys() == model.state_dict().keys() == own
    model.losses(batch())["total"].backward()
    assert all(parameter.grad.any() and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in backbone().parameters())
    assert all(torch.equal(value, before[key]) for key, value in backbone().state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_features_may_be_computed_before(name):
    model, images = learner(name), draw(6, 3, SIZE, SIZE, seed=3)
    label = batch()["label"]
    direct = model.losses({"image": images, "label": label})
    cached = model.losses({"features": backbone().image_features(images), "label": label})
    torch.testing.assert_close(direct, cached)


def test_a_batch_without_images_is_an_error():
    with pytest.raises(UsageError, match="one of features and image"):
        learner("coop").losses({"label": torch.tensor([0])})


def test_a_start_without_words_is_an_error():
    with pytest.raises(UsageError, match="needs a context word"):
        learner("coop", context_init=" ")


def test_losses_are_taken_in_full_precision():
    model, data, texts = learner("biomedcoop"), batch(), draw(3, WIDTH, seed=4)
    expected = model.objective(data["features"], texts, data["label"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = model.objective(data["features"], texts, data["label"])
        assert model.scores(data["features"]).dtype == torch.float32
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("class_specific", [False, True])
def test_order_of_images_and_classes_does_not_matter(exact, name, class_specific):
    turned = [2, 0, 1]
    features = draw(6, WIDTH, seed=1).double()
    model = learner(name, exact, class_specific=class_specific)
    other = learner(name, exact, [NAMES[i] for i in turned], class_specific=class_specific)
    for key, value in model.state_dict().items():
        dict(other.named_parameters())[key].data = value[turned] if key == "context" and class_specific else value
    scores = model.scores(features)
    torch.testing.assert_close(other.scores(features), scores[:, turned], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.scores(features.flip(0)), scores.flip(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model.scores(features[:1]), scores[:1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_separate_separable_features(name):
    model, data = learner(name), Rows(12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    entropies = []
    for _ in range(15):
        losses = model.losses(data.__getitems__(list(range(12))))
        entropies.append(losses["cross_entropy"].item())
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    assert entropies[-1] < 0.7 * entropies[0]


def test_the_training_loop_leaves_weights_that_a_new_learner_takes_up(tmp_path):
    data, config = Rows(12), {"epochs": 2, "batch_size": 6}
    model, again = learner("biomedcoop", **config), learner("biomedcoop", seed=1, **config)
    before = model.context.detach().clone()
    fit(model, data, model.config, seed=0, directory=tmp_path)
    fit(again, data, again.config, seed=0, directory=tmp_path)
    assert not torch.equal(model.context, before)
    assert torch.equal(again.context, model.context)
    torch.testing.assert_close(again.scores(data.features), model.scores(data.features))


class Rows:
    """Image features near one direction a class."""

    def __init__(self, rows: int):
        self.labels = torch.arange(rows) % len(NAMES)
        self.features = draw(len(NAMES), WIDTH, seed=2)[self.labels] + 0.3 * draw(rows, WIDTH, seed=3)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        return {"features": self.features[indices], "label": self.labels[indices]}


def test_random_contexts_follow_the_seed_and_have_the_official_spread():
    model = learner("coop", context_length=16, class_specific=True)
    assert model.context.shape == (3, 16, backbone().context_width)
    assert model.context.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(model.context, learner("coop", context_length=16, class_specific=True).context)
    assert not torch.equal(model.context, learner("coop", seed=1, context_length=16, class_specific=True).context)
    assert not torch.equal(model.context[0], model.context[1])
    torch.testing.assert_close(learner("cocoop").state_dict(), learner("cocoop").state_dict(), rtol=0, atol=0)
    assert learner("cocoop").meta[0].weight.shape == (WIDTH // 16, WIDTH)


@pytest.mark.parametrize("class_specific", [False, True])
def test_words_to_start_from_give_the_hand_written_prompt(class_specific):
    model = learner("coop", context_init="a photo of a", class_specific=class_specific)
    written = backbone().text_features([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(model.text_features(), written)
    assert model.context.shape[:-1] == ((3, 4) if class_specific else (4,))


def test_position_of_the_class_name_is_passed_on():
    contexts = [learner("coop", position=position).text_features() for position in ("end", "middle", "front")]
    assert not torch.allclose(contexts[0], contexts[1]) and not torch.allclose(contexts[1], contexts[2])


def test_knowledge_that_does_not_fit_is_refused():
    generator = torch.Generator()
    with pytest.raises(UsageError, match=r"zero-shot features of shape \(2, 32\) do not fit 3 classes"):
        kgcoop.KgCoOp(backbone(), NAMES, kgcoop.Config(), generator, draw(2, WIDTH))
    for wrong in (draw(2, 5, WIDTH), draw(3, 5, WIDTH + 1), draw(3, 0, WIDTH)):
        with pytest.raises(UsageError, match="do not fit 3 classes of width 32"):
            biomedcoop.BiomedCoOp(backbone(), NAMES, biomedcoop.Config(), generator, wrong)


@pytest.mark.parametrize("module", METHODS.values())
def test_variants_name_real_fields_and_choose_values_only(module):
    assert module.VARIANTS.keys() == {"recommended", "paper", "official"}
    for name, changes in module.VARIANTS.items():
        plain = module.Config(**changes).model_dump(exclude={"variant"})
        assert module.Config(variant=name).model_dump(exclude={"variant"}) == plain
        assert module.Config(variant=name, epochs=3).epochs == 3
    with pytest.raises(ValidationError, match="Extra inputs"):
        module.Config(lambda_kg=1)


def test_defaults_are_one_protocol_for_all():
    shared = [module.Config().model_dump(include=set(coop.Config.model_fields)) for module in METHODS.values()]
    assert all(other == shared[0] for other in shared)
    assert (shared[0]["epochs"], shared[0]["batch_size"], shared[0]["learning_rate"]) == (50, 4, 0.0025)
    assert (shared[0]["schedule"], shared[0]["warmup_epochs"], shared[0]["warmup_lr"]) == ("epoch_cosine", 1, 1e-5)
