"""MedCLIP with a Swin transformer: transformers' own `SwinModel` and `BertModel` with two projections.

Shapes: B images, g x g grid of patches, N = 2 g + 1 visual prompt tokens, h width of the patch embeddings, D shared
width, n texts, L word pieces, d word width.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer, SwinConfig, SwinModel

from nbcore.errors import UsageError, UserError
from nbcore.models.clip import CLIP_MEAN, CLIP_STD, Triple, VisionLanguage, insert_after_first
from nbcore.models.stem import convolutional_stem
from nbcore.models.text import train_tokenizer
from nbcore.models.weights import WEIGHT_FILES, find_folder, find_weights, load_exactly, read_state

MEDCLIP_MEAN, MEDCLIP_STD = (0.5862785803,) * 3, (0.2795008897,) * 3

PromptLayout = Literal["border", "official"]
TokenMean = Literal["masked", "all"]


class MedClip(VisionLanguage):
    """MedCLIP-Swin.

    Text: hidden states 1, 2 and the last, averaged over the pieces of the text and over the three, then projected.
    Image: the layer-normalised last states averaged over the grid, then projected.

    The N = 2 g + 1 tokens of a visual prompt turn the g x g grid of patches into one of (g + 1) x (g + 1), where they
    count as patches in attention, in patch merging and in the average. Two layouts:

    * `border`: a further column at the right (tokens 0 to g - 1, from the top) and a further row at the bottom (the
      rest, from the left). Patch (i, j) stays at (i, j), so that windows and merging see the picture as they did in
      pre-training, and the prompt reaches the patches through the shifted windows.
    * `official`: after the first patch of the flattened grid, as MedUnA's code does it. The prompt fills the rest of
      row 0 and all of row 1; every other patch (i, j) comes to stand in column j - i - 1 modulo g + 1, so that the
      picture is sheared before the windows see it.

    The official code's window sizes and shifts depend on which images came before (transformers switches the shift of
    a stage off for good when an image's grid is no larger than the window). Here they are those of images without a
    prompt from the start, which is the official state after the first such image.

    Args:
        swin, bert: arguments of `SwinConfig` and `BertConfig`.
        tokenizer: of the BERT.
        width: D.
        prompt_layout: see above.
        mean, std: of the channels.
        stem: whether several convolutions make the patches, as in stand-ins, which have few pictures to learn from.

    Raises:
        UsageError: unknown prompt layout.
    """

    kind = "medclip"

    def __init__(
        self,
        swin: dict[str, Any],
        bert: dict[str, Any],
        tokenizer: BertTokenizer,
        *,
        width: int,
        prompt_layout: PromptLayout = "border",
        mean: Triple = MEDCLIP_MEAN,
        std: Triple = MEDCLIP_STD,
        stem: bool = False,
    ):
        if prompt_layout not in ("border", "official"):
            raise UsageError(f"prompt layout {prompt_layout!r} is unknown; choose border or official.")
        swin_model = SwinModel(SwinConfig(**swin), add_pooling_layer=False)
        bert_model = BertModel(BertConfig(**bert), add_pooling_layer=False)
        if stem:
            patches = convolutional_stem(swin_model.config.embed_dim, swin_model.config.patch_size)
            swin_model.embeddings.patch_embeddings.projection = patches
        grid = swin_model.embeddings.patch_grid[0]
        super().__init__(
            image_size=swin_model.config.image_size,
            width=width,
            mean=mean,
            std=std,
            prompt_shape=(2 * grid + 1, swin_model.config.embed_dim),
            context_width=bert_model.config.hidden_size,
        )
        self.swin, self.bert, self.tokenizer = swin_model, bert_model, tokenizer
        self.image_projection = nn.Linear(swin_model.num_features, width, bias=False)
        self.text_projection = nn.Linear(bert_model.config.hidden_size, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.prompt_layout = prompt_layout
        self._grid = grid
        self._arguments = {"swin": swin, "bert": bert, "width": width, "prompt_layout": prompt_layout, "stem": stem}
        for stage in swin_model.encoder.layers:
            for block in stage.blocks:
                block.set_shift_and_window_size((grid, grid))
            grid = (grid + 1) // 2
        self.freeze()

    @property
    def logit_scale(self) -> Tensor:
        return self.log_scale.clamp(0, 4.6052).exp()

    @property
    def stem(self) -> nn.Module:
        return self.swin.embeddings.patch_embeddings.projection

    def image_features(self, images: Tensor, prompts: Tensor | None = None) -> Tensor:
        states, grid = self.swin.embeddings(images)  # (B, g * g, h)
        if prompts is not None:
            states, grid = self.with_prompts(states, prompts), (grid[0] + 1, grid[1] + 1)
        states = self.swin.encoder(states, grid).last_hidden_state
        return self.image_projection(self.swin.layernorm(states).mean(dim=1))  # (B, D)

    def with_prompts(self, states: Tensor, prompts: Tensor) -> Tensor:
        """The patches with the prompt among them, (B, g * g, h), (N, h) -> (B, (g + 1) * (g + 1), h).

        Raises:
            UsageError: the prompt has another shape than `prompt_shape`.
        """
        if tuple(prompts.shape) != self.prompt_shape:
            raise UsageError(
                f"a visual prompt of shape {tuple(prompts.shape)} does not fill a row and a column of a {self._grid} x "
                f"{self._grid} grid; make it {self.prompt_shape}."
            )
        if self.prompt_layout == "official":
            return insert_after_first(states, prompts)
        tokens = prompts.expand(len(states), -1, -1)  # (B, N, h)
        grid = states.unflatten(1, (self._grid, self._grid))  # (B, g, g, h)
        grid = torch.cat([grid, tokens[:, : self._grid, None]], dim=2)  # (B, g, g + 1, h)
        return torch.cat([grid.flatten(1, 2), tokens[:, self._grid :]], dim=1)  # (B, (g + 1) * (g + 1), h)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        longest = self.bert.config.max_position_embeddings
        return self.tokenizer(
            composed, padding="longest", truncation=True, max_length=longest, return_tensors="pt"
        ).input_ids

    def token_mask(self, ids: Tensor) -> Tensor:
        return ids != self.tokenizer.pad_token_id

    def word_embeddings(self, ids: Tensor) -> Tensor:
        return self.bert.embeddings.word_embeddings(ids)

    def forward_embeddings(self, embeddings: Tensor, mask: Tensor, token_mean: TokenMean = "masked") -> Tensor:
        out = self.bert(inputs_embeds=embeddings, attention_mask=mask, output_hidden_states=True)
        states = torch.stack([out.hidden_states[i] for i in (1, 2, -1)]).mean(dim=0)  # (n, L, d)
        if token_mean == "all":
            return self.text_projection(states.mean(dim=1))
        weights = mask[..., None].to(states.dtype)  # (n, L, 1)
        return self.text_projection((states * weights).sum(dim=1) / weights.sum(dim=1))

    def encode_tokens(self, ids: Tensor, token_mean: TokenMean = "masked") -> Tensor:
        """Text features, not L2-normalised, (n, L) -> (n, D).

        Args:
            ids: of the word pieces.
            token_mean: "masked": the average is over the pieces of each text, so that padding has no influence.
                "all": over all L, padding included, as in the official code, whose features depend on the batch.
        """
        return self.forward_embeddings(self.word_embeddings(ids), self.token_mask(ids), token_mean)

    def layer_norms(self) -> list[nn.LayerNorm]:
        return [module for module in self.swin.modules() if isinstance(module, nn.LayerNorm)]

    def configuration(self) -> dict[str, Any]:
        return {**self._arguments, "mean": self.mean, "std": self.std}

    def save(self, folder: Path) -> None:
        self.tokenizer.save_pretrained(folder)
        super().save(folder)


# microsoft/swin-tiny-patch4-window7-224 and emilyalsentzer/Bio_ClinicalBERT
_SWIN_TINY = {
    "image_size": 224,
    "patch_size": 4,
    "window_size": 7,
    "embed_dim": 96,
    "depths": [2, 2, 6, 2],
    "num_heads": [3, 6, 12, 24],
}
_CLINICAL_BERT = {
    "vocab_size": 28996,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
_WIDTH = 512
# MedCLIP's names, of transformers 4, and those of this class
_PARTS = {
    "vision_model.model.": "swin.",
    "vision_model.projection_head.": "image_projection.",
    "text_model.model.": "bert.",
    "text_model.projection_head.": "text_projection.",
    "logit_scale": "log_scale",
}
_SWIN_NAMES = {
    "attention.self.query.": "attention.q_proj.",
    "attention.self.key.": "attention.k_proj.",
    "attention.self.value.": "attention.v_proj.",
    "attention.self.relative_position": "attention.relative_position_bias.relative_position",
    "attention.output.dense.": "attention.o_proj.",
    "intermediate.dense.": "mlp.fc1.",
    "output.dense.": "mlp.fc2.",
}
_UNUSED = ("relative_position_index", "position_ids", "pooler.dense.weight", "pooler.dense.bias")


def plain_key(key: str) -> str | None:
    """The name `MedClip` gives to a weight of a MedCLIP checkpoint; None for what it does not hold."""
    if key.endswith(_UNUSED):
        return None
    for old, new in _PARTS.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
    if key.startswith("swin."):
        for old, new in _SWIN_NAMES.items():
            key = key.replace(old, new)
    return key


def medclip_swin(
    weights: str,
    download: bool = False,
    *,
    tokenizer: str | None = None,
    prompt_layout: PromptLayout = "border",
    clip_pixels: bool = False,
) -> MedClip:
    """MedCLIP with Swin-tiny and Bio_ClinicalBERT, the paper's second backbone.

    Args:
        weights: the `pytorch_model.bin` of MedCLIP's own zip archive, its folder, or a hub repository that holds it.
        download: ask the hub when weights or tokenizer are not in its cache.
        tokenizer: a folder or hub repository with Bio_ClinicalBERT's `vocab.txt`; None: it lies beside the weights.
        prompt_layout: see `MedClip`.
        clip_pixels: normalise pixels with CLIP's mean and deviation, as MedUnA's code does, not with MedCLIP's own.

    Raises:
        UserError: weights or tokenizer unavailable, or a key is missing, unexpected or of another shape.
    """
    path = find_weights(weights, files=(*WEIGHT_FILES, "vocab.txt"), download=download)
    folder = path.parent if path.is_file() else path
    if tokenizer is not None:
        folder = find_folder(tokenizer, files=("vocab.txt", "tokenizer*.json"), download=download)
    if not (folder / "vocab.txt").is_file():
        raise UserError(f"{folder}: no vocab.txt; name a folder or hub repository of Bio_ClinicalBERT as tokenizer.")
    pixels = {"mean": CLIP_MEAN, "std": CLIP_STD} if clip_pixels else {}
    words = BertTokenizer.from_pretrained(folder)
    if len(words) != _CLINICAL_BERT["vocab_size"]:
        known = _CLINICAL_BERT["vocab_size"]
        raise UserError(
            f"{folder / 'vocab.txt'}: {len(words)} word pieces, not the {known} of Bio_ClinicalBERT; use its file."
        )
    model = MedClip(_SWIN_TINY, _CLINICAL_BERT, words, width=_WIDTH, prompt_layout=prompt_layout, **pixels)
    state = {plain_key(key): value for key, value in read_state(path).items()}
    state.pop(None, None)
    load_exactly(model, state, source=weights)
    return model


def small_medclip(
    texts: Sequence[str],
    image_size: int = 56,
    *,
    vocabulary: int = 2000,
    width: int = 64,
    hidden: int = 64,
    text_layers: int = 2,
    prompt_layout: PromptLayout = "border",
) -> MedClip:
    """A randomly initialised MedCLIP small enough for two cores: a Swin of two stages and a BERT, with 8-pixel patches.

    Its windows are 4 x 4: a `border` prompt then shares windows with patches. In windows as wide as the grid, or in
    Swin-tiny's of 7 on a grid of a few windows, it is left in windows of its own, and the few shifted blocks of a small
    model hardly mend that (Swin-tiny has enough of them).

    Args:
        texts: the tokenizer's vocabulary is made from them.
        image_size: side of the images, pixels.
        vocabulary: word pieces, at most.
        width: D, and the BERT's own width.
        hidden: h.
        text_layers: of the BERT.
        prompt_layout: see `MedClip`.
    """
    tokenizer = train_tokenizer(texts, vocabulary)
    swin = {"image_size": image_size, "patch_size": 8, "window_size": 4, "embed_dim": hidden, "drop_path_rate": 0.0}
    swin |= {"depths": [2, 1], "num_heads": [2, 4], "initializer_range": (4 * hidden) ** -0.5}
    bert = {"vocab_size": len(tokenizer), "hidden_size": width, "intermediate_size": 4 * width}
    bert |= {"num_hidden_layers": text_layers, "num_attention_heads": width // 32, "max_position_embeddings": 128}
    bert |= {"initializer_range": width**-0.5, "pad_token_id": tokenizer.pad_token_id}
    return MedClip(swin, bert, tokenizer, width=width, prompt_layout=prompt_layout, stem=True)
