"""Class prompts with learnable context words, spliced into the word embeddings of any text tower.

Shapes: C classes, M context words, d word width, T leading dimensions of the context, n texts, L word pieces, D width.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from nbcore.errors import UsageError

Position = Literal["end", "middle", "front"]


class TextTower(Protocol):
    """What prompts need of a text encoder; every method is differentiable."""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Ids of the word pieces, with the tower's first and last special pieces, (n, L) int64, padded at the end."""

    def token_mask(self, ids: Tensor) -> Tensor:
        """True where an id belongs to the text and is no padding, (n, L) -> (n, L) bool."""

    def word_embeddings(self, ids: Tensor) -> Tensor:
        """Embeddings of the pieces alone, without positions, (n, L) -> (n, L, d)."""

    def forward_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Text features, not L2-normalised, (n, L, d), (n, L) bool -> (n, D); padding has no influence."""


class ContextPrompts:
    """One prompt a class, `[first] context name . [last]`, whose context words are given as vectors (CoOp, TPT).

    Each prompt runs at the length of the longest of the set, never padded to the tower's full length; the features are
    the same. Underscores of a name are read as blanks.

    Args:
        tower: turns word embeddings into features.
        names: of the C classes.
        length: M, of context words.
        position: of the name: after the context ("end"), between its halves ("middle"), before it ("front"). The name
            is taken at its true number of pieces (an official BiomedCLIP port takes 1 for all).

    Raises:
        UsageError: unknown position, no context word, or no name.
    """

    def __init__(self, tower: TextTower, names: Sequence[str], length: int = 4, position: Position = "end"):
        if position not in ("end", "middle", "front"):
            raise UsageError(f"prompt position {position!r} is unknown; choose one of end, middle, front.")
        if length < 1 or not names:
            raise UsageError(f"a prompt needs a context word and a class name; got {length} and {len(names)}.")
        self.tower, self.length = tower, length
        names = [name.replace("_", " ") for name in names]
        self._ids = tower.tokenize([f"{name}." for name in names])  # (C, L - M): [first] name . [last]
        mask = tower.token_mask(self._ids)  # (C, L - M)
        self._mask = torch.cat([mask.new_ones(len(names), length), mask], dim=1)  # (C, L), padding stays at the end
        pieces = tower.token_mask(tower.tokenize(names)).sum(dim=1) - 2  # (C,), of each name
        self._order = torch.stack([self._positions(int(n), position) for n in pieces])  # (C, L)

    def _positions(self, name: int, position: Position) -> Tensor:
        """Where each piece of a prompt stands in the context followed by `[first] name . [last]`, (L,)."""
        context = torch.arange(self.length)
        fixed = torch.arange(self.length, self._mask.shape[1])
        first, called, rest = fixed[:1], fixed[1 : 1 + name], fixed[1 + name :]
        before = {"end": self.length, "middle": self.length // 2, "front": 0}[position]  # context words before the name
        return torch.cat([first, context[:before], called, context[before:], rest])

    def features(self, context: Tensor) -> Tensor:
        """Text features of all classes, not L2-normalised.

        Args:
            context: (M, d) shared by the classes, (C, M, d) of each class, or either with leading dimensions,
                (T, 1, M, d) or (T, C, M, d).

        Returns:
            (C, D), or (T, C, D).

        Raises:
            UsageError: the context has another number of words, another width or another number of classes.
        """
        device = context.device
        fixed = self.tower.word_embeddings(self._ids.to(device))  # (C, L - M, d)
        classes, width = len(fixed), fixed.shape[-1]
        if context.dim() < 3:
            context = context[None]  # (1, M, d)
        if tuple(context.shape[-2:]) != (self.length, width) or context.shape[-3] not in (1, classes):
            raise UsageError(
                f"a context of shape {tuple(context.shape)} does not fit prompts of {self.length} words of width "
                f"{width} for {classes} classes; give it as ({self.length}, {width}) or a shape that ends so."
            )
        leading = context.shape[:-3]
        joined = torch.cat(
            [context.expand(*leading, classes, -1, -1), fixed.expand(*leading, -1, -1, -1)], dim=-2
        )  # (..., C, L, d)
        order = self._order.to(device)  # (C, L)
        embeddings = joined[..., torch.arange(classes, device=device)[:, None], order, :].flatten(0, -3)  # (TC, L, d)
        mask = self._mask.to(device).expand(*leading, -1, -1).flatten(0, -2)  # (TC, L)
        return self.tower.forward_embeddings(embeddings, mask).unflatten(0, (*leading, classes))
