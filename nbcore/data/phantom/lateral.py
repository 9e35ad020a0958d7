"""The lateral view, plainly: it is there so that a reader has something to leave out of a frontal data set.

B studies, S pixels a side. The patient faces the left of the picture. Findings other than a large heart, emphysema
and effusion are not drawn, and no masks are told.
"""

from collections.abc import Sequence

import numpy as np

from nbcore.data.phantom.acquisition import expose
from nbcore.data.phantom.anatomy import columns, visibility
from nbcore.data.phantom.texture import dome, soft
from nbcore.data.phantom.world import Acquisition, Anatomy, ChestStudy


def draw(studies: Sequence[ChestStudy], size: int) -> np.ndarray:
    """uint8 (B, S, S) pictures."""
    generators = [np.random.default_rng(study.seed) for study in studies]
    settings = Acquisition(*columns([study.acquisition for study in studies]))
    a = Anatomy(*columns([study.anatomy for study in studies]))
    large, air, fluid = (visibility(studies, name) for name in ("cardiomegaly", "emphysema", "effusion"))
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x = (grid[None, None, :] - settings.shift_x) / settings.zoom
    y = (grid[None, :, None] - settings.shift_y) / settings.zoom

    trunk = dome((x / (0.72 + a.fat + 0.10 * air)) ** 6) * soft(y + 1.0 - 0.3 * np.abs(x), 0.2)
    back = 0.50 - 0.10 * np.cos(2 * y)  # the thoracic kyphosis
    diaphragm = a.dome - 0.02 + 0.35 * x + 0.5 * (x + 0.1) ** 2  # low behind
    chest = soft(1 - ((x - 0.02) / (0.52 + 0.08 * air)) ** 2 - ((y - 0.05) / 0.85) ** 2, 0.10)
    lung = chest * soft(diaphragm - y, 0.03) * soft(back + 0.02 - x, 0.05)
    heart = dome(((x + 0.18 + 0.4 * (y - 0.2)) / (0.24 + 0.10 * large)) ** 2 + ((y - a.dome + 0.20) / 0.30) ** 2)
    heart *= soft(diaphragm + 0.02 - y, 0.06)
    spine = soft(0.09 - np.abs(x - back - 0.06), 0.04) * (1 + 0.25 * np.cos(y * (2 * np.pi / 0.13)))
    ribs = np.clip(np.cos((y - 0.5 * x) * (2 * np.pi / a.rib_spacing)), 0, 1) * chest
    trachea = soft(0.035 - np.abs(x - 0.10 - 0.2 * (y + 0.5)), 0.02) * soft(-0.2 - y, 0.05)
    effusion = fluid * lung * soft(y - diaphragm + 0.10 + 0.2 * fluid * soft(x - 0.2, 0.3), 0.04)
    picture = 0.85 * trunk - 0.55 * lung + 0.40 * heart + 0.25 * spine + 0.07 * ribs - 0.12 * trachea + 0.5 * effusion
    return expose(picture, studies, generators)
