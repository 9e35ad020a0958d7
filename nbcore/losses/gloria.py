"""GLoRIA's global and local contrastive losses (Huang et al., ICCV 2021).

Shapes: B images, T reports (T = B where they are pairs), S image regions, L words, D width, N = T * L words in all.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nbcore.losses.contrastive import both_directions

Aggregate = Literal["sum", "mean"]
_CHUNK = 2**21  # attention entries computed at a time: some images against all reports


def global_loss(image: Tensor, report: Tensor, temperature: float = 10.0) -> tuple[Tensor, Tensor]:
    """InfoNCE of global embeddings, either direction; the sum of both is twice `contrastive.info_nce`.

    Args:
        image, report: matched embeddings, (B, D). Normalised here.
        temperature: *multiplies* the cosines, as all of GLoRIA's do in the official code.

    Returns:
        two scalars >= 0: each image finding its report, each report finding its image.
    """
    return both_directions(temperature * F.normalize(image, dim=1) @ F.normalize(report, dim=1).T)  # (B, B)


def local_loss(
    regions: Tensor,
    words: Tensor,
    mask: Tensor,
    attention_temperature: float = 4.0,
    word_temperature: float = 5.0,
    temperature: float = 10.0,
    aggregate: Aggregate = "sum",
) -> tuple[Tensor, Tensor]:
    """InfoNCE of images and reports compared word by word, either direction; GLoRIA adds both to the global two.

    Args:
        regions: (B, S, D), see `local_similarity` for all arguments.
        words: (B, L, D); report b belongs to image b.

    Returns:
        two scalars >= 0: each image finding its report, each report finding its image.
    """
    return both_directions(
        local_similarity(regions, words, mask, attention_temperature, word_temperature, temperature, aggregate)
    )


def local_similarity(
    regions: Tensor,
    words: Tensor,
    mask: Tensor,
    attention_temperature: float = 4.0,
    word_temperature: float = 5.0,
    temperature: float = 10.0,
    aggregate: Aggregate = "sum",
) -> Tensor:
    """How well every image shows what every report says.

    A word w attends to the regions r_s of an image (see `region_attention`), which gives its context
    c = sum_s a_s r_s there; image and report are as similar as
    temperature * log sum_w exp(word_temperature * cos(w, c_w)).

    The contexts, (B, T, L, D), are never formed: w . c = sum_s a_s (w . r_s) needs the similarities attention is made
    of, and |c|^2 = a^T G a the (S, S) Gram matrix of the image's regions: three quarters of the multiplications where
    S is D / 2. For the backward pass some 4 * B * T * L * S numbers are kept. Give float32: |c|^2 sums S^2 products.

    Args:
        regions: local image embeddings, (B, S, D), not normalised.
        words: word embeddings, (T, L, D), not normalised. Padding has no influence, whatever it holds.
        mask: (T, L), non-zero at words and zero at padding; each report has a word.
        attention_temperature, word_temperature, temperature: > 0; they multiply, as in the official code (its temp1,
            temp2 and temp3).
        aggregate: "mean" divides the sum over the words by their number, so that long reports are not similar to
            everything; the official default is "sum".

    Returns:
        similarities (B, T), in temperature * [-word_temperature, word_temperature + log L].

    Raises:
        ValueError: `aggregate` is neither.
    """
    if aggregate not in ("sum", "mean"):
        raise ValueError(f"aggregate must be sum or mean, not {aggregate!r}")
    mask = mask > 0
    words = words.masked_fill(~mask[..., None], 0)
    images = max(1, _CHUNK // (mask.numel() * regions.shape[1]))
    cosine = torch.cat([_word_cosines(some, words, mask, attention_temperature) for some in regions.split(images)])
    evidence = (word_temperature * cosine).masked_fill(~mask, -torch.inf).logsumexp(dim=2)  # (B, T)
    if aggregate == "mean":
        evidence = evidence - mask.sum(dim=1).to(evidence).log()
    return temperature * evidence


def region_attention(similarity: Tensor, mask: Tensor, temperature: float = 4.0) -> Tensor:
    """Where in an image each word looks.

    As in the official code, the words compete for every region first (softmax over words), then the regions for every
    word (softmax over regions, of `temperature` times the first).

    Args:
        similarity: inner products of words and regions, (..., T, L, S).
        mask: (T, L), True at words; padding wins no region.
        temperature: > 0, multiplies.

    Returns:
        attention (..., T, L, S) over the regions: each word's sums to 1.
    """
    share = similarity.masked_fill(~mask[..., None], -torch.inf).softmax(dim=-2)
    return (temperature * share).softmax(dim=-1)


def _word_cosines(regions: Tensor, words: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """cos(w, c_w) of every word and its context in every image: (B, S, D), (T, L, D) -> (B, T, L)."""
    flat = words.flatten(0, 1)  # (N, D)
    similarity = flat @ regions.mT  # (B, N, S)
    attention = region_attention(similarity.unflatten(1, mask.shape), mask, temperature).flatten(1, 2)  # (B, N, S)
    along = (attention * similarity).sum(dim=2) / flat.norm(dim=1).clamp_min(1e-8)  # (B, N), w . c / |w|
    square = ((attention @ (regions @ regions.mT)) * attention).sum(dim=2)  # (B, N), |c|^2
    # |c| is no shorter than its part along w: without rounding errors nothing changes, and no cosine leaves [-1, 1]
    length = torch.maximum(square, along.square()).clamp_min(1e-16).sqrt()
    return (along / length).unflatten(1, mask.shape)  # (B, T, L)
