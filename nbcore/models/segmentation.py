"""Decoders that turn an encoder's feature maps into the logits of a mask.

Shapes: B batch, H side of the square image, C channels and h x w positions of a map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbcore.errors import UsageError
from nbcore.models.vision import VisionEncoder

_UNET_WIDTHS = (256, 128, 64, 32, 16)
_SETR_WIDTH = 512  # of the first stage; every further one has half


class UNetHead(nn.Module):
    """Decoder and last convolution of a U-Net (Ronneberger et al. 2015), those of segmentation-models-pytorch.

    Each block enlarges to the size of the next finer map, whatever that is, and convolves both together; so maps of odd
    sides (28, 14, 7, 4, 2 of a 56-pixel image) fit too.

    Args:
        channels: C of the maps, fine to coarse.
        widths: channels of the blocks, coarse to fine; as many as there are maps.

    Raises:
        UsageError: another number of widths than of maps.
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int] = _UNET_WIDTHS):
        super().__init__()
        # imports some hundred modules, which only segmentation needs
        from segmentation_models_pytorch.base import SegmentationHead
        from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        _check_widths(widths, len(channels))
        self.decoder = UnetDecoder((0, *channels), tuple(widths), n_blocks=len(widths))
        self.classifier = SegmentationHead(widths[-1], 1)
        initialize_decoder(self.decoder)
        initialize_head(self.classifier)

    def forward(self, maps: Sequence[Tensor], size: int) -> Tensor:
        """Logits of images of side `size` = H from their maps (B, C, h, w), fine to coarse: (B, 1, H, H)."""
        full = maps[0].new_empty(len(maps[0]), 0, size, size)  # no channels: the decoder asks for its sides only
        return self.classifier(self.decoder([full, *maps]))


class SetrHead(nn.Module):
    """SETR's progressive upsampling (Zheng et al. 2021) of the one map of a vision transformer.

    Each stage is a 3x3 convolution, BatchNorm, ReLU and bilinear enlargement by 2, the last one to the image's side;
    pixels are taken as areas (`align_corners=False`).

    Args:
        channels: C of the map.
        widths: channels of the stages, coarse to fine.
    """

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
            for before, after in zip((channels, *widths), widths)
        )
        self.classifier = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], size: int) -> Tensor:
        """Logits of images of side `size` = H from their one map (B, C, h, w): (B, 1, H, H)."""
        (x,) = maps
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            sides = (size, size) if number == len(self.stages) else (2 * x.shape[-2], 2 * x.shape[-1])
            x = F.interpolate(x, size=sides, mode="bilinear", align_corners=False)  # (B, C, 2 h, 2 w)
        return self.classifier(x)


def segmentation_head(encoder: VisionEncoder, widths: Sequence[int] | None = None) -> UNetHead | SetrHead:
    """The decoder that fits an encoder: SETR for a vision transformer, a U-Net otherwise.

    Args:
        encoder: whose `maps` it will be given.
        widths: channels of its blocks, coarse to fine, one a factor of two between the coarsest map and the image. None
            for the official ones: 256 to 16 for a U-Net (9,013,073 parameters on ResNet-50); 512, halved at every
            stage, for SETR (the SETR of common PyTorch code; the papers give none).

    Raises:
        UsageError: another number of widths than this encoder needs.
    """
    if encoder.is_transformer:
        stages = (encoder.map_strides[0] - 1).bit_length()  # of a factor of 2 each: log2 of the stride, rounded up
        widths = [_SETR_WIDTH >> stage for stage in range(stages)] if widths is None else widths
        _check_widths(widths, stages)
        head = SetrHead(encoder.map_channels[0], widths)
    else:
        head = UNetHead(encoder.map_channels, _UNET_WIDTHS if widths is None else widths)
    return head.to(memory_format=torch.channels_last)  # convolutions of few channels run 1.4 times as fast


def _check_widths(widths: Sequence[int], needed: int) -> None:
    if len(widths) != needed:
        raise UsageError(f"the segmentation decoder has {len(widths)} widths, but this encoder needs {needed}.")
