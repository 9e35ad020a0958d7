"""Features of a frozen encoder."""

import numpy as np
import torch

from nbcore.data.batches import prepare
from nbcore.models.vision import vision_encoder
from nbcore.tasks.features import extract


def test_features_do_not_depend_on_the_batch_and_use_running_statistics():
    torch.manual_seed(0)
    encoder = vision_encoder("tiny_resnet").train()
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 40), dtype=np.uint8)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    whole, pieces = extract(encoder, images, 32), extract(encoder, images, 32, batch_size=3)
    np.testing.assert_allclose(whole, pieces, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    with torch.no_grad():
        expected = encoder.eval().global_features(prepare(torch.from_numpy(images), 32, "none"))
    np.testing.assert_allclose(whole, expected.numpy(), atol=1e-6)
