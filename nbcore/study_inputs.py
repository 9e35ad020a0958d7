"""What a study works on: its data sets, real or twins, and its language model, as cached stages."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self
from zlib import crc32

import numpy as np
import torch
from matplotlib.figure import Figure

from nbcore.analysis import figures
from nbcore.cache import stage
from nbcore.data import Samples, image_cache, load, load_manifest
from nbcore.data.masks import has_outline, masks
from nbcore.data.phantom.twins import describe_twin, write_twin
from nbcore.errors import UsageError, UserError
from nbcore.files import digest, file_fingerprint
from nbcore.models.text import TextEncoder, text_encoder
from nbcore.models.weights import WEIGHT_FILES, find_folder
from nbcore.paths import RESULTS
from nbcore.recorder import Recorder
from nbcore.settings import StudySettings, load_settings, settings_class
from nbcore.side_by_side import SideBySide, Step
from nbcore.standin import train_standin

STANDIN = "standin"  # the `text_model` of a study that has no weights to load


def device() -> torch.device:
    """This machine's accelerator, or its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reopen(
    kind: type["StudyInputs"],
    notebook: str,
    profile: str,
    settings: dict[str, Any],
    data_root: str | Path | None,
    output_root: str | Path,
) -> "StudyInputs":
    """The same study in another process."""
    return kind(
        notebook,
        settings_class(notebook).model_validate(settings),
        profile=profile,
        seed=0,
        data_root=None if data_root is None else Path(data_root),
        output_root=Path(output_root),
    )


