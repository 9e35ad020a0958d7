"""Vision-language models behind one interface, and CLIP: open_clip's own class, at the paper's size and small.

Shapes: B images, H x W pixels, S patches, N visual prompt tokens, D shared width, n texts, L word pieces, d word width,
M context words, C classes.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN as CLIP_MEAN
from open_clip.constants import OPENAI_DATASET_STD as CLIP_STD
from safetensors.torch import save_file
from torch import Tensor, nn

from nbcore.files import atomic_path, atomic_write
from nbcore.models.prompts import ContextPrompts, Position
from nbcore.models.stem import convolutional_stem
from nbcore.models.weights import find_weights, load_exactly, read_state

Triple = tuple[float, float, float]

_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_CONFIG_FILE = "open_clip_config.json"
_HYPERPARAMETERS = ("input_resolution", "context_length", "vocab_size")  # among the weights in OpenAI's own layout


class VisionLanguage(nn.Module, ABC):
    """A frozen image encoder and a frozen text encoder with one shared space.

    All parameters are frozen at construction; unfreezing is the caller's wish (LaFTer trains `layer_norms()`). The
    modules stay in evaluation mode whatever `train()` is told, so that an image has one feature; `training` itself is
    what `train()` was told.

    Attributes:
        image_size: side of the square images, pixels.
        width: D, of image and text features.
        mean, std: of the channels, of pixels in [0, 1].
        prompt_shape: (N, hidden), of the visual prompt.
        prompt_bound: v of the uniform start of the visual prompt, U(-v, v): sqrt(6 / (3 * 16 * 16 + hidden)), the
            official code's Xavier bound, which takes 16-pixel patches for every backbone.
        context_width: d, of the word embeddings.
    """

    kind: ClassVar[str]  # in the configuration of a saved model

    def __init__(
        self,
        *,
        image_size: int,
        width: int,
        mean: Triple,
        std: Triple,
        prompt_shape: tuple[int, int],
        context_width: int,
    ):
        super().__init__()
        self.image_size, self.width, self.prompt_shape = image_size, width, prompt_shape
        self.mean, self.std = tuple(mean), tuple(std)
        self.prompt_bound = (6 / (3 * 16 * 16 + prompt_shape[1])) ** 0.5
        self.context_width = context_width
        self.register_buffer("_mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def freeze(self) -> "VisionLanguage":
        """Freeze every parameter and enter evaluation mode."""
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "VisionLanguage":
        super().train(False)
        self.training = mode
        return self

    @property
    @abstractmethod
    def logit_scale(self) -> Tensor:
        """Factor of the cosine in the model's logits, a scalar > 0."""

    @property
    @abstractmethod
    def stem(self) -> nn.Module:
        """What makes patch embeddings of pixels, (B, 3, H, W) -> (B, hidden, g, g)."""

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels as the image encoder wants them, (B, 3, H, W) uint8 -> (B, 3, H, W) float."""
        return (images.to(self._mean.dtype) / 255 - self._mean) / self._std

    @abstractmethod
    def image_features(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        """Image features, not L2-normalised, differentiable in the prompt.

        Args:
            images: normalised, (B, 3, H, W).
            prompts: N visual prompt tokens that all images share, (N, hidden), or None.

        Returns:
            (B, D).
        """

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Word-piece ids, (n, L) int64, padded to the longest text; what exceeds the model's length is cut off."""

    @abstractmethod
    def token_mask(self, ids: Tensor) -> Tensor:
        """True where an id belongs to the text and is no padding, (n, L) -> (n, L) bool."""

    @abstractmethod
    def word_embeddings(self, ids: Tensor) -> Tensor:
        """Embeddings of the pieces alone, without positions, (n, L) -> (n, L, d)."""

    @abstractmethod
    def forward_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Text features from word embeddings, not L2-normalised, (n, L, d), (n, L) bool -> (n, D)."""

    def encode_tokens(self, ids: Tensor) -> Tensor:
        """Text features, not L2-normalised, (n, L) -> (n, D); padding has no influence."""
        return self.forward_embeddings(self.word_embeddings(ids), self.token_mask(ids))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str], batch_size: int = 64) -> Tensor:
        """Features of texts, each as if encoded alone, not L2-normalised: (n, D), in the order given."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # texts of like length share a batch
        out = self._mean.new_empty(len(texts), self.width)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            out[rows] = self.encode_tokens(self.tokenize([texts[i] for i in rows]).to(out.device))
        return out

    @abstractmethod
    def layer_norms(self) -> list[nn.LayerNorm]:
        """The layer normalisations of the image encoder, from input to output."""

    @torch.no_grad()
    def context(self, text: str = "a photo of a") -> Tensor:
        """Word embeddings of a text without its special pieces, (M, d): a start for learnable context words."""
        return self.word_embeddings(self.tokenize([text]).to(self._mean.device))[0, 1:-1].clone()

    def prompts(self, names: Sequence[str], length: int = 4, position: Position = "end") -> ContextPrompts:
        """Prompts of classes around `length` context words, to be filled in by `ContextPrompts.features`."""
        return ContextPrompts(self, names, length, position)

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """What rebuilds the model without its weights, JSON-like."""

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer, for `vision_language.load_standin`; the configuration last."""
        with atomic_path(folder / "model.safetensors") as path:
            save_file({key: value.contiguous() for key, value in self.state_dict().items()}, path)
        atomic_write(folder / "config.json", json.dumps({"kind": self.kind, **self.configuration()}, indent=1))


class OpenClip(VisionLanguage):
    """CLIP with a plain vision transformer.

    A visual prompt stands between [CLS] and the patches, after convolution, positions and first layer normalisation: it
    has no position of its own (the official code's, of MedUnA and LaFTer).

    Args:
        config: of the model, in open_clip's layout: `embed_dim`, `vision_cfg`, `text_cfg`, `quick_gelu`.
        prompt_tokens: N.
        mean, std: of the channels.
        stem: whether several convolutions make the patches, as in stand-ins, which have few pictures to learn from.
    """

    kind = "clip"

    def __init__(
        self,
        config: dict[str, Any],
        *,
        prompt_tokens: int = 50,
        mean: Triple = CLIP_MEAN,
        std: Triple = CLIP_STD,
        stem: bool = False,
    ):
        model = open_clip.CLIP(**config)
        vision = config["vision_cfg"]
        if stem:
            model.visual.conv1 = convolutional_stem(vision["width"], vision["patch_size"])
        super().__init__(
            image_size=vision["image_size"],
            width=config["embed_dim"],
            mean=mean,
            std=std,
            prompt_shape=(prompt_tokens, vision["width"]),
            context_width=model.token_embedding.embedding_dim,
        )
        self.model = model
        self._arguments = {"config": config, "prompt_tokens": prompt_tokens, "stem": stem}
        self._tokenizer = open_clip.SimpleTokenizer(context_length=model.context_length)
        self.freeze()

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale.exp()

    @property
    def stem(self) -> nn.Module:
        return self.model.visual.conv1

    def image_features(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        visual = self.model.visual
        states = self.patch_states(images)  # (B, 1 + S, hidden)
        if prompts is not None:
            states = insert_after_first(states, prompts)  # (B, 1 + N + S, hidden)
        return visual.ln_post(self._last_first(states)) @ visual.proj  # (B, D)

    def _last_first(self, states: Tensor) -> Tensor:
        """The transformer's last state of the first token, (B, S, hidden) -> (B, hidden).

        The last block runs for this token alone: nobody reads the others, and a block is a third of a small model.
        """
        *blocks, last = self.model.visual.transformer.resblocks
        for block in blocks:
            states = block(states)
        attended = last.ln_1(states)
        first = states[:, :1] + last.ls_1(last.attention(attended[:, :1], attended, attended))  # (B, 1, hidden)
        return (first + last.ls_2(last.mlp(last.ln_2(first))))[:, 0]

    def patch_states(self, images: Tensor) -> Tensor:
        """What enters the transformer when there is no prompt, (B, 3, H, W) -> (B, 1 + S, hidden), [CLS] first."""
        visual = self.model.visual
        patches = self.stem(images).flatten(2).transpose(1, 2)  # (B, S, hidden)
        first = visual.class_embedding.expand(len(images), 1, -1)  # (B, 1, hidden)
        return visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        ids = self._tokenizer(list(texts))
        return ids[:, : int(ids.argmax(dim=1).max()) + 1]  # the end-of-text piece has the highest id

    def token_mask(self, ids: Tensor) -> Tensor:
        # the padding id 0 is a piece of the vocabulary too, so the end of a text is told by its end-of-text piece
        return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(dim=1, keepdim=True)

    def word_embeddings(self, ids: Tensor) -> Tensor:
        return self.model.token_embedding(ids)

    def forward_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        length = embeddings.shape[1]
        states = embeddings + self.model.positional_embedding[:length]
        states = self.model.transformer(states, attn_mask=self.model.attn_mask[:length, :length])  # (n, L, d)
        last = states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]  # (n, d), of end-of-text
        return self.model.ln_final(last) @ self.model.text_projection

    def layer_norms(self) -> list[nn.LayerNorm]:
        return [module for module in self.model.visual.modules() if isinstance(module, nn.LayerNorm)]

    def configuration(self) -> dict[str, Any]:
        return {**self._arguments, "mean": self.mean, "std": self.std}


def insert_after_first(states: Tensor, prompts: Tensor) -> Tensor:
    """Put shared tokens after the first of each sequence, (B, S, h), (N, h) -> (B, S + N, h)."""
    return torch.cat([states[:, :1], prompts.expand(len(states), -1, -1), states[:, 1:]], dim=1)


def clip_vit_b32(weights: str, download: bool = False) -> OpenClip:
    """CLIP ViT-B/32, the paper's first backbone: OpenAI's, or another of this size.

    Args:
        weights: a folder or hub repository `owner/name[@revision]` in open_clip's layout (OpenAI's weights are in
            `timm/vit_base_patch32_clip_224.openai`), whose open_clip_config.json tells QuickGELU from GELU; or a
            state-dict file with open_clip's or OpenAI's keys, which is taken to be OpenAI's own (QuickGELU).
        download: ask the hub when the weights are not in its cache.

    Raises:
        UserError: weights unavailable, or a key is missing, unexpected or of another shape.
    """
    path = find_weights(weights, files=(*_WEIGHT_FILES, _CONFIG_FILE), download=download)
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    if (path / _CONFIG_FILE).is_file():
        published = json.loads((path / _CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"]
        config["quick_gelu"] = published.get("quick_gelu", False)
    model = OpenClip(config)
    load_exactly(model.model, read_state(path, _WEIGHT_FILES), source=weights, ignore=_HYPERPARAMETERS)
    return model


def small_clip(
    image_size: int = 56, *, patch: int = 8, width: int = 64, hidden: int = 64, layers: int = 3, text_layers: int = 2
) -> OpenClip:
    """A randomly initialised CLIP small enough for two cores, with CLIP's own tokenizer and as many prompts as patches.

    Args:
        image_size: side of the images, a multiple of `patch`, pixels.
        patch: side of a patch, a power of 2, pixels.
        width: D, and the text encoder's own width.
        hidden: the image encoder's width, a multiple of 32 (of a head).
        layers, text_layers: of either encoder.
    """
    vision = {"image_size": image_size, "patch_size": patch, "width": hidden, "layers": layers, "head_width": 32}
    text = {"width": width, "heads": width // 32, "layers": text_layers}
    config = {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}
    return OpenClip(config, prompt_tokens=(image_size // patch) ** 2, stem=True)
