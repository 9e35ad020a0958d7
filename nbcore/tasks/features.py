"""Features of a frozen encoder, computed once for a whole data set.

Shapes: n images, B batch, h stored side, H encoder's input side, D feature width, C channels of a map.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from nbcore.data.batches import prepare
from nbcore.errors import UserError
from nbcore.models.vision import VisionEncoder


@torch.no_grad()
def extract(encoder: VisionEncoder, images: np.ndarray, image_size: int, batch_size: int = 256) -> np.ndarray:
    """Pooled features before any projection head, of the centre crops of stored images.

    Args:
        encoder: put into eval mode (its BatchNorm uses running statistics) and left on its device.
        images: uint8 (n, h, h).
        image_size: H <= h, pixels.
        batch_size: images a forward pass.

    Returns:
        float32 (n, D).
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    out = np.empty((len(images), encoder.width), np.float32)
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
        out[start : start + batch_size] = encoder.global_features(prepare(batch, image_size, "none")).float().cpu()
    return out


@torch.no_grad()
def extract_maps(
    encoder: VisionEncoder,
    images: np.ndarray,
    image_size: int,
    directory: Path,
    which: Sequence[int],
    batch_size: int = 64,
) -> list[np.ndarray]:
    """Feature maps of the centre crops of stored images, kept on disk as float16.

    All five of a ResNet-50 at 224 pixels take 4.6 MB an image; those of a stand-in at 64 pixels 0.05 MB.

    Args:
        encoder: put into eval mode (its BatchNorm uses running statistics) and left on its device.
        images: uint8 (n, h, h), n >= 1.
        image_size: H <= h, pixels.
        directory: where "map<i>.npy" is written for every i of `which`.
        which: numbers of the maps in `encoder.maps`, 0 the finest.
        batch_size: images a forward pass.

    Returns:
        Read-only memory maps, float16 (n, C, H / stride, H / stride), one for each of `which`.

    Raises:
        UserError: a value is not finite in float16.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    paths = [directory / f"map{i}.npy" for i in which]
    files: list[np.memmap] = []
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
        maps = encoder.maps(prepare(batch, image_size, "none"))
        for slot, i in enumerate(which):
            values = maps[i].half().cpu().contiguous().numpy()
            if not np.isfinite(values).all():
                raise UserError(f"map {i} of the image encoder holds values beyond float16 (65504): check its weights.")
            if start == 0:
                shape = (len(images), *values.shape[1:])
                files.append(np.lib.format.open_memmap(paths[slot], "w+", np.float16, shape))
            files[slot][start : start + batch_size] = values
    for file in files:
        file.flush()
    return [np.load(path, mmap_mode="r") for path in paths]
