"""ConVIRT and GLoRIA, the baselines that the papers train again."""

import pytest
import torch
from pair_batches import REPORTS, image_encoder, pair_batch, text_encoder

from nbcore.losses.contrastive import info_nce
from nbcore.losses.convirt import convirt_loss
from nbcore.methods import convirt, gloria


def make_convirt(**changes) -> convirt.Convirt:
    config = convirt.Config(**{"projector_width": 16, "image_size": 32, "upsample": None, "max_length": 24, **changes})
    text, vision = text_encoder(), image_encoder()
    torch.manual_seed(0)
    return convirt.Convirt(config, vision, text.width, text)


def make_gloria(**changes) -> gloria.Gloria:
    config = gloria.Config(**{"image_size": 32, "upsample": None, "summed_layers": 2, **changes})
    text = text_encoder()
    return gloria.Gloria(config, image_encoder(**config.encoder_options), text.width, text)


def test_convirt_weighs_the_directions():
    model = make_convirt()
    batch = pair_batch(model.text)
    image, text = model.embed(batch)
    torch.testing.assert_close(model.losses(batch)["total"], convirt_loss(image, text, 0.75, 0.1))


def test_convirt_as_in_mgcas_repository_is_instance_alignment():
    model = make_convirt(variant="official", projector_hidden=32)
    assert (model.config.sentences, model.config.pooling, model.config.trained_layers) == (False, "cls", "all")
    batch = pair_batch(model.text)
    image, text = model.embed(batch)
    torch.testing.assert_close(model.losses(batch)["total"], info_nce(image, text, 0.07))


def test_convirt_pools_the_maximum_over_words_alone():
    model = make_convirt().eval()
    batch = pair_batch(model.text)
    states = model.text.pieces(batch["ids"], batch["mask"]).states
    expected = [rows[keep > 0].amax(dim=0) for rows, keep in zip(states, batch["mask"])]
    torch.testing.assert_close(model._pooled(batch["ids"], batch["mask"]), torch.stack(expected))


def test_convirt_draws_a_sentence_of_the_report_itself():
    model = make_convirt(augmentation="crop")
    columns = model.text_columns(REPORTS)
    assert columns["sentences"].tolist() == [2, 1, 3, 1]
    seen = [set() for _ in REPORTS]
    for seed in range(30):
        batch = {"image": torch.zeros(4, 40, 40, dtype=torch.uint8), **columns}
        drawn = model.augment(batch, torch.Generator().manual_seed(seed))
        assert drawn.keys() == {"image", "ids", "mask"}
        for found, ids in zip(seen, drawn["ids"]):
            found.add(model.text.tokenizer.decode(ids, skip_special_tokens=True))
    assert seen == [set(report.split("\n")) for report in REPORTS]


def test_gloria_adds_both_directions_of_both_losses():
    model = make_gloria()
    batch = pair_batch(model.text)
    losses = model.losses(batch)
    assert losses.keys() == {"global", "local", "total"}
    torch.testing.assert_close(losses["total"], losses["global"] + losses["local"])
    image, text = model.embed(batch)
    torch.testing.assert_close(losses["global"], 2 * info_nce(image, text, 0.1))
    losses["total"].backward()
    assert model.region_projector.weight.grad.abs().sum() > 0


def test_glorias_words_are_sums_over_layers_and_pieces(monkeypatch):
    """[SEP] counts as a word, [CLS] does not: it stands for the report as a whole."""
    model, given = make_gloria().eval(), {}
    for name in ("global_loss", "local_loss"):
        compute = getattr(gloria, name)
        monkeypatch.setattr(gloria, name, lambda *own, n=name, f=compute: given.update({n: own}) or f(*own))
    batch = pair_batch(model.text)
    model.losses(batch)
    out = model.text.bert(input_ids=batch["ids"], attention_mask=batch["mask"], output_hidden_states=True)
    states = out.hidden_states[-1] + out.hidden_states[-2]  # summed_layers is 2 here
    torch.testing.assert_close(given["global_loss"][1], states[:, 0])
    _, words, mask, *_ = given["local_loss"]
    for own, kept, ids, pieces in zip(words, mask, batch["ids"], states):
        expected = []
        for token, state in zip(model.text.tokenizer.convert_ids_to_tokens(ids), pieces):
            if token.startswith("##"):
                expected[-1] = expected[-1] + state
            elif token not in ("[CLS]", "[PAD]"):
                expected.append(state)
        assert int(kept.sum()) == len(expected)
        torch.testing.assert_close(own[: len(expected)], torch.stack(expected))


@pytest.mark.parametrize("make", [make_convirt, make_gloria])
def test_pictures_and_texts_can_be_embedded_apart(make):
    model = make().eval()
    batch = pair_batch(model.text)
    image, text = model.embed(batch)
    assert image.shape == text.shape
    for points in (image, text):
        torch.testing.assert_close(points.norm(dim=1), torch.ones(4))
    alone = model.embed_texts(batch["ids"][1:2], batch["mask"][1:2])
    torch.testing.assert_close(alone, text[1:2])
    torch.testing.assert_close(model.embed_images(batch["image"][2:3]), image[2:3])


@pytest.mark.parametrize("make", [make_convirt, make_gloria])
def test_what_stands_on_padding_has_no_influence(make):
    model = make().eval()
    batch = pair_batch(model.text)
    scrambled = {**batch, "ids": batch["ids"].where(batch["mask"] > 0, 7)}
    torch.testing.assert_close(model.losses(batch), model.losses(scrambled))
