"""Steps of the K-MaT notebook, on twins of a few dozen pictures and one hardly trained stand-in."""

import json
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from nbcore.analysis.prompt_figures import transport_view
from nbcore.data import images, load_manifest
from nbcore.errors import UsageError, UserError
from nbcore.study_kmat import ABLATION, KMatStudy
from nbcore.tasks.classification import accuracy_of

TINY = {
    "pairs": {
        "Skin": {"high": "derm7pt/dermoscopy", "low": "derm7pt/clinical"},
        "Breast": {"high": "dmid", "low": "busi"},
    },
    "twin_images": {"derm7pt": 120, "dmid": 60, "busi": 60},
    "standin_pairs": {"skin": 50, "mammography": 50},
    "shots": 2,
    "epochs": 2,
    "descriptions_each": 3,
    "threads": 1,
}
METHODS = {
    "BiomedCLIP": ("zero-shot", {}),
    "CoOp": ("coop", {}),
    "CoCoOp": ("cocoop", {}),
    "KgCoOp": ("kgcoop", {}),
    "BiomedCoOp": ("biomedcoop", {}),
    "K-MaT": ("kmat", {}),
}


def open_study(root, **changes) -> KMatStudy:
    return KMatStudy.open(
        "kmat", profile="smoke", seed=0, data_root=None, output_root=str(root), overrides={**TINY, **changes}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("kmat")


@pytest.fixture(scope="module")
def read(root):
    """Paths of all pictures that are decoded, in order."""
    paths, decode = [], images.read_image

    def noted(path, *arguments, **options):
        paths.append(Path(path))
        return decode(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "read_image", noted)
        yield paths


@pytest.fixture(scope="module")
def learnt(root, read):
    """A study whose prompts are learnt, and what it had read by then."""
    before = torch.get_num_threads()
    study = open_study(root)
    found = study.learn(METHODS)
    yield study, found, list(read)
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tested(learnt):
    study, found, _ = learnt
    study.begin_final_test()
    return study, {side: study.answers(found, side) for side in ("high", "low")}


def test_low_end_pictures_are_not_read_before_the_final_test(learnt, root):
    _, _, read = learnt
    study = open_study(root)
    low = {path for pair in study.settings.pairs.values() for path in study.samples(pair.low).image_paths()}
    high = {path for pair in study.settings.pairs.values() for path in study.samples(pair.high).image_paths()}
    assert read and set(read) <= high
    assert not set(read) & low


def test_sealed_pictures_are_refused_whoever_asks(learnt, root):
    study = open_study(root)
    for name in ("derm7pt/clinical", "busi", "derm7pt"):
        with pytest.raises(RuntimeError, match="final test"):
            study.features(study.title, name)
        with pytest.raises(RuntimeError, match="final test"):
            study.clean(study.title, name)
        with pytest.raises(RuntimeError, match="final test"):
            study.gallery(name)
    assert len(study.features(study.title, "dmid")) == 60


def test_what_is_learnt_does_not_depend_on_the_low_end(learnt, root):
    """With other low-end pictures the very stages are taken up."""
    _, found, _ = learnt
    other = open_study(root, twin_images={**TINY["twin_images"], "busi": 40})
    again = other.prompts("kmat", "Breast", 0)
    assert again.learner == found["K-MaT", "Breast", 0].learner


def test_prompts_of_each_method(learnt):
    study, found, _ = learnt
    assert set(found) == {(method, pair, 0) for method in METHODS for pair in TINY["pairs"]}
    for (method, pair, _), prompts in found.items():
        assert (prompts.history is None) == (method == "BiomedCLIP")
        if method == "CoCoOp":
            assert prompts.texts is None
            continue
        classes = len(study.classes(pair))
        assert prompts.texts.shape == (2, classes, study.backbone(study.title).width)
        np.testing.assert_allclose(prompts.texts.norm(dim=-1), 1, rtol=1e-5)
        assert torch.equal(*prompts.texts) == (method != "K-MaT")


def test_few_shots_are_learnt_from(learnt):
    study, found, _ = learnt
    train, valid = study.shots("Skin", 0)
    side = "derm7pt/dermoscopy"
    assert set(study.samples(side).table["split"][train]) == {"train"}
    assert set(study.samples(side).table["split"][valid]) == {"valid"}
    np.testing.assert_array_equal(np.bincount(study.targets(side)[train]), [2] * 5)
    assert len(found["K-MaT", "Skin", 0].history) == 2 * (10 // 4)


def test_rates_of_the_protocol(learnt):
    _, found, _ = learnt
    for method in ("CoOp", "K-MaT"):
        assert found[method, "Breast", 0].history.values["lr"] == pytest.approx([1e-5, 2.5e-3])


def test_answers_by_hand(tested, learnt):
    study, answers = tested
    _, found, _ = learnt
    for side, name in (("high", "dmid"), ("low", "busi")):
        features = study.features(study.title, name)[study.rows(name, "test")]
        texts = found["K-MaT", "Breast", 0].texts[int(side == "low")].numpy()
        np.testing.assert_array_equal(answers[side]["K-MaT", "Breast", 0], (features @ texts.T).argmax(axis=1))


def test_prompts_that_follow_the_picture_are_taken_up_from_disk(tested, learnt):
    study, answers = tested
    _, found, _ = learnt
    learner = study.learner("cocoop", "Breast", study.config("cocoop"), seed=0)
    fresh = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.load_state_dict(load_file(found["CoCoOp", "Breast", 0].learner))
    assert any(not torch.equal(value, fresh[name]) for name, value in learner.state_dict().items())
    images = torch.from_numpy(np.array(study.features(study.title, "busi")[study.rows("busi", "test")]))
    with torch.no_grad():
        expected = learner.scores(images).argmax(dim=1).numpy()
    np.testing.assert_array_equal(answers["low"]["CoCoOp", "Breast", 0], expected)


def test_accuracies_and_both_harmonic_means(tested):
    study, answers = tested
    scores = study.accuracies(answers).set_index(["method", "dataset", "setting"])
    truth = study.targets("busi", "test")
    low = scores.loc["CoOp", "Breast", "Lo"]
    assert low["accuracy"] == accuracy_of(truth, answers["low"]["CoOp", "Breast", 0])
    high = scores.loc["CoOp", "Breast", "Hi"]
    both = 2 * high["accuracy"] * low["accuracy"] / max(high["accuracy"] + low["accuracy"], 1e-9)
    assert scores.loc["CoOp", "Breast", "H"]["accuracy"] == pytest.approx(both)
    runs = pd.DataFrame(
        {
            "method": "K-MaT",
            "dataset": "Skin",
            "seed": [0, 0, 0, 1, 1, 1],
            "setting": ["Hi", "Lo", "H"] * 2,
            "accuracy": [0.2, 0.6, 0.3, 0.6, 0.2, 0.3],
            "f1": 0.5,
        }
    )
    found = study.harmonic_means(runs)
    assert found[["setting", "accuracy", "f1"]].values.tolist() == [["H", pytest.approx(0.4), pytest.approx(0.5)]]
    assert study.both_ends(runs)[["seed", "high", "low"]].values.tolist() == [[0, 20, 60], [1, 60, 20]]


def test_high_end_validation_is_blind_to_the_weight_of_transport(root):
    """The gap of the paper's protocol: what differs in fgw_weight alone has one high-end prompt."""
    study = open_study(root)
    found = study.learn({f"{w}": ("kmat", {"fgw_weight": w}) for w in (0.0, 10.0)}, ["Breast"])
    high = [prompts.texts[0] for prompts in found.values()]
    low = [prompts.texts[1] for prompts in found.values()]
    assert torch.equal(*high) and not torch.equal(*low)
    assert len(set(study.validation(found)["accuracy"])) == 1


def test_rows_of_the_ablation_are_valid_and_distinct(learnt):
    study, _, _ = learnt
    configs = {row: study.config(**changes).model_dump_json() for row, changes in ABLATION.items()}
    assert len(set(configs.values())) == 8


def test_table_3_has_means_over_the_pairs_and_gains_on_row_1():
    scores = pd.DataFrame(
        {"method": m, "dataset": d, "seed": s, "setting": setting, "accuracy": v, "f1": v / 2}
        for m, v in (("row 1", 0.4), ("row 8", 0.5), ("CoOp", 0.9))
        for d in "AB"
        for s in (0, 1)
        for setting in ("Hi", "Lo", "H")
    )
    table = KMatStudy.ablation_table(scores)
    assert set(table["method"]) == {"row 1", "K-MaT"} and len(table) == 2 * 2 * (3 * 2 + 2)
    whole = table[table["method"] == "K-MaT"].groupby(["setting", "metric"])["value"].mean()
    assert whole["Hi", "ACC (%)"] == pytest.approx(50) and whole["H", "F1 (%)"] == pytest.approx(25)
    assert whole["H", "relative gain in ACC (%)"] == pytest.approx(25)


def test_structure_traces_and_couplings(learnt):
    study, found, _ = learnt
    assert set(study.structure(found)["method"]) == set(METHODS) - {"CoCoOp"}
    trace = study.traces(found, "K-MaT")["Skin"]
    assert len(trace) == 2 and all(0 < value <= 1 for value in trace)
    for plan in study.couplings("Skin", found["K-MaT", "Skin", 0]).values():
        np.testing.assert_allclose(plan.sum(), 1, atol=1e-6)


def test_sides_with_other_classes_are_one_sentence(root):
    with pytest.raises(UsageError, match=r"classes of dmid \(benign, .*\) are not those of cc-ccii \(COVID-19, "):
        open_study(root, pairs={"odd": {"high": "dmid", "low": "cc-ccii"}})


def test_no_prompt_is_learnt_once_the_final_test_has_begun(tested):
    study, _ = tested
    with pytest.raises(RuntimeError, match="no prompt is learnt"):
        study.learn({"K-MaT": ("kmat", {})})


def test_a_picture_of_both_ends_is_refused(learnt, root, monkeypatch):
    study = open_study(root)
    monkeypatch.setattr(type(study.samples("busi")), "contents", ["same"] * 120)
    with pytest.raises(UserError, match="is among the pictures of derm7pt/dermoscopy that were learnt from"):
        study.begin_final_test()


def test_rivals_are_trained_like_kmat_or_by_their_own_variant(root):
    study = open_study(root, learning_rate=0.02, clip_norm=1.0)
    assert (study.config("coop").learning_rate, study.config("coop").clip_norm) == (0.02, 1.0)
    own = open_study(root, baselines={"coop": {"variant": "official"}, "kgcoop": {"variant": "paper", "epochs": 7}})
    coop, kgcoop = own.config("coop"), own.config("kgcoop")
    assert (coop.epochs, coop.batch_size, coop.augmentation, coop.context_init) == (100, 32, "crop", "a photo of a")
    assert (kgcoop.epochs, kgcoop.batch_size, kgcoop.distance) == (7, 128, "euclidean")


def test_a_batch_is_never_larger_than_the_shots(root):
    study = open_study(root)
    history = study.prompts("kgcoop", "Breast", 0, batch_size=128).history
    assert len(history) == 2 and history.steps_per_epoch == 1


def test_closer_classes_have_a_more_uniform_coupling(learnt):
    study, found, _ = learnt
    table = study.closeness(found["K-MaT", "Skin", 0])
    entropic = table[table["solver"] == "entropic"].sort_values("cosine")["diagonal"].to_numpy()
    assert entropic[-1] < entropic[0] and abs(entropic[-1] - 1 / 5) < 0.05
    assert (table["diagonal"] <= 1 + 1e-9).all()


def test_pairs_of_two_classes_have_no_structure_to_keep(learnt, monkeypatch):
    study, found, _ = learnt
    assert len(study.structure(found))
    monkeypatch.setattr(study, "classes", lambda pair: ("a", "b"))
    assert study.structure(found).empty


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pairs": {"odd": {"high": "dmid", "low": "dmid"}}}, "dmid is the low end of one pair and the high end"),
        ({"descriptions": "mine.json"}, "would give both modalities the same text; name a folder"),
        ({"fgw_weight": 0.0}, "set ablation false, or the weights above 0"),
        ({"weights_tried": [-1.0]}, "greater than or equal to 0"),
        ({"factorized": True, "modality_specific": False}, "set modality_specific, too"),
        ({"baselines": {"coop": {"epochs": 0}}}, "baselines.coop: epochs"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(root, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        open_study(root, **changes)


@pytest.mark.parametrize("side", ["derm7pt", "derm7pt/dermoscpy", "busi/clinical"])
def test_an_unknown_modality_is_one_sentence(root, side):
    with pytest.raises(UsageError, match=f"there is no modality '{side}'"):
        open_study(root, pairs={"odd": {"high": side, "low": "busi"}})


def test_a_class_without_descriptions_is_one_sentence(root, tmp_path):
    for name in ("dmid", "busi"):
        classes = load_manifest(name).classes[: 3 if name == "busi" else 2]
        (tmp_path / f"{name}.json").write_text(json.dumps({label: ["A sentence."] for label in classes}))
    study = open_study(root, descriptions=str(tmp_path))
    with pytest.raises(UserError, match=r"dmid\.json has no class 'normal': add it"):
        study.prompts("kmat", "Breast", 0)


def test_fewer_images_than_shots_is_told_and_goes_on(root):
    study = open_study(root, shots=30)
    told = study.scarce()
    assert any("fewer than 30 shots; all of them are learnt from" in sentence for sentence in told)
    assert len(study.shots("Breast", 0)[0]) == min(90, (study.rows("dmid", "train")).sum())


def test_an_unknown_key_of_a_baseline_names_its_nearest(root):
    with pytest.raises(UsageError, match=r"unknown key 'context_lenth' \(did you mean 'context_length'"):
        open_study(root, baselines={"coop": {"context_lenth": 3}})


def test_cropped_pictures_are_learnt_from_where_asked_for(root):
    study = open_study(root, augmentation="crop")
    prompts = study.prompts("coop", "Breast", 0)
    assert prompts.texts.shape[0] == 2


def test_a_coupling_is_drawn_beside_the_costs_it_was_found_for(learnt):
    study, found, _ = learnt
    sharp, smooth = (study.transport(found, "Skin", "entropic", epsilon, 0) for epsilon in (1e-3, 10.0))
    high, low = found["K-MaT", "Skin", 0].texts.double().numpy()
    np.testing.assert_allclose(sharp.between, np.square(high[:, None] - low).sum(axis=2), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(sharp.low, np.linalg.norm(low[:, None] - low, axis=2), rtol=1e-5, atol=1e-6)
    count = len(sharp.classes)
    for plan in (sharp.coupling, smooth.coupling):
        np.testing.assert_allclose(plan.sum(axis=0), 1 / count, rtol=1e-3)
    np.testing.assert_allclose(smooth.coupling, 1 / count**2, rtol=0.2)
    assert np.ptp(sharp.coupling) > np.ptp(smooth.coupling)
    chosen = {"pair": "Skin", "solver": "exact", "epsilon": 0.1, "seed": 0}
    figure = transport_view(partial(study.transport, found), **chosen)
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    exact = study.couplings("Skin", found["K-MaT", "Skin", 0])["exact"]
    np.testing.assert_allclose(drawn[-1], count * exact)
    np.testing.assert_allclose(drawn[2], sharp.between)
    plt.close(figure)