class StudyInputs:
    """Settings, data sets and language model of one run of a pre-training notebook."""

    def __init__(
        self,
        notebook: str,
        settings: StudySettings,
        *,
        profile: str,
        seed: int,
        data_root: Path | None,
        output_root: Path,
        overrides: dict[str, Any] | None = None,
    ):
        self.notebook, self.profile, self.settings = notebook, profile, settings
        self.command = " ".join(
            [f"python -m nbcore run {notebook} --profile {profile} --seed {seed}"]
            + ["--data-root DIR"] * (settings.source == "real")
            + [f"-p {key}={value}" for key, value in (overrides or {}).items()]
        )
        self.seeds = list(range(seed, seed + settings.seeds))
        self.data_root = data_root
        self.output_root = output_root
        self._samples: dict[str, Samples] = {}
        if settings.source == "real" and data_root is None:
            raise UsageError("this profile needs real data: give the folder that holds it with --data-root DIR.")
        torch.set_num_threads(settings.threads)

    @cached_property
    def cache_root(self) -> Path:
        """Where finished stages are kept; those of credentialed data stay beside the data and never reach results/."""
        private = any(self.is_private(name) for name in self.settings.data_sets)
        return self.data_root if private else self.output_root

    def is_private(self, name: str) -> bool:
        """Whether nothing of a data set may be shown."""
        return self.settings.source == "real" and load_manifest(name).is_private

    @classmethod
    def open(
        cls,
        notebook: str,
        *,
        profile: str,
        seed: int,
        data_root: str | None,
        output_root: str | None,
        overrides: dict[str, Any],
    ) -> Self:
        """The study that a notebook's parameters ask for. UsageError for an unknown profile, key or value."""
        return cls(
            notebook,
            load_settings(notebook, profile, overrides),
            profile=profile,
            seed=seed,
            data_root=None if data_root is None else Path(data_root),
            output_root=RESULTS if output_root is None else Path(output_root),
            overrides=overrides,
        )

    def run_all(self, method: str, calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]], title: str) -> list[Any]:
        """Results of a method of this study for several arguments (positional, named), `settings.jobs` at a time."""
        if self.settings.jobs == 1:
            return [getattr(self, method)(*arguments, **changes) for arguments, changes in calls]
        return self._pool.run([Step(method, arguments, changes) for arguments, changes in calls], title)

    @cached_property
    def _pool(self) -> SideBySide:
        again = partial(reopen, type(self), self.notebook, self.profile, self.settings.model_dump(mode="json"))
        return SideBySide(self.settings.jobs, partial(again, self.data_root, self.output_root))

    # --- data

    def samples(self, name: str) -> Samples:
        """The table of a data set: real, or its twin, which is written the first time."""
        if name not in self._samples:
            root = self._twin(name) if self.settings.source == "twin" else self.data_root / name
            self._samples[name] = load(name, root)
        return self._samples[name]

    def _twin(self, name: str) -> Path:
        manifest, size = load_manifest(name), self.settings.twin_size
        images = self.settings.twin_images.get(name, manifest.twin.images)
        seed = crc32(name.encode())  # its own, or twins of one hospital would show the same patients
        key = describe_twin(manifest, images, size, seed)

        def build(folder: Path) -> None:
            write_twin(manifest, folder / name, images=images, size=size, seed=seed)

        return stage("twins", key, build, self.cache_root).path / name

    def images(self, samples: Samples) -> np.ndarray:
        """Its radiographs as one memory-mapped array, uint8 (n, resize, resize), decoded once."""
        return image_cache(samples, self.settings.resize, self.cache_root / "cache" / "images")

    @cached_property
    def pairs(self) -> Samples:
        """The image-report pairs to pre-train on, reports of at least three words."""
        samples = self.samples(self.settings.pretrain_on)
        return (samples if self.settings.pretrain_split == "all" else samples.split("train")).pairs(min_words=3)

    def label(self, name: str) -> str:
        """What the papers' tables call a data set."""
        return load_manifest(name).short_title

    def gallery(self, name: str, images: int = 12) -> Figure:
        """Some training images under their positive labels; a blank page for credentialed data."""
        samples = self.samples(name).split("train")
        samples = samples.subset(np.linspace(0, len(samples) - 1, min(images, len(samples))).astype(int))
        if self.is_private(name) and not self.settings.allow_patient_data:
            return figures.image_grid([], [])
        positive = [[c for c, y in zip(samples.classes, row) if y == 1] for row in samples.labels()]
        titles = [", ".join(names[:2]) + (" ..." if len(names) > 2 else "") for names in positive]
        return figures.image_grid(list(self.images(samples)), titles)

    def outlined_gallery(self, name: str, images: int = 6) -> Figure:
        """Some training images with what is to be found in them outlined; a blank page for credentialed data."""
        samples = self.samples(name).split("train")
        rows = np.flatnonzero(has_outline(samples))
        samples = samples.subset(rows[np.linspace(0, len(rows) - 1, min(images, len(rows))).astype(int)])
        if self.is_private(name) and not self.settings.allow_patient_data:
            return figures.image_grid([], [])
        pictures, outlines = self.images(samples), masks(samples, self.settings.resize)
        return figures.outlined(pictures, outlines, [self.label(name)] * len(pictures))

    def readable_reports(self, count: int) -> list[str]:
        """Some reports to read; none of credentialed data."""
        if self.is_private(self.settings.pretrain_on) and not self.settings.allow_patient_data:
            return ["Reports of credentialed data are not shown."]
        reports = self.pairs.table["report"]
        return reports.iloc[np.linspace(0, len(reports) - 1, count).astype(int)].tolist()

    def recorder(self, title: str) -> Recorder:
        """A record of this run."""
        return Recorder(
            self.notebook,
            title,
            profile=self.profile,
            config=self.settings.model_dump(mode="json"),
            seeds=self.seeds,
            source="phantom" if self.settings.source == "twin" else "real",
            output_root=self.output_root,
            command=self.command,
        )

    # --- language models

    def language_model(self, source: str) -> Path:
        """Folder of a language model's weights: those asked for, or a stand-in trained on the pairs' own text.

        Raises:
            UserError: the weights are not at hand and `text_fallback` is off.
        """
        settings = self.settings
        if source != STANDIN:
            try:
                names = ("*.json", "vocab.txt", *WEIGHT_FILES)
                return find_folder(source, files=names, download=settings.download)
            except UserError as error:
                if not settings.text_fallback:
                    raise
                print(f"{error} Falling back on a stand-in trained on the pairs' own reports.")
        return self._standin

    @cached_property
    def _standin(self) -> Path:
        settings, texts = self.settings, self.pairs.table["report"].tolist()
        keys = {name: value for name, value in settings.model_dump().items() if name.startswith("standin")}
        key = {"texts": digest(texts), "max_length": settings.max_length, "threads": settings.threads, **keys}
        build = partial(train_standin, texts, settings, max_length=settings.max_length, threads=settings.threads)
        return stage("language", key, build, self.cache_root).path

    def is_standin(self, source: str) -> bool:
        """Whether a stand-in serves in the place of this language model."""
        return self.language_model(source).is_relative_to(self.cache_root / "cache" / "language")

    def language_key(self, source: str) -> str:
        """A hash of the weights that serve as this language model."""
        folder = self.language_model(source)
        return digest([file_fingerprint(folder / f) for f in ("config.json", *WEIGHT_FILES) if (folder / f).is_file()])

    def text_encoder(self, source: str, **options: Any) -> TextEncoder:
        """The language model itself; `options` as for `models.text.text_encoder`."""
        return text_encoder(str(self.language_model(source)), **options)

    def report_embeddings(self, reports: list[str]) -> np.ndarray:
        """[CLS] embeddings of reports by the study's frozen language model, computed once: float32 (n, D)."""
        source, max_length = self.settings.text_model, self.settings.max_length

        def build(folder: Path) -> None:
            embeddings = self.text_encoder(source).to(device()).embed(reports, max_length)
            np.save(folder / "embeddings.npy", embeddings.numpy())

        key = {"model": self.language_key(source), "texts": digest(reports), "max_length": max_length}
        return np.load(stage("embeddings", key, build, self.cache_root).path / "embeddings.npy", mmap_mode="r")
