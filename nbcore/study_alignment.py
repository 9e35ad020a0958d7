"""What a study's methods have aligned: retrieval, words on pictures, prototypes; as cached stages."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from nbcore.analysis.language_figures import similarity_maps_figure
from nbcore.cache import stage
from nbcore.data import Samples
from nbcore.data.batches import prepare
from nbcore.data.masks import has_outline, masks
from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.study_base import device
from nbcore.study_encoders import Encoder, StudyEncoders
from nbcore.tasks.pointing import Pointing, pointing_game
from nbcore.tasks.retrieval import retrieval_metrics

_BATCH = 64


@dataclass(frozen=True)
class Phrase:
    """A sentence that says what the outlined pictures of a data set show, and the word of it that names the finding."""

    sentence: str
    word: str


PHRASES = {
    "siim-acr": Phrase("pneumothorax is present", "pneumothorax"),
    "rsna-pneumonia": Phrase("pneumonia is present", "pneumonia"),
}


@dataclass(frozen=True)
class WordMaps:
    """Where a word looks in pictures, with what is there to be found.

    Attributes:
        pictures: uint8 (n, H, H).
        maps: float32 (n, H, H), attention of the word, scaled up from the regions.
        outlines: bool (n, H, H), the finding.
    """

    pictures: np.ndarray
    maps: np.ndarray
    outlines: np.ndarray


class StudyAlignment(StudyEncoders):
    """Judges what methods with `embed`, `word_maps` or `prototypes` have aligned."""

    def retrieval(self, encoder: Encoder) -> dict[str, float]:
        """Recall and precision at 1, 5 and 10 between the test pictures and test reports of the pre-training set.

        Raises:
            UsageError: the study pre-trains on the test split, too.
        """
        pairs = self._pairs_of(self.settings.pretrain_on, "test")

        def build(folder: Path) -> None:
            reports, labels = pairs.table["report"].to_numpy(), pairs.labels()
            method = self.load_method(encoder)
            ids, mask = method.text.tokenize(reports.tolist(), encoder.config.max_length)
            found = self._each_batch(pairs, lambda batch: method.embed(batch), ids=ids, mask=mask)
            images, texts = (torch.cat(part).float().cpu().numpy() for part in zip(*found))
            ks = [k for k in (1, 5, 10) if k <= len(pairs)]
            metrics = retrieval_metrics(images, texts, labels, groups=reports, ks=ks)
            atomic_write(folder / "metrics.json", json.dumps(metrics))

        key = {"encoder": encoder.key, "data": pairs.fingerprint(), "resize": self.settings.resize}
        return json.loads((stage("retrieval", key, build, self.cache_root).path / "metrics.json").read_text())

    def word_maps(self, encoder: Encoder, name: str, count: int | None = None) -> WordMaps:
        """Where the word for its finding looks in the (first `count`) outlined test pictures of a data set, to be
        shown: black for private data."""
        samples = self._outlined(name, count)
        return self._shown(samples, self._word_maps(encoder, samples, name))

    def _word_maps(self, encoder: Encoder, samples: Samples, name: str) -> WordMaps:
        maps = self._attention(self.load_method(encoder), self.images(samples), PHRASES[name])
        return self._beside_outlines(samples, maps)

    def _attention(self, method: Any, pixels: np.ndarray, phrase: Phrase) -> np.ndarray:
        """Attention of a phrase's word over pictures (n, R, R), scaled up from the regions: (n, H, H)."""
        place = method.words_of(phrase.sentence).index(phrase.word)
        ids, mask = method.text.tokenize([phrase.sentence] * len(pixels), method.config.max_length)
        found = self._in_batches(pixels, lambda batch: method.word_maps(batch)[:, place], ids=ids, mask=mask)
        maps = torch.cat(found).float().cpu()  # (n, S)
        side, size = round(maps.shape[1] ** 0.5), method.config.image_size
        return F.interpolate(maps.unflatten(1, (1, side, side)), (size, size), mode="bilinear")[:, 0].numpy()

    def outlined_numbers(self, data_set: str) -> range:
        """Numbers of the outlined test pictures of a data set."""
        return range(len(self._outlined(data_set, None)))

    @staticmethod
    def sentence_of(data_set: str) -> str:
        """The sentence that says what the outlined pictures of a data set show."""
        return PHRASES[data_set].sentence

    @staticmethod
    def words_of(method: Any, sentence: str) -> list[str]:
        """The words of a sentence as a method reads it; an empty one where there are none."""
        return list(dict.fromkeys(method.words_of(sentence)[:-1])) or [""]

    def word_view(self, method: Any, data_set: str, number: int, sentence: str, word: str) -> Figure:
        """Where a word of a sentence looks in an outlined test picture of a data set.

        Args:
            method: as `load_method` gives it.
            data_set, number, sentence, word: see `outlined_numbers`, `sentence_of` and `words_of`.

        Raises:
            UserError: the sentence does not have that word.
        """
        if word not in method.words_of(sentence)[:-1]:
            raise UserError("type a sentence and choose one of its words.")
        one, pixels = self._one_outlined(data_set, number)
        found = self._beside_outlines(one, self._attention(method, pixels, Phrase(sentence, word)), pixels)
        shown, titles = self._shown(one, found), self.guard.sentences(one, [f'"{word}"'])
        return similarity_maps_figure(shown.pictures, shown.outlines, {titles[0]: shown.maps}, side=3.4)

    def pointing(self, encoder: Encoder, name: str) -> Pointing:
        """The pointing game of the word for a data set's finding, on its test pictures."""

        def build(folder: Path) -> None:
            found = self._word_maps(encoder, self._outlined(name, None), name)
            atomic_write(folder / "pointing.json", json.dumps(pointing_game(found.maps, found.outlines)._asdict()))

        phrase = PHRASES[name]
        key = {
            "encoder": encoder.key,
            "data": self.samples(name).fingerprint(),
            "phrase": [phrase.sentence, phrase.word],
            "resize": self.settings.resize,
        }
        path = stage("pointing", key, build, self.cache_root).path
        return Pointing(**json.loads((path / "pointing.json").read_text()))

    def pointing_all(self, encoders: dict[str, list[Encoder]], names: Sequence[str]) -> pd.DataFrame:
        """The pointing game for encoders and data sets: columns method, seed, dataset, and those of `Pointing`."""
        todo = [(method, run, name) for method, runs in encoders.items() for run in runs for name in names]
        found = self.run_all("pointing", [((run, name), {}) for _, run, name in todo], "pointing game")
        rows = [
            {"method": method, "seed": run.seed, "dataset": name, **result._asdict()}
            for (method, run, name), result in zip(todo, found)
        ]
        return pd.DataFrame(rows, columns=["method", "seed", "dataset", *Pointing._fields])

    def single_findings(self, name: str, most: int = 1600) -> tuple[Samples, np.ndarray]:
        """Pictures with exactly one of the paper's findings, at most `most`, and which one: classes (n,)."""
        samples, (labels, _) = self.samples(name), self.labels(name)
        rows = np.flatnonzero(labels.sum(axis=1) == 1)
        rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
        return samples.subset(rows), labels[rows].argmax(axis=1)

    def assignments(self, encoder: Encoder, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
        """Aligned embeddings (n, P) of pictures, and the prototype nearest to each (n,)."""
        method = self.load_method(encoder)
        found = self._each_batch(samples, lambda batch: method.embed_images(batch["image"]))
        embeddings = torch.cat(found)
        return embeddings.float().cpu().numpy(), method.assignments(embeddings).cpu().numpy()

    def agreement(self, encoder: Encoder, name: str) -> float:
        """Adjusted mutual information of prototypes and findings over `single_findings`; 0 is chance, 1 is identity."""
        from sklearn.metrics import adjusted_mutual_info_score

        samples, classes = self.single_findings(name)
        return float(adjusted_mutual_info_score(classes, self.assignments(encoder, samples)[1]))

    # --- parts

    def _outlined(self, name: str, count: int | None) -> Samples:
        """The (first `count`) test pictures of a data set that have an outline."""
        samples = self.samples(name).split("test")
        return samples.subset(np.flatnonzero(has_outline(samples))[:count])

    def _one_outlined(self, name: str, number: int) -> tuple[Samples, np.ndarray]:
        """One of the outlined test pictures of a data set, and its pixels (1, R, R), decoded with all the others."""
        samples = self._outlined(name, None)
        return samples.subset([number]), self.images(samples)[number : number + 1]

    def _beside_outlines(self, samples: Samples, maps: np.ndarray, pixels: np.ndarray | None = None) -> WordMaps:
        """Maps beside the pictures they are of, or beside these pixels of theirs."""
        outlines = self._cropped(masks(samples, self.settings.resize)) > 0
        return WordMaps(self._cropped(self.images(samples) if pixels is None else pixels), maps, outlines)

    def _shown(self, samples: Samples, found: WordMaps) -> WordMaps:
        parts = (found.pictures, found.maps, found.outlines)
        return WordMaps(*(self.guard.pictures(samples, part) for part in parts))

    def _each_batch(
        self, samples: Samples, function: Callable[[dict[str, Tensor]], Any], **columns: Tensor
    ) -> list[Any]:
        """`function` of the pictures of `samples`, a batch at a time, beside the same rows of `columns`."""
        return self._in_batches(self.images(samples), function, **columns)

    @torch.no_grad()
    def _in_batches(
        self, pixels: np.ndarray, function: Callable[[dict[str, Tensor]], Any], **columns: Tensor
    ) -> list[Any]:
        """The same of pictures (n, R, R)."""
        results = []
        for start in range(0, len(pixels), _BATCH):
            rows = slice(start, start + _BATCH)
            image = prepare(torch.from_numpy(np.array(pixels[rows])), self.settings.image_size, "none")
            batch = {"image": image, **{name: values[rows] for name, values in columns.items()}}
            results.append(function({name: values.to(device()) for name, values in batch.items()}))
        return results

    def _cropped(self, pictures: np.ndarray) -> np.ndarray:
        size = self.settings.image_size
        offset = (pictures.shape[-1] - size) // 2
        return np.asarray(pictures[:, offset : offset + size, offset : offset + size])
