"""What a painter of findings is given and gives back.

B studies of one finding on one side, S pixels a side.
"""

from typing import NamedTuple

import numpy as np

from nbcore.data.phantom.anatomy import Scene, breadth


class Lesion(NamedTuple):
    """One finding on one side, in B studies; arrays are (B, 1, 1)."""

    side: int  # anatomy.LEFT or RIGHT
    visibility: np.ndarray  # contrast
    severity: np.ndarray
    size: np.ndarray  # 0..1
    across: np.ndarray  # 0 medial .. 1 lateral
    height: np.ndarray  # 0 apex .. 1 base of the lung

    def centre(self, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the midline and height in the picture, well inside the lung; each (B, 1, 1)."""
        a = scene.anatomy
        y = a.apex + self.height * (a.dome + 0.08 - a.apex)
        outer = a.lung_width * breadth(0.9 * self.height)
        medial = 0.12 + 0.5 * a.heart * a.lung_width * (self.height > 0.5) * (1 + 0.3 * self.side)
        return medial + (0.88 * outer - medial) * (0.15 + 0.75 * self.across), y


class Painted(NamedTuple):
    """What a finding adds to the attenuation (B, S, S), and its extent 0..1 (mask where above one half)."""

    change: np.ndarray
    extent: np.ndarray
