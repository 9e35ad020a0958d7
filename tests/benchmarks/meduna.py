"""MedUnA: its Stage 1, and an epoch of its Stage 2 with the weak branch computed once and every time."""

import torch
import torch.nn.functional as F

from nbcore.losses.meduna import description_loss
from nbcore.methods.meduna import Config, MedUnA
from nbcore.methods.text_classifier import TextClassifierConfig, fit_text_classifier
from nbcore.models.clip import VisionLanguage, small_clip
from nbcore.models.medclip import small_medclip
from tests.benchmarks.timing import median_seconds


def stage_1(texts: int = 500, width: int = 512, classes: int = 7, iterations: int = 100) -> None:
    """By projections of the noise, and by the loss itself with whole noise."""
    features, labels = F.normalize(torch.randn(texts, width), dim=1), torch.arange(texts) % classes
    config = TextClassifierConfig(iterations=iterations)
    weight = torch.randn(classes, width).requires_grad_()
    optimizer = config.optimizer(weight)

    def plain() -> None:
        for _ in range(iterations):
            description_loss(features, labels, weight, config.noise * torch.randn(texts, width)).backward()
            optimizer.step()
            optimizer.zero_grad()

    ours = median_seconds(lambda: fit_text_classifier(features, labels, classes, config, 0), 5) / iterations
    slow = median_seconds(plain, 5) / iterations
    print(
        f"Stage 1, {texts} texts of width {width}, {classes} classes: {ours * 4000:.1f} s for 4,000 steps, with whole "
        f"noise {slow * 4000:.1f} s, ratio {slow / ours:.1f}"
    )


def stage_2(name: str, backbone: VisionLanguage, rows: int = 200, classes: int = 5) -> None:
    """Steps on views that are there already."""
    size, config = backbone.image_size, Config()
    method = MedUnA(backbone, torch.randn(classes, backbone.width), config, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(method.parameters(), lr=config.learning_rate)
    views = {key: torch.randn(rows, 3, size, size) for key in ("image", "weak_image")}
    features = method.plain_features(views["weak_image"])

    def epoch(columns: dict[str, torch.Tensor]) -> None:
        for start in range(0, rows, config.batch_size):
            batch = {key: column[start : start + config.batch_size] for key, column in columns.items()}
            method.losses(batch)["total"].backward()
            optimizer.step()
            optimizer.zero_grad()

    cached = median_seconds(lambda: epoch({"image": views["image"], "weak": features}), 7)
    anew = median_seconds(lambda: epoch(views), 7)
    print(
        f"Stage 2, {name} at {size} px, batch {config.batch_size}: {rows / cached:.0f} images/s with cached weak "
        f"features, {rows / anew:.0f} with the weak branch computed every time, ratio {anew / cached:.2f}"
    )


def run() -> None:
    stage_1()
    stage_2("small CLIP", small_clip())
    stage_2("small MedCLIP", small_medclip(["no effusion", "small left effusion"]))
