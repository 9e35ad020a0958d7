"""Open-i: images by the reports that name them, labels by MeSH headings, laterals by the table that tells them."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from nbcore.data import load
from nbcore.data.corpora import read_corpus
from nbcore.data.images import read_image
from nbcore.data.manifest import load_manifest
from nbcore.data.phantom import chest, world
from nbcore.data.readers import READERS
from nbcore.errors import UserError
from nbcore.paths import ROOT

IMAGES = 100  # in the twin
REAL = ROOT.parent / "shared" / "data" / "openi"
TABLE = "indiana_projections.csv"
Twin = Callable[[str], Path]
Studies = Callable[[str], list[world.ChestStudy]]


def _told(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        load("openi", root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _first_report(root: Path) -> Path:
    return root / "ecgen-radiology" / f"{load('openi', root).table['study'].iloc[0]}.xml"


def _edit(path: Path, change: Callable[[ElementTree.Element], None]) -> None:
    tree = ElementTree.parse(path)
    change(tree.getroot())
    tree.write(path)


def _index(*terms: str) -> Callable[[ElementTree.Element], None]:
    """Give a report these MeSH terms, and no other."""

    def change(tree: ElementTree.Element) -> None:
        mesh = tree.find("MeSH")
        for old in list(mesh):
            mesh.remove(old)
        for term in terms:
            ElementTree.SubElement(mesh, "major").text = term

    return change


def test_labels_are_the_phantom_s_where_they_are_known(twin: Twin, studies: Studies) -> None:
    samples, cast = load("openi", twin("openi")), studies("openi")
    read = np.stack([read_image(path) for path in samples.image_paths()]).reshape(IMAGES, -1).astype(np.float32)
    drawn = chest.render(cast, 32).images.reshape(IMAGES, -1).astype(np.float32)
    match = [int(np.argmin(((drawn - picture) ** 2).sum(axis=1))) for picture in read]
    assert sorted(match) == list(range(IMAGES))
    values = samples.table.filter(like="label:").to_numpy()
    known = ~np.isnan(values).any(axis=1)
    assert 0 < (~known).sum() < 0.1 * IMAGES
    classes = list(samples.classes)
    truth = world.label_matrix([cast[i] for i in match], classes)
    diseases = [i for i, name in enumerate(classes) if name != "No Finding"]
    assert (values[known][:, diseases] == truth[known][:, diseases]).all()
    normal = values[:, classes.index("No Finding")] == 1
    assert normal.any() and (truth[normal, classes.index("No Finding")] == 1).all()


@pytest.mark.parametrize(
    ("terms", "positive", "unknown"),
    [
        (["normal"], {"No Finding"}, 0),
        (["Cardiomegaly/mild", "Opacity/lung/base/left"], {"Cardiomegaly", "Lung Opacity"}, 0),
        (["Hydropneumothorax/right"], {"Pleural Effusion", "Pneumothorax"}, 0),
        (["Subcutaneous Emphysema", "Pneumonia, Viral"], set(), 0),  # whole headings only
        (["No Indexing"], set(), 13),
        (["Technical Quality of Image Unsatisfactory ", "Nodule"], {"Lung Lesion"}, 12),
        ([], set(), 13),
    ],
)
def test_classes_are_mesh_headings(terms: list[str], positive: set[str], unknown: int, damaged: Twin) -> None:
    root = damaged("openi")
    path = _first_report(root)
    _edit(path, _index(*terms))
    table = load("openi", root).table
    row = table[table["study"] == path.stem].filter(like="label:").iloc[0]
    assert {name[6:] for name in row.index[row == 1]} == positive
    assert row.isna().sum() == unknown


def test_lateral_images_are_left_out_where_a_table_tells(damaged: Twin) -> None:
    root = damaged("openi")
    told = pd.read_csv(root / TABLE)
    lateral = told.loc[told["projection"] == "Lateral", "filename"]
    before = load("openi", root)
    assert len(lateral) > 10 and (len(before), before.missing) == (IMAGES, 0)
    assert not set(before.table["image"]) & {
        f"NLMCXR_png/CXR{name}".removesuffix(".dcm.png") + ".png" for name in lateral
    }
    told.iloc[1:].to_csv(root / TABLE, index=False)  # an image that the table does not name is read
    assert load("openi", root).table["image"].tolist() == before.table["image"].tolist()
    (root / TABLE).unlink()
    every = load("openi", root)
    assert (len(every), every.missing) == (IMAGES + len(lateral), 0)
    assert set(every.table["view"]) == {""} and every.table.groupby("study")["split"].nunique().max() == 1


@pytest.mark.parametrize("rename", ["flat", "elsewhere", "other copy"])
def test_images_are_found_wherever_they_lie(rename: str, damaged: Twin) -> None:
    root = damaged("openi")
    before = load("openi", root).table
    for path in sorted((root / "NLMCXR_png").iterdir()):
        name = f"{path.stem.removeprefix('CXR')}.dcm.png" if rename == "other copy" else path.name
        folder = root if rename == "flat" else root / "images" / "images_normalized"
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / name)
    after = load("openi", root)
    assert after.missing == 0 and not set(before["image"]) & set(after.table["image"])
    pd.testing.assert_frame_equal(before.drop(columns="image"), after.table.drop(columns="image"))


def test_an_image_of_a_doubled_number_is_that_of_the_table(damaged: Twin) -> None:
    root = damaged("openi")
    path = _first_report(root)
    old = load("openi", root).table["image"].iloc[0]
    doubled = Path(old).stem.replace("_IM", "_1_IM")  # as in CXR1_1_IM-0001-3001 and 1_IM-0001-3001.dcm.png
    (root / old).rename(root / "NLMCXR_png" / f"{doubled}.png")
    _edit(path, lambda tree: tree.find("parentImage").set("id", doubled))
    assert load("openi", root).table["image"].iloc[0] == f"NLMCXR_png/{doubled}.png"
    told = pd.read_csv(root / TABLE)
    ours = told["filename"].str.startswith(f"{path.stem}_")
    told.loc[ours, "projection"] = "Lateral"
    told.to_csv(root / TABLE, index=False)
    assert path.stem not in set(load("openi", root).table["study"])


def test_packed_reports_are_those_unpacked_and_a_corpus(damaged: Twin) -> None:
    root = damaged("openi")
    before = load("openi", root).table
    corpus = read_corpus("openi", root)
    by_name = dict(zip(corpus.documents, corpus.texts))
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as archive:
        archive.add(root / "ecgen-radiology", "ecgen-radiology")
        shadow = tarfile.TarInfo("ecgen-radiology/._1.xml")
        shadow.size = 4
        archive.addfile(shadow, io.BytesIO(b"\0\5\x16\7"))
    for path in (root / "ecgen-radiology").iterdir():
        path.unlink()
    table = load("openi", root).table
    pd.testing.assert_frame_equal(*(t.sort_values("image", ignore_index=True) for t in (before, table)))
    told = table[table["report"] != ""]
    assert len(told) > 0.9 * IMAGES and all(by_name[name] == text for name, text in zip(told["study"], told["report"]))


def test_mistakes_are_told_in_one_sentence(damaged: Twin) -> None:
    root = damaged("openi")
    path, table = _first_report(root), root / TABLE
    whole, projections = path.read_text(), table.read_text()
    for content, reason in {
        whole[:200]: "is not valid XML",
        whole.replace("<eCitation>", '<!DOCTYPE e [<!ENTITY a "b">]><eCitation>'): "declares XML entities",
        "": "is not valid XML",
        "<?xml version='1.0' encoding='nothing'?><a/>": "is not valid XML",
        whole.replace('<parentImage id="CXR', '<parentImage other="CXR'): "a parentImage without an id",
        whole.replace('<parentImage id="', '<parentImage id="../'): "lies outside",
    }.items():
        path.write_text(content)
        assert reason in _told(root) or (reason == "lies outside" and "none of" in _told(root))
    path.write_text(whole)
    for content, reason in {
        projections.replace("Frontal", "Oblique", 1): "row 2: 'Oblique' is no projection; expected Frontal or Lateral",
        projections.replace("projection", "view", 1): "has no column 'projection'",
        projections.replace("Frontal", "Lateral"): "calls no image 'Frontal'",
        projections + projections.splitlines()[1].replace("Frontal", "Lateral"): "both Frontal and Lateral",
    }.items():
        table.write_text(content)
        assert reason in _told(root)


def test_reports_and_images_of_another_number_are_told(damaged: Twin) -> None:
    root = damaged("openi")
    studies = load("openi", root).table["study"].unique()[:2]
    one, other = (root / "ecgen-radiology" / f"{study}.xml" for study in studies)
    texts = one.read_text(), other.read_text()
    swapped = texts[0].replace(f"CXR{one.stem}_IM", f"CXR{other.stem}_IM")
    for changed, reason in {
        swapped: f"report {one.stem}.xml under {root} names the image CXR{other.stem}_",
        texts[1]: f"ecgen-radiology/{one.name} is the report CXR{other.stem}",
        texts[0].replace(f'"CXR{one.stem}"', '"CXR9999"'): f"ecgen-radiology/{one.name} is the report CXR9999",
    }.items():
        one.write_text(changed)
        assert reason in _told(root)
    one.write_text(texts[0])
    one.rename(one.with_name("99999.xml"))
    assert f"ecgen-radiology/99999.xml is the report CXR{one.stem}" in _told(root)


def test_headings_may_be_written_otherwise_and_thumbnails_lie_beside(damaged: Twin) -> None:
    root = damaged("openi")
    before = load("openi", root).table
    for path in (root / "ecgen-radiology").iterdir():
        _edit(path, lambda tree: [setattr(term, "text", term.text.upper()) for term in tree.iter("major")])
    (root / "64 pixels").mkdir()
    for path in list((root / "NLMCXR_png").iterdir())[:9]:
        shutil.copy(path, root / "64 pixels")
    pd.testing.assert_frame_equal(load("openi", root).table, before)


def test_reports_without_images_are_told(damaged: Twin, tmp_path: Path) -> None:
    root = damaged("openi")
    for path in (root / "NLMCXR_png").iterdir():
        path.unlink()
    assert f"openi: none of its {IMAGES} images is under {root}" in _told(root)
    assert len(read_corpus("openi", root)) > 0.9 * IMAGES
    (tmp_path / "empty").mkdir()
    assert "no openi data under" in _told(tmp_path / "empty")
    assert load_manifest("openi").seems_present(root) and not load_manifest("openi").seems_present(tmp_path / "empty")


@pytest.mark.skipif(not REAL.is_dir(), reason="no real openi at hand")
def test_real_reports_name_as_many_images_as_published() -> None:
    frame = READERS["openi"](load_manifest("openi"), REAL)
    assert (len(frame), frame["image"].nunique(), frame["patient"].nunique()) == (7470, 7470, 3851)
    labels = frame.drop_duplicates("study").filter(like="label:")
    assert (labels == 1).sum().to_dict() == {
        "label:No Finding": 1379,
        "label:Cardiomegaly": 345,
        "label:Lung Opacity": 535,
        "label:Atelectasis": 315,
        "label:Pleural Effusion": 150,
        "label:Support Devices": 218,
        "label:Lung Lesion": 119,
        "label:Emphysema": 96,
        "label:Fracture": 83,
        "label:Edema": 42,
        "label:Pneumonia": 40,
        "label:Consolidation": 30,
        "label:Pneumothorax": 26,
    }
