"""Steps of a study in two languages, on twins of a few dozen pictures."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from nbcore.analysis.language_figures import tokenisation_figure, zero_shot_pipeline
from nbcore.data.spanish import stemmed
from nbcore.errors import UsageError, UserError
from nbcore.protection import NOT_SHOWN
from nbcore.study import Study

TINY = {
    "twin_images": {"mimic-cxr": 100, "padchest": 120, "chexpert": 60, "siim-acr": 120, "chexlocalize": 60},
    "probe_on": ["chexpert"],
    "segment_on": ["siim-acr"],
    "detect_on": [],
    "zero_shot_on": ["chexlocalize"],
    "point_on": ["siim-acr"],
    "standin_width": 32,
    "new_words": 40,
    "batch_size": 16,
    "threads": 1,
}


def open_study(root, **changes) -> Study:
    return Study.open(
        "med_unic", profile="smoke", seed=0, data_root=None, output_root=str(root), overrides={**TINY, **changes}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("languages")


@pytest.fixture(scope="module")
def study(root):
    before = torch.get_num_threads()
    yield open_study(root)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(study):
    return study.pretrain(0)


def test_a_method_learns_from_the_pairs_of_its_languages(study, root):
    english, spanish = (study.learnt_pairs(study.config(languages=[language])) for language in ("en", "es"))
    both = study.learnt_pairs(study.config())
    assert set(english.table["language"]) == {"en"}
    assert set(spanish.table["language"]) == {"es"}
    assert len(both) == len(english) + len(spanish)
    assert study.learnt_pairs(study.config("mgca")) is study.pairs  # the English ones
    assert sorted(study.pairs.table["report"]) == sorted(english.table["report"])
    few = open_study(root, pairs_each=7).learnt_pairs(study.config())
    assert few.table["language"].value_counts().to_dict() == {"en": 7, "es": 7}


def test_pictures_and_reports_of_both_languages_stay_together(study):
    pairs = study.learnt_pairs(study.config())
    images = study.images(pairs)
    for name in study.settings.pair_sets:
        own = study.samples(name)
        rows = {f"{name}/{p}/{s}": i for i, (p, s) in enumerate(zip(own.table["patient"], own.table["study"]))}
        for row in np.flatnonzero(pairs.table["patient"].str.startswith(f"{name}/"))[::9]:
            patient, visit = (pairs.table[key].iloc[row].removeprefix(f"{name}/") for key in ("patient", "study"))
            i = rows[f"{name}/{patient}/{visit}"]
            assert own.table["report"].iloc[i] == pairs.table["report"].iloc[row]
            assert np.array_equal(images[row], study.images(own)[i])


def test_no_test_picture_is_learnt_from(study, root):
    study.assert_unseen()
    with pytest.raises(UserError, match="mimic-cxr"):
        other = open_study(root, zero_shot_on=["mimic-cxr"])
        other.samples("mimic-cxr").table.loc[:, "split"] = "test"
        other._pairs_of = lambda name, part: study._pairs_of(name, part)
        other.assert_unseen()


def test_pairs_of_a_language_that_is_not_there_are_asked_for_in_one_sentence(root):
    alone = open_study(root, pretrain_also=[])
    with pytest.raises(UsageError, match=r"none of mimic-cxr has reports in es: see pretrain_also\.$"):
        alone.texts("es", "train")


def test_the_language_stage_adds_spanish_words_and_keeps_english_ones(study):
    base, extended = (study.text_encoder(study.config(mlm=mlm)) for mlm in (False, True))
    assert len(extended.tokenizer) == len(base.tokenizer) + 40
    spanish = study.pieces_per_word(study.config(), "es")
    assert 1 <= spanish < study.pieces_per_word(study.config(mlm=False), "es")
    assert study.masked_loss("es") > 0
    before, after, new = study.tokenisation()
    assert len(after) < len(before)
    assert any(new)


def test_the_language_stage_reads_all_reports_to_learn_from(study):
    """Those of three words or more, whichever section they have; none of a patient that is held out."""
    for language, name in {"en": "mimic-cxr", "es": "padchest"}.items():
        reports = study.samples(name).split("train").table["report"].tolist()
        assert study._learnt(language) == [report for report in reports if len(report.split()) >= 3]
    assert study.settings.corpus == {}


def test_held_out_reports_are_balanced_and_not_learnt_from(study):
    reports = study.held_out_reports(20)
    assert reports["language"].value_counts().nunique() == 1
    learnt = {text for language in ("en", "es") for text in study.texts(language, "train")["document"]}
    assert not learnt & set(reports["document"])


def test_biases_of_texts_and_pictures(study, encoder):
    found = study.biases({"MLM": ["MLM"], "CTR": ["CTR"], "Med-UniC": [encoder]}, {"Med-UniC": [encoder]})
    text, image = found[found["modality"] == "text"], found[found["modality"] == "image"]
    assert text["embedding"].tolist() == ["MLM", "CTR", "Med-UniC"]
    assert text[["probe", "silhouette", "en_to_es", "es_to_en"]].notna().all(axis=None)
    assert image[["probe", "silhouette"]].notna().all(axis=None)
    assert found["probe"].between(0, 1).all()


def test_training_moves_the_language_model(study, encoder):
    texts = study.held_out_reports(5)["text"].tolist()
    states = {model: study.report_states(model, texts, 0) for model in ("base", "MLM", "CTR")}
    states["Med-UniC"] = study.report_states(encoder, texts, 0)
    for first, second in zip(list(states), [*states][1:]):
        assert not np.allclose(states[first], states[second], atol=1e-3), (first, second)
    assert np.allclose(states["MLM"], study.report_embeddings(texts, study.config()), atol=1e-5)


def test_zero_shot_reads_prompts_in_both_languages(study, encoder, monkeypatch):
    runs = study.zero_shot_all({"Med-UniC": [encoder]})
    assert runs["language"].tolist() == ["en", "es"]
    assert runs[["auc", "f1"]].apply(lambda values: values.between(0, 1)).all(axis=None)
    assert runs["auc"].nunique() == 2

    read = []
    method = study.load_method(encoder)
    tokenize = method.text.tokenize
    monkeypatch.setattr(method.text, "tokenize", lambda texts, length: read.extend(texts) or tokenize(texts, length))
    study._prompts(method, ["No hay neumotórax"], "es")
    study._prompts(method, ["No pneumothorax"], "en")
    assert read == [stemmed("No hay neumotórax"), "No pneumothorax"]


def test_a_finding_without_positives_among_the_test_pictures_is_not_judged(study, encoder):
    labels, scores, findings = study.zero_shot_scores(encoder, "chexlocalize", "en")
    assert labels.shape == scores.positive.shape == (60, len(findings))
    assert (labels.max(axis=0) == 1).all()
    assert (labels.min(axis=0) == 0).all()


def test_an_example_has_the_cosines_of_its_picture(study, encoder):
    picture, rows = study.zero_shot_example(encoder, "chexlocalize")
    assert picture.shape == (56, 56)
    assert [row[0] for row in rows] == ["English", "Spanish"]
    labels, scores, _ = study.zero_shot_scores(encoder, "chexlocalize", "en")
    first = int(np.where(labels.any(axis=1), labels.sum(axis=1), 99).argmin())
    assert rows[0][2] == pytest.approx(float(scores.positive[first, labels[first].argmax()]))
    assert rows[0][4] == pytest.approx(float(scores.negative[first, labels[first].argmax()]))


def test_terms_point_in_both_languages(study, encoder):
    games, agreement = study.term_pointing_all([encoder], ["siim-acr"])
    assert games["language"].tolist() == ["en", "es"]
    assert games[["hits", "chance"]].apply(lambda values: values.between(0, 1)).all(axis=None)
    assert agreement[["agreement", "mismatched"]].apply(lambda values: values.between(-1, 1)).all(axis=None)
    maps = study.term_maps(encoder, "siim-acr", "en", 3)
    assert maps.maps.shape == maps.outlines.shape == maps.pictures.shape
    assert maps.outlines.any(axis=(1, 2)).all()


def test_nothing_of_private_data_is_shown(study, encoder, monkeypatch):
    for name in ("padchest", "chexlocalize", "siim-acr"):
        monkeypatch.setitem(study._samples, name, replace(study.samples(name), private=True))
    assert study.tokenisation() == ([], [], [])
    tokenisation_figure(*study.tokenisation())
    picture, rows = study.zero_shot_example(encoder, "chexlocalize")
    assert not picture.any()
    assert rows == []
    zero_shot_pipeline(picture, rows)
    found = study.term_maps(encoder, "siim-acr", "en", 2)
    assert found.pictures.shape == found.outlines.shape == found.maps.shape
    assert not any(part.any() for part in (found.pictures, found.outlines, found.maps))
    outlined = study.outlined_gallery("siim-acr", 2)
    assert not any(image.get_array().any() for axis in outlined.axes for image in axis.images)
    assert study.readable_reports(2, "padchest") == [NOT_SHOWN]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"corpus": {"en": "openi"}}, "twins bring their own reports"),
        ({"corpus": {"en": "opeani"}, "source": "real"}, r"unknown collection 'opeani' \(did you mean 'openi'"),
        ({"corpus": {"es": "openi"}, "source": "real"}, "openi is in 'en', not in 'es'"),
        ({"trained_layers": 0}, "both views of a report are the same"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(root, changes, told):
    with pytest.raises(UsageError, match=told):
        open_study(root, **changes)


def test_a_misspelt_change_of_a_configuration_is_one_sentence(study, root):
    with pytest.raises(UsageError, match=r"med_unic: .*vison"):
        study.config(vison="tiny_vit")
    with pytest.raises(UsageError, match=r"segmentation: .*epcohs"):
        open_study(root, segmentation={"epcohs": 1})._task_config("segmentation", "siim-acr", 1.0)


def test_published_decoder_settings_are_the_papers_own(root):
    """App. D: decoders in batches of 4, 100 epochs on SIIM, 50 on RSNA; patience and a rate for 1 % are the code's."""
    study = open_study(root, segmentation={}, detection={})
    for name, epochs in {"siim-acr": 100, "rsna-pneumonia": 50}.items():
        for fraction in (0.01, 0.1, 1.0):
            found = study._task_config("segmentation", name, fraction)
            assert (found.optimizer, found.learning_rate, found.weight_decay) == ("adamw", 5e-4, 1e-8)
            assert (found.batch_size, found.epochs, found.patience) == (4, epochs, 20)
    for name in ("rsna-pneumonia", "object-cxr"):
        for fraction in (0.01, 0.1, 1.0):
            found = study._task_config("detection", name, fraction)
            assert (found.optimizer, found.weight_decay, found.batch_size, found.patience) == ("adamw", 1e-6, 4, 40)
            assert found.learning_rate == (2.5e-4 if (name, fraction) == ("object-cxr", 0.01) else 5e-4)


