"""The phantom's latent state: determinism, patients, prevalence, labels."""

import numpy as np
import pytest

from nbcore.data.phantom import world
from nbcore.errors import UsageError


def test_a_study_depends_on_seed_hospital_and_index_alone():
    together = world.sample_studies(0, range(30))
    assert world.sample_studies(0, [17, 3]) == [together[17], together[3]]
    assert world.sample_studies(1, [3]) != [together[3]]
    south = world.sample_studies(0, [3], hospital="south")[0]
    assert south.anatomy != together[3].anatomy


def test_patients_own_one_to_four_studies_and_keep_their_body_and_chronic_findings():
    studies = world.sample_studies(0, range(2000))
    owned = {}
    for study in studies:
        owned.setdefault(study.patient, []).append(study)
    assert sorted({len(group) for group in owned.values()}) == [1, 2, 3, 4]
    for group in owned.values():
        assert [study.study for study in group] == list(range(len(group)))
        assert len({(study.anatomy, study.sex, study.age) for study in group}) == 1
        assert len({study.find("cardiomegaly") for study in group}) == 1
        assert len({study.acquisition for study in group}) == len(group)


def test_prevalence_is_the_marginal_probability_and_relatives_co_occur():
    studies = world.sample_studies(0, range(3000), prevalence=world.only(effusion=0.2, edema=0.1, mass=0.1))
    present = {name: column.astype(bool) for name, column in world.labels(studies).items()}
    assert present["effusion"].mean() == pytest.approx(0.2, abs=0.03)
    assert present["mass"].mean() == pytest.approx(0.1, abs=0.025)
    assert not present["fracture"].any()
    assert present["effusion"][present["edema"]].mean() > 1.5 * present["effusion"].mean()
    assert present["effusion"][present["mass"]].mean() < 1.5 * present["effusion"].mean()


def test_default_prevalences_are_those_of_a_hospital():
    studies = world.sample_studies(0, range(2000))
    for name, column in world.labels(studies).items():
        assert 0.008 < column.mean() < 0.32, name
    assert 0.15 < world.label_matrix(studies, ["No Finding"]).mean() < 0.45


def test_pneumonia_is_also_what_it_looks_like():
    studies = world.sample_studies(0, range(200), prevalence=world.only(pneumonia=1))
    matrix = world.label_matrix(studies, ["Pneumonia", "Consolidation", "Infiltration", "Lung Opacity", "No Finding"])
    assert (matrix[:, 0] == 1).all() and (matrix[:, 3] == 1).all() and (matrix[:, 4] == 0).all()
    assert (matrix[:, 1] + matrix[:, 2] == 1).all()
    kinds = {study.find("pneumonia").kind for study in studies}
    assert kinds == {"bacterial", "viral"}


def test_label_matrix_knows_both_vocabularies():
    studies = world.sample_studies(0, range(50))
    chexpert = [
        "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
        "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
        "Support Devices",
    ]  # fmt: skip
    nih = [
        "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
        "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
    ]  # fmt: skip
    matrix = world.label_matrix(studies, [*chexpert, *nih])
    assert matrix.shape == (50, 28) and matrix.dtype == np.float32
    assert (matrix[:, chexpert.index("Pleural Effusion")] == matrix[:, 14 + nih.index("Effusion")]).all()
    with pytest.raises(UsageError, match="'Pleural effusion'"):
        world.label_matrix(studies, ["Pleural effusion"])


def test_devices_are_no_disease():
    studies = world.sample_studies(0, range(20), prevalence=world.only(support_devices=1))
    assert (world.label_matrix(studies, ["No Finding", "Support Devices"]) == 1).all()


def test_options_narrow_views_and_ages():
    studies = world.sample_studies(0, range(100), views=("PA",), age_range=(1, 5))
    assert {study.view for study in studies} == {"PA"}
    assert {study.age for study in studies} <= set(range(1, 6))
    assert all(study.anatomy.breast == 0 for study in studies)
    assert {study.view for study in world.sample_studies(0, range(100))} == {"PA", "AP", "lateral"}


@pytest.mark.parametrize(
    ("options", "named"),
    [({"hospital": "east"}, "'east'"), ({"prevalence": {"flu": 0.5}}, "'flu'"), ({"views": ["oblique"]}, "'oblique'")],
)
def test_unknown_options_are_named(options, named):
    with pytest.raises(UsageError, match=named):
        world.sample_studies(0, [0], **options)
