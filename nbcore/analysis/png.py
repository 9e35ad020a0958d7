"""Figures as small PNG files: grey where all is grey, with a palette where the colours are few."""

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

_COLOURS = 16384  # a picture of more is a photograph, which a palette would spoil
_UNSEEN = 12  # of 255: the most by which a palette may be off in any pixel


def png(figure: Figure) -> bytes:
    """A figure as a PNG file, the same bytes for the same figure, as small as it gets without visible loss."""
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pil_kwargs={"compress_level": 1})
    with Image.open(file) as drawn:
        dpi = drawn.info["dpi"]
        opaque = drawn.getextrema()[-1][0] == 255
        picture = _reduced(drawn.convert("RGB")) if opaque else drawn.copy()
    file = io.BytesIO()
    picture.save(file, format="png", dpi=dpi, optimize=True)
    return file.getvalue()


def _reduced(picture: Image.Image) -> Image.Image:
    """An RGB picture with fewer bytes a pixel, if it looks the same."""
    pixels = np.asarray(picture).astype(np.int16)
    if (pixels == pixels[..., :1]).all():
        return picture.convert("L")
    if picture.getcolors(_COLOURS) is None:
        return picture
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    return few if np.abs(np.asarray(few.convert("RGB")) - pixels).max() <= _UNSEEN else picture
