"""Drawing of what the phantom's worlds keep in named tuples of numbers."""

from typing import TypeVar

import numpy as np

_Ranges = TypeVar("_Ranges", bound=tuple)


def between(generator: np.random.Generator, ranges: _Ranges) -> _Ranges:
    """Each field uniformly within its (low, high)."""
    low, high = np.array(ranges).T
    return type(ranges)(*generator.uniform(low, high).tolist())
