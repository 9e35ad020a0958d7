"""The YOLOv3 head that the papers put on three maps of a frozen ResNet.

Shapes: B batch, A = 3 anchors a cell, C classes, G x G cells of a grid.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# YOLOv3's nine anchors of COCO for pictures of 416 pixels, three a map, from the fine map to the coarse one.
_COCO_ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)


def coco_anchors(side: float) -> Tensor:
    """Widths and heights, in pixels of a picture of this side, (maps, anchors, 2) = (3, 3, 2), fine to coarse."""
    return torch.tensor(_COCO_ANCHORS) * (side / 416)


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


class YoloHead(nn.Module):
    """Feature maps of strides 8, 16 and 32 to the logits of three grids, information flowing from coarse to fine.

    On the maps of a ResNet-50 (512, 1024 and 2048 channels) it has the official 21,626,934 parameters.

    Args:
        channels: of the three maps, fine to coarse.
        classes: C.
        width: of the branch on the coarse map; those on the others have a half and a quarter of it.
    """

    def __init__(self, channels: Sequence[int], classes: int = 1, width: int = 512):
        super().__init__()
        widths = (width // 4, width // 2, width)
        above = (*widths[:2], 0)  # channels that join each map from the coarser branch
        self.laterals = nn.ModuleList(_convolution(widths[i + 1], widths[i], 1) for i in range(2))
        self.branches = nn.ModuleList(
            nn.Sequential(
                _convolution(channels[i] + above[i], w, 1),
                _convolution(w, 2 * w, 3),
                _convolution(2 * w, w, 1),
                _convolution(w, 2 * w, 3),
                _convolution(2 * w, w, 1),
            )
            for i, w in enumerate(widths)
        )
        self.outputs = nn.ModuleList(
            nn.Sequential(_convolution(w, 2 * w, 3), nn.Conv2d(2 * w, 3 * (5 + classes), 1)) for w in widths
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Three maps (B, channels, G, G), fine to coarse -> as many logits (B, A * (5 + C), G, G)."""
        logits: list[Tensor] = []
        x = self.branches[2](maps[2])
        logits.append(self.outputs[2](x))
        for i in (1, 0):
            # an odd map has a coarser one of more than half its size: 7 x 7 over 4 x 4
            joined = F.interpolate(self.laterals[i](x), size=maps[i].shape[2:], mode="nearest")
            x = self.branches[i](torch.cat([joined, maps[i]], dim=1))
            logits.insert(0, self.outputs[i](x))
        return logits
