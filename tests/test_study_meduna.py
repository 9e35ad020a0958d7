"""Steps of the MedUnA notebook, on twins of a few dozen pictures and one hardly trained stand-in."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from nbcore.data import load_manifest
from nbcore.errors import UsageError, UserError
from nbcore.protection import NOT_SHOWN
from nbcore.study_adaptation import Outcome
from nbcore.study_meduna import MedUnaStudy

TITLE = "MedCLIP-Swin"
TINY = {
    "adapt_on": ["shenzhen-tb", "idrid"],
    "twin_images": {"shenzhen-tb": 40, "idrid": 60},
    "backbones": {TITLE: {"model": "small_medclip"}},
    "standin_pairs": {"chest": 50, "fundus": 50},
    "standin_stem_epochs": 1,
    "text_iterations": 10,
    "batch_size": 10,
    "lafter": {"epochs": 1, "batch_size": 10, "text_iterations": 10},
    "tpt": {"views": 4, "share": 0.5},
    "threads": 1,
}


def open_study(root, **changes) -> MedUnaStudy:
    return MedUnaStudy.open(
        "meduna", profile="smoke", seed=0, data_root=None, output_root=str(root), overrides={**TINY, **changes}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("meduna")


@pytest.fixture(scope="module")
def study(root):
    before = torch.get_num_threads()
    yield open_study(root)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def outcomes(study):
    return study.outcomes({"Zero-shot": ("zero-shot", {}), "MedUnA": ("meduna", {"epochs": 2})})


def test_outcomes_are_about_the_test_pictures_in_their_order(study, outcomes):
    assert set(outcomes) == {(TITLE, m, d, 0) for m in ("Zero-shot", "MedUnA") for d in TINY["adapt_on"]}
    for (_, method, name, _), run in outcomes.items():
        samples = study.samples(name)
        test = samples.split("test")
        assert np.array_equal(run.test_targets, test.labels().argmax(axis=1))
        assert run.test.shape == (2 if method == "MedUnA" else 1, len(test))
        if method == "MedUnA":
            assert run.valid.shape == (2, len(samples.split("valid")))
            assert run.features.shape == (len(test), study.backbone(TITLE).width)


def test_what_is_adapted_to_has_no_labels(study):
    """The rows that training sees hold pictures and features of the training split, nothing of a class."""
    data = study._unlabelled("meduna", TITLE, "idrid", study.config())
    assert set(data.columns) == {"image", "weak"}
    assert len(data) == len(study.samples("idrid").split("train"))
    assert set(study._unlabelled("lafter", TITLE, "idrid", study.config("lafter")).columns) == {"image", "clean"}
    rotated = study.config(weak_view="rotated")
    assert set(study._unlabelled("meduna", TITLE, "idrid", rotated).columns) == {"image"}


def test_cached_weak_features_are_those_of_the_weak_view(study):
    backbone, name = study.backbone(TITLE), "idrid"
    data = study._unlabelled("meduna", TITLE, name, study.config())
    clean = study.clean(TITLE, name)[study.rows(name, "train")]
    pixels = torch.from_numpy(clean[:5]).permute(0, 3, 1, 2)
    expected = torch.nn.functional.normalize(backbone.image_features(backbone.normalize(pixels)), dim=1)
    np.testing.assert_allclose(data.columns["weak"][:5], expected.numpy(), rtol=1e-4, atol=1e-6)


def test_a_finished_outcome_is_taken_up(study, root, outcomes):
    again = open_study(root)
    again._adapt = None  # would fail
    found = again.outcome("meduna", TITLE, "idrid", 0, epochs=2)
    assert np.array_equal(found.test, outcomes[TITLE, "MedUnA", "idrid", 0].test)
    assert found.history.epochs() == outcomes[TITLE, "MedUnA", "idrid", 0].history.epochs()


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(root, tmp_path, outcomes, monkeypatch):
    """Predictions of the epochs before the interruption are kept."""
    from nbcore import study_adaptation

    first = open_study(tmp_path, checkpoint_seconds=0)
    calls, plain = [], study_adaptation.in_batches

    def die(model, function, pictures):
        calls.append(len(pictures))
        if getattr(function, "__name__", "") == "logits" and len(calls) > 4:
            raise KeyboardInterrupt
        return plain(model, function, pictures)

    monkeypatch.setattr(study_adaptation, "in_batches", die)
    with pytest.raises(KeyboardInterrupt):
        first.outcome("meduna", TITLE, "idrid", 0, epochs=4)
    monkeypatch.undo()
    resumed = open_study(tmp_path).outcome("meduna", TITLE, "idrid", 0, epochs=4)
    whole = open_study(root).outcome("meduna", TITLE, "idrid", 0, epochs=4)
    assert resumed.test.shape == (4, len(whole.test_targets))
    assert np.array_equal(resumed.test, whole.test)
    assert np.array_equal(resumed.features, whole.features)


def test_every_method_leaves_an_outcome_and_moves_nothing_of_the_backbone(study):
    before = {name: tensor.clone() for name, tensor in study.backbone(TITLE).state_dict().items()}
    for method in ("tpt", "lafter"):
        assert study.outcome(method, TITLE, "shenzhen-tb", 0).test.shape == (1, 8)
    study.outcome("meduna", TITLE, "shenzhen-tb", 0, variant="paper")
    after = study.backbone(TITLE).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stage_1_alone_is_the_text_classifier_on_plain_features(study):
    config = study.config()
    texts = study.class_texts("idrid", "rich", config)
    weight = study._text_classifier(TITLE, "idrid", texts, config, 0)
    scores = torch.from_numpy(study.test_features(TITLE, "idrid").copy()) @ weight.T
    assert study.outcome("stage-1", TITLE, "idrid", 0).predictions.tolist() == scores.argmax(dim=1).tolist()


def test_accuracies_of_epochs():
    valid, test = np.array([[0, 1], [1, 1], [1, 1]]), np.array([[0, 0, 0], [1, 1, 0], [1, 1, 1]])
    run = Outcome(valid, test, np.array([1, 1]), np.array([1, 1, 0]))
    assert run.curve.tolist() == pytest.approx([1 / 3, 1, 2 / 3])
    assert run.chosen == 1  # the first of the best on validation data
    assert run.predictions.tolist() == [1, 1, 1]
    assert Outcome(np.zeros((1, 0)), test[:1], np.zeros(0), np.array([1, 1, 0])).chosen == 0


def test_tables(study, outcomes):
    table = study.accuracies(outcomes)
    assert len(table) == 4
    assert (table["best"] >= table[["accuracy", "chosen"]].max(axis=1)).all()
    assert table["commonest"].between(0.2, 1).all()
    assert set(study.references()["method"]) == {"Commonest class", "Linear probe, all labels"}
    assert study.separation(outcomes, "MedUnA")[["before", "after"]].abs().to_numpy().max() <= 1
    texts = study.text_accuracies(TITLE, study.description_sets)
    assert set(texts["source"]) == {"rich", "generic"}
    assert texts["text"].between(0, 1).all()


def test_alignment_looks_at_the_descriptions_of_the_asked_set(study, outcomes):
    found = study.alignment(outcomes, TITLE, "idrid", "generic", prompted=False)
    assert found.ks.tolist() == list(range(1, 11))
    assert np.all(np.diff(found.hit) >= 0)
    prompted = study.alignment(outcomes, TITLE, "idrid", "generic", prompted=True)
    assert not np.array_equal(prompted.precision, found.precision)


def test_stage_1_learns_from_descriptions_and_templates(study):
    with_templates, owners = study.class_texts("idrid", "generic", study.config())
    alone, _ = study.class_texts("idrid", "generic", study.config(text_templates=False))
    assert len(with_templates) == len(alone) + 7 * 5 == len(owners)
    assert np.bincount(owners).tolist() == [19] * 5
    wrapped, _ = study.class_texts("idrid", "generic", study.config(text_wrap=True))
    assert wrapped[0] == f"a photo of a {with_templates[0]} {load_manifest('idrid').modality}"


def test_prompts_speak_plainly(study, root):
    assert study.class_prompts("shenzhen-tb") == [
        "a photo of a normal chest radiograph", "a photo of a tuberculosis chest radiograph",
    ]  # fmt: skip
    assert open_study(root, template="{phrase}").class_prompts("shenzhen-tb") == ["normal", "tuberculosis"]


def test_descriptions_of_ones_own(root, tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"NORMAL": ["Clear lungs."], "TB": ["A cavity.", "Miliary nodules."]}))
    own = open_study(root, adapt_on=["shenzhen-tb"], descriptions=str(path))
    assert own.description_sets == [str(path), "generic"]
    texts, owners = own.descriptions("shenzhen-tb", str(path))
    assert texts == ["Clear lungs.", "A cavity.", "Miliary nodules."]
    assert owners.tolist() == [0, 1, 1]
    path.write_text(json.dumps({"NORMAL": ["Clear lungs."]}))
    with pytest.raises(UserError, match="no class 'TB'"):
        own.outcome("meduna", TITLE, "shenzhen-tb", 0)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"template": "a photo of a {name}"}, "template"),
        ({"template": "a photo"}, "phrase"),
        ({"standin_pairs": {"brain": 10}}, "'brain'"),
        ({"lafter": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"tpt": {"share": 2}}, "tpt: share"),
        ({"backbones": {TITLE: {"model": "medclip"}}}, "medclip"),
        ({"backbones": {TITLE: {"model": "clip_vit_b32"}}}, "needs its published weights"),
    ],
)
def test_wrong_settings_get_one_sentence(tmp_path, changes, told):
    with pytest.raises((UsageError, UserError), match=told) as caught:
        study = open_study(tmp_path, **changes)
        study.outcome("tpt", TITLE, "shenzhen-tb", 0)
        study.outcome("lafter", TITLE, "shenzhen-tb", 0)
    assert "\n" not in str(caught.value)


def test_a_standin_steps_in_where_that_is_wanted(root, capsys):
    study = open_study(root, backbones={TITLE: {"model": "medclip_swin"}}, standin_fallback=True)
    assert study.standins() == [TITLE]
    assert "Falling back on a stand-in" in capsys.readouterr().out
    assert study.backbone_key(TITLE) == open_study(root).backbone_key(TITLE)


def test_the_official_variant_reaches_the_backbone(root):
    """Its prompt layout and pixels; what a backbone makes of pictures is kept apart by them."""
    ours, official = open_study(root), open_study(root, variant="official", epochs=1)
    assert ours.backbone(TITLE).prompt_layout == "border"
    assert official.backbone(TITLE).prompt_layout == "official"
    assert official.backbone(TITLE).mean != ours.backbone(TITLE).mean
    assert not np.array_equal(ours.features(TITLE, "idrid"), official.features(TITLE, "idrid"))
    assert official.config("lafter").prompt_layout == "official"
    assert official.outcome("meduna", TITLE, "shenzhen-tb", 0).test.shape == (1, 8)


def test_scores_are_what_the_answers_were_given_by(study, outcomes):
    methods = {"Stage 1": ("stage-1", {}), "LaFTer": ("lafter", {}), "TPT": ("tpt", {})}
    for (_, method, name, _), run in {**outcomes, **study.outcomes(methods)}.items():
        if method == "TPT":
            assert run.scores is None
            continue
        assert run.scores.shape == (len(run.test_targets), len(load_manifest(name).classes))
        assert np.array_equal(run.scores.argmax(axis=1), run.predictions), (method, name)


def test_a_test_picture_stands_beside_what_each_method_holds_for_probable(study, outcomes, monkeypatch):
    name, number = "idrid", study.test_numbers("idrid")[-1]
    samples = study.samples(name).split("test")
    assert number + 1 == len(samples)
    figure = study.opinions_view(outcomes, TITLE, name, number, 0)
    shown, *panels = figure.axes
    assert shown.get_title() == samples.classes[samples.labels()[number].argmax()].replace("_", " ")
    assert [axis.get_title() for axis in panels] == ["Zero-shot", "MedUnA"]
    for axis in panels:
        widths = [bar.get_width() for bar in axis.patches[: len(samples.classes)]]
        assert sum(widths) == pytest.approx(100, abs=1e-3)
        assert np.argmax(widths) == outcomes[TITLE, axis.get_title(), name, 0].predictions[number]
    plt.close(figure)
    monkeypatch.setitem(study._samples, name, replace(study.samples(name), private=True))
    hidden = study.opinions_view(outcomes, TITLE, name, number, 0)
    assert [axis.get_title() for axis in hidden.axes] == [NOT_SHOWN]
    assert not hidden.axes[0].images[0].get_array().any()
    plt.close(hidden)
