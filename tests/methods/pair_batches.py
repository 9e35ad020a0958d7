"""A few reports and pictures, and small encoders, for the tests of the methods that learn from pairs."""

import torch

from nbcore.models.text import TextEncoder, small_bert, train_tokenizer
from nbcore.models.vision import VisionEncoder, vision_encoder

REPORTS = [
    "small left effusion\nheart is normal",
    "no effusion",
    "heart is enlarged\nsmall left effusion\nno pneumothorax",
    "normal heart and lungs",
]


def text_encoder(trainable="all", dropout: float = 0.0) -> TextEncoder:
    torch.manual_seed(1)
    tokenizer = train_tokenizer(REPORTS, 60)  # so few that some words are cut into pieces
    bert = small_bert(tokenizer, width=32, layers=2, max_length=32, dropout=dropout)
    return TextEncoder(bert, tokenizer, trainable)


def image_encoder(name: str = "tiny_resnet", **options) -> VisionEncoder:
    torch.manual_seed(2)
    return vision_encoder(name, image_size=32, **options)


def pair_batch(text: TextEncoder) -> dict[str, torch.Tensor]:
    ids, mask = text.tokenize(REPORTS, 24)
    return {"image": torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)), "ids": ids, "mask": mask}
