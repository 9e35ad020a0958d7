"""BiomedCLIP: a timm vision transformer and open_clip's own text encoder around a BERT, published and small.

Shapes: B images, H x W pixels, S patches, N visual prompt tokens, h width of the patch embeddings, D shared width,
n texts, L word pieces, d word width.
"""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.hf_model import HFTextEncoder
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import BertConfig, BertTokenizer

from nbcore.errors import UsageError, UserError
from nbcore.models.clip import CLIP_MEAN, CLIP_STD, Triple, VisionLanguage, insert_after_first
from nbcore.models.stem import convolutional_stem
from nbcore.models.text import train_tokenizer
from nbcore.models.weights import find_folder, load_exactly, read_state

_POOLER, _PROJECTION = "cls_last_hidden_state_pooler", "mlp"


class BiomedClip(VisionLanguage):
    """BiomedCLIP.

    Image: the layer-normalised last state of [CLS], projected. A visual prompt stands between [CLS] and the patches,
    after the positions: it has none of its own. Text: the last state of [CLS], without BERT's tanh, through two linear
    layers with a GELU between. The last layer of either encoder runs for [CLS] alone, but for its attention: nobody
    reads the others.

    Attention looks both ways and padding is masked, so a text has one feature, padded or not.

    Args:
        vision: arguments of `timm.create_model` for a vision transformer with one class token.
        bert: arguments of `BertConfig`.
        tokenizer: of the BERT.
        width: D.
        context_length: longest text, word pieces.
        prompt_tokens: N.
        mean, std: of the channels.
        stem: whether several convolutions make the patches, as in stand-ins, which have few pictures to learn from.

    Raises:
        UsageError: the image encoder is no vision transformer that answers with its class token.
    """

    kind = "biomedclip"

    def __init__(
        self,
        vision: dict[str, Any],
        bert: dict[str, Any],
        tokenizer: BertTokenizer,
        *,
        width: int,
        context_length: int = 256,
        prompt_tokens: int = 50,
        mean: Triple = CLIP_MEAN,
        std: Triple = CLIP_STD,
        stem: bool = False,
    ):
        trunk = timm.create_model(**vision, num_classes=0)
        if not isinstance(trunk, VisionTransformer) or (trunk.global_pool, trunk.num_prefix_tokens) != ("token", 1):
            raise UsageError(f"{vision['model_name']} is no vision transformer that answers by its one class token.")
        # the masks of `forward_embeddings` are of this implementation
        config = BertConfig(**bert, attn_implementation="sdpa")
        text = HFTextEncoder("", width, config=config, pooler_type=_POOLER, proj_type=_PROJECTION)
        text.transformer.pooler = None  # given a configuration, open_clip builds BERT's own pooler beside its [CLS]
        if stem:
            trunk.patch_embed.proj = convolutional_stem(trunk.embed_dim, trunk.patch_embed.patch_size[0])
        super().__init__(
            image_size=trunk.patch_embed.img_size[0],
            width=width,
            mean=mean,
            std=std,
            prompt_shape=(prompt_tokens, trunk.embed_dim),
            context_width=config.hidden_size,
        )
        self.trunk, self.text, self.tokenizer = trunk, text, tokenizer
        self.image_projection = nn.Linear(trunk.embed_dim, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.context_length = context_length
        self._arguments = {"vision": vision, "bert": bert, "width": width, "context_length": context_length}
        self._arguments |= {"prompt_tokens": prompt_tokens, "stem": stem}
        self.freeze()

    @property
    def logit_scale(self) -> Tensor:
        return self.log_scale.exp()

    @property
    def stem(self) -> nn.Module:
        return self.trunk.patch_embed.proj

    def image_features(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        states = self.patch_states(images)  # (B, 1 + S, h)
        if prompts is not None:
            states = insert_after_first(states, prompts)  # (B, 1 + N + S, h)
        *blocks, last = self.trunk.blocks
        for block in blocks:
            states = block(states)
        first = states[:, 0] + last.ls1(last.attn(last.norm1(states))[:, 0])  # (B, h)
        first = first + last.ls2(last.mlp(last.norm2(first)))
        return self.image_projection(self.trunk.norm(first))

    def patch_states(self, images: Tensor) -> Tensor:
        """What enters the transformer when there is no prompt, (B, 3, H, W) -> (B, 1 + S, h), [CLS] first."""
        patches = self.stem(images).flatten(2).transpose(1, 2)  # (B, S, h)
        first = self.trunk.cls_token.expand(len(images), -1, -1)  # (B, 1, h)
        return self.trunk.norm_pre(torch.cat([first, patches], dim=1) + self.trunk.pos_embed)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        return self.tokenizer(
            composed, padding="longest", truncation=True, max_length=self.context_length, return_tensors="pt"
        ).input_ids

    def token_mask(self, ids: Tensor) -> Tensor:
        return ids != self.tokenizer.pad_token_id

    def word_embeddings(self, ids: Tensor) -> Tensor:
        return self.text.transformer.embeddings.word_embeddings(ids)

    def forward_embeddings(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        bert, attended = self.text.transformer, mask[:, None, None]  # (n, 1, 1, L): the same for all heads and pieces
        states = bert.embeddings(inputs_embeds=embeddings)  # (n, L, d)
        *layers, last = bert.encoder.layer
        for layer in layers:
            states = layer(states, attended)
        first = last.attention(states, attended)[0][:, 0]  # (n, d)
        return self.text.proj(last.output(last.intermediate(first), first))

    def layer_norms(self) -> list[nn.LayerNorm]:
        return [module for module in self.trunk.modules() if isinstance(module, nn.LayerNorm)]

    def configuration(self) -> dict[str, Any]:
        return {**self._arguments, "mean": self.mean, "std": self.std}

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        super().save(folder)


_CONFIG_FILE = "open_clip_config.json"
_WEIGHT_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_BERT_FILE = "config.json"
_BERT_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_BERT_SIZES += ("max_position_embeddings",)
# what this class computes, and may be left out of a configuration only where open_clip's default is the same
_COMPUTED = {
    ("vision_cfg", "timm_pool"): ("", "token"),
    ("vision_cfg", "timm_proj"): ("linear",),
    ("text_cfg", "hf_pooler_type"): (_POOLER,),
    ("text_cfg", "hf_proj_type"): (_PROJECTION,),
}
# open_clip's names and those of this class
_PARTS = {"visual.trunk.": "trunk.", "visual.head.proj.": "image_projection.", "logit_scale": "log_scale"}
# a buffer that transformers no longer stores, and a layer that nothing reads
_UNUSED = ("text.transformer.embeddings.position_ids", "text.transformer.pooler.")


def plain_key(key: str) -> str:
    """The name `BiomedClip` gives to a weight of an open_clip checkpoint."""
    for old, new in _PARTS.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def biomedclip(weights: str, download: bool = False) -> BiomedClip:
    """BiomedCLIP, or another model of its kind.

    Args:
        weights: a folder or hub repository `owner/name[@revision]` in open_clip's layout
            (microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224): its configuration, weights and vocab.txt. The
            BERT's sizes are those of a config.json of a BERT beside them, else BERT-base's, as in BiomedBERT.
        download: ask the hub when the weights are not in its cache.

    Raises:
        UserError: weights, configuration or vocabulary unavailable, a model of another kind, or a key is missing,
            unexpected or of another shape.
    """
    files = (_CONFIG_FILE, *_WEIGHT_FILES, _BERT_FILE, "vocab.txt")
    folder = find_folder(weights, files=files, download=download)
    arguments = _published(folder / _CONFIG_FILE)
    bert = _published_bert(folder / _BERT_FILE)
    if not (folder / "vocab.txt").is_file():
        raise UserError(f"{folder}: no vocab.txt; put that of BiomedCLIP's hub repository there.")
    words = BertTokenizer.from_pretrained(folder)
    if len(words) != bert["vocab_size"]:
        raise UserError(
            f"{folder / 'vocab.txt'}: {len(words)} word pieces, not the {bert['vocab_size']} of the model; use the "
            "file of the same repository."
        )
    model = BiomedClip(bert=bert, tokenizer=words, **arguments)
    state = {plain_key(key): value for key, value in read_state(folder, _WEIGHT_FILES).items()}
    load_exactly(model, state, source=weights, ignore=_UNUSED)
    return model


def _published(path: Path) -> dict[str, Any]:
    """Arguments of `BiomedClip` from open_clip's configuration file, but for the BERT."""
    try:
        published = json.loads(path.read_text(encoding="utf-8"))
        config, pixels = published["model_cfg"], published.get("preprocess_cfg", {})
        for (part, key), known in _COMPUTED.items():
            if (found := config[part][key]) not in known:
                raise UserError(f"{path}: {part}.{key} is {found!r}, not BiomedCLIP's {known[0]!r}; use its own file.")
        name = config["vision_cfg"]["timm_model_name"]
        lengths = {"width": config["embed_dim"], "context_length": config["text_cfg"]["context_length"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not open_clip's configuration of BiomedCLIP; fetch it again.") from error
    if not timm.is_model(name):
        raise UserError(f"{path}: timm knows no model {name!r}; use BiomedCLIP's own file.")
    return {
        "vision": {"model_name": name},
        **lengths,
        "mean": pixels.get("mean", CLIP_MEAN),
        "std": pixels.get("std", CLIP_STD),
    }


def _published_bert(path: Path) -> dict[str, Any]:
    """The BERT's sizes: of a file beside the weights that is a BERT's, else BERT-base's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON; fetch it again.") from error
    config = BertConfig(**found) if found.get("model_type") == "bert" else BertConfig()
    return {key: getattr(config, key) for key in _BERT_SIZES}


def small_biomedclip(
    texts: Sequence[str],
    image_size: int = 56,
    *,
    vocabulary: int = 2000,
    width: int = 64,
    hidden: int = 64,
    layers: int = 3,
    text_layers: int = 2,
) -> BiomedClip:
    """A randomly initialised BiomedCLIP small enough for two cores: 8-pixel patches, and as many prompts as patches.

    Args:
        texts: the tokenizer's vocabulary is made from them.
        image_size: side of the images, a multiple of 8, pixels.
        vocabulary: word pieces, at most.
        width: D, and the BERT's own width, a multiple of 32 (of a head).
        hidden: the image encoder's width, a multiple of 32.
        layers, text_layers: of either encoder.
    """
    tokenizer = train_tokenizer(texts, vocabulary)
    vision = {"model_name": "vit_base_patch16_224", "img_size": image_size, "patch_size": 8, "embed_dim": hidden}
    vision |= {"depth": layers, "num_heads": hidden // 32}
    bert = {"vocab_size": len(tokenizer), "hidden_size": width, "intermediate_size": 4 * width}
    bert |= {"num_hidden_layers": text_layers, "num_attention_heads": width // 32, "max_position_embeddings": 128}
    bert |= {"initializer_range": width**-0.5, "pad_token_id": tokenizer.pad_token_id}
    return BiomedClip(
        vision,
        bert,
        tokenizer,
        width=width,
        context_length=128,
        prompt_tokens=(image_size // 8) ** 2,
        stem=True,
    )
