"""What a study's methods make of the names of findings, in English and Spanish; as cached stages.

Shapes: n images, C findings, P width of the aligned space, H side.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from nbcore.analysis.gradcam import map_agreement, similarity_maps
from nbcore.analysis.language_figures import similarity_maps_figure
from nbcore.cache import stage
from nbcore.data import Samples
from nbcore.data.prompts import finding_terms, prompt_pairs
from nbcore.data.spanish import stemmed
from nbcore.errors import UserError
from nbcore.files import atomic_write
from nbcore.study_alignment import StudyAlignment, WordMaps
from nbcore.study_base import device
from nbcore.study_encoders import Encoder
from nbcore.study_language import LANGUAGES
from nbcore.tasks.pointing import Pointing, pointing_game
from nbcore.tasks.zero_shot import ZeroShot, zero_shot_metrics, zero_shot_scores


class StudyZeroShot(StudyAlignment):
    """Judges methods with `embed_images` and `embed_texts` by prompts."""

    def zero_shot_scores(self, encoder: Encoder, name: str, language: str) -> tuple[np.ndarray, ZeroShot, list[str]]:
        """Test labels (n, C), cosines with the prompts (n, C), and the findings, of which each has positives and
        negatives among the test images."""
        samples = self.samples(name)
        test = np.flatnonzero(samples.table["split"] == "test")
        labels, findings = self.labels(name)[0][test], self.findings(name)
        judged = np.flatnonzero((labels.max(axis=0) > 0) & (labels.min(axis=0) < 1))
        method = self.load_method(encoder)
        found = self._each_batch(samples.subset(test), lambda batch: method.embed_images(batch["image"]))
        images = torch.cat(found).float().cpu().numpy()
        findings = [findings[c] for c in judged]
        pairs = prompt_pairs(findings, language, style=self._style(name))
        positive, negative = (self._prompts(method, texts, language).cpu().numpy() for texts in pairs)
        return labels[:, judged], zero_shot_scores(images, positive, negative), findings

    def zero_shot(self, encoder: Encoder, name: str, language: str) -> dict[str, float]:
        """Macro "auc", "f1" and "accuracy" of a data set's test images, with prompts in a language."""

        def build(folder: Path) -> None:
            labels, scores, _ = self.zero_shot_scores(encoder, name, language)
            atomic_write(folder / "metrics.json", json.dumps(zero_shot_metrics(labels, scores)))

        key = {
            "encoder": encoder.key,
            "data": [self.samples(name).fingerprint(), *self.label_key(name)],
            "resize": self.settings.resize,
            "prompts": [language, *prompt_pairs(self.findings(name), language, style=self._style(name))],
            "stems": self.settings.stem_prompts,
        }
        return json.loads((stage("zero_shot", key, build, self.cache_root).path / "metrics.json").read_text())

    def zero_shot_all(self, encoders: dict[str, list[Encoder]]) -> pd.DataFrame:
        """For every data set and language: columns method, seed, dataset, language, auc, f1, accuracy."""
        todo = [
            (method, run, name, language)
            for method, runs in encoders.items()
            for run in runs
            for name in self.settings.zero_shot_on
            for language in LANGUAGES
        ]
        found = self.run_all("zero_shot", [((run, name, language), {}) for _, run, name, language in todo], "zero-shot")
        rows = [
            {"method": method, "seed": run.seed, "dataset": name, "language": language, **metrics}
            for (method, run, name, language), metrics in zip(todo, found)
        ]
        return pd.DataFrame(rows, columns=["method", "seed", "dataset", "language", "auc", "f1", "accuracy"])

    def zero_shot_example(
        self, encoder: Encoder, name: str
    ) -> tuple[np.ndarray, list[tuple[str, str, float, str, float]]]:
        """A test picture (H, H) with as few findings as there are, and the prompts of the first of them with their
        cosines: (language, positive prompt, cosine, negative prompt, cosine). Nothing of private data."""
        samples, rows, place = self.samples(name).split("test"), [], 0
        for language, spoken in LANGUAGES.items():
            labels, scores, findings = self.zero_shot_scores(encoder, name, language)
            count = labels.sum(axis=1)
            place = int(np.where(count > 0, count, np.inf).argmin())
            finding = int(labels[place].argmax())
            (stated,), (denied,) = prompt_pairs([findings[finding]], language, style=self._style(name))
            cosines = [float(side[place, finding]) for side in (scores.positive, scores.negative)]
            rows.append((spoken, stated, cosines[0], denied, cosines[1]))
        picture = self._cropped(self.images(samples.subset([place])))[0]
        return self.guard.pictures(samples, picture), self.guard.rows(samples, rows)

    # --- where a term looks

    def term_maps(self, encoder: Encoder, name: str, language: str, count: int | None = None) -> WordMaps:
        """Grad-CAM of the likeness to a finding's name, of the (first `count`) outlined test pictures of a data set, to
        be shown: black for private data."""
        samples = self._outlined(name, count)
        return self._shown(samples, self._term_maps(encoder, samples, name, language))

    def _term_maps(self, encoder: Encoder, samples: Samples, name: str, language: str) -> WordMaps:
        term = finding_terms(name)[language]
        maps = self._gradcam(self.load_method(encoder), self.images(samples), term, language)
        return self._beside_outlines(samples, maps)

    def _gradcam(self, method: Any, pixels: np.ndarray, term: str, language: str) -> np.ndarray:
        """Grad-CAM of the likeness of pictures (n, R, R) to a term, (n, H, H)."""
        target = self._prompts(method, [term], language)[0]  # (P,)
        seen = partial(similarity_maps, method.vision, method.image_projector, stage=self.settings.gradcam_stage)
        found = self._in_batches(pixels, lambda batch: seen(batch["image"], target))
        return torch.cat(found).float().cpu().numpy()

    @staticmethod
    def term_of(language: str, data_set: str) -> str:
        """What the outlined pictures of a data set show, in a language."""
        return finding_terms(data_set)[language]

    def prompt_view(self, method: Any, data_set: str, number: int, english: str, spanish: str) -> Figure:
        """Where an outlined test picture of a data set is like a prompt in either language, by Grad-CAM.

        Args:
            method: as `load_method` gives it.
            data_set, number: see `outlined_numbers`.
            english, spanish: any words; an empty prompt is left out.

        Raises:
            UserError: both are empty.
        """
        prompts = {language: text for language, text in zip(LANGUAGES, (english, spanish)) if text.strip()}
        if not prompts:
            raise UserError("type a prompt in English or in Spanish.")
        one, pixels = self._one_outlined(data_set, number)
        maps = [self._gradcam(method, pixels, text, language) for language, text in prompts.items()]
        shown = [self._shown(one, self._beside_outlines(one, own, pixels)) for own in maps]
        titles = self.guard.sentences(one, [f"{LANGUAGES[language]}: {text}" for language, text in prompts.items()])
        heat = {title: found.maps for title, found in zip(titles, shown)}
        return similarity_maps_figure(shown[0].pictures, shown[0].outlines, heat, side=3.0)

    def term_pointing(self, encoder: Encoder, name: str) -> dict[str, Any]:
        """The pointing game of a finding's name, by language ("en", "es"), and how alike the two languages' maps are:
        "agreement", and "mismatched", the same for maps of different pictures."""

        def build(folder: Path) -> None:
            samples = self._outlined(name, None)
            found = {language: self._term_maps(encoder, samples, name, language) for language in LANGUAGES}
            result: dict[str, Any] = {
                language: pointing_game(maps.maps, maps.outlines)._asdict() for language, maps in found.items()
            }
            english, spanish = found["en"].maps, found["es"].maps
            result["agreement"] = map_agreement(english, spanish)
            result["mismatched"] = map_agreement(english, np.roll(spanish, 1, axis=0))
            atomic_write(folder / "pointing.json", json.dumps(result))

        key = {
            "encoder": encoder.key,
            "data": self.samples(name).fingerprint(),
            "terms": finding_terms(name),
            "stage": self.settings.gradcam_stage,
            "stems": self.settings.stem_prompts,
            "resize": self.settings.resize,
        }
        return json.loads((stage("gradcam", key, build, self.cache_root).path / "pointing.json").read_text())

    def term_pointing_all(self, encoders: Sequence[Encoder], names: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Of one method's runs: the pointing game (seed, dataset, language, hits, chance, ...), and how far the maps of
        the languages agree (seed, dataset, agreement, mismatched)."""
        todo = [(run, name) for run in encoders for name in names]
        found = self.run_all("term_pointing", [(step, {}) for step in todo], "Grad-CAM")
        games, agreement = [], []
        for (run, name), result in zip(todo, found):
            own = {"seed": run.seed, "dataset": name}
            games += [{**own, "language": language, **result[language]} for language in LANGUAGES]
            agreement.append({**own, "agreement": result["agreement"], "mismatched": result["mismatched"]})
        columns = ["seed", "dataset", "language", *Pointing._fields]
        return (
            pd.DataFrame(games, columns=columns),
            pd.DataFrame(agreement, columns=["seed", "dataset", "agreement", "mismatched"]),
        )

    # --- parts

    def _style(self, name: str) -> str:
        """The templates of a data set's prompts: those of the official code differ between the two."""
        style = self.settings.prompt_style
        return f"{style} on PadChest" if style == "official" and name == "padchest" else style

    def _prompt_text(self, text: str, language: str) -> str:
        """A prompt as the language models have learnt to read it: Spanish as stems, if `stem_prompts`."""
        return stemmed(text) if language == "es" and self.settings.stem_prompts else text

    @torch.no_grad()
    def _prompts(self, method: Any, texts: Sequence[str], language: str) -> torch.Tensor:
        """Unit vectors of prompts, (m, P)."""
        read = [self._prompt_text(text, language) for text in texts]
        ids, mask = method.text.tokenize(read, method.config.max_length)
        return method.embed_texts(ids.to(device()), mask.to(device())).float()
