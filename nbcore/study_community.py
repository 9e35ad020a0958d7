"""How much of a hospital's language and of its machines a study's embeddings betray; as cached stages."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nbcore.analysis.community import community_probe, community_silhouette, translated_retrieval
from nbcore.cache import stage
from nbcore.data.phantom.parallel import parallel_reports
from nbcore.files import atomic_write, digest
from nbcore.models.text import text_encoder
from nbcore.study_base import device
from nbcore.study_encoders import Encoder, StudyEncoders
from nbcore.study_language import LANGUAGES
from nbcore.tasks.zero_shot import unit_rows

_EACH = 1000  # reports or pictures of a community that are looked at, as in the paper's Figures 1 and 4
_TRANSLATED = 500  # reports of one study in both languages
_BATCH = 128


class StudyCommunity(StudyEncoders):
    """Judges language models and image encoders by how far apart they keep two communities."""

    def held_out_reports(self, most: int = _EACH) -> pd.DataFrame:
        """Reports of both languages that nothing was learnt from, equally many and at most so many of each: text,
        document, language."""
        tables = {name: self.texts(language, "test") for language, name in LANGUAGES.items()}
        most = min(most, *map(len, tables.values()))
        parts = [table.iloc[_spread(len(table), most)].assign(language=name) for name, table in tables.items()]
        return pd.concat(parts, ignore_index=True)

    def similarity(self, model: Encoder | str, reports: pd.DataFrame, seed: int) -> np.ndarray:
        """Cosines of their [CLS] states with each other, (n, n)."""
        states = unit_rows(self.report_states(model, reports["text"].tolist(), seed))
        return states @ states.T

    def report_states(self, model: Encoder | str, texts: Sequence[str], seed: int) -> np.ndarray:
        """[CLS] states of reports, before any projector: float32 (n, D).

        Args:
            model: a pre-trained method, whose language model went on learning; or "MLM", the language model it started
                from, after masked language modelling on both languages; or "base", the one before; or "CTR", the one
                after CTR on texts alone.
            texts: in either language.
            seed: of "CTR"; the others know it, or have none.
        """
        if isinstance(model, str):
            return (
                text_encoder(str(self._folder(model, seed))).to(device()).embed(texts, self.settings.max_length).numpy()
            )
        method, length = self.load_method(model), model.config.max_length
        ids, mask = (values.to(device()) for values in method.text.tokenize(texts, length))
        with torch.no_grad():
            states = [method.report_states(*part) for part in zip(ids.split(_BATCH), mask.split(_BATCH))]
        return torch.cat(states).float().cpu().numpy()

    def _folder(self, model: str, seed: int) -> Path:
        return self.aligned_texts(seed) if model == "CTR" else self.language_folder(self.config(mlm=model == "MLM"))

    def text_bias(self, model: Encoder | str, seed: int) -> dict[str, float]:
        """Of held-out reports: "probe", how well a linear classifier tells the language (1 always, 0.5 never), and
        "silhouette"; on twins, where studies are reported in both languages, "en_to_es" and "es_to_en" as well: the
        share of reports whose translation is the nearest."""
        reports = self.held_out_reports()
        communities, patients = reports["language"].to_numpy(), reports["document"].to_numpy()
        translated = _translated(seed) if self.settings.source == "twin" else None

        def build(folder: Path) -> None:
            states = self.report_states(model, reports["text"].tolist(), seed)
            found = _bias(states, communities, patients, seed)
            if translated:
                english, spanish = (self.report_states(model, texts, seed) for texts in translated)
                recalls = translated_retrieval(english, spanish, texts=translated)
                found |= {name.removesuffix("_recall@1"): value for name, value in recalls.items()}
            atomic_write(folder / "bias.json", json.dumps(found))

        key = {
            "model": self.weights_key(self._folder(model, seed)) if isinstance(model, str) else model.key,
            "max_length": self.settings.max_length,
            "texts": digest([reports.to_csv(), translated]),
            "seed": seed,
        }
        return json.loads((stage("bias", key, build, self.cache_root).path / "bias.json").read_text())

    def image_bias(self, encoder: Encoder) -> dict[str, float]:
        """The same of the pooled features of the pair sets' test pictures: the community is the hospital."""
        features, communities, patients = self.community_features(encoder)
        return _bias(features, communities, patients, encoder.seed)

    def community_features(self, encoder: Encoder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pooled features of the pair sets' test pictures, equally many and at most 1,000 a set, under the language of
        their reports: (n, N), (n,), and the patients (n,)."""
        test = {name: np.flatnonzero(self.samples(name).table["split"] == "test") for name in self.pair_languages}
        most, parts = min(_EACH, *map(len, test.values())), []
        for name, language in self.pair_languages.items():
            samples, rows = self.samples(name), test[name][_spread(len(test[name]), most)]
            patients = name + "/" + samples.table["patient"].iloc[rows].astype(str)
            hospital = np.full(len(rows), LANGUAGES[language])
            parts.append((self.features(encoder, samples.subset(rows)), hospital, patients))
        features, communities, patients = (np.concatenate(values) for values in zip(*parts))
        return features, communities, patients

    def biases(
        self, texts: Mapping[str, Sequence[Encoder | str]], images: Mapping[str, Sequence[Encoder]]
    ) -> pd.DataFrame:
        """Biases of models by title, one a seed: embedding, modality, seed, probe, silhouette, en_to_es, es_to_en."""
        texts_todo = [(title, model, seed) for title, runs in texts.items() for model, seed in zip(runs, self.seeds)]
        images_todo = [(title, encoder) for title, runs in images.items() for encoder in runs]
        text = self.run_all("text_bias", [((model, seed), {}) for _, model, seed in texts_todo], "bias of texts")
        image = self.run_all("image_bias", [((encoder,), {}) for _, encoder in images_todo], "bias of pictures")
        rows: list[dict[str, Any]] = [
            {"embedding": title, "modality": "text", "seed": seed, **found}
            for (title, _, seed), found in zip(texts_todo, text)
        ]
        rows += [
            {"embedding": title, "modality": "image", "seed": encoder.seed, **found}
            for (title, encoder), found in zip(images_todo, image)
        ]
        return pd.DataFrame(rows)


@cache
def _translated(seed: int) -> tuple[list[str], list[str]]:
    return parallel_reports(_TRANSLATED, seed)


def _bias(points: np.ndarray, communities: np.ndarray, patients: np.ndarray, seed: int) -> dict[str, float]:
    return {
        "probe": community_probe(points, communities, patients, seed),
        "silhouette": community_silhouette(points, communities),
    }


def _spread(rows: int, most: int) -> np.ndarray:
    """So many positions in a table of `rows`, evenly spread."""
    return np.linspace(0, rows - 1, most).astype(int)
