"""MGCA's three losses (Wang et al., NeurIPS 2022, Sect. 3.2) and the weights of its tokens.

Shapes: B batch, S patches of an image, L word slots of a report, N either of them, D width, K prototypes.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nbcore.losses.contrastive import info_nce
from nbcore.losses.sinkhorn import sinkhorn_codes

Reduction = Literal["mean", "sum"]
_DIRECTIONS = {"mean": 0.5, "sum": 1.0}  # weight of each of the two directions
_CPU_CHUNK = 12  # samples whose similarities stay in a core's cache
_LARGEST_EXPONENT = 40.0  # leaves sums and products of exponentials far from either end of float32
_SMALLEST_SUM = 1e-30  # what a sum of exponentials is taken for if it is less: the sums of padding are 0

# Of some samples: L_LIA, L_LTA, and the gradient of their sum for each input.
_Step = tuple[Tensor, Tensor, tuple[Tensor, ...]]


class TokenAlignment(NamedTuple):
    """`token_alignment`'s loss and, for the log, its two directions without gradient."""

    loss: Tensor
    image_to_text: Tensor
    text_to_image: Tensor


def instance_alignment(
    image: Tensor, report: Tensor, temperature: float = 0.07, reduction: Reduction = "mean"
) -> Tensor:
    """Symmetric InfoNCE of images and reports, L_ITA of Eq. 2-3.

    Args:
        image, report: projected global features, (B, D) each. Normalised here.
        temperature: tau_1; the paper has 0.1, the official code 0.07.
        reduction: "mean" of the two directions as in Eq. 3, or their "sum" as in the official code.

    Returns:
        A scalar >= 0.
    """
    return 2 * _DIRECTIONS[reduction] * info_nce(image, report, temperature)


@torch.no_grad()
def clipped_weights(attention: Tensor) -> Tensor:
    """Weights w of a sample's tokens in Eq. 5, from the attention that [CLS] pays them.

    The paper takes the attention as it is. As in the official code, the entries other than 0 are clipped to their own
    10 % and 90 % quantiles and divided by their sum, so that no single token outweighs the rest.

    Args:
        attention: >= 0, mean over the heads, (B, N); 0 where there is no token.

    Returns:
        Weights (B, N) without gradient: 0 where the attention is 0, each row of sum 1 (or 0, if it has no token).
    """
    present = attention > 0
    bounds = torch.tensor([0.1, 0.9], dtype=attention.dtype, device=attention.device)
    low, high = attention.masked_fill(~present, torch.nan).nanquantile(bounds, dim=1, keepdim=True)  # (B, 1) each
    clipped = attention.clamp(low, high).where(present, 0)
    return clipped / clipped.sum(dim=1, keepdim=True).clamp_min(torch.finfo(clipped.dtype).tiny)


def attention_weights(query: Tensor, context: Tensor, mask: Tensor | None = None, temperature: float = 0.1) -> Tensor:
    """What `token_alignment` lets each token attend to, to be looked at: softmax(cosine / temperature).

    Args:
        query: (B, N, D).
        context: (B, M, D), what is attended to.
        mask: (B, M), False where the context is padding.
        temperature: as `attention_temperature` of `token_alignment`.

    Returns:
        (B, N, M), rows of sum 1, 0 on padding.
    """
    logits = F.normalize(query, dim=2) @ F.normalize(context, dim=2).mT / temperature  # (B, N, M)
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None], -torch.inf)
    return logits.softmax(dim=2)


