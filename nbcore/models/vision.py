"""Image encoders behind one interface: timm classes at the papers' size and, of the same classes, stand-ins.

Shapes: B batch, H x W image, D width of pooled features, S regions, C their width, A attention heads.
"""

from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nbcore.errors import UsageError
from nbcore.models.weights import find_weights, load_exactly, read_state

HUB_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")


def _tiny_resnet() -> ResNet:
    """A ResNet-10 of width 16 with a stem of three 3x3 convolutions (0.3 M parameters)."""
    return ResNet(BasicBlock, [1, 1, 1, 1], channels=(16, 32, 64, 128), stem_width=8, stem_type="deep", num_classes=0)


def _tiny_vit(image_size: int) -> VisionTransformer:
    """A three-block ViT of width 96 with 8-pixel patches (0.4 M parameters)."""
    return VisionTransformer(
        image_size, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=0, dynamic_img_size=True
    )


_BUILDERS = {
    "resnet50": lambda image_size: timm.create_model("resnet50", num_classes=0),
    "vit_base_patch16": lambda image_size: timm.create_model(
        "vit_base_patch16_224", img_size=image_size, num_classes=0, dynamic_img_size=True
    ),
    "clip_vit_base_patch16": lambda image_size: timm.create_model(
        "vit_base_patch16_clip_224", img_size=image_size, num_classes=0, dynamic_img_size=True
    ),
    "vit_large_patch32": lambda image_size: timm.create_model(
        "vit_large_patch32_224", img_size=image_size, num_classes=0, dynamic_img_size=True
    ),
    # keeps the position embedding of the 518 pixels it is published for, and interpolates it at each pass
    "dinov2_vit_giant_patch14": lambda image_size: timm.create_model(
        "vit_giant_patch14_dinov2", num_classes=0, dynamic_img_size=True
    ),
    "tiny_resnet": lambda image_size: _tiny_resnet(),
    "tiny_vit": _tiny_vit,
}
ENCODERS = tuple(_BUILDERS)


class Regions(NamedTuple):
    """What one pass says of a picture and of its parts.

    Attributes:
        pooled: global features, (B, D).
        local: features of S regions, row by row, (B, S, C).
        attention: of a ViT's last block from [CLS] to the regions, mean over heads, without gradient, (B, S); or None.
    """

    pooled: Tensor
    local: Tensor
    attention: Tensor | None


