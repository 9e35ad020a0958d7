"""A whole run of K-MaT on one pair, as the paper has it: 16 shots, 50 epochs, batches of 4, on the small BiomedCLIP."""

import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from nbcore.data.batches import Columns
from nbcore.methods.kmat import Config, KMat
from nbcore.models.biomedclip import small_biomedclip
from nbcore.train import fit
from tests.benchmarks.timing import THREADS

NAMES = ["actinic keratosis", "basal cell carcinoma", "melanoma", "nevus", "squamous cell carcinoma", "keratosis"]
SHOTS = 16


def run() -> None:
    backbone = small_biomedclip(NAMES)
    for classes in (3, 6):
        names, rows = NAMES[:classes], SHOTS * classes
        prototypes = F.normalize(torch.randn(2, classes, backbone.width), dim=-1)
        features = F.normalize(torch.randn(rows, backbone.width), dim=1)
        data = Columns({"features": features, "label": torch.arange(rows) % classes})
        config = Config(threads=THREADS)
        with tempfile.TemporaryDirectory() as folder:
            method = KMat(backbone, names, config, torch.Generator().manual_seed(0), prototypes)
            start = time.perf_counter()
            history = fit(method, data, config, seed=0, directory=Path(folder))
            seconds = time.perf_counter() - start
        print(
            f"K-MaT, {classes} classes, {SHOTS} shots, {config.epochs} epochs: {seconds:.1f} s for {len(history)} "
            f"steps, {1e3 * seconds / len(history):.1f} ms each"
        )
