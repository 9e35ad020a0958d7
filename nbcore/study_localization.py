"""Segmentation and detection with a study's frozen encoders, as cached stages."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import ValidationError
from torch.utils.data import Subset

from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.data import Samples, image_cache, label_fraction
from nbcore.data.batches import Columns
from nbcore.data.masks import boxes_in_square, has_outline, masks
from nbcore.errors import UsageError
from nbcore.files import atomic_write
from nbcore.study_encoders import Encoder, StudyEncoders
from nbcore.tasks.detection import DetectionConfig, box_targets, fit_detection
from nbcore.tasks.features import extract_maps
from nbcore.tasks.segmentation import SegmentationConfig, balanced_rows, fit_segmentation
from nbcore.train import Dataset
from nbcore.validation import first_error

Task = Literal["segmentation", "detection"]
BALANCED = {"siim-acr"}  # data sets whose decoder learns from all positives and equally many negatives (official code)

# Where published runs leave a config's defaults: (task, data set or "", fraction or None for any) -> changes.
_Published = dict[tuple[Task, str, float | None], dict[str, Any]]
_MGCA: _Published = {  # its launch scripts
    ("segmentation", "rsna-pneumonia", None): {"batch_size": 16},
    ("detection", "rsna-pneumonia", 0.01): {"batch_size": 8, "learning_rate": 2e-4},
    ("detection", "object-cxr", 0.01): {"batch_size": 8, "learning_rate": 2.5e-4},
}
_MED_UNIC: _Published = {  # App. D; patience, and the learning rate on 1 % of Object-CXR, of its code
    ("segmentation", "", None): {"batch_size": 4, "weight_decay": 1e-8, "patience": 20},
    ("segmentation", "siim-acr", None): {"epochs": 100},
    ("detection", "", None): {"batch_size": 4, "patience": 40},
    ("detection", "object-cxr", 0.01): {"learning_rate": 2.5e-4},
}
_PUBLISHED = {"med_unic": _MED_UNIC}  # of a notebook; the others run MGCA's code


class StudyLocalization(StudyEncoders):
    """Judges the local features of encoders."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._known_targets: dict[tuple[str, bool], dict[str, np.ndarray]] = {}

    def localize_all(
        self, encoders: dict[str, list[Encoder]], fractions: Sequence[float], tasks: Sequence[tuple[Task, str]]
    ) -> pd.DataFrame:
        """Tasks on their data sets: columns method, seed, dataset, task, fraction, images, dice, map, ..."""
        by_data_set: dict[str, list[Task]] = {}
        for task, name in tasks:
            by_data_set.setdefault(name, []).append(task)
        todo = [
            (method, encoder, name) for method, runs in encoders.items() for encoder in runs for name in by_data_set
        ]
        calls = [((encoder, name, fractions, by_data_set[name]), {}) for _, encoder, name in todo]
        rows = [
            {"method": method, "seed": encoder.seed, "dataset": name, **row}
            for (method, encoder, name), own in zip(todo, self.run_all("localize", calls, "segmentation and detection"))
            for row in own
        ]
        return pd.DataFrame(rows, columns=None if rows else ["method", "seed", "dataset", "task", "fraction"])

    @property
    def localization_tasks(self) -> list[tuple[Task, str]]:
        """Every task of the study with its data set."""
        settings = self.settings
        return [
            *(("segmentation", name) for name in settings.segment_on),
            *(("detection", name) for name in settings.detect_on),
        ]

    def localize(
        self, encoder: Encoder, name: str, fractions: Sequence[float], tasks: Sequence[Task]
    ) -> list[dict[str, Any]]:
        """Tasks on one data set with a frozen encoder, a row a task and label fraction.

        The encoder sees every picture once: its feature maps are kept on disk until all decoders are trained on them.
        Decoders keep their best epoch on validation data; test pictures are read once.
        """
        samples, settings = self.samples(name), self.settings
        configs = [(task, part, self._task_config(task, name, part)) for task in tasks for part in fractions]

        def build(folder: Path) -> None:
            maps = self._maps(encoder, samples, configs, folder / "maps")
            rows = [
                {"task": task, "fraction": fraction, **self._fit(encoder, samples, maps, fraction, config, folder)}
                for task, fraction, config in configs
            ]
            atomic_write(folder / "rows.json", json.dumps(rows))
            for leftover in [path for path in folder.iterdir() if path.is_dir()]:
                shutil.rmtree(leftover)

        key = {
            "encoder": encoder.key,
            "data": samples.fingerprint(),
            "size": settings.localize_size,
            "tasks": [
                [task, fraction, config.model_dump(mode="json", exclude=NO_INFLUENCE)]
                for task, fraction, config in configs
            ],
            "seed": encoder.seed,
        }
        return json.loads((stage("localization", key, build, self.cache_root).path / "rows.json").read_text())

    def localize_supervised(self, name: str, task: Task, seed: int) -> dict[str, Any]:
        """The same network trained end to end on all labels: the upper reference of a task.

        A detector's pictures are mirrored and shifted, or a thousand of them would be learnt by heart.
        """
        encoder, samples = self.random(seed), self.samples(name)
        epochs = {"epochs": self.settings.supervised_epochs, "patience": self.settings.supervised_epochs}
        moved = {"augmentation": "flip_shift"} if task == "detection" else {}
        config = self._task_config(task, name, 1.0).model_copy(update={"train_encoder": True, **epochs, **moved})

        def build(folder: Path) -> None:
            row = self._fit(encoder, samples, {}, 1.0, config, folder)
            atomic_write(folder / "row.json", json.dumps(row))

        key = {
            "encoder": encoder.key,
            "data": samples.fingerprint(),
            "size": self.settings.localize_size,
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "task": task,
            "seed": seed,
        }
        return json.loads((stage("supervised", key, build, self.cache_root).path / "row.json").read_text())

    # --- parts

    def _task_config(self, task: Task, name: str, fraction: float) -> SegmentationConfig | DetectionConfig:
        settings = self.settings
        kind, own = {
            "segmentation": (SegmentationConfig, settings.segmentation),
            "detection": (DetectionConfig, settings.detection),
        }[task]
        values: dict[str, Any] = {"image_size": settings.localize_size, "threads": settings.threads}
        for key in ((task, "", None), (task, name, None), (task, name, fraction)):
            values |= _PUBLISHED.get(self.notebook, _MGCA).get(key, {})
        try:
            return kind(**{**values, **own})
        except ValidationError as error:
            raise UsageError(f"{task}: {first_error(error)}") from None

    def _pictures(self, samples: Samples) -> np.ndarray:
        return image_cache(samples, self.settings.localize_size, self.cache_root / "cache" / "images")

    def _maps(self, encoder: Encoder, samples: Samples, configs: list, folder: Path) -> dict[int, np.ndarray]:
        """Every feature map that a task needs, of all pictures, by its number."""
        network = self.load_encoder(encoder)
        numbers = range(len(network.map_channels))
        needed = {number for task, *_ in configs for number in (numbers if task == "segmentation" else numbers[-3:])}
        folder.mkdir(exist_ok=True)
        order = sorted(needed)
        found = extract_maps(network, self._pictures(samples), self.settings.localize_size, folder, order)
        return dict(zip(order, found))

    def _fit(
        self,
        encoder: Encoder,
        samples: Samples,
        maps: dict[int, np.ndarray],
        fraction: float,
        config: SegmentationConfig | DetectionConfig,
        folder: Path,
    ) -> dict[str, Any]:
        """Train and test one decoder; with maps on them, without on the pictures themselves."""
        segments = isinstance(config, SegmentationConfig)
        target = self._targets(samples, segments)
        maps = maps if segments else dict(sorted(maps.items())[-3:])
        pictures = {"image": self._pictures(samples)}
        kept = {f"map{i}": values for i, values in enumerate(maps.values())} or pictures
        augmented = segments and config.augmentation != "none"
        train = Columns({**(pictures if augmented or config.train_encoder else kept), **target})
        other = Columns({**(pictures if config.train_encoder else kept), **target})
        rows = self._rows(samples, fraction, encoder.seed, segments and samples.name in BALANCED)
        config = config.model_copy(update={"batch_size": min(config.batch_size, len(rows))})
        splits = (np.flatnonzero(samples.table["split"] == split) for split in ("valid", "test"))
        parts = (_part(train, rows), *(_part(other, positions) for positions in splits))
        fit = fit_segmentation if segments else fit_detection
        place = folder / f"{'segmentation' if segments else 'detection'}-{fraction:g}"
        outcome = fit(self.load_encoder(encoder), *parts, config, seed=encoder.seed, directory=place)
        return {**outcome, "images": len(rows), "test_images": outcome["images"]}

    def _targets(self, samples: Samples, segments: bool) -> dict[str, np.ndarray]:
        """What is to be found in all pictures; read once, whatever is trained on it."""
        key, size = (samples.name, segments), self.settings.localize_size
        if key not in self._known_targets:
            if segments:
                self._known_targets[key] = {"mask": masks(samples, size)}
            else:
                self._known_targets[key] = {"boxes": box_targets(boxes_in_square(samples, size), size)}
        return self._known_targets[key]

    def _rows(self, samples: Samples, fraction: float, seed: int, balanced: bool) -> np.ndarray:
        """Positions of the training pictures of a label fraction."""
        chosen = label_fraction(samples, fraction, seed).table["image"]
        rows = np.flatnonzero(samples.table["image"].isin(chosen))
        return rows[balanced_rows(has_outline(samples)[rows], seed)] if balanced else rows


def _part(data: Columns, rows: np.ndarray) -> Dataset:
    return Subset(data, rows.tolist())
