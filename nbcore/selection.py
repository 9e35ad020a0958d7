"""Which epoch's weights a run keeps: the best on validation data, with early stopping."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Monitor:
    """How the epochs of a run are judged.

    Attributes:
        score: of a method in evaluation mode, on validation data; higher is better. It is called in the main process;
            random numbers it draws do not disturb the run.
        patience: epochs without a better score after which training stops.
        every: epochs from one score to the next; the last epoch is always scored.
    """

    score: Callable[[nn.Module], float]
    patience: int
    every: int = 1

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether epoch number `epoch` (from 0) of `epochs` is scored."""
        return (epoch + 1) % self.every == 0 or epoch + 1 == epochs


@dataclass
class Best:
    """The best epoch so far: its number (from 0, -1 for none), its score and its weights."""

    epoch: int = -1
    score: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, score: float, method: nn.Module) -> None:
        """Keep this epoch if it is better than all before; the first one offered is kept whatever its score."""
        if self.epoch < 0 or score > self.score:
            weights = {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}
            self.epoch, self.score, self.weights = epoch, score, weights
