"""The twin of Open-i: an XML report a study with its MeSH terms, flat PNGs, and the table that tells laterals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import reports, world
from nbcore.data.phantom.twins.cast import Cast, numbers, recorded, save_pictures

_UNLABELLED = 0.03  # share of the reports that nobody indexed
_WITHOUT_IMAGES = 0.03  # reports that name no image, for each that does
_OTHER_HEADINGS = {  # what the phantom shows beside the classes
    "fibrosis": "Pulmonary Fibrosis",
    "hernia": "Hernia, Hiatal",
    "pleural_thickening": "Thickening/pleura",
    "enlarged_mediastinum": "Mediastinum/large",
    "foreign_object": "Foreign Bodies",
    "tuberculosis": "Tuberculosis",
    "covid": "Pneumonia, Viral",
}


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """ecgen-radiology/<number>.xml, NLMCXR_png/<id>.png, some of lateral views, and indiana_projections.csv."""
    layout, random = manifest.layout, cast.random
    headings = _headings(manifest, cast)
    lateral = cast.lateral(manifest.twin.lateral)
    papers = folder / layout.reports[0]
    papers.mkdir(parents=True)
    numbered = [i for members in cast.patients().values() for i in members]
    uids = sorted(numbers(random, len(numbered), 1, 9 * len(numbered)))
    places, projections = [], []
    for uid, i in zip(uids, numbered):
        ids = []
        for picture in filter(None, (cast.studies[i], lateral.get(i))):
            ids.append(f"CXR{uid}_IM-{random.integers(10**4):04d}-{len(ids) + 1}001")
            places.append((folder / layout.images / f"{ids[-1]}.png", picture))
            view = layout.lateral if picture.view == "lateral" else layout.frontal
            projections.append((uid, f"{ids[-1].removeprefix('CXR')}.dcm.png", view))
        _write_report(papers / f"{uid}.xml", uid, _sections(manifest, cast, i), headings[i], ids)
    for uid in range(uids[-1] + 1, uids[-1] + 1 + round(_WITHOUT_IMAGES * len(uids))):
        _write_report(papers / f"{uid}.xml", uid, {"IMPRESSION": "No acute disease."}, ["normal"], [])
    save_pictures(places, cast.size)
    heading = ["uid", layout.columns.image, layout.columns.projection]
    pd.DataFrame(projections, columns=heading).to_csv(folder / layout.projections, index=False)


def _headings(manifest: Manifest, cast: Cast) -> list[list[str]]:
    """The MeSH terms of each study, as recorded: the classes' and what else there is, or that nobody indexed it."""
    random, layout = cast.random, manifest.layout
    labels = recorded(world.label_matrix(cast.studies, manifest.classes), manifest.twin.label_noise, random)
    told = []
    for study, row in zip(cast.studies, labels):
        named = [name for name, label in zip(manifest.classes, row) if label and name not in world.ABSENCE]
        terms = [str(random.choice(_own_terms(layout.findings, name))) for name in named]
        terms += [term for finding, term in _OTHER_HEADINGS.items() if study.find(finding)]
        qualified = [f"{term}/mild" if random.random() < 0.3 else term for term in terms]
        told.append([layout.unlabelled[0]] if random.random() < _UNLABELLED else qualified or ["normal"])
    return told


def _own_terms(findings: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """The headings that mean this class and no other."""
    others = {term for other, terms in findings.items() if other != name for term in terms}
    return [term for term in findings.get(name, (name,)) if term not in others]


def _sections(manifest: Manifest, cast: Cast, i: int) -> dict[str, str]:
    """Section -> text; for a share of the studies without findings and impression."""
    report = reports.write(cast.studies[i], manifest.language)
    told = {"COMPARISON": "None.", "INDICATION": report.indication}
    if cast.random.random() < manifest.twin.no_report:
        return told | {"FINDINGS": "", "IMPRESSION": ""}
    return told | {"FINDINGS": report.findings, "IMPRESSION": report.impression}


def _write_report(path: Path, uid: int, sections: dict[str, str], headings: list[str], images: list[str]) -> None:
    tree = ElementTree.Element("eCitation")
    ElementTree.SubElement(tree, "uId", id=f"CXR{uid}")
    abstract = ElementTree.SubElement(ElementTree.SubElement(tree, "MedlineCitation"), "Abstract")
    for label, text in sections.items():
        ElementTree.SubElement(abstract, "AbstractText", Label=label).text = text
    mesh = ElementTree.SubElement(tree, "MeSH")
    for term in headings:
        ElementTree.SubElement(mesh, "major").text = term
    for number, name in enumerate(images, start=1):
        image = ElementTree.SubElement(tree, "parentImage", id=name)
        ElementTree.SubElement(image, "figureId").text = f"F{number}"
        ElementTree.SubElement(image, "caption").text = "Phantom chest"
    path.write_bytes(ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True))
