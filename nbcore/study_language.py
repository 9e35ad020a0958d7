"""The language models of a study: published ones, a stand-in, and their extension to a second language."""

from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from transformers import BertTokenizer

from nbcore.cache import stage
from nbcore.checkpoint import NO_INFLUENCE
from nbcore.data.corpora import read_corpus
from nbcore.data.splits import patient_split
from nbcore.data.vocabulary import rank_new_words, spanish_words
from nbcore.errors import UserError
from nbcore.files import digest, file_fingerprint
from nbcore.language_stages import masked_loss, train_cross_lingual, train_text_alignment
from nbcore.methods.pairs import PairConfig
from nbcore.models.text import TextEncoder, text_encoder
from nbcore.models.vocabulary import pieces_per_word, tokenisation
from nbcore.models.weights import WEIGHT_FILES, find_folder
from nbcore.standin import train_standin
from nbcore.study_base import device
from nbcore.study_inputs import StudyInputs

LANGUAGES = {"en": "English", "es": "Spanish"}
STANDIN = "standin"  # the `text_model` of a study that has no weights to load
_HELD_OUT = 0.2  # share of a corpus, by document, that is not learnt from


class StudyLanguage(StudyInputs):
    """Makes, takes up or loads the language models of one run of a pre-training notebook."""

    def texts(self, language: str, part: Literal["train", "test"]) -> pd.DataFrame:
        """Reports to learn a language from, or others to judge by: columns text, document (the patient).

        They are those of the image-report pairs, unless `corpus` names a collection of texts.
        """
        if name := self.settings.corpus.get(language):
            found = read_corpus(name, self.data_root / name)
            split = patient_split(np.array(found.documents), {"test": _HELD_OUT}, seed=0)
            table = pd.DataFrame({"text": found.texts, "document": found.documents})[split == part]
        else:
            table = self.pairs_in([language], part).table.rename(columns={"report": "text", "patient": "document"})
        return table[["text", "document"]].reset_index(drop=True)

    def corpora(self) -> dict[str, str]:
        """What the record tells of the collections of texts, by language: name, numbers, content."""
        told = {}
        for language, name in self.settings.corpus.items():
            parts = {part: self.texts(language, part)["text"].tolist() for part in ("train", "test")}
            sizes = ", ".join(f"{len(texts):,} {part}" for part, texts in parts.items())
            told[language] = f"{name}: {sizes} texts, fingerprint {digest(parts)}"
        return told

    # --- published language models, and the stand-in for them

    def language_model(self, source: str) -> Path:
        """Folder of a language model's weights: those asked for, or a stand-in trained on the study's English texts.

        Raises:
            UserError: the weights are not at hand and `text_fallback` is off.
        """
        if source == STANDIN or source in self._absent:
            return self._standin
        try:
            names = ("*.json", "vocab.txt", *WEIGHT_FILES)
            return find_folder(source, files=names, download=self.settings.download)
        except UserError as error:
            if not self.settings.text_fallback:
                raise
            print(f"{error} Falling back on a stand-in trained on the reports at hand.")
            self._absent.add(source)
            return self._standin

    @cached_property
    def _absent(self) -> set[str]:
        """Language models that have been looked for in vain: it is said once."""
        return set()

    @cached_property
    def _standin(self) -> Path:
        settings, texts = self.settings, self._learnt("en")
        keys = {name: value for name, value in settings.model_dump().items() if name.startswith("standin")}
        key = {"texts": digest(texts), "max_length": settings.max_length, "threads": settings.threads, **keys}
        build = partial(train_standin, texts, settings, max_length=settings.max_length, threads=settings.threads)
        return stage("language", key, build, self.cache_root).path

    def is_standin(self, source: str) -> bool:
        """Whether a stand-in serves in the place of this language model."""
        return self.language_model(source).is_relative_to(self.cache_root / "cache" / "language")

    def networks(self) -> list[str]:
        """What reads images and texts in the place of the paper's networks, in sentences for the record."""
        settings, paper = self.settings, type(self.settings).model_fields
        told = f"Image encoder: {settings.vision} at {settings.image_size} pixels"
        theirs = f"{paper['vision'].default} at {paper['image_size'].default} pixels"
        if told != f"Image encoder: {theirs}":
            told += f", wherever a row names the paper's encoder ({theirs})"
        name, source = settings.text_model, paper["text_model"].default
        if self.is_standin(name):
            name = f"a stand-in trained on the English reports at hand, in the place of {source}"
        return [f"{told}.", f"Language model: {name}."]

    # --- the language model of a method

    def language_folder(self, config: PairConfig) -> Path:
        """Folder of the language model that a method starts from, extended to a second language if it asks for that."""
        return self._cross_lingual(config) if config.language_stage else self.language_model(config.text_model)

    def language_key(self, config: PairConfig) -> str:
        """A hash of its weights."""
        return self.weights_key(self.language_folder(config))

    def text_encoder(self, config: PairConfig) -> TextEncoder:
        """The language model itself, as the method trains it."""
        return text_encoder(str(self.language_folder(config)), **config.text_options)

    def report_embeddings(self, reports: list[str], config: PairConfig | None = None) -> np.ndarray:
        """[CLS] embeddings of reports by the frozen language model of a method, by default the notebook's own, computed
        once: float32 (n, D)."""
        config = config or self.config()
        folder = self.language_folder(config)

        def build(place: Path) -> None:
            embeddings = text_encoder(str(folder)).to(device()).embed(reports, config.max_length)
            np.save(place / "embeddings.npy", embeddings.numpy())

        key = {"model": self.weights_key(folder), "texts": digest(reports), "max_length": config.max_length}
        return np.load(stage("embeddings", key, build, self.cache_root).path / "embeddings.npy", mmap_mode="r")

    def _cross_lingual(self, config: PairConfig) -> Path:
        """Vocabulary extension and masked language modelling (Med-UniC, Sect. 3.2), once for all seeds."""
        base, own = self.language_model(config.text_model), config.language_stage
        texts = {language: self._learnt(language) for language in LANGUAGES}

        def build(folder: Path) -> None:
            words = rank_new_words(texts["es"], spanish_words, ranking=config.mlm_ranking)
            train_cross_lingual([*texts["en"], *texts["es"]], base, words, own, folder, seed=0)

        key = {
            "base": self.weights_key(base),
            "texts": digest(texts),
            "config": own.model_dump(mode="json", exclude=NO_INFLUENCE),
            "ranking": config.mlm_ranking,
        }
        return stage("language", key, build, self.cache_root).path

    def aligned_texts(self, seed: int) -> Path:
        """Folder of the language model after the cross-lingual stage and CTR on the same texts, without pictures."""
        config = self.config()
        base, most = self.language_folder(config), self.settings.pairs_each
        texts = [text for language in LANGUAGES for text in self._learnt(language)[:most]]

        def build(folder: Path) -> None:
            train_text_alignment(texts, base, config, folder, seed=seed)

        key = {
            "base": self.weights_key(base),
            "texts": digest(texts),
            "config": config.model_dump(mode="json", exclude=NO_INFLUENCE),
            "seed": seed,
        }
        return stage("aligned_texts", key, build, self.cache_root).path

    def _learnt(self, language: str) -> list[str]:
        return self.texts(language, "train")["text"].tolist()

    # --- what the cross-lingual stage has done

    @property
    def text_source(self) -> str:
        """Whose reports they are, for a caption."""
        return " and ".join(dict.fromkeys(self.settings.corpus.get(name) or "the pairs' own" for name in LANGUAGES))

    def masked_loss(self, language: str) -> float:
        """Cross-entropy (nats) of masked words of held-out reports, after the cross-lingual stage."""
        config = self.config()
        texts = self.texts(language, "test")["text"].tolist()
        return masked_loss(self.language_folder(config), texts, seed=0, max_length=config.max_length)

    def pieces_per_word(self, config: PairConfig, language: str) -> float:
        """Into how many pieces a method's language model cuts a word of held-out reports, on average."""
        return pieces_per_word(self.texts(language, "test")["text"].tolist(), self._tokenizer(config))

    def tokenisation(self) -> tuple[list[str], list[str], list[bool]]:
        """A Spanish report in word pieces, before and after new words joined the vocabulary, and which pieces are new;
        nothing where any of the pairs are private."""
        lengths = self.texts("es", "test")["text"].str.split().str.len()
        typical = int((lengths - 30).abs().to_numpy().argmin())
        report = self.texts("es", "test")["text"].iloc[typical]
        pieces = tokenisation(report, self._tokenizer(self.config(mlm=False)), self._tokenizer(self.config()))
        before, after, is_new = (self.guard.rows(self.pairs_in(list(LANGUAGES)), part) for part in pieces)
        return before, after, is_new

    def _tokenizer(self, config: PairConfig) -> BertTokenizer:
        return BertTokenizer.from_pretrained(self.language_folder(config))

    def weights_key(self, folder: Path) -> str:
        """A hash of the language model in a folder: of what it was made from, if it is a stage's, else of its files."""
        if folder.is_relative_to(self.cache_root / "cache"):
            return f"{folder.parent.name}/{folder.name}"
        return digest([file_fingerprint(folder / f) for f in ("config.json", *WEIGHT_FILES) if (folder / f).is_file()])
