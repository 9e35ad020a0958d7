"""PNG files of figures are small and look as they were drawn."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from nbcore.analysis.png import png

NOISE = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
GREYS = NOISE[..., :1].repeat(3, axis=2)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def drawn(kind: str) -> plt.Figure:
    fig, axis = plt.subplots(figsize=(3, 2))
    if kind == "lines":
        axis.plot(NOISE[0, :, 0])
    else:
        axis.imshow(NOISE if kind == "photograph" else GREYS)
    if kind == "outlined":
        axis.contour(np.arange(60)[:, None] * np.ones(60) > 30, [0.5], colors="cyan")
    return fig


def rendered(figure: plt.Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "modes", "most"),
    [("lines", {"P"}, 12), ("grey", {"L"}, 0), ("outlined", {"P"}, 12), ("photograph", {"RGB"}, 0)],
)
def test_a_file_is_smaller_and_looks_the_same(kind, modes, most):
    figure = drawn(kind)
    drawn_plainly, content = rendered(figure), png(figure)
    plain, small = (Image.open(io.BytesIO(file)) for file in (drawn_plainly, content))
    assert small.mode in modes
    assert (small.size, small.info["dpi"]) == (plain.size, plain.info["dpi"])
    before, after = (np.asarray(picture.convert("RGB")).astype(int) for picture in (plain, small))
    assert np.abs(before - after).max() <= most
    assert after[0, 0].tolist() == [255, 255, 255]
    assert len(content) < 0.95 * len(drawn_plainly)
    assert png(figure) == content


def test_what_is_transparent_stays_so():
    figure = drawn("lines")
    figure.patch.set_alpha(0)
    assert np.asarray(Image.open(io.BytesIO(png(figure))))[0, 0, 3] == 0