def token_alignment(
    patches: Tensor,
    words: Tensor,
    patch_weights: Tensor,
    word_weights: Tensor,
    mask: Tensor,
    *,
    temperature: float = 0.1,
    attention_temperature: float = 0.1,
    mask_pads: bool = True,
    normalize_patch_output: bool = True,
    reduction: Reduction = "mean",
    chunk: int | None = None,
) -> TokenAlignment:
    """Tokens against what they attend to in the other modality, L_CTA of Eq. 4-6, by attention without parameters.

    A patch r_j attends to the words of its report by softmax(cosine / attention_temperature), which gives o_j; the
    symmetric InfoNCE of Eq. 5 tells (r_j, o_j) from the image's other pairs: L_LIA. Words attending to patches give
    L_LTA. The official command trains this; for the paper's learned attention see `attended_alignment`. Eq. 5 divides
    by the number of tokens as well, for weights of mean 1; here, as in the official code, weights have sum 1 instead.

    Args:
        patches, words: projected local features r (B, S, D) and z (B, L, D), float32 or float64. Normalised here.
        patch_weights, word_weights: w of Eq. 5, (B, S) and (B, L), from `clipped_weights`; used as they are.
        mask: (B, L), True for words, False for padding, to which no patch attends.
        temperature: tau_2; the paper has 0.07, the official code 0.1.
        attention_temperature: 0.1 in the official code.
        mask_pads: leave padding out of the words' InfoNCE; the official code has it among the negatives.
        normalize_patch_output: make the patches' o_j unit vectors, so that products are Eq. 5's cosines; the official
            code does so for a ResNet and not for a ViT.
        reduction: "mean" of L_LIA and L_LTA as in Eq. 6, or their "sum" as in the official code.
        chunk: samples worked on at a time, a matter of speed alone; None for what suits the device.

    Returns:
        The loss and its two directions, scalars >= 0.
    """
    valid = mask.to(words.dtype)

    def step(rows: Tensor | slice, slots: int, r: Tensor, z: Tensor) -> _Step:
        weights = patch_weights[rows], word_weights[rows, :slots]
        temperatures = attention_temperature, temperature
        return _align(r, z[:, :slots], weights, valid[rows, :slots], temperatures, mask_pads, normalize_patch_output)

    return _evaluate(step, _chunks(mask, chunk, trim=mask_pads), reduction, patches, words)


def attended_alignment(
    patches: Tensor,
    words: Tensor,
    patch_outputs: Tensor,
    word_outputs: Tensor,
    patch_weights: Tensor,
    word_weights: Tensor,
    mask: Tensor,
    *,
    temperature: float = 0.1,
    mask_pads: bool = True,
    normalize_patch_output: bool = True,
    reduction: Reduction = "mean",
    chunk: int | None = None,
) -> TokenAlignment:
    """L_CTA of Eq. 5-6 for outputs of a learned attention, the paper's Eq. 4 (`nbcore.models.heads.TokenAttention`).

    Args:
        patch_outputs: o of the patches attending to words, (B, S, D).
        word_outputs: o of the words attending to patches, (B, L, D). Normalised here.

    The other arguments and what is returned are those of `token_alignment`.
    """
    valid = mask.to(words.dtype)
    longest = 1.0
    if normalize_patch_output:
        patch_outputs = F.normalize(patch_outputs, dim=2)
    else:
        longest = float(patch_outputs.detach().norm(dim=2).max())

    def step(rows: Tensor | slice, slots: int, r: Tensor, o_r: Tensor, z: Tensor, o_z: Tensor) -> _Step:
        pairs = valid[rows, :slots] if mask_pads else None
        lia, *image = _contrast(r, o_r, patch_weights[rows], None, temperature, longest)
        lta, *text = _contrast(z[:, :slots], o_z[:, :slots], word_weights[rows, :slots], pairs, temperature)
        return lia, lta, (*image, *text)

    inputs = F.normalize(patches, dim=2), patch_outputs, F.normalize(words, dim=2), F.normalize(word_outputs, dim=2)
    return _evaluate(step, _chunks(mask, chunk, trim=mask_pads), reduction, *inputs)


def prototype_alignment(
    image: Tensor,
    report: Tensor,
    prototypes: Tensor,
    temperature: float = 0.2,
    epsilon: float = 0.05,
    iterations: int = 3,
    normalize_prototypes: bool = True,
) -> Tensor:
    """Each modality predicts the prototypes that the other one is assigned to, L_CPA of Eq. 7-9.

    Eq. 8 is printed without the minus sign that makes it a cross-entropy; as in the official code, it is put back.

    Args:
        image, report: projected global features, (B, D) each. Normalised here.
        prototypes: c, (K, D).
        temperature: tau_3.
        epsilon, iterations: of `sinkhorn_codes`; the paper does not say, the official code has these.
        normalize_prototypes: normalise c here, so that products are Eq. 7's cosines. The official code does not; it
            overwrites the parameter with unit rows before every step, so that its gradient has a radial part.

    Returns:
        A scalar >= 0.
    """
    if normalize_prototypes:
        prototypes = F.normalize(prototypes, dim=1)
    image_scores = F.normalize(image, dim=1) @ prototypes.T  # (B, K)
    report_scores = F.normalize(report, dim=1) @ prototypes.T  # (B, K)
    image_codes = sinkhorn_codes(image_scores, epsilon, iterations)
    report_codes = sinkhorn_codes(report_scores, epsilon, iterations)
    image_loss = -(report_codes * (image_scores / temperature).log_softmax(dim=1)).sum(dim=1)  # (B,)
    report_loss = -(image_codes * (report_scores / temperature).log_softmax(dim=1)).sum(dim=1)  # (B,)
    return (image_loss + report_loss).mean() / 2


