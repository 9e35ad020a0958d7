"""Cross-lingual language model: a vocabulary for a second language, then masked language modelling on reports of both.

Med-UniC (Wan et al., NeurIPS 2023), Sect. 3.2 and Appendix C.1: the stage before it learns from images.

Shapes: B batch, L word pieces, V vocabulary, D hidden width.
"""

import unicodedata
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import BertForMaskedLM, BertModel, BertTokenizer

from nbcore.config import TrainConfig
from nbcore.errors import UserError
from nbcore.losses.language import mask_words


class CrossLingualConfig(TrainConfig):
    """What the language model is trained with. Defaults are the paper's values; where it is silent, the code's."""

    new_words: int = Field(5153, ge=0, description="code: the length of its list")
    max_length: int = Field(256, ge=3, description="Table 8: word pieces, [CLS] and [SEP] included")
    mask_rate: float = Field(0.15, gt=0, lt=1, description="Table 8")

    epochs: int = Field(15, ge=1, description="Table 8")
    batch_size: int = Field(8, ge=1, description="Table 8: 1024 in all, over 8 GPUs and 16 accumulated batches")
    accumulate: int = Field(16, ge=1, description="Table 8")
    processes: int = Field(8, ge=1, description="Table 8")
    precision: Literal["no", "bf16", "fp16"] = Field("fp16", description="Table 8")
    learning_rate: float = Field(5e-4, gt=0, description="Table 8; AdamW with its epsilon, 1e-8")
    weight_decay: float = Field(0.01, ge=0, description="code, which spares biases and LayerNorm")
    clip_norm: float | None = Field(1.0, gt=0, description="code")
    schedule: Literal["constant", "warmup_linear", "warmup_cosine", "cosine_restarts"] = Field(
        "warmup_linear", description="Table 8; code: linear to 0 after the warm-up"
    )
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Table 8")


class CrossLingualModel(nn.Module):
    """A BERT that restores masked words of reports in any language; all of it is trained.

    Args:
        language: the BERT with its head, whose decoder is the embedding of the words.
        tokenizer: of `language`.
        mask_rate: share of the word pieces to restore.
    """

    def __init__(self, language: BertForMaskedLM, tokenizer: BertTokenizer, mask_rate: float = 0.15):
        super().__init__()
        self.language = language.requires_grad_(True)
        self.tokenizer, self.mask_rate = tokenizer, mask_rate
        self.special = torch.tensor(sorted(tokenizer.all_special_ids))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """ "words": cross-entropy of the masked word pieces, masked anew at each call; "total": the same.

        Args:
            batch: "ids", (B, L), of texts with at least one word.
        """
        ids = batch["ids"].long()
        words = self.restoration(ids, *self.mask(ids))
        return {"words": words, "total": words}

    def mask(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What is read in the place of `ids`, and the targets, both (B, L); every text has something to restore."""
        special, vocabulary = self.special.to(ids.device), self.language.config.vocab_size
        return mask_words(ids, special, self.tokenizer.mask_token_id, vocabulary, self.mask_rate, at_least_one=True)

    def restoration(self, ids: Tensor, read: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy over the positions of `target` (B, L) that are not -1; only they reach the decoder."""
        attention = (ids != self.tokenizer.pad_token_id).long()
        states = self.language.bert(input_ids=read, attention_mask=attention).last_hidden_state  # (B, L, D)
        chosen = target >= 0
        logits = self.language.cls(states[chosen])  # (masked, V)
        return F.cross_entropy(logits, target[chosen], reduction=reduction)


class ReportPieces:
    """A data set of texts as word-piece ids, cut up once, padded to the longest of a batch.

    Raises:
        UserError: a text holds no word.
    """

    def __init__(self, texts: Sequence[str], tokenizer: BertTokenizer, max_length: int):
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        rows = tokenizer(composed, truncation=True, max_length=max_length)["input_ids"]
        special = set(tokenizer.all_special_ids)
        for number, row in enumerate(rows, start=1):
            if special.issuperset(row):
                raise UserError(f"Text {number} of {len(rows)} holds no known word: leave it out.")
        self._rows = [torch.tensor(row, dtype=torch.int32) for row in rows]
        self._padding: int = tokenizer.pad_token_id

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = [self._rows[i] for i in indices]
        return {"ids": pad_sequence(rows, batch_first=True, padding_value=self._padding)}  # (B, L)


def with_head(bert: BertModel) -> BertForMaskedLM:
    """A BERT with a new head that restores masked words, whose decoder is the embedding of the words."""
    language = BertForMaskedLM(bert.config)
    language.bert = bert
    language.tie_weights()
    return language
