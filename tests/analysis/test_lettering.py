"""Captions name the data's source and the seed once; titles have two lines at most."""

import json
import re

import pytest

from nbcore.analysis.lettering import told_source, two_lines
from nbcore.paths import ROOT

RECORDS = sorted((ROOT / "docs" / "records").glob("*.json"))


@pytest.mark.parametrize(
    ("caption", "source", "seeds", "told"),
    [
        ("A line.", "phantom", [3, 4], "A line. Phantom data, seed 3."),
        ("A line", "real", [0], "A line. Real data, seed 0."),
        ("Losses, seed 1; each its own.", "phantom", [1], "Losses, seed 1; each its own. Phantom data."),
        ("Images (phantom data).", "phantom", [0], "Images (phantom data). Seed 0."),
        ("Test images (phantom data), seed 0.", "phantom", [0], "Test images (phantom data), seed 0."),
        ("Images (real data).", "real", [0], "Images (real data). Seed 0."),
        ("Mean over the seeds.", "phantom", [0, 1, 2], "Mean over the seeds. Phantom data, seeds 0, 1, 2."),
        ("Mean over the seeds.", "phantom", [5], "Mean over the seeds. Phantom data, seed 5."),
    ],
)
def test_a_caption_says_what_it_has_not_said(caption, source, seeds, told):
    assert told_source(caption, source, seeds) == told
    assert told_source(told, source, seeds) == told


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_every_recorded_caption_can_name_source_and_seed_once(path):
    record = json.loads(path.read_text())
    for figure in record["figures"]:
        told = told_source(figure["caption"], record["source"], record["seeds"])
        assert len(re.findall(r"\b(phantom|real) data\b", told, re.IGNORECASE)) == 1, told
        assert len(re.findall(r"\bseeds? \d", told, re.IGNORECASE)) == 1, told
        assert told.endswith(".") and ".." not in told


def test_a_title_too_long_for_two_lines_is_cut_at_a_word():
    assert two_lines("pleural_effusion", 25) == "pleural effusion"
    assert two_lines("Enlarged Cardiomediastinum, Lung Lesion, Lung Opacity, Edema", 25) == (
        "Enlarged\nCardiomediastinum, ..."
    )
