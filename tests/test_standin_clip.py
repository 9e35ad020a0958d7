"""Stand-ins of vision-language models, and the atlas that they learn from."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nbcore.data.phantom.atlas import draw_atlas
from nbcore.errors import UsageError
from nbcore.methods.image_text import ImageClassifier
from nbcore.models.vision_language import load_standin
from nbcore.standin_clip import STANDINS, OneKindBatches, train_standin_clip

PAIRS = {"skin": 40, "chest": 30}


@pytest.fixture(scope="module")
def atlas():
    return draw_atlas(PAIRS, 32, seed=3)


def test_an_atlas_holds_what_was_asked_for(atlas):
    assert atlas.images.shape == (70, 32, 32, 3)
    assert atlas.images.dtype == np.uint8
    assert atlas.kinds.tolist() == [0] * 40 + [1] * 30
    assert len(atlas.captions) == len(atlas.labels) == 70
    assert all(caption.strip() for caption in atlas.captions)
    assert not set(atlas.labels[:40]) & set(atlas.labels[40:])  # numbered through all kinds
    chest = atlas.images[40:]
    assert (chest[..., 0] == chest[..., 1]).all()
    assert (atlas.images[:40, ..., 0] != atlas.images[:40, ..., 1]).any()


def test_an_atlas_is_a_function_of_its_seed(atlas):
    again, other = draw_atlas(PAIRS, 32, seed=3), draw_atlas(PAIRS, 32, seed=4)
    assert np.array_equal(again.images, atlas.images)
    assert again.captions == atlas.captions
    assert other.captions != atlas.captions


def test_captions_name_the_disease_of_their_own_picture():
    """A chest captioned with tuberculosis has it; a healthy one is never said to have a disease."""
    from nbcore.data.phantom import chest_captions
    from nbcore.data.phantom.world import only, sample_studies

    sick = sample_studies(1, range(60), "north", only(tuberculosis=0.5), views=("PA",))
    told = [chest_captions.caption(study, np.random.default_rng(i)).lower() for i, study in enumerate(sick)]
    for study, caption in zip(sick, told):
        if not study.find("tuberculosis"):
            assert not any(word in caption for word in ("tubercul", "tb ", "cavit"))
    assert any("tuberculosis" in caption for caption in told)
    assert any("normal" in caption or "clear" in caption for caption in told)


def test_an_unknown_kind_is_told():
    with pytest.raises(UsageError, match="'brain'"):
        draw_atlas({"brain": 4}, 32, seed=0)


def test_a_batch_has_one_kind():
    kinds = np.array([0] * 10 + [1] * 20)
    data = OneKindBatches({"row": np.arange(30)}, kinds)
    for first, kind in ((4, 0), (17, 1)):
        rows = data.__getitems__([first, 0, 29, 15])["row"].tolist()
        assert {int(kinds[row]) for row in rows} == {kind}
    everything = data.__getitems__([*range(30)])["row"].tolist()
    assert sorted(set(everything)) == list(range(10))  # number 0 is of the first kind: all of it


@pytest.mark.parametrize("name", STANDINS)
def test_a_standin_learns_and_comes_back_from_disk(tmp_path, name):
    train_standin_clip(name, {"skin": 60}, tmp_path, image_size=56, stem_epochs=2, epochs=2, threads=1)
    model = load_standin(tmp_path)
    assert not any(p.requires_grad for p in model.parameters())
    assert model.image_size == 56
    pixels = model.normalize(torch.zeros(2, 3, 56, 56, dtype=torch.uint8))
    assert torch.equal(model.image_features(pixels), load_standin(tmp_path).image_features(pixels))
    assert model.text_features(["a mole", "melanoma"]).shape == (2, model.width)


def test_texts_are_tuned_to_images_that_stay_as_they_were(tmp_path):
    """With `image_epochs` the last stage moves no weight of the image encoder."""
    train_standin_clip(
        "small_biomedclip", {"skin": 60}, tmp_path, image_size=56, stem_epochs=1, epochs=2, threads=1, image_epochs=1
    )
    model = load_standin(tmp_path)
    classifier = ImageClassifier(load_standin(tmp_path), 8)
    weights = load_file(tmp_path / "image" / "weights.safetensors")
    texts = 0
    for name, value in model.state_dict().items():
        if name.startswith(("trunk.", "image_projection.")):
            assert torch.equal(value, weights[f"model.{name}"])
        elif name.startswith("text."):
            texts += not torch.equal(value, weights[f"model.{name}"])
    assert texts and set(classifier.state_dict()) == set(weights)


def test_a_standin_nobody_knows(tmp_path):
    with pytest.raises(UsageError, match="small_clip, small_medclip, small_biomedclip"):
        train_standin_clip("tiny", {"skin": 60}, tmp_path, image_size=56, stem_epochs=1, epochs=1, threads=1)
