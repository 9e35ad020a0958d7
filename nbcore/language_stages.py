"""Training of language models: the stages of Med-UniC before it sees pictures, saved as transformers saves a BERT.

Shapes: B batch, L word pieces, D hidden width.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import BertForMaskedLM, BertTokenizer

from nbcore import launch
from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_write
from nbcore.methods.cross_lingual import CrossLingualConfig, CrossLingualModel, ReportPieces, with_head
from nbcore.methods.med_unic import Config
from nbcore.methods.text_alignment import TextAlignment
from nbcore.models.text import text_encoder
from nbcore.models.vocabulary import extend_vocabulary
from nbcore.train import History, fit


def train_cross_lingual(
    texts: Sequence[str], base: Path, words: Sequence[str], config: CrossLingualConfig, directory: Path, *, seed: int
) -> History:
    """Extend a language model's vocabulary and train it on reports of both languages, in as many processes as asked.

    It is saved in `directory` as transformers saves a `BertForMaskedLM` and its tokenizer: `text_encoder` loads it, and
    `masked_loss` judges it. The head is new. A run that was killed is taken up, one that has ended is loaded.

    Args:
        texts: reports in any order of languages; training shuffles them.
        base: folder of the language model to extend.
        words: of the second language, the most important ones first; the first `config.new_words` unknown ones count.

    Raises:
        UserError: a text holds no word, the weights are not usable, or another run has used `directory`.
        UsageError: `config.max_length` exceeds what the model reads, or this machine cannot serve `config`.
    """
    corpus = directory / "corpus.json"  # too long for a command line; never leaves the place of private data
    directory.mkdir(parents=True, exist_ok=True)
    atomic_write(corpus, json.dumps({"texts": list(texts), "words": list(words)}))
    arguments = {
        "corpus": str(corpus),
        "base": str(base),
        "config": config.model_dump(mode="json"),
        "directory": str(directory),
        "seed": seed,
    }
    model, history = launch.train("nbcore.language_stages:training_job", arguments)
    corpus.unlink()
    model.language.save_pretrained(directory)
    model.tokenizer.save_pretrained(directory)
    return history


def training_job(corpus: str, base: str, config: dict[str, Any], directory: str, seed: int) -> launch.Job:
    """The training of `train_cross_lingual`, as each of its processes builds it."""
    settings, content = CrossLingualConfig(**config), json.loads(Path(corpus).read_text(encoding="utf-8"))
    encoder = text_encoder(base)
    longest = encoder.bert.config.max_position_embeddings
    if settings.max_length > longest:
        raise UsageError(f"max_length is {settings.max_length} but {base} reads {longest} word pieces: lower it.")
    torch.manual_seed(seed)
    bert, tokenizer, _ = extend_vocabulary(encoder.bert, encoder.tokenizer, content["words"], settings.new_words)
    model = CrossLingualModel(with_head(bert), tokenizer, settings.mask_rate)
    data = ReportPieces(content["texts"], tokenizer, settings.max_length)
    return launch.Job(model, data, settings, seed, Path(directory) / "training")


@torch.no_grad()
def masked_loss(folder: Path, texts: Sequence[str], *, seed: int, max_length: int = 256, batch_size: int = 64) -> float:
    """Mean cross-entropy (nats) of the masked word pieces of `texts`; the masks are a function of the other arguments.

    Models with other vocabularies restore other pieces: compare the losses of one vocabulary only. A text is read up
    to `max_length` pieces, or as far as the model has positions.

    Args:
        folder: of `train_cross_lingual`, or another `BertForMaskedLM` with its tokenizer.

    Raises:
        UserError: the folder holds no such model, there is no text, or a text holds no word.
    """
    if not texts:
        raise UserError(f"{folder}: no text to judge this language model by.")
    try:
        language, told = BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a folder of BERT weights; train_cross_lingual makes one.") from error
    if told["missing_keys"]:
        raise UserError(
            f"{folder}: the weights lack the head that restores masked words; train_cross_lingual keeps it."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = CrossLingualModel(language, BertTokenizer.from_pretrained(folder)).eval().to(device)
    data = ReportPieces(texts, model.tokenizer, min(max_length, language.config.max_position_embeddings))
    total, count = 0.0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(data), batch_size):
            ids = data.__getitems__(range(start, min(start + batch_size, len(data))))["ids"].long()
            read, target = model.mask(ids)  # on the CPU, whose generator is the same everywhere
            total += model.restoration(*(each.to(device) for each in (ids, read, target)), "sum").item()
            count += int((target >= 0).sum())
    return total / count


def train_text_alignment(texts: Sequence[str], base: Path, config: Config, directory: Path, *, seed: int) -> None:
    """Train the language model in `base` on reports of both languages and save it under `directory` in the same layout.

    Epochs, batches and learning rate are those of `config`, as with pictures, in one process.
    """
    torch.manual_seed(seed)
    encoder = text_encoder(str(base), **config.text_options)
    data = ReportPieces(texts, encoder.tokenizer, config.max_length)
    alone = config.model_copy(update={"processes": 1})
    fit(TextAlignment(config, encoder), data, alone, seed=seed, directory=directory / "training")
    encoder.bert.save_pretrained(directory)
    encoder.tokenizer.save_pretrained(directory)
