"""Image encoders: one interface over timm classes, and weight loading that is never silent."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from nbcore.errors import UsageError, UserError
from nbcore.models.vision import VisionEncoder, count_parameters, vision_encoder

SIZES = {"tiny_resnet": 64, "tiny_vit": 64, "resnet50": 64, "vit_base_patch16": 64}


@pytest.mark.parametrize("name", SIZES)
def test_features_have_the_promised_shapes(name):
    encoder = vision_encoder(name, image_size=SIZES[name]).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        pooled, local, attention = encoder.regions(images)
        maps = encoder.maps(images)
        torch.testing.assert_close(pooled, encoder.global_features(images))
    assert pooled.shape == (2, encoder.width)
    assert local.shape[::2] == (2, encoder.region_width)
    assert (attention is None) != encoder.is_transformer
    shapes = [(2, c, 64 // s, 64 // s) for c, s in zip(encoder.map_channels, encoder.map_strides)]
    assert [tuple(each.shape) for each in maps] == shapes
    regions = maps[-1 if encoder.is_transformer else encoder.region_stage]
    torch.testing.assert_close(local, regions.flatten(2).transpose(1, 2))


def test_mgca_gives_a_resnet_299_pixels_of_a_224_pixel_picture():
    encoder = vision_encoder("resnet50", upsample=299).eval()
    images = torch.randn(1, 1, 224, 224)
    scaled = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear", align_corners=True)
    with torch.no_grad():
        regions, plain = encoder.regions(images), VisionEncoder(encoder.backbone).regions(scaled)
        assert encoder.maps(images)[-1].shape == (1, 2048, 7, 7)
    assert regions.local.shape == (1, 361, 1024)
    torch.testing.assert_close(regions, plain)


def test_a_vit_reports_its_attention_without_gradient():
    encoder = vision_encoder("tiny_vit", image_size=64).eval()
    images = torch.randn(2, 1, 64, 64)
    regions = encoder.regions(images)
    assert regions.local.requires_grad and not regions.attention.requires_grad
    torch.testing.assert_close(regions.attention, encoder.last_attention(images).mean(dim=1))


def test_resnet_pools_its_last_map():
    encoder = vision_encoder("tiny_resnet").eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = encoder.backbone(images.expand(-1, 3, -1, -1))  # timm's own pooling
        torch.testing.assert_close(encoder.global_features(images), expected)
    assert (expected >= 0).all()


def test_vit_global_feature_is_the_class_token_and_attention_is_its_last():
    encoder = vision_encoder("tiny_vit", image_size=64).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        tokens = encoder.backbone.forward_features(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(encoder.global_features(images), tokens[:, 0])
        attention = encoder.last_attention(images)  # (B, A, S)
    assert attention.shape == (2, 3, 64)
    assert (attention >= 0).all()
    assert (attention.sum(dim=-1) < 1).all()  # the rest is what [CLS] pays to itself


def test_vit_attention_reproduces_the_block():
    """Values weighted by the attention we report must give what timm's own block computes for [CLS]."""
    encoder = vision_encoder("tiny_vit", image_size=32).eval()
    block = encoder.backbone.blocks[-1].attn
    seen = {}
    block.register_forward_hook(lambda _, inputs, output: seen.update(x=inputs[0], y=output))
    with torch.no_grad():
        patches = encoder.last_attention(torch.randn(1, 1, 32, 32))  # (1, A, S)
        value = block.qkv(seen["x"]).unflatten(-1, (3, block.num_heads, -1))[:, :, 2].transpose(1, 2)
        weights = torch.cat([1 - patches.sum(-1, keepdim=True), patches], dim=-1)  # (1, A, 1 + S)
        mixed = (weights[:, :, None] @ value)[:, :, 0].flatten(1)
        torch.testing.assert_close(block.proj(mixed), seen["y"][:, 0], atol=1e-5, rtol=1e-4)


def test_resnet_has_no_attention():
    with pytest.raises(UsageError, match="vision transformer"):
        vision_encoder("tiny_resnet").last_attention(torch.zeros(1, 1, 64, 64))


def test_published_encoders_have_their_published_size():
    assert count_parameters(vision_encoder("resnet50")) == 23_508_032
    assert count_parameters(vision_encoder("vit_base_patch16")) == 85_798_656


LARGE = {"vit_large_patch32": (305_510_400, 1024, 49), "dinov2_vit_giant_patch14": (1_136_479_232, 1536, 256)}