def _chunks(mask: Tensor, chunk: int | None, trim: bool) -> list[tuple[Tensor | slice, int]]:
    """Rows to work on together, and the number of word slots they need.

    By default few on a CPU, for its caches, and all elsewhere. To `trim` is to put reports of like length together and
    leave out the slots that are padding in all of them.
    """
    batch, slots = mask.shape
    size = chunk or (_CPU_CHUNK if mask.device.type == "cpu" else batch)
    if not trim or size >= batch:
        return [(slice(start, start + size), slots) for start in range(0, batch, size)]
    used = (mask * torch.arange(1, slots + 1, device=mask.device)).amax(dim=1)  # (B,)
    lengths, order = used.sort()
    return [(rows, max(1, int(length[-1]))) for rows, length in zip(order.split(size), lengths.split(size))]


def _evaluate(
    step: Callable[..., _Step], chunks: list[tuple[Tensor | slice, int]], reduction: Reduction, *inputs: Tensor
) -> TokenAlignment:
    """Sum `step(rows, slots, *inputs[rows])` over the chunks, take the mean over the batch, reduce the directions."""
    total, lia, lta = _ValueAndGradient.apply(step, chunks, *inputs)
    batch = len(inputs[0])
    return TokenAlignment(_DIRECTIONS[reduction] * total / batch, lia / batch, lta / batch)


