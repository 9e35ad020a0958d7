"""Segmentation decoders: published size, shapes at even and odd sides, equality with the library's whole U-Net."""

import pytest
import torch

from nbcore.errors import UsageError
from nbcore.models.segmentation import SetrHead, UNetHead, segmentation_head
from nbcore.models.vision import count_parameters, vision_encoder


def test_decoder_on_resnet50_has_its_published_size():
    with torch.device("meta"):
        head = segmentation_head(vision_encoder("resnet50"))
    assert isinstance(head, UNetHead)
    assert count_parameters(head) == 9_013_073


def test_vision_transformers_of_16_pixel_patches_get_four_stages():
    with torch.device("meta"):
        head = segmentation_head(vision_encoder("vit_base_patch16"))
    assert isinstance(head, SetrHead)
    assert [stage[0].out_channels for stage in head.stages] == [512, 256, 128, 64]


def test_unet_equals_the_library_as_a_whole():
    """Weights and maps taken from smp.Unet must give its logits."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    widths = (16, 12, 8, 8, 4)
    whole = smp.Unet("resnet18", encoder_weights=None, decoder_channels=widths).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = whole.encoder(images)[1:]
        head = UNetHead([m.shape[1] for m in maps], widths).eval()
        assert (head.classifier[0].bias == 0).all()  # initialised as the library does
        head.decoder.load_state_dict(whole.decoder.state_dict())
        head.classifier.load_state_dict(whole.segmentation_head.state_dict())
        torch.testing.assert_close(head(maps, 64), whole(images))


@pytest.mark.parametrize(("name", "widths"), [("tiny_resnet", (8, 8, 8, 4, 4)), ("tiny_vit", (8, 8, 4))])
@pytest.mark.parametrize("size", [64, 56])
def test_logits_have_the_side_of_the_image(name, widths, size):
    encoder = vision_encoder(name, image_size=size).eval()
    head = segmentation_head(encoder, widths)
    logits = head(encoder.maps(torch.randn(2, 1, size, size)), size)
    assert logits.shape == (2, 1, size, size)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_odd_sides_of_maps_and_image():
    sides = [29, 15, 8, 4, 2]  # of a 57-pixel image
    maps = [torch.randn(1, 4, side, side) for side in sides]
    assert UNetHead([4] * 5, (8, 8, 4, 4, 4))(maps, 57).shape == (1, 1, 57, 57)
    assert SetrHead(4, (8, 8, 4, 4))([torch.randn(1, 4, 4, 4)], 57).shape == (1, 1, 57, 57)


def test_every_map_matters():
    torch.manual_seed(0)
    maps = [torch.randn(2, 4, side, side, requires_grad=True) for side in (32, 16, 8, 4, 2)]
    UNetHead([4] * 5, (8, 8, 4, 4, 4))(maps, 64).square().sum().backward()
    assert all(m.grad.abs().sum() > 0 for m in maps)


def test_another_number_of_widths_is_refused():
    with pytest.raises(UsageError, match="has 3 widths, but this encoder needs 5"):
        segmentation_head(vision_encoder("tiny_resnet"), (8, 8, 8))
    with pytest.raises(UsageError, match="has 5 widths, but this encoder needs 3"):
        segmentation_head(vision_encoder("tiny_vit", image_size=64), (8, 8, 8, 8, 8))
