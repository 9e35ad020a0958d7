"""Manifests: the project's own are right and complete; a wrong one is refused in one helpful sentence."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nbcore.data.manifest import Draw, list_manifests, load_manifest
from nbcore.data.phantom import breast, ct, fundus, skin, world
from nbcore.errors import UsageError
from nbcore.paths import MANIFESTS, PUBLISHED

NAMES = [
    "busi",
    "cc-ccii",
    "chexlocalize",
    "chexpert",
    "covid-chestxray",
    "covid-pneumonia-cxr",
    "covidx",
    "derm7pt",
    "dmid",
    "idrid",
    "isic2018",
    "kermany",
    "mimic-cxr",
    "montgomery-tb",
    "mra-midas",
    "nih-chestxray14",
    "object-cxr",
    "openi",
    "padchest",
    "pdc",
    "rsna-pneumonia",
    "shenzhen-tb",
    "siim-acr",
]


def test_every_data_set_is_listed_and_valid() -> None:
    assert set(NAMES) <= set(list_manifests())
    for name in list_manifests():
        manifest = load_manifest(name)
        assert manifest.name == name
        assert manifest.homepage.startswith("https://")
        assert "default" in manifest.uncertain


@pytest.mark.parametrize(
    ("name", "images", "default", "listed"),
    [
        ("mimic-cxr", 243324, (237962, 1959, 3403), (215187, 5000, 23137)),
        ("chexpert", 191229, (186027, 5000, 202), (167185, 5000, 19027)),
        ("nih-chestxray14", 112120, (81524, 5000, 25596), (100747, 5000, 6373)),
        ("kermany", 5856, (4709, 523, 624), None),
        ("rsna-pneumonia", 26684, (18678, 4003, 4003), None),
        ("siim-acr", 12047, (8433, 1807, 1807), None),
        ("object-cxr", 9000, (6400, 1600, 1000), None),
        ("chexlocalize", 500, (0, 0, 500), None),
        ("shenzhen-tb", 662, (398, 132, 132), None),
        ("montgomery-tb", 138, (82, 28, 28), None),
        ("idrid", 516, (330, 83, 103), None),
        ("isic2018", 11720, (10015, 193, 1512), None),
        ("derm7pt", 2022, (826, 406, 790), None),
        ("covid-pneumonia-cxr", 6432, (4595, 923, 914), None),
        ("dmid", 510, (356, 76, 78), None),
        ("busi", 780, (389, 155, 236), None),
    ],
)
def test_counts_are_the_published_ones(name: str, images: int, default: tuple, listed: tuple | None) -> None:
    counts = load_manifest(name).counts
    assert counts.images == images
    assert tuple(counts.splits["default"].values()) == default
    assert sum(default) == images
    if listed:
        assert tuple(counts.splits["test_list"].values()) == listed


PAIRS = {"Skin I": ["mra-midas"], "Skin II": ["derm7pt"]}
PAIRS |= {"Chest": ["cc-ccii", "covid-pneumonia-cxr"], "Breast": ["dmid", "busi"]}


@pytest.mark.parametrize("paper", ["mgca", "mflag", "med_unic", "meduna", "kmat"])
def test_every_table_of_results_is_in_used_by(paper: str) -> None:
    manifests = [load_manifest(name) for name in NAMES]
    uses = {m.name: " ".join(use.where for use in m.used_by if use.paper == paper) for m in manifests}
    known: dict[str, list[str]] = {}
    for manifest in manifests:
        if uses[manifest.name]:
            known.setdefault(manifest.short_title, []).append(manifest.name)
    known |= PAIRS | {"Average": [name for name, where in uses.items() if where] if paper in ("meduna", "kmat") else []}
    table = pd.read_csv(PUBLISHED / f"{paper}.csv", dtype=str, keep_default_na=False)
    results = table[table["metric"].str.contains("%") & (table["table"] != "text") & (table["dataset"] != "")]
    for place, data_set in set(zip(results["table"], results["dataset"])):
        for name in known[data_set]:
            assert place in _places(uses[name]), f"{name}: {paper}, {place}"


def _places(where: str) -> set[str]:
    """{"Table 1", "Table 2", "Table 3"} of "Table 1 to Table 3"."""
    ranges = re.findall(r"Table (\d+) to Table (\d+)", where)
    return {*re.findall(r"Table \d+", where)} | {
        f"Table {number}" for first, last in ranges for number in range(int(first), int(last) + 1)
    }


def test_mgca_policy_and_access() -> None:
    chexpert = load_manifest("chexpert")
    assert chexpert.uncertain["mgca"] == {
        "Atelectasis": 1, "Cardiomegaly": 0, "Consolidation": 0, "Edema": 1, "Pleural Effusion": 1
    }  # fmt: skip
    assert [name for name in NAMES if load_manifest(name).is_private] == ["mimic-cxr"]


def test_med_unic_looks_at_the_five_competition_labels() -> None:
    five = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"}
    assert all(set(load_manifest(name).uncertain["med_unic"]) == five for name in ("chexpert", "chexlocalize"))


def test_prevalences_name_findings_or_classes_of_their_world() -> None:
    names = {"chest": world.FINDINGS, "fundus": fundus.CLASSES, "skin": skin.CLASSES}
    names |= {"breast": breast.CLASSES, "ct": ct.CLASSES}
    for name in list_manifests():
        twin = load_manifest(name).twin
        assert set(twin.prevalence) <= set(names[twin.world])
        if twin.world != "chest":  # so that small twins have every class in every split
            shares = list(filter(None, twin.prevalence.values()))
            assert sum(shares) == pytest.approx(1) and min(shares) >= 0.06


def test_sets_of_one_class_an_image_have_phrases_and_a_modality() -> None:
    for name, modality in {
        "idrid": "fundus photograph",
        "isic2018": "dermoscopic image",
        "kermany": "chest radiograph",
        "montgomery-tb": "chest radiograph",
        "shenzhen-tb": "chest radiograph",
        "derm7pt": "dermoscopic image",
        "mra-midas": "dermoscopic image",
    }.items():
        manifest = load_manifest(name)
        assert set(manifest.phrases) == set(manifest.classes) and manifest.modality == modality
        assert manifest.exclusive == (name != "kermany")


def test_a_draw_is_the_smaller_of_number_and_share() -> None:
    assert Draw(images=5000, fraction=0.1).count(191027) == 5000
    assert Draw(images=5000, fraction=0.1).count(2000) == 200
    assert Draw(fraction=0.1).count(4) == 1


def _changed(tmp_path: Path, change: callable) -> Path:
    raw = yaml.safe_load((MANIFESTS / "chexpert.yaml").read_text())
    change(raw)
    path = tmp_path / "chexpert.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.update(licens="x"), "unknown key 'licens' (did you mean 'licence'?)"),
        (lambda raw: raw["layout"].update(fronal="x"), "layout: unknown key 'fronal' (did you mean 'frontal'?)"),
        (lambda raw: raw["layout"]["columns"].pop("view"), "layout.columns: missing key 'view'"),
        (lambda raw: raw["twin"].update(label_noise=0.9), "twin.label_noise: Input should be less than 0.5"),
        (lambda raw: raw["split"].update(valid={}), "split.valid: give 'images', 'fraction', or both"),
        (lambda raw: raw["split"].pop("test"), "split: missing key 'test'"),
        (lambda raw: raw["split"].update(test_among={"column": "x", "vale": "y"}), "unknown key 'vale' (did you mean"),
        (lambda raw: raw["layout"].update(reader="chexprt"), "layout: Input tag 'chexprt'"),
        (lambda raw: raw["uncertain"]["mgca"].update(Edemma=1), "unknown class 'Edemma' (did you mean 'Edema'?)"),
        (
            lambda raw: raw.update(phrases={"Edemma": "edema"}),
            "phrases: unknown class 'Edemma' (did you mean 'Edema'?)",
        ),
        (
            lambda raw: raw["twin"].update(world="fundos"),
            "twin.world: Input should be 'chest', 'fundus', 'skin', 'breast' or 'ct'",
        ),
        (lambda raw: raw.update(name="other"), "name is 'other'"),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_key(tmp_path: Path, change: callable, message: str) -> None:
    path = _changed(tmp_path, change)
    with pytest.raises(UsageError) as caught:
        load_manifest(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_name_broken_yaml_and_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown data set 'chexprt' \(did you mean 'chexpert'\?\)"):
        load_manifest("chexprt")
    (tmp_path / "a.yaml").write_text("title: [")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_manifest(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("just text")
    with pytest.raises(UsageError, match="not a manifest"):
        load_manifest(tmp_path / "b.yaml")
    with pytest.raises(UsageError, match="cannot read the manifest"):
        load_manifest(tmp_path / "absent.yaml")


def test_presence_is_told_without_reading(twin: callable, tmp_path: Path) -> None:
    for name in NAMES:
        assert load_manifest(name).seems_present(twin(name))
        assert not load_manifest(name).seems_present(tmp_path)


def test_manifests_load_without_pandas_or_torch() -> None:
    code = "import sys, nbcore.data as d; d.load_manifest('chexpert'); print({'pandas', 'torch'} & {*sys.modules})"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_reading_and_twins_do_without_torch() -> None:
    code = "import sys, nbcore.data.phantom.twins, nbcore.data.check; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
