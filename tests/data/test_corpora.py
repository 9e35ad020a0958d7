"""Texts without pictures: Open-i's reports and Spanish sentences."""

import io
import tarfile
from pathlib import Path

import pytest

from nbcore.data.corpora import read_corpus
from nbcore.errors import UsageError, UserError
from nbcore.paths import ROOT

DATA = ROOT.parent / "shared" / "data"
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None, 3.5 months.</AbstractText>
<AbstractText Label="IMPRESSION">{impression}</AbstractText>
<AbstractText Label="FINDINGS">{findings}</AbstractText>
</Abstract></Article></MedlineCitation></eCitation>
"""
REPORTS = {
    "ecgen-radiology/2.xml": REPORT.format(findings="The XXXX lungs are clear.", impression="Normal chest."),
    "ecgen-radiology/10.xml": REPORT.format(findings="", impression="No acute disease &amp; no change."),
    "ecgen-radiology/11.xml": REPORT.format(findings="", impression="Normal."),  # too short to learn from
}
TEXTS = ["the xxxx lungs are clear\nnormal chest", "no acute disease no change"]


def _pack(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.mark.parametrize("packed", [False, True])
def test_openi_reports_packed_or_not(packed: bool, tmp_path: Path) -> None:
    if packed:
        _pack(tmp_path / "NLMCXR_reports.tgz", REPORTS)
    else:
        for name, text in REPORTS.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    corpus = read_corpus("openi", tmp_path)
    assert dict(zip(corpus.documents, corpus.texts)) == dict(zip(["2", "10"], TEXTS))
    assert (corpus.language, len(corpus)) == ("en", 2)


def test_spanish_sentences_keep_their_case_and_document(tmp_path: Path) -> None:
    rows = ["patient_id,text,label", 'c1,"Rx de to\u0301rax:  sin\u00a0hallazgos.",rx', "c1,Neumotórax.,rx", "c2,,tc"]
    (tmp_path / "index.csv").write_text("\n".join(rows), encoding="utf-8")
    corpus = read_corpus("spanish-imaging-sentences", str(tmp_path))
    assert corpus.texts == ["Rx de tórax: sin hallazgos.", "Neumotórax."]
    assert (corpus.language, corpus.documents) == ("es", ["c1", "c1"])


def _told(name: str, root: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_corpus(name, root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_row_of_a_table_in_the_wrong_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    table = "patient_id,text\nc1,bien\nc2,neumotórax\nc3,después\n"
    path.write_bytes(table.encode("latin-1"))
    assert f"{path} is not UTF-8 text (row 3): save it as UTF-8" in _told("spanish-imaging-sentences", tmp_path)
    path.write_text(table.encode().decode("latin-1"), encoding="utf-8")
    assert f"{path}, row 3: 'neumotÃ³rax' is UTF-8 read in" in _told("spanish-imaging-sentences", tmp_path)


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown corpus 'open-i' \(did you mean 'openi'\?\)"):
        read_corpus("open-i", tmp_path)
    assert "cannot read the root of openi" in _told("openi", tmp_path / "absent")
    assert "NLMCXR_reports.tgz, or the XML files out of it, is missing" in _told("openi", tmp_path)
    assert "index.csv is missing" in _told("spanish-imaging-sentences", tmp_path)
    (tmp_path / "a.xml").write_text(REPORTS["ecgen-radiology/11.xml"])
    assert f"no text in the openi corpus under {tmp_path}" in _told("openi", tmp_path)
    (tmp_path / "b.xml").write_text("<eCitation>")
    assert "b.xml is not valid XML" in _told("openi", tmp_path)
    (tmp_path / "index.csv").write_text("text,patient\nbien,1\n")
    assert "has no column 'patient_id' (did you mean 'patient'?)" in _told("spanish-imaging-sentences", tmp_path)


@pytest.mark.parametrize("damage", ["short", "other"])
def test_a_damaged_archive_is_told(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "NLMCXR_reports.tgz"
    _pack(path, REPORTS)
    path.write_bytes(path.read_bytes()[:150] if damage == "short" else b"<html>")
    assert f"cannot read {path}" in _told("openi", tmp_path)


def test_entities_that_unfold_are_refused(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
    bomb = f'<?xml version="1.0"?><!DOCTYPE e [<!ENTITY l0 "ha">{laughs}]>'
    _pack(tmp_path / "NLMCXR_reports.tgz", {"ecgen-radiology/1.xml": f"{bomb}<e><AbstractText>&l9;</AbstractText></e>"})
    assert "1.xml declares XML entities" in _told("openi", tmp_path)


def test_a_report_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    _pack(tmp_path / "NLMCXR_reports.tgz", {"1.xml": " " * 2**23})
    assert "1.xml has 8388608 bytes, too many for a report" in _told("openi", tmp_path)


def _at_hand(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"no real {name} at hand")


@_at_hand("openi")
def test_real_openi() -> None:
    corpus = read_corpus("openi", DATA / "openi")
    assert len(corpus) == len(set(corpus.documents)) == 3927
    assert corpus.texts[corpus.documents.index("1")].endswith("no evidence of pneumothorax\nnormal chest x xxxx")


@_at_hand("spanish-imaging-sentences")
def test_real_spanish_sentences() -> None:
    corpus = read_corpus("spanish-imaging-sentences", DATA / "spanish-imaging-sentences")
    assert (len(corpus), len(set(corpus.documents))) == (5175, 2380)
    assert sum("ó" in text for text in corpus.texts) > 3000
