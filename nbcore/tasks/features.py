"""Features of a frozen encoder, computed once for a whole data set.

Shapes: n images, B batch, h stored side, H encoder's input side, D feature width.
"""

import numpy as np
import torch

from nbcore.data.batches import prepare
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
