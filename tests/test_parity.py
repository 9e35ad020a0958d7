"""The parity script on goldens made here, and on the official ones where they are at hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from nbcore.paths import ROOT

spec = importlib.util.spec_from_file_location("parity", Path(__file__).parent / "parity.py")
parity = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parity)
GOLDENS = ROOT.parent / "shared" / "goldens"


def golden(folder: Path, shift: float = 0.0) -> None:
    """A golden file of M-FLAG's family, its losses computed here by explicit loops."""
    drawn = np.random.default_rng(0)
    z, image, text = drawn.random((5, 7)), drawn.normal(size=(5, 4)), drawn.normal(size=(5, 4))
    c = z.T @ z / 5
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    cosine = (image * text).sum(1) / np.linalg.norm(image, axis=1) / np.linalg.norm(text, axis=1)
    np.savez(
        folder / "mflag_b5.npz",
        in__img_emb=z,
        in__proj_img=image,
        in__proj_txt=text,
        naive_code__orth=0.5 * (((1 - np.diag(c)) ** 2).sum() + 0.0051 * off) + shift,
        paper__align=(2 - 2 * cosine).mean(),
    )


def test_matching_numbers_pass_and_others_fail(tmp_path, capsys):
    golden(tmp_path)
    assert parity.main([str(tmp_path)]) == 0
    assert "2 of 2 cases match" in capsys.readouterr().out
    golden(tmp_path, shift=1e-6)
    assert parity.main([str(tmp_path)]) == 1
    assert "FAIL mflag_b5 naive_code__orth" in capsys.readouterr().out


def test_a_folder_without_goldens_and_wrong_use(tmp_path):
    assert parity.main([str(tmp_path)]) == 1
    assert parity.main([]) == 2


def test_another_shape_is_a_mismatch():
    assert not parity.Case("x", np.zeros(2), np.zeros(3), 1e-9).ok


@pytest.mark.skipif(not GOLDENS.is_dir(), reason="no golden numbers here")
def test_official_goldens():
    torch.set_num_threads(2)
    cases = list(parity.check(GOLDENS))
    assert [case.name for case in cases if not case.ok] == []
    found = {case.name.split()[0].split("_")[0] for case in cases}
    assert found >= {"mflag", "lars", "lr", "mgca", "sinkhorn", "gloria", "convirt", "barlow", "yolo", "segmentation"}
    assert found >= {"zeroshot", "image", "report", "meduni", "vocab"}