@pytest.mark.parametrize("name", LARGE)
def test_large_encoders_have_their_published_size_and_features_of_a_picture_of_224(name):
    """On the meta device, which keeps shapes but no numbers: the larger one would take 4.5 GB."""
    parameters, width, patches = LARGE[name]
    with torch.device("meta"):
        encoder = vision_encoder(name)
        images = torch.empty(2, 1, 224, 224)
    assert count_parameters(encoder) == parameters
    assert encoder.width == encoder.region_width == width
    assert encoder.global_features(images).shape == (2, width)
    regions = encoder.regions(images)
    assert regions.local.shape == (2, patches, width)
    assert regions.attention.shape == (2, patches)


def test_no_path_of_a_transformer_is_dropped():
    """A pass in training is a pass in evaluation: no block is left out at random, nor anything in it."""
    for name in ("vit_base_patch16", "vit_large_patch32"):
        with torch.device("meta"):
            backbone = vision_encoder(name).backbone.train()
        drops = [module for module in backbone.modules() if "drop" in type(module).__name__.lower()]
        assert all(isinstance(module, torch.nn.Dropout) and module.p == 0 for module in drops)
        assert {type(part) for block in backbone.blocks for part in (block.drop_path1, block.drop_path2)} == {
            torch.nn.Identity
        }


def test_dinov2_keeps_the_position_embedding_of_its_published_weights():
    """37 x 37 patches of 518 pixels and [CLS], whatever the pictures' side: so the weights load exactly."""
    with torch.device("meta"):
        encoder = vision_encoder("dinov2_vit_giant_patch14", image_size=224)
    assert encoder.backbone.pos_embed.shape == (1, 37 * 37 + 1, 1536)
    assert not [key for key in encoder.backbone.state_dict() if key.startswith(("fc.", "head."))]


def test_the_pooled_feature_of_the_larger_transformers_is_the_class_token():
    """The same classes with few, narrow blocks: what their names change is the size alone."""
    for name in ("vit_large_patch32_224", "vit_giant_patch14_dinov2"):
        small = {"depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 448}
        backbone = timm.create_model(name, num_classes=0, dynamic_img_size=True, **small)
        encoder = VisionEncoder(backbone).eval()
        images = torch.randn(2, 1, 224, 224)
        with torch.no_grad():
            tokens = backbone.forward_features(images.expand(-1, 3, -1, -1))
            regions = encoder.regions(images)
            torch.testing.assert_close(encoder.global_features(images), tokens[:, 0])
        torch.testing.assert_close(regions.local, tokens[:, 1:])
        torch.testing.assert_close(regions.attention, encoder.last_attention(images).mean(dim=1))


@pytest.mark.parametrize(("name", "side", "near"), [("dinov2_vit_giant_patch14", 256, 252), ("tiny_vit", 60, 64)])
def test_a_side_that_patches_do_not_fill_is_refused(name, side, near):
    with torch.device("meta"), pytest.raises(UsageError, match=f"do not fill {side}: try image_size {near}"):
        vision_encoder(name, image_size=side)


def test_stand_ins_are_small():
    for name in ("tiny_resnet", "tiny_vit"):
        assert count_parameters(vision_encoder(name, image_size=64)) < 400_000


def test_weights_load_exactly_or_not_at_all(tmp_path):
    encoder = vision_encoder("tiny_resnet")
    state = {key: value.contiguous() for key, value in encoder.backbone.state_dict().items()}
    file = tmp_path / "model.safetensors"
    save_file({**state, "fc.weight": torch.zeros(3, 3)}, file)  # a classifier is the one thing that may be left out
    loaded = vision_encoder("tiny_resnet", weights=str(file))
    for own, other in zip(loaded.backbone.state_dict().values(), state.values()):
        assert torch.equal(own, other)
    assert vision_encoder("tiny_resnet", weights=str(tmp_path)).width == 128  # a folder that holds such a file

    save_file({key: value for key, value in state.items() if key != "conv1.0.weight"}, file)
    with pytest.raises(UserError, match=r"1 missing \(first: conv1.0.weight\)"):
        vision_encoder("tiny_resnet", weights=str(file))
    save_file({**state, "extra": torch.zeros(1)}, file)
    with pytest.raises(UserError, match=r"1 unexpected \(first: extra\)"):
        vision_encoder("tiny_resnet", weights=str(file))
    save_file({**state, "conv1.0.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="of another shape"):
        vision_encoder("tiny_resnet", weights=str(file))
    file.write_bytes(b"not a weight file")
    with pytest.raises(UserError, match="not a readable weight file"):
        vision_encoder("tiny_resnet", weights=str(file))


def test_unknown_encoder_and_absent_weights(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="choose one of"):
        vision_encoder("resnet5")
    with pytest.raises(UserError, match="download=true"):
        vision_encoder("tiny_resnet", weights="nobody/no-such-model")
    with pytest.raises(UserError, match=r"no model.safetensors or pytorch_model.bin"):
        vision_encoder("tiny_resnet", weights=str(tmp_path))
