"""The phantom is hard enough to measure on: what untrained features, thumbnails and a trained network score on it.

`python tests/data/phantom/test_difficulty.py [north|south]` prints the whole calibration (3,000 training and 1,000
test studies, 64 pixels, a ResNet of width 16 trained for 15 epochs; minutes on two cores); the tests below are its
quick parts. N studies, C classes, D features.
"""

import sys

import numpy as np
import pytest

from nbcore.data.phantom import chest, world

CHEXPERT = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
NIH = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax",
    "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia",
)  # fmt: skip
CLASSES = tuple(dict.fromkeys(CHEXPERT + NIH))


def phantom(count: int, hospital: str = "north") -> tuple[np.ndarray, np.ndarray]:
    """Standardised pictures (N, 64, 64) and labels (N, C) of frontal studies."""
    studies = world.sample_studies(0, range(count), hospital, views=("PA", "AP"))
    images = chest.render(studies, 64).images.astype(np.float32)
    return (images - images.mean()) / images.std(), world.label_matrix(studies, CLASSES)


def resnet(outputs: int):
    """A randomly initialised ResNet of width 16 (0.3 M parameters); pooled features where `outputs` is 0."""
    import torch
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    return ResNet(BasicBlock, [1] * 4, num_classes=outputs, in_chans=1, stem_width=16, channels=(16, 32, 64, 128))


def predict(network, images: np.ndarray) -> np.ndarray:
    """Outputs (N, D) of a network in evaluation mode."""
    import torch

    network.eval()
    with torch.no_grad():
        return torch.cat([network(part) for part in torch.from_numpy(images)[:, None].split(250)]).numpy()


def supervised(images: np.ndarray, labels: np.ndarray, epochs: int):
    """The network trained from scratch on every label."""
    import torch

    network, (x, y) = resnet(len(CLASSES)), (torch.from_numpy(images)[:, None], torch.from_numpy(labels))
    steps = epochs * (len(x) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    network.train()
    order = torch.cat([torch.randperm(len(x))[: len(x) // 64 * 64] for _ in range(epochs)])
    for batch in order.split(64):
        down, across = torch.randint(-3, 4, (2,)).tolist()
        logits = network(x[batch].roll((down, across), (2, 3)))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def linear(features: np.ndarray, labels: np.ndarray, training: int, strength: float) -> np.ndarray:
    """Test scores (N, C) of logistic regressions fitted on the first `training` rows of features (N, D)."""
    from sklearn.linear_model import LogisticRegression

    scaled = (features - features[:training].mean(0)) / (features[:training].std(0) + 1e-6)
    model = LogisticRegression(C=strength, max_iter=300)
    return np.stack(
        [model.fit(scaled[:training], y[:training]).decision_function(scaled[training:]) for y in labels.T], axis=1
    )


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Pictures averaged down to 16 x 16, flattened (N, 256)."""
    return images.reshape(-1, 16, 4, 16, 4).mean((2, 4)).reshape(len(images), -1)


def areas(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUC of each class."""
    from sklearn.metrics import roc_auc_score

    return {name: roc_auc_score(labels[:, i], scores[:, i]) for i, name in enumerate(CLASSES)}


def macro(area: dict[str, float], classes: tuple[str, ...]) -> float:
    return float(np.mean([area[name] for name in classes]))


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, np.ndarray]:
    return phantom(1200)


@pytest.mark.slow
def test_untrained_features_score_low(small):
    images, labels = small
    area = areas(linear(predict(resnet(0), images), labels, 800, 0.01), labels[800:])
    assert 0.5 < macro(area, CHEXPERT) < 0.68
    assert 0.5 < macro(area, NIH) < 0.68


@pytest.mark.slow
def test_thumbnails_are_mediocre(small):
    images, labels = small
    area = areas(linear(thumbnails(images), labels, 800, 0.001), labels[800:])
    assert 0.5 < macro(area, CHEXPERT) < 0.75
    assert 0.5 < macro(area, NIH) < 0.75


@pytest.mark.parametrize("statistic", [np.mean, np.std, np.median])
def test_no_first_order_statistic_gives_a_class_away(small, statistic):
    images, labels = small
    value = np.array([statistic(image) for image in images])
    area = areas(np.repeat(value[:, None], len(CLASSES), axis=1), labels)
    assert max(max(a, 1 - a) for a in area.values()) < 0.72
    assert np.mean([max(a, 1 - a) for a in area.values()]) < 0.60


def main(hospital: str = "north", training: int = 3000, epochs: int = 15) -> None:
    """Print the calibration."""
    images, labels = phantom(training + 1000, hospital)
    measured = {
        "untrained": linear(predict(resnet(0), images), labels, training, 0.1),
        "thumbnail": linear(thumbnails(images), labels, training, 0.001),
        "supervised": predict(supervised(images[:training], labels[:training], epochs), images[training:]),
    }
    area = {name: areas(scores, labels[training:]) for name, scores in measured.items()}
    print(f"{'':28}{'prevalence':>12}" + "".join(f"{name:>12}" for name in area))
    for i, name in enumerate(CLASSES):
        print(f"{name:28}{labels[:, i].mean():12.3f}" + "".join(f"{column[name]:12.3f}" for column in area.values()))
    for title, classes in (("macro CheXpert 14", CHEXPERT), ("macro NIH 14", NIH)):
        print(f"{title:40}" + "".join(f"{macro(column, classes):12.3f}" for column in area.values()))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(2)
    main(*sys.argv[1:2])