class _ValueAndGradient(torch.autograd.Function):
    """Computes the gradient along with the value, while the similarities of a chunk are still in the cache.

    Kept until the backward pass are gradients of the inputs' sizes; nothing of the size of the similarities is.
    """

    @staticmethod
    def forward(ctx, step, chunks, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradients = [torch.empty_like(tensor) for tensor in inputs]
        lia = lta = inputs[0].new_zeros(())
        for rows, slots in chunks:
            image_to_text, text_to_image, parts = step(rows, slots, *(tensor[rows] for tensor in inputs))
            lia, lta = lia + image_to_text, lta + text_to_image
            for gradient, part in zip(gradients, parts):
                gradient[rows, : part.shape[1]] = part
                gradient[rows, part.shape[1] :] = 0
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(lia, lta)
        return lia + lta, lia, lta

    @staticmethod
    @once_differentiable
    def backward(ctx, scale: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(scale * gradient for gradient in ctx.saved_tensors)


def _align(
    patches: Tensor,
    words: Tensor,
    weights: tuple[Tensor, Tensor],
    valid: Tensor,
    temperatures: tuple[float, float],
    mask_pads: bool,
    normalize_patch_output: bool,
) -> _Step:
    """Both directions of `token_alignment` for some samples; `valid` is their mask in numbers, (B, L).

    Comments give the shape; d_x is the gradient of the loss for x.
    """
    attention_temperature, temperature = temperatures
    keep = valid[:, :, None]  # (B, L, 1)
    r, r_length = _unit(patches)  # (B, S, D), (B, S, 1)
    z, z_length = _unit(words)  # (B, L, D), (B, L, 1)
    context = keep * z  # (B, L, D)
    exps = _exponentials(z, r, attention_temperature)  # (B, L, S), for both directions of attention
    word_sums = exps.sum(dim=2, keepdim=True)  # (B, L, 1), the softmax's denominators
    patch_sums = exps.mT @ keep  # (B, S, 1)
    patch_sums = torch.where(patch_sums > 0, patch_sums, 1)  # a report without a word gives outputs 0
    o_z, o_z_length = _unit(exps @ r / word_sums)  # (B, L, D)
    o_r = exps.mT @ context / patch_sums  # (B, S, D)
    if normalize_patch_output:
        o_r, o_r_length = _unit(o_r)

    lia, d_r, d_o_r = _contrast(r, o_r, weights[0], None, temperature)
    lta, d_z, d_o_z = _contrast(z, o_z, weights[1], valid if mask_pads else None, temperature)

    # Of the softmaxes' numerators; a unit vector does not change with its denominator, which then needs no gradient.
    d_o_z = _through_unit(d_o_z, o_z, o_z_length * word_sums)  # (B, L, D)
    if normalize_patch_output:
        d_o_r = _through_unit(d_o_r, o_r, o_r_length * patch_sums)  # (B, S, D)
        d_exps = d_o_z @ r.mT  # (B, L, S)
    else:
        d_o_r = d_o_r / patch_sums  # (B, S, D)
        d_exps = torch.baddbmm(-keep * (d_o_r * o_r).sum(dim=2)[:, None], d_o_z, r.mT)  # (B, L, S)
    d_exps.baddbmm_(context, d_o_r.mT)
    d_r.baddbmm_(exps.mT, d_o_z)
    d_z += keep * (exps @ d_o_r)
    d_exps *= exps  # now for the cosines, but for the temperature
    d_r.baddbmm_(d_exps.mT, z, alpha=1 / attention_temperature)
    d_z.baddbmm_(d_exps, r, alpha=1 / attention_temperature)
    return lia, lta, (_through_unit(d_r, r, r_length), _through_unit(d_z, z, z_length))


def _contrast(
    tokens: Tensor, outputs: Tensor, weights: Tensor, valid: Tensor | None, temperature: float, longest: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 5 for some samples, and its gradients.

    Args:
        tokens: unit vectors, (B, N, D).
        outputs: what they attend to, (B, N, D).
        weights: of the pairs, (B, N).
        valid: 1 for tokens and 0 for padding to be left out, (B, N); None if there is none.
        temperature: tau_2.
        longest: no output is longer than this.

    Returns:
        sum_ij w_ij (CE_row + CE_column) / 2, a scalar, and its gradients for tokens and outputs, (B, N, D) each.
    """
    exps = _exponentials(tokens, outputs, temperature, longest)  # (B, N, N)
    if valid is not None:
        weights = weights * valid
        exps *= valid[:, :, None] * valid[:, None]
    diagonal = exps.diagonal(dim1=1, dim2=2)  # (B, N), the matched pairs
    rows = exps.sum(dim=2).clamp_min(_SMALLEST_SUM)  # (B, N)
    columns = exps.sum(dim=1).clamp_min(_SMALLEST_SUM)  # (B, N)
    matched = diagonal.clamp_min(_SMALLEST_SUM)  # (B, N)
    loss = (weights * ((rows.log() + columns.log()) / 2 - matched.log())).sum()
    weights = weights / temperature
    exps *= (weights / rows / 2)[:, :, None] + (weights / columns / 2)[:, None]
    diagonal -= weights  # exps is now the gradient for the products of tokens and outputs
    return loss, exps @ outputs, exps.mT @ tokens


def _exponentials(first: Tensor, second: Tensor, temperature: float, longest: float = 1.0) -> Tensor:
    """exp(first second^T / temperature), up to a factor that cancels in a softmax along either axis.

    Both axes' softmaxes are had from one exponential, since no entry overflows whatever the row or column: first holds
    unit vectors and second, as stated, none longer than `longest`. None vanishes either for a temperature from 0.02 up.

    (B, N, D), (B, M, D) -> (B, N, M).
    """
    unused = first.new_empty(())
    logits = torch.baddbmm(unused, first, second.mT, beta=0, alpha=1 / temperature)  # (B, N, M)
    excess = longest / temperature - _LARGEST_EXPONENT
    return (logits.sub_(excess) if excess > 0 else logits).exp_()


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors divided by their lengths, and the lengths, (B, N, D) -> (B, N, D), (B, N, 1); as `F.normalize`."""
    length = torch.linalg.vector_norm(x, dim=2, keepdim=True).clamp_min(1e-12)
    return x / length, length


def _through_unit(gradient: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """Gradient for a vector, given that for its unit vector, (B, N, D) -> (B, N, D)."""
    return torch.addcmul(gradient, unit, (gradient * unit).sum(dim=2, keepdim=True), value=-1) / length
