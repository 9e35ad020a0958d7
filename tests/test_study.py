"""Steps of a study on twins of a few dozen pictures."""

from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from nbcore.data.masks import has_outline
from nbcore.errors import UsageError, UserError
from nbcore.models.vision import VisionEncoder
from nbcore.models.weights import read_state
from nbcore.protection import NOT_SHOWN
from nbcore.study import Study

TINY = {
    "twin_images": {"mimic-cxr": 80, "chexpert": 60, "siim-acr": 120, "rsna-pneumonia": 60},
    "probe_on": ["chexpert"],
    "segment_on": ["siim-acr", "rsna-pneumonia"],
    "detect_on": ["rsna-pneumonia"],
    "transformer": None,
    "standin_width": 32,
    "batch_size": 16,
    "threads": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


def open_study(root, notebook="mgca", profile="smoke", **changes) -> Study:
    return Study.open(
        notebook, profile=profile, seed=0, data_root=None, output_root=str(root), overrides={**TINY, **changes}
    )


@pytest.fixture(scope="module")
def study(root):
    before = torch.get_num_threads()
    yield open_study(root)
    torch.set_num_threads(before)


@pytest.mark.parametrize("profile", ["smoke", "demo"])
@pytest.mark.parametrize("method", ["mgca", "convirt", "gloria"])
def test_notebooks_share_what_they_pre_train(tmp_path, profile, method):
    """The baseline of one notebook is the other notebook's own run, so that it is trained once."""
    mgca, *others = (
        Study.open(name, profile=profile, seed=0, data_root=None, output_root=str(tmp_path), overrides={})
        for name in ("mgca", "mflag", "med_unic")
    )
    for other in others:
        assert other.config(method) == mgca.config(method)
        common = other.settings.twin_images.keys() & mgca.settings.twin_images.keys()
        assert "mimic-cxr" in common
        for name in common:
            assert other.settings.twin_images[name] == mgca.settings.twin_images[name]
        for field in ("standin_width", "standin_layers", "standin_epochs", "max_length", "pretrain_split", "threads"):
            assert getattr(other.settings, field) == getattr(mgca.settings, field)


def test_a_baseline_takes_what_makes_it_comparable_from_the_study(root):
    study = open_study(root, vision="tiny_vit", baselines={"convirt": {"temperature": 0.3}})
    config = study.config("convirt")
    assert (config.vision, config.temperature, config.projector_width) == ("tiny_vit", 0.3, 64)
    with pytest.raises(UsageError, match=r"unknown method 'convrt' \(did you mean 'convirt'\?\)"):
        study.config("convrt")


def test_twins_of_one_hospital_show_different_patients(study):
    one, other = (study.images(study.samples(name)) for name in ("mimic-cxr", "chexpert"))
    seen = {picture.tobytes() for picture in one}
    assert not any(picture.tobytes() in seen for picture in other)


def test_a_frozen_encoder_sees_every_picture_once(study, monkeypatch):
    seen = Counter()
    maps = VisionEncoder.maps

    def count(self, images):
        seen.update(image.numpy().tobytes() for image in images)
        return maps(self, images)

    monkeypatch.setattr(VisionEncoder, "maps", count)
    rows = study.localize(study.random(0), "rsna-pneumonia", [0.5, 1.0], ["segmentation", "detection"])
    assert set(seen.values()) == {1}
    assert len(seen) == len(study.samples("rsna-pneumonia"))
    assert [(row["task"], row["fraction"]) for row in rows] == [
        ("segmentation", 0.5), ("segmentation", 1.0), ("detection", 0.5), ("detection", 1.0)
    ]  # fmt: skip
    test = (study.samples("rsna-pneumonia").table["split"] == "test").sum()
    assert {row["test_images"] for row in rows} == {test}
    assert rows[0]["images"] < rows[1]["images"]
    assert all(0 <= row.get("dice", row.get("map")) <= 1 for row in rows)


@pytest.mark.parametrize("notebook", ["mgca", "mflag"])
def test_decoders_of_mgca_and_m_flag_are_trained_as_in_mgcas_scripts(tmp_path, notebook):
    changes = {"segmentation": {}, "detection": {}, "localize_size": 224}
    study = Study.open(notebook, profile="smoke", seed=0, data_root=None, output_root=str(tmp_path), overrides=changes)
    for name, batch_size in {"siim-acr": 8, "rsna-pneumonia": 16}.items():
        for fraction in (0.01, 0.1, 1.0):
            found = study._task_config("segmentation", name, fraction)
            assert (found.learning_rate, found.weight_decay, found.batch_size) == (5e-4, 0.05, batch_size)
            assert (found.epochs, found.patience, found.image_size) == (50, 10, 224)
    few = {"rsna-pneumonia": 2e-4, "object-cxr": 2.5e-4}
    for name, rate in few.items():
        for fraction in (0.01, 0.1, 1.0):
            found = study._task_config("detection", name, fraction)
            expected = (rate, 8) if fraction == 0.01 else (5e-4, 16)
            assert (found.learning_rate, found.batch_size) == expected
            assert (found.weight_decay, found.epochs, found.patience) == (1e-6, 50, 10)


def test_pre_training_ends_after_its_epochs_whatever_validation_would_say(study):
    encoder = study.pretrain(0, epochs=2)
    assert len(encoder.history) == 2 * encoder.history.steps_per_epoch
    assert encoder.history.scores == []  # nothing was validated
    assert set(study.learnt_pairs(encoder.config).table["split"]) == {"train"}


def test_siim_learns_from_as_many_negatives_as_positives(study):
    samples = study.samples("siim-acr")
    rows = study._rows(samples, 1.0, 0, balanced=True)
    chosen = samples.subset(rows)
    assert set(chosen.table["split"]) == {"train"}
    positives = (chosen.table["mask"] != "").sum()
    assert positives == (samples.split("train").table["mask"] != "").sum()
    assert len(rows) - positives == min(positives, len(samples.split("train")) - positives)


def test_retrieval_is_about_pairs_that_were_not_learnt(study, root):
    encoder = study.pretrain(0)
    found = study.retrieval(encoder)
    assert all(0 <= value <= 1 for value in found.values())
    assert "image_to_report_recall@10" in found
    with pytest.raises(UsageError, match="pretrain_split"):
        open_study(root, pretrain_split="all").retrieval(encoder)


def test_word_maps_lie_over_the_pictures_they_are_of(study):
    encoder = study.pretrain(0)
    found = study.word_maps(encoder, "siim-acr", 4)
    assert found.pictures.shape == found.maps.shape == found.outlines.shape
    assert (found.maps >= 0).all() and found.outlines.any(axis=(1, 2)).all()
    result = study.pointing(encoder, "siim-acr")
    assert 0 <= result.hits <= 1
    assert result.pictures == has_outline(study.samples("siim-acr").split("test")).sum() > 1


def test_prototypes_and_findings(study):
    encoder = study.pretrain(0)
    samples, classes = study.single_findings("chexpert")
    assert study.findings("chexpert") == ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
    assert len(samples) == len(classes) and set(classes) <= set(range(5))
    embeddings, nearest = study.assignments(encoder, samples)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
    assert set(nearest) <= set(range(study.settings.prototypes))
    assert -1 <= study.agreement(encoder, "chexpert") <= 1


def test_steps_in_other_processes_give_the_same_numbers(study, root, tmp_path):
    here = study.pretrain_all({"MGCA": ("mgca", {})})
    other = open_study(tmp_path, jobs=2)  # a cache of its own: everything is computed again
    there = other.pretrain_all({"MGCA": ("mgca", {})})
    mine, theirs = (read_state(runs["MGCA"][0].weights) for runs in (here, there))
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    one, two = study.probe_all(here, [1.0]), other.probe_all(there, [1.0])
    assert one.equals(two)


def test_the_supervised_reference_trains_the_encoder_too(root):
    study = open_study(root, supervised_epochs=1)
    for task, name in study.localization_tasks:
        found = study.localize_supervised(name, task, 0)
        assert 0 <= found["dice" if task == "segmentation" else "map"] <= 1
        assert found["images"] <= (study.samples(name).table["split"] == "train").sum()


def test_a_word_of_any_sentence_is_looked_for_in_a_picture_of_ones_choice(study, monkeypatch):
    encoder = study.pretrain(0)
    method, name = study.load_method(encoder), "rsna-pneumonia"
    maps, number = study.word_maps(encoder, name), study.outlined_numbers(name)[-1]
    assert len(maps.maps) == number + 1 > 1
    sentence = study.sentence_of(name)
    assert study.words_of(method, sentence)[0] == "pneumonia"
    picture, heat = images_of(study.word_view(method, name, number, sentence, "pneumonia"))
    assert np.array_equal(picture, maps.pictures[number])
    np.testing.assert_allclose(heat, maps.maps[number] / maps.maps[number].max(), rtol=1e-4, atol=1e-6)
    other = images_of(study.word_view(method, name, number, "pneumonia is present", "present"))[1]
    assert not np.array_equal(heat, other)
    assert study.words_of(method, "") == [""]
    for typed, word in (("", ""), (sentence, "heart")):
        with pytest.raises(UserError, match=r"type a sentence and choose one of its words\.$"):
            study.word_view(method, name, number, typed, word)
    monkeypatch.setitem(study._samples, name, replace(study.samples(name), private=True))
    hidden = study.word_view(method, name, number, sentence, "pneumonia")
    assert {axis.get_title() for axis in hidden.axes} == {"picture", NOT_SHOWN}
    assert not any(image.any() for image in images_of(hidden))


def test_a_cloud_is_turned_and_coloured_by_a_finding(study, monkeypatch):
    encoder, finding = study.random(0), "Edema"
    test = (study.samples("chexpert").table["split"] == "test").to_numpy()
    positive = int(study.labels("chexpert")[0][test, study.findings_of("chexpert").index(finding)].sum())
    assert 0 < positive < test.sum()
    figure = study.cloud_view({"Random": [encoder]}, "chexpert", "Random", 0, finding, 90)
    (axis,) = figure.axes
    assert [len(part.get_offsets()) for part in axis.collections] == [positive, test.sum() - positive]
    assert axis.azim == 30
    assert study.geometry(encoder, "chexpert") is study.geometry(encoder, "chexpert")
    plt.close(figure)
    monkeypatch.setitem(study._samples, "chexpert", replace(study.samples("chexpert"), private=True))
    hidden = study.cloud_view({"Random": [encoder]}, "chexpert", "Random", 0, finding, 0)
    assert [len(part.get_offsets()) for part in hidden.axes[0].collections] == [test.sum()]
    plt.close(hidden)


def images_of(figure):
    """The pictures and maps of the last panel of a figure, which is closed."""
    found = [np.asarray(image.get_array()) for image in figure.axes[-1].images]
    plt.close(figure)
    return found
