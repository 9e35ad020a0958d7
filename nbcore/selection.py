"""Which epoch's weights a run keeps: the best on validation data, with early stopping."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Monitor:
    """How the epochs of a run are judged.

    Attributes:
        score: of a method in evaluation mode, on validation data; higher is better. It is called after every epoch, in
            the main process; random numbers it draws do not disturb the run.
        patience: epochs without a better score after which training stops.
    """

    score: Callable[[nn.Module], float]
    patience: int


@dataclass
class Best:
    """The best epoch so far: its number (from 0, -1 for none), its score and its weights."""

    epoch: int = -1
    score: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, score: float, method: nn.Module) -> None:
        """Keep this epoch if it is better than all before; the first one is kept whatever its score."""
        if self.epoch < 0 or score > self.score:
            weights = {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}
            self.epoch, self.score, self.weights = epoch, score, weights
