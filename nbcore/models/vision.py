"""Image encoders behind one interface: timm classes at the papers' size and, of the same classes, stand-ins.

Shapes: B batch, H x W image, D feature width, S spatial positions, A attention heads.
"""

from pathlib import Path

import timm
import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from nbcore.errors import UsageError
from nbcore.models.weights import find_folder, load_exactly, read_state

_HUB_FILES = ("config.json", "model.safetensors", "pytorch_model.bin")


def _tiny_resnet() -> ResNet:
    """A ResNet-10 of width 16 with a stem of three 3x3 convolutions (0.3 M parameters)."""
    return ResNet(BasicBlock, [1, 1, 1, 1], channels=(16, 32, 64, 128), stem_width=8, stem_type="deep", num_classes=0)


def _tiny_vit(image_size: int) -> VisionTransformer:
    """A three-block ViT of width 96 with 8-pixel patches (0.4 M parameters)."""
    return VisionTransformer(image_size, patch_size=8, embed_dim=96, depth=3, num_heads=3, num_classes=0)


_BUILDERS = {
    "resnet50": lambda image_size: timm.create_model("resnet50", num_classes=0),
    "vit_base_patch16": lambda image_size: timm.create_model(
        "vit_base_patch16_224", img_size=image_size, num_classes=0
    ),
    "tiny_resnet": lambda image_size: _tiny_resnet(),
    "tiny_vit": _tiny_vit,
}
ENCODERS = tuple(_BUILDERS)


class VisionEncoder(nn.Module):
    """An image encoder with pooled and spatial features.

    Attributes:
        width: D, the width of both kinds of features.
    """

    def __init__(self, backbone: ResNet | VisionTransformer):
        super().__init__()
        self.backbone = backbone
        self.width: int = backbone.num_features

    @property
    def is_transformer(self) -> bool:
        return isinstance(self.backbone, VisionTransformer)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features of normalised images (B, 1 or 3, H, W).

        Returns:
            global features (B, D): average-pooled last map of a ResNet (>= 0, after its ReLU), [CLS] of a ViT;
            local features (B, S, D): positions of the last map, or patch tokens.
        """
        features = self.backbone.forward_features(images.expand(-1, 3, -1, -1))
        if self.is_transformer:
            return features[:, 0], features[:, self.backbone.num_prefix_tokens :]  # (B, D), (B, S, D)
        local = features.flatten(2).transpose(1, 2)  # (B, D, h, w) -> (B, S, D)
        return local.mean(dim=1), local

    def global_features(self, images: Tensor) -> Tensor:
        """Pooled features, (B, D)."""
        return self(images)[0]

    def local_features(self, images: Tensor) -> Tensor:
        """Spatial features, (B, S, D)."""
        return self(images)[1]

    def last_attention(self, images: Tensor) -> Tensor:
        """Attention of the last block from [CLS] to the patches, per head: (B, A, S), rows sum to at most 1.

        Raises:
            UsageError: the backbone is a ResNet, which has no attention.
        """
        if not self.is_transformer:
            raise UsageError("attention maps need a vision transformer; this encoder is a ResNet.")
        attention = self.backbone.blocks[-1].attn
        captured = {}
        hook = attention.register_forward_pre_hook(lambda _, inputs: captured.update(tokens=inputs[0]))
        try:
            self.backbone.forward_features(images.expand(-1, 3, -1, -1))
        finally:
            hook.remove()
        tokens = captured["tokens"]  # (B, 1 + S, D)
        qkv = attention.qkv(tokens).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])  # (B, A, 1 + S, D / A)
        weights = (query[:, :, :1] @ key.transpose(-2, -1) * attention.scale).softmax(dim=-1)  # (B, A, 1, 1 + S)
        return weights[:, :, 0, self.backbone.num_prefix_tokens :]


def vision_encoder(
    name: str, *, image_size: int = 224, weights: str | None = None, download: bool = False
) -> VisionEncoder:
    """Build an image encoder.

    Args:
        name: one of `ENCODERS`.
        image_size: side of the square input, pixels (fixes the position embedding of a ViT).
        weights: None for random initialisation, or the source of ImageNet weights in timm's layout: a file, a folder,
            or a hub repository `owner/name[@revision]` (the official M-FLAG starts from `timm/resnet50.tv_in1k`).
        download: ask the hub when the weights are not in its cache.

    Raises:
        UsageError: unknown name.
        UserError: weights unavailable, or keys that do not match.
    """
    if name not in _BUILDERS:
        raise UsageError(f"vision encoder {name!r} is unknown; choose one of {', '.join(ENCODERS)}.")
    encoder = VisionEncoder(_BUILDERS[name](image_size))
    if weights is not None:
        path = Path(weights).expanduser()
        folder = path if path.exists() else find_folder(weights, files=_HUB_FILES, download=download)
        load_exactly(encoder.backbone, read_state(folder), source=weights, ignore=("fc.", "head."))
    return encoder.to(memory_format=torch.channels_last)  # convolutions of few channels run up to 1.5 times as fast


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters that receive a gradient."""
    return sum(p.numel() for module in modules for p in module.parameters() if p.requires_grad)
