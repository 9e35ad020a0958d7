"""M-FLAG: its losses, the data they are fed from, and a pre-training step."""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from nbcore.config import TrainConfig
from nbcore.data import load, load_manifest
from nbcore.data.batches import Columns, prepare
from nbcore.data.images import image_cache, read_image
from nbcore.data.phantom.twins import write_twin
from nbcore.losses.mflag import orthogonality_loss
from nbcore.methods.mflag import Config, MFlag
from nbcore.models.vision import vision_encoder
from nbcore.train import fit
from tests.benchmarks.timing import THREADS, median_seconds

# Dense bf16 peak without sparsity, TFLOP/s, from the vendor's data sheets; other devices are left unrated.
PEAK_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "4090": 165.0, "3090": 71.0, "V100": 125.0}
RESNET50_GFLOP = 4.1 * 2 * 3  # of one 224-pixel image: 4.1 GMAC forward, twice that backward


def direct_orthogonality(z: Tensor) -> Tensor:
    """Eq. 3 of M-FLAG through the (N, N) matrix."""
    c = z.T @ z / len(z)
    diagonal = torch.diagonal(c)
    return ((1 - diagonal).square().sum() + 0.0051 * (c.square().sum() - diagonal.square().sum())) / 2


def orthogonality() -> None:
    z = torch.randn(128, 2048).relu().requires_grad_()
    ours = median_seconds(lambda: orthogonality_loss(z).backward())
    direct = median_seconds(lambda: direct_orthogonality(z).backward())
    print(
        f"orthogonality loss, B 128, N 2048, forward and backward: {ours * 1e3:.1f} ms, through the N x N matrix "
        f"{direct * 1e3:.1f} ms, ratio {direct / ours:.1f}"
    )


def data(folder: Path) -> None:
    manifest = load_manifest("mimic-cxr")
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        write_twin(manifest, folder / f"twin{seed}", images=2000, size=64, seed=seed)
        seconds.append(time.perf_counter() - start)
    print(f"twin of 2,000 radiographs at 64 px with reports: {median(seconds):.1f} s")
    samples = load(manifest, folder / "twin0")
    paths = samples.image_paths()[:500]
    cached = image_cache(samples, 64, folder / "images")
    decoding = median_seconds(lambda: [read_image(path) for path in paths], 5)
    order = np.random.default_rng(0).permutation(500)
    loading = median_seconds(lambda: np.array(cached[order]), 15)
    print(
        f"500 images at 64 px: decoded in {decoding * 1e3:.0f} ms, from the cache in {loading * 1e3:.2f} ms, "
        f"ratio {decoding / loading:.0f}"
    )


def pretraining(folder: Path) -> None:
    """The demo profile's training loop, checkpoints and all, on random pixels."""
    rows = 1024
    config = Config(vision="tiny_resnet", projector_hidden=256, image_size=56, batch_size=32, epochs=1)
    training = TrainConfig(epochs=1, batch_size=32, learning_rate=1e-3, threads=THREADS)
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 64, 64), dtype=np.uint8)
    columns = Columns({"image": pixels, "text": torch.randn(rows, 128)})
    rates = []
    for run in range(4):
        method = MFlag(config, vision_encoder("tiny_resnet"), 128)
        start = time.perf_counter()
        fit(
            method,
            columns,
            training,
            seed=0,
            directory=folder / f"run{run}",
            transform=lambda batch, generator: {**batch, "image": prepare(batch["image"], 56, "crop", generator)},
        )
        rates.append(rows / (time.perf_counter() - start))
    print(f"pre-training, ResNet of width 16 at 56 px, batch 32: {median(rates[1:]):.0f} pairs/s")


def paper_size_step() -> None:
    """M-FLAG's step as published: ResNet-50, 224 px, batch 128, bf16, one GPU."""
    name = torch.cuda.get_device_name()
    method = MFlag(Config(), vision_encoder("resnet50"), 768).cuda().train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-5, weight_decay=0.05, fused=True)
    batch = {"image": torch.randn(128, 1, 224, 224, device="cuda"), "text": torch.randn(128, 768, device="cuda")}
    method.vision.to(memory_format=torch.channels_last)
    torch.cuda.reset_peak_memory_stats()

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            method.losses(batch)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()

    seconds = median_seconds(step, 30)
    teraflops = 128 * RESNET50_GFLOP / seconds / 1e3
    peak = next((value for key, value in PEAK_TFLOPS.items() if key in name), None)
    share = "" if peak is None else f", {100 * teraflops / peak:.0f} % of the device's {peak:.0f}"
    print(
        f"M-FLAG step on {name}, ResNet-50, 224 px, batch 128, bf16: {128 / seconds:.0f} images/s, "
        f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, {teraflops:.0f} TFLOP/s{share}"
    )


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        orthogonality()
        data(Path(folder))
        pretraining(Path(folder))
    if torch.cuda.is_available():
        paper_size_step()
