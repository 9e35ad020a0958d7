"""Class prompts through a BERT of BiomedCLIP's size with random weights: at their true length against padded to the
256 pieces that its tokenizer allows."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.models.biomedclip import BiomedClip
from nbcore.models.text import train_tokenizer
from tests.benchmarks.timing import median_seconds

PROMPTS, WORDS = 12, 4
NAMES = ["actinic keratosis", "basal cell carcinoma", "melanoma", "nevus", "squamous cell carcinoma", "keratosis"]


def step(model: BiomedClip, ids: Tensor, context: Tensor) -> None:
    """Forward, and backward to the context alone, which stands after the first piece."""
    leaf, embeddings = context.clone().requires_grad_(), model.word_embeddings(ids)
    joined = torch.cat([embeddings[:, :1], leaf, embeddings[:, 1 + WORDS :]], dim=1)
    model.forward_embeddings(joined, model.token_mask(ids)).square().sum().backward()


def run() -> None:
    tokenizer = train_tokenizer(NAMES, 100)
    bert = {"vocab_size": len(tokenizer)}  # the other sizes are BertConfig's own, a BERT-base
    model = BiomedClip({"model_name": "test_vit"}, bert, tokenizer, width=512)
    ids = model.tokenize([f"a a a a {name}." for name in NAMES] * (PROMPTS // len(NAMES)))
    padded = F.pad(ids, (0, model.context_length - ids.shape[1]), value=tokenizer.pad_token_id)
    context = torch.randn(PROMPTS, WORDS, model.context_width, generator=torch.Generator().manual_seed(0))
    true = median_seconds(lambda: step(model, ids, context), 5)
    full = median_seconds(lambda: step(model, padded, context), 1)
    print(
        f"a step of {PROMPTS} prompts through a text encoder of 12 layers and width 768: {true * 1e3:.0f} ms at "
        f"{ids.shape[1]} pieces, {full * 1e3:.0f} ms padded to {padded.shape[1]}, ratio {full / true:.1f}"
    )
