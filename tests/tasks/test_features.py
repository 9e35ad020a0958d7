"""Features of a frozen encoder."""

import numpy as np
import pytest
import torch

from nbcore.data.batches import prepare
from nbcore.errors import UserError
from nbcore.models.vision import vision_encoder
from nbcore.tasks.features import extract, extract_maps


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


@pytest.mark.parametrize("name", ["tiny_resnet", "tiny_vit"])
def test_maps_are_those_of_the_encoder_in_half_precision(name, tmp_path):
    torch.manual_seed(0)
    encoder = vision_encoder(name, image_size=32).train()
    images = np.random.default_rng(0).integers(0, 256, (7, 40, 40), dtype=np.uint8)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    which = [len(encoder.map_channels) - 1, 0]
    maps = extract_maps(encoder, images, 32, tmp_path, which, batch_size=3)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    with torch.no_grad():
        expected = encoder.eval().maps(prepare(torch.from_numpy(images), 32, "none"))
    for i, found in zip(which, maps):
        assert isinstance(found, np.memmap)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, expected[i].numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(np.load(tmp_path / f"map{i}.npy"), found)


def test_maps_beyond_half_precision_are_refused(tmp_path):
    encoder = vision_encoder("tiny_resnet")
    torch.nn.init.constant_(encoder.backbone.bn1.weight, 1e6)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    with pytest.raises(UserError, match="map 0 of the image encoder"):
        extract_maps(encoder, images, 32, tmp_path, [0])
