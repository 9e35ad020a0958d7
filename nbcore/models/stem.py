"""A convolutional start for small transformers (Xiao et al., NeurIPS 2021), which learn from few pictures with it."""

from itertools import pairwise

from torch import nn


def convolutional_stem(width: int, patch: int) -> nn.Sequential:
    """3 x 3 convolutions of stride 2 in the place of the one that cuts a picture into patches: (B, 3, H, W) ->
    (B, width, H / patch, W / patch).

    Args:
        width: of the transformer, a multiple of 4.
        patch: side of a patch, a power of 2 from 2 on, pixels.
    """
    halvings = patch.bit_length() - 1
    widths = [3, *(max(16, width >> i) for i in range(halvings - 1, 0, -1)), width]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, width, 1))
