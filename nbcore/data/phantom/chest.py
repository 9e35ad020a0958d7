"""Draw chest radiographs from studies: pictures, masks and boxes.

B studies, S pixels a side. The same study gives the same scene at every size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nbcore.data.phantom import acquisition, anatomy, findings, lateral
from nbcore.data.phantom.world import FINDINGS, ChestStudy

_CHUNK_PIXELS = 2**16  # pictures drawn together: as many as the processor's cache holds


@dataclass(frozen=True)
class ChestImages:
    """Pictures with the places of what is to be seen in them."""

    images: np.ndarray  # uint8 (B, S, S)
    masks: dict[str, np.ndarray]  # finding -> bool (B, S, S); empty in lateral views

    def boxes(self, i: int) -> dict[str, list[tuple[int, int, int, int]]]:
        """Finding -> (x, y, width, height) in pixels of each connected region of its mask in picture `i`."""
        found = {}
        for name, masks in self.masks.items():
            if masks[i].any():
                regions = ndimage.find_objects(ndimage.label(masks[i])[0])
                found[name] = [(c.start, r.start, c.stop - c.start, r.stop - r.start) for r, c in regions]
        return found


def render(studies: Sequence[ChestStudy], size: int) -> ChestImages:
    """Draw the studies at `size` x `size` pixels; a picture does not depend on which others are drawn with it."""
    images = np.zeros((len(studies), size, size), np.uint8)
    masks = {name: np.zeros((len(studies), size, size), bool) for name in FINDINGS}
    chunk = max(1, _CHUNK_PIXELS // size**2)
    lateral_rows = [i for i, study in enumerate(studies) if study.view == "lateral"]
    frontal_rows = [i for i, study in enumerate(studies) if study.view != "lateral"]
    for rows in _chunks(lateral_rows, chunk):
        images[rows] = lateral.draw([studies[i] for i in rows], size)
    for rows in _chunks(frontal_rows, chunk):
        images[rows] = _frontal([studies[i] for i in rows], size, rows, masks)
    return ChestImages(images, masks)


def _chunks(rows: list[int], length: int) -> Iterator[list[int]]:
    return (rows[start : start + length] for start in range(0, len(rows), length))


def _frontal(studies: list[ChestStudy], size: int, rows: list[int], masks: dict[str, np.ndarray]) -> np.ndarray:
    """Pictures of frontal studies; adds their masks to `masks` at `rows`."""
    generators = [np.random.default_rng(study.seed) for study in studies]
    scene = anatomy.build_scene(studies, size, generators)
    picture = anatomy.attenuation(scene, studies)
    visible = acquisition.field(studies, size) > 0.5
    for names, members, mask in findings.draw_all(scene, picture, studies):
        for name in names:
            masks[name][[rows[i] for i in members]] |= mask & visible[members]
    return acquisition.expose(picture, studies, generators)
