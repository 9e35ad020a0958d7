"""A small language model trained on the reports at hand, kept in the layout of published BERT weights."""

from collections.abc import Sequence
from pathlib import Path

import torch

from nbcore.config import TrainConfig
from nbcore.methods.language import LanguageModel, ReportViews
from nbcore.models.text import small_bert, train_tokenizer
from nbcore.settings import StudySettings
from nbcore.train import fit


def train_standin(
    texts: Sequence[str], settings: StudySettings, directory: Path, *, max_length: int, threads: int
) -> None:
    """Train a stand-in on `texts` and save it under `directory` as transformers saves a `BertModel` and its tokenizer.

    Its seed is fixed: like published weights, it is one model, whatever the seed of the study.
    """
    config = TrainConfig(
        epochs=settings.standin_epochs,
        batch_size=min(64, len(texts)),
        learning_rate=1e-3,
        weight_decay=0.01,
        schedule="warmup_cosine",
        warmup_fraction=0.1,
        clip_norm=1.0,
        threads=threads,
    )
    torch.manual_seed(0)
    # a few epochs do not overfit, and drawing dropout masks would take a third of a CPU's time
    tokenizer = train_tokenizer(texts, settings.standin_vocabulary)
    bert = small_bert(
        tokenizer, width=settings.standin_width, layers=settings.standin_layers, max_length=max_length, dropout=0.0
    )
    views = ReportViews(texts, tokenizer, max_length=max_length, seed=0)
    fit(LanguageModel(bert, tokenizer), views, config, seed=0, directory=directory / "training")
    bert.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