def test_a_models_key_tells_all_that_it_was_made_from(study, root):
    """Not only its size and its first and last bytes."""
    one, other = study.aligned_texts(0), open_study(root, tt_weight=0.0).aligned_texts(0)
    assert study.weights_key(one) != study.weights_key(other)
    assert study.weights_key(one) == study.weights_key(study.aligned_texts(0))


def test_a_prompt_of_ones_own_is_looked_for_in_a_picture_of_ones_choice(study, encoder, monkeypatch):
    method, name = study.load_method(encoder), "siim-acr"
    number = study.outlined_numbers(name)[-1]
    english, spanish = (study.term_of(language, name) for language in ("en", "es"))
    figure = study.prompt_view(method, name, number, english, spanish)
    for axis, language in zip(figure.axes[1:], ("en", "es"), strict=True):
        known = study.term_maps(encoder, name, language)
        picture, heat = (np.asarray(image.get_array()) for image in axis.images)
        assert np.array_equal(picture, known.pictures[number])
        np.testing.assert_allclose(heat, known.maps[number], rtol=1e-3, atol=1e-3)
    plt.close(figure)
    alone = study.prompt_view(method, name, number, " ", "corazón")
    assert [axis.get_title() for axis in alone.axes] == ["picture", "Spanish: corazón"]
    plt.close(alone)
    with pytest.raises(UserError, match=r"type a prompt in English or in Spanish\.$"):
        study.prompt_view(method, name, number, "", " ")
    monkeypatch.setitem(study._samples, name, replace(study.samples(name), private=True))
    hidden = study.prompt_view(method, name, number, english, spanish)
    assert not any(np.asarray(image.get_array()).any() for axis in hidden.axes for image in axis.images)
    assert {axis.get_title() for axis in hidden.axes} == {"picture", NOT_SHOWN}
    plt.close(hidden)


@pytest.mark.parametrize(
    ("corpus", "told"), [({}, "the pairs' own"), ({"es": "padchest"}, "the pairs' own and padchest")]
)
def test_whose_reports_they_are_is_told_once(corpus, told):
    study = SimpleNamespace(settings=SimpleNamespace(corpus=corpus))
    assert Study.text_source.fget(study) == told