class VisionEncoder(nn.Module):
    """An image encoder with pooled features, features of regions, and feature maps.

    Args:
        backbone: a timm network without a classifier.
        upsample: side in pixels to which pictures are scaled before they are encoded (MGCA: 299 of 224, ResNet),
            or None. Feature maps are always of the picture as it is.
        region_stage: the stage of a ResNet, 1 to 4, whose positions are the regions; a ViT's are its patches.

    Attributes:
        width: D, of the pooled features.
        region_width: C, of the regions' features.
        map_channels, map_strides: of the feature maps, from fine to coarse.
    """

    def __init__(self, backbone: ResNet | VisionTransformer, upsample: int | None = None, region_stage: int = 3):
        super().__init__()
        self.backbone = backbone
        self.upsample, self.region_stage = upsample, region_stage
        self.width: int = backbone.num_features
        if self.is_transformer:
            self.map_channels, self.map_strides = (self.width,), (backbone.patch_embed.patch_size[0],)
            self.region_width: int = self.width
        else:
            self.map_channels = tuple(info["num_chs"] for info in backbone.feature_info)
            self.map_strides = tuple(info["reduction"] for info in backbone.feature_info)
            self.region_width = self.map_channels[region_stage]

    @property
    def is_transformer(self) -> bool:
        return isinstance(self.backbone, VisionTransformer)

    def global_features(self, images: Tensor) -> Tensor:
        """Pooled features of normalised images, (B, 1 or 3, H, W) -> (B, D).

        The average-pooled last map of a ResNet (>= 0, after its ReLU); the [CLS] state of a ViT.
        """
        features = self.backbone.forward_features(self._scaled(images))
        return features[:, 0] if self.is_transformer else features.mean(dim=(2, 3))

    def regions(self, images: Tensor) -> Regions:
        """Pooled features and those of the regions, in one pass."""
        images = self._scaled(images)
        if not self.is_transformer:
            last, maps = self.backbone.forward_intermediates(images, indices=[self.region_stage])
            return Regions(last.mean(dim=(2, 3)), maps[0].flatten(2).transpose(1, 2), None)
        tokens, entering = self._tokens(images)  # (B, 1 + S, D) each
        attention = self._class_attention(entering).mean(dim=1)  # (B, S)
        return Regions(tokens[:, 0], tokens[:, self.backbone.num_prefix_tokens :], attention)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps (B, C, h, w), fine to coarse: a ResNet's stem and four stages, or a ViT's patch tokens."""
        images = images.expand(-1, 3, -1, -1)
        if not self.is_transformer:
            return self.backbone.forward_intermediates(images, intermediates_only=True)
        tokens = self.backbone.forward_features(images)[:, self.backbone.num_prefix_tokens :]  # (B, S, D)
        grid = tuple(side // self.map_strides[0] for side in images.shape[-2:])
        return [tokens.transpose(1, 2).unflatten(2, grid)]

    def last_attention(self, images: Tensor) -> Tensor:
        """Attention of the last block from [CLS] to the patches, per head: (B, A, S), rows sum to at most 1.

        Raises:
            UsageError: the backbone is a ResNet, which has no attention.
        """
        if not self.is_transformer:
            raise UsageError("attention maps need a vision transformer; this encoder is a ResNet.")
        return self._class_attention(self._tokens(self._scaled(images))[1])

    def _scaled(self, images: Tensor) -> Tensor:
        if self.upsample:
            images = F.interpolate(images, (self.upsample,) * 2, mode="bilinear", align_corners=True)
        return images.expand(-1, 3, -1, -1)

    def _tokens(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """A ViT's last states, and what enters the attention of its last block."""
        captured = {}
        attention = self.backbone.blocks[-1].attn
        hook = attention.register_forward_pre_hook(lambda _, inputs: captured.update(tokens=inputs[0]))
        try:
            return self.backbone.forward_features(images), captured["tokens"]
        finally:
            hook.remove()

    @torch.no_grad()
    def _class_attention(self, entering: Tensor) -> Tensor:
        attention = self.backbone.blocks[-1].attn
        qkv = attention.qkv(entering).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])  # (B, A, 1 + S, D / A)
        weights = (query[:, :, :1] @ key.transpose(-2, -1) * attention.scale).softmax(dim=-1)  # (B, A, 1, 1 + S)
        return weights[:, :, 0, self.backbone.num_prefix_tokens :]


def vision_encoder(
    name: str,
    *,
    image_size: int = 224,
    weights: str | None = None,
    download: bool = False,
    upsample: int | None = None,
    region_stage: int = 3,
) -> VisionEncoder:
    """Build an image encoder.

    Args:
        name: one of `ENCODERS`.
        image_size: side of the square input, pixels; a ViT interpolates its position embedding for other sizes.
        weights: None for random initialisation, or the source of ImageNet weights in timm's layout: a file, a folder,
            or a hub repository `owner/name[@revision]` (the official M-FLAG starts from `timm/resnet50.tv_in1k`).
        download: ask the hub when the weights are not in its cache.
        upsample, region_stage: see `VisionEncoder`.

    Raises:
        UsageError: unknown name, or a side that a ViT's patches do not fill.
        UserError: weights unavailable, or keys that do not match.
    """
    if name not in _BUILDERS:
        raise UsageError(f"vision encoder {name!r} is unknown; choose one of {', '.join(ENCODERS)}.")
    encoder = VisionEncoder(_BUILDERS[name](image_size), upsample, region_stage)
    patch, side = encoder.map_strides[0], upsample or image_size
    if encoder.is_transformer and side % patch:
        near = max(1, round(side / patch)) * patch
        raise UsageError(f"{name} sees patches of {patch} pixels, which do not fill {side}: try image_size {near}.")
    if weights is not None:
        found = find_weights(weights, files=HUB_FILES, download=download)
        load_exactly(encoder.backbone, read_state(found), source=weights, ignore=("fc.", "head."))
    return encoder.to(memory_format=torch.channels_last)  # convolutions of few channels run up to 1.5 times as fast


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters that receive a gradient."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
