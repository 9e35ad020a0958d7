"""Losses of prompt learning: CoOp and CoCoOp (cross-entropy of cosines), KgCoOp, BiomedCoOp.

Shapes: B images, C classes, P descriptions of a class, D width shared by image and text.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["cosine", "euclidean"]


def cosine_logits(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Scores of the classes, scale * cos(image, text); their cross-entropy is CoOp's loss.

    Args:
        images: image features, (B, D). Normalised here, like the texts.
        texts: text features of the classes, (C, D), or of each image, (B, C, D) (CoCoOp).
        scale: factor of the cosine, > 0: the inverse of a temperature.

    Returns:
        (B, C), in [-scale, scale].
    """
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    if texts.dim() == 3:
        return scale * torch.einsum("bd,bcd->bc", images, texts)
    return scale * images @ texts.T


def knowledge_distance(texts: Tensor, zero_shot: Tensor, distance: Distance = "cosine") -> Tensor:
    """How far learnt prompts are from hand-written ones, KgCoOp's regulariser (Yao et al., CVPR 2023).

    ========= ========================== =============
    distance  mean over the classes of   reading
    ========= ========================== =============
    cosine    1 - cos(w, w_zs)           official code
    euclidean || w - w_zs ||^2           paper
    ========= ========================== =============

    Args:
        texts, zero_shot: features of learnt and of hand-written prompts, (C, D). Normalised here, so that "euclidean"
            is twice "cosine".
        distance: the reading (see the table).

    Returns:
        A scalar, in [0, 2] for "cosine", in [0, 4] for "euclidean"; 0 where both point the same way.

    Raises:
        ValueError: `distance` is neither of the two.
    """
    match distance:
        case "cosine":
            factor = 1
        case "euclidean":
            factor = 2
        case _:
            raise ValueError(f"distance must be cosine or euclidean, not {distance!r}")
    cosines = (F.normalize(texts, dim=-1) * F.normalize(zero_shot, dim=-1)).sum(dim=-1)  # (C,)
    return factor * (1 - cosines.mean())


def prototypes(descriptions: Tensor, kept: Tensor | None = None) -> Tensor:
    """Unit mean of each class's unit description features, (C, P, D) -> (C, D).

    Args:
        descriptions: features, normalised here, (C, P, D).
        kept: numbers of the descriptions that count, in every class the same, (P,) bool; None for all.
    """
    units = F.normalize(descriptions, dim=-1)  # (C, P, D)
    if kept is not None:
        units = units * kept[:, None]
    return F.normalize(units.sum(dim=1), dim=-1)


def semantic_consistency(texts: Tensor, means: Tensor) -> Tensor:
    """BiomedCoOp's SCCM (Koleilat et al., CVPR 2025): mean squared difference of the elements.

    The mean runs over the D features, too: the loss is 1 / D of a mean squared distance, hence the large weights that
    the official code gives it.

    Args:
        texts: features of the learnt prompts, (C, D), normalised here.
        means: `prototypes` of the descriptions, (C, D).

    Returns:
        A scalar in [0, 4 / D].
    """
    return F.mse_loss(F.normalize(texts, dim=-1), means)


def description_scores(images: Tensor, descriptions: Tensor, scale: Tensor | float) -> Tensor:
    """How surely the descriptions of one number tell classes: the mean over the images of the highest class's score.

    Args:
        images: image features, (B, D). Normalised here, like the descriptions.
        descriptions: features, (C, P, D).
        scale: factor of the cosine.

    Returns:
        (P,).
    """
    cosines = torch.einsum("bd,cpd->bcp", F.normalize(images, dim=-1), F.normalize(descriptions, dim=-1))
    return scale * cosines.amax(dim=1).mean(dim=0)


def select_descriptions(scores: Tensor, threshold: float = 1.5) -> Tensor:
    """Numbers of the descriptions whose score is no outlier, (P,) -> (P,) bool: |s - mean| <= threshold * deviation.

    The official code first takes the scores' median off and divides by their median absolute deviation, which the
    standardisation after it undoes: the mask is the same. Where that deviation is 0, or no score is near enough, its
    mask is empty and its teacher not a number; here all are kept.

    Args:
        scores: of `description_scores`.
        threshold: in sample standard deviations, > 0; from 1 on some description is always near enough.
    """
    away = (scores - scores.mean()).abs()
    usual = away * (len(scores) - 1) ** 0.5 <= threshold * torch.linalg.vector_norm(away)
    half_are_equal = (scores - scores.median()).abs().median() == 0
    return usual | half_are_equal | ~usual.any()


def selective_distillation(
    logits: Tensor, images: Tensor, descriptions: Tensor, scale: Tensor | float, threshold: float = 1.5
) -> Tensor:
    """BiomedCoOp's KDSP: KL(teacher || student), the teacher being the mean of the descriptions that are no outliers.

    The sum is divided by B * C, not by B. The gradient reaches the student alone.

    Args:
        logits: the student's scores of the images, (B, C).
        images: image features, (B, D), which both the selection and the teacher see.
        descriptions: features, (C, P, D), the same number P of each class.
        scale: factor of the cosine.
        threshold: see `select_descriptions`.

    Returns:
        A scalar >= 0; 0 where student and teacher agree.
    """
    with torch.no_grad():
        kept = select_descriptions(description_scores(images, descriptions, scale), threshold)  # (P,)
        teacher = cosine_logits(images, prototypes(descriptions, kept), scale).log_softmax(dim=1)  # (B, C)
    student = logits.log_softmax(dim=1)  # (B, C)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) / logits.numel()
