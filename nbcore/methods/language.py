"""Training of a small report encoder on given texts: stands in for CXR-BERT where its weights are not at hand.

As CXR-BERT (Boecking et al., ECCV 2022), it learns from masked words and from matching parts of one report: its [CLS]
state must say what the report says, not how.

Shapes: B batch, L word pieces, D hidden width, V vocabulary.
"""

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertForMaskedLM, BertModel, BertTokenizer

from nbcore.losses.contrastive import info_nce
from nbcore.losses.language import mask_words

_MASKED = 0.15  # Devlin et al., 2019
_TEMPERATURE = 0.1


class LanguageModel(nn.Module):
    """Masked language modelling plus matching of two views of one report."""

    def __init__(self, bert: BertModel, tokenizer: BertTokenizer):
        super().__init__()
        masked = BertForMaskedLM(bert.config)
        masked.bert = bert
        masked.tie_weights()
        self.bert, self.words = masked.bert, masked.cls
        self.special = torch.tensor(sorted(tokenizer.all_special_ids))
        self.mask_id: int = tokenizer.mask_token_id

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """ "words": cross-entropy of masked words; "match": InfoNCE of the views' [CLS] states; "total": their sum.

        Args:
            batch: "ids" and "mask", (B, 2, L), two views of each report.
        """
        ids, mask = (batch[key].flatten(0, 1).long() for key in ("ids", "mask"))  # (2B, L)
        longest = int(mask.sum(dim=1).max())
        ids, mask = ids[:, :longest], mask[:, :longest]
        special, vocabulary = self.special.to(ids.device), self.bert.config.vocab_size
        masked, target = mask_words(ids, special, self.mask_id, vocabulary, _MASKED)
        states = self.bert(input_ids=masked, attention_mask=mask).last_hidden_state  # (2B, L, D)
        chosen = target >= 0
        words = F.cross_entropy(self.words(states[chosen]), target[chosen])  # logits (masked, V)
        first, second = F.normalize(states[:, 0], dim=1).unflatten(0, (-1, 2)).unbind(1)  # (B, D) each
        match = info_nce(first, second, _TEMPERATURE)
        return {"words": words, "match": match, "total": words + match}


class ReportViews:
    """A data set of two views of each report, its two parts, cut once."""

    def __init__(self, texts: Sequence[str], tokenizer: BertTokenizer, *, max_length: int, seed: int):
        drawn = random.Random(seed)
        tokens = tokenizer(
            [view for text in texts for view in two_views(text, drawn)],
            padding="longest",
            truncation=True,
            max_length=max_length,
            return_tensors="pt",
        )
        self._views = {"ids": tokens["input_ids"], "mask": tokens["attention_mask"]}
        self._views = {name: values.unflatten(0, (-1, 2)) for name, values in self._views.items()}  # (n, 2, L)

    def __len__(self) -> int:
        return len(self._views["ids"])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return {name: values[indices] for name, values in self._views.items()}


def two_views(text: str, drawn: random.Random) -> tuple[str, str]:
    """Cut a report in two somewhere in its middle third: after a sentence if one ends there, else between words.

    Impression comes before findings in a report's text, so the parts mostly say the same in other words.
    """
    words = text.split()
    if len(words) < 2:
        return text, text
    middle = range(max(1, len(words) // 3), max(2, 2 * len(words) // 3 + 1))
    ends = [i for i in middle if words[i - 1].endswith((".", ";", "!", "?"))]
    cut = drawn.choice(ends or middle)
    return " ".join(words[:cut]), " ".join(words[cut:])
