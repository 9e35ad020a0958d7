"""Report encoders: BERT-family weights in transformers' plain `BertModel`, and small stand-ins of the same class.

Shapes: B batch (or all n texts), L word pieces, D hidden width, A attention heads.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer
from transformers.masking_utils import create_bidirectional_mask

from nbcore.errors import UserError
from nbcore.models.weights import find_folder, load_exactly, read_state

_HUB_FILES = ("*.json", "vocab.txt", "model.safetensors", "pytorch_model.bin")
# Heads of pre-training that a report encoder does not use, in the published BERT-family checkpoints.
_UNUSED_HEADS = ("cls.", "cls_projection_head.", "pooler.", "embeddings.position_ids")
_BERT_KEYS = BertConfig().to_dict().keys()


Trainable = int | Literal["all"]  # the last so many layers, or the whole model with its embeddings


class Pieces(NamedTuple):
    """A report and its word pieces.

    Attributes:
        report: the last [CLS] state, (B, D).
        states: of the word pieces, [CLS] and padding included, (B, L, D).
        attention: what [CLS] pays to each of them in the last layer, mean over heads, without gradient, (B, L).
    """

    report: Tensor
    states: Tensor
    attention: Tensor


class TextEncoder(nn.Module):
    """A BERT whose [CLS] state stands for the report; frozen, but for its last `trainable_layers` layers.

    Frozen layers stay in eval mode whatever `train()` is told, so that a report has one embedding; `training` of the
    encoder itself is what `train()` was told.
    """

    def __init__(self, bert: BertModel, tokenizer: BertTokenizer, trainable_layers: Trainable = 0):
        super().__init__()
        self.bert = bert
        self.tokenizer = tokenizer
        self.width: int = bert.config.hidden_size
        depth = bert.config.num_hidden_layers
        if trainable_layers == "all":
            self._trainable = [bert]
        elif 0 <= trainable_layers <= depth:
            self._trainable = list(bert.encoder.layer[depth - trainable_layers :])
        else:
            raise UserError(f"the language model has {depth} layers; {trainable_layers} cannot be unfrozen.")
        bert.requires_grad_(False)
        for layer in self._trainable:
            layer.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> "TextEncoder":
        super().train(False)
        self.training = mode
        for layer in self._trainable:
            layer.train(mode)
        return self

    def tokenize(self, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Word-piece ids and attention mask, both (B, L) int64, L the longest text but at most `max_length`.

        Texts are brought to Unicode's form NFC: no vocabulary has an accent apart from its letter.
        """
        composed = [unicodedata.normalize("NFC", text) for text in texts]
        tokens = self.tokenizer(
            composed, padding="longest", truncation=True, max_length=max_length, return_tensors="pt"
        )
        return tokens["input_ids"], tokens["attention_mask"]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Report embeddings z_t: the last [CLS] state, (B, L), (B, L) -> (B, D)."""
        return self.bert(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]

    def two_views(self, ids: Tensor, mask: Tensor, *, frozen_dropout: bool = False) -> tuple[Tensor, Tensor]:
        """Report embeddings of two dropout views of the same reports, (B, L), (B, L) -> (B, D), (B, D).

        The embeddings and the frozen layers, which know no dropout, run once on the batch; the trainable layers run on
        the batch stacked twice, so that dropout draws for each view. Without dropout both views equal `forward`.

        Args:
            ids, mask: (B, L).
            frozen_dropout: in training, let the frozen layers drop out as well, as the official code of Med-UniC does;
                they then run on both views.
        """
        if frozen_dropout or self.bert in self._trainable:
            self.bert.train(self.training)
            try:
                return self(_twice(ids), _twice(mask)).chunk(2)
            finally:
                self.train(self.training)
        layers = list(self.bert.encoder.layer)
        frozen = len(layers) - len(self._trainable)
        states = self._run(layers[:frozen], self.bert.embeddings(ids), mask)  # (B, L, D)
        states = self._run(layers[frozen:], _twice(states), _twice(mask))  # (2B, L, D)
        return states[:, 0].chunk(2)

    def _run(self, layers: Sequence[nn.Module], states: Tensor, mask: Tensor) -> Tensor:
        """Some layers of the model: the states that enter and those that leave, (B, L, D)."""
        prepared = create_bidirectional_mask(self.bert.config, states, mask)
        for layer in layers:
            states = layer(states, prepared)
        return states

    def pieces(self, ids: Tensor, mask: Tensor, summed_layers: int = 1) -> Pieces:
        """A report and its word pieces in one pass.

        Args:
            ids, mask: (B, L).
            summed_layers: how many last layers' states are added up (GLoRIA: 4).
        """
        layer = self.bert.encoder.layer[-1].attention.self
        entering: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: entering.append(inputs[0]))
        try:
            out = self.bert(input_ids=ids, attention_mask=mask, output_hidden_states=summed_layers > 1)
        finally:
            hook.remove()
        states = sum(out.hidden_states[-summed_layers:]) if summed_layers > 1 else out.last_hidden_state
        return Pieces(states[:, 0], states, _class_attention(layer, entering[0], mask))

    @torch.no_grad()
    def embed(self, texts: Sequence[str], max_length: int, batch_size: int = 128) -> Tensor:
        """Embeddings of all texts, once: (n, D) float32 on the CPU, in the order given.

        Texts are batched by length, so that short ones are not padded to the longest.
        """
        self.eval()
        device = next(self.parameters()).device
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = torch.empty(len(texts), self.width)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, mask = self.tokenize([texts[i] for i in rows], max_length)
            out[rows] = self(ids.to(device), mask.to(device)).float().cpu()
        return out


def _twice(batch: Tensor) -> Tensor:
    """The batch stacked on itself, (B, ...) -> (2B, ...)."""
    return torch.cat([batch, batch])


@torch.no_grad()
def _class_attention(layer: nn.Module, entering: Tensor, mask: Tensor) -> Tensor:
    """Attention of [CLS] in a layer, before dropout, mean over heads: (B, L, D) enters, (B, L) comes out."""
    heads = (layer.num_attention_heads, layer.attention_head_size)
    query = layer.query(entering[:, 0]).unflatten(-1, heads)  # (B, A, D / A)
    key = layer.key(entering).unflatten(-1, heads)  # (B, L, A, D / A)
    scores = torch.einsum("bad,blad->bal", query, key).float() * layer.attention_head_size**-0.5  # (B, A, L)
    return scores.masked_fill(mask[:, None] == 0, -torch.inf).softmax(dim=-1).mean(dim=1)


def bert_config(folder: Path) -> BertConfig:
    """Read config.json into the plain class; keys of custom model classes are left aside.

    Raises:
        UserError: the file is absent or is not JSON.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = f"{path}: cannot be read as a model configuration; is this a folder of BERT weights?"
        raise UserError(told) from error
    return BertConfig(**{key: value for key, value in values.items() if key in _BERT_KEYS and key != "model_type"})


def text_encoder(
    source: str,
    *,
    trainable_layers: Trainable = 0,
    layers: int | None = None,
    dropout: float | None = None,
    download: bool = False,
) -> TextEncoder:
    """Load a report encoder (CXR-BERT, Bio_ClinicalBERT, PubMedBERT, or a stand-in) without any remote code.

    Args:
        source: a local folder, or a hub repository `owner/name[@revision]`.
        trainable_layers: how many of the last layers are trained (M-FLAG's Unfreeze_n); 0 freezes all; "all" trains the
            whole model (MGCA).
        layers: how many of the first layers are kept (MGCA's BERT has 6 of 12); None for all there are.
        dropout: probability in [0, 1), of states and of attention; None for what the model's own configuration has.
        download: ask the hub when the weights are not in its cache.

    Raises:
        UserError: the weights are not available, any key is missing or unexpected, or `dropout` is no such probability.
    """
    folder = find_folder(source, files=_HUB_FILES, download=download)
    config = bert_config(folder)
    if dropout is not None:
        if not 0 <= dropout < 1:
            raise UserError(f"dropout {dropout} of the language model is not in [0, 1); choose one that is.")
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    bert = BertModel(config, add_pooling_layer=False)
    state = {_plain_key(key): value for key, value in read_state(folder).items()}
    load_exactly(bert, state, source=source, ignore=_UNUSED_HEADS)
    if layers is not None:
        bert.encoder.layer = bert.encoder.layer[:layers]
        bert.config.num_hidden_layers = len(bert.encoder.layer)
    return TextEncoder(bert, BertTokenizer.from_pretrained(folder), trainable_layers)


def _plain_key(key: str) -> str:
    """The name `BertModel` gives to a weight that a checkpoint with heads, or an old one, names otherwise."""
    key = key.removeprefix("bert.")
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if key.endswith("LayerNorm" + old):
            key = key.removesuffix(old) + new
    return key


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> BertTokenizer:
    """A lower-case WordPiece tokenizer for stand-ins: all characters, then the commonest words of `texts`.

    The trainers of the tokenizers library break ties at random; this vocabulary is a function of the texts alone, so
    that two runs of one seed agree.
    """
    plain = BertTokenizer(do_lower_case=True, strip_accents=False).backend_tokenizer
    words = Counter(
        word for text in texts for word, _ in plain.pre_tokenizer.pre_tokenize_str(plain.normalizer.normalize_str(text))
    )
    characters = sorted(set().union(*words))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    ranked = sorted((word for word in words if len(word) > 1), key=lambda word: (-words[word], word))
    pieces += ranked[: max(0, vocabulary - len(pieces))]
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, strip_accents=False)


def small_bert(
    tokenizer: BertTokenizer, *, width: int, layers: int, max_length: int, dropout: float = 0.1
) -> BertModel:
    """A randomly initialised `BertModel` small enough for two cores (heads of 32 dimensions)."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32),
        intermediate_size=4 * width,
        max_position_embeddings=max_length,
        initializer_range=width**-0.5,  # BERT's 0.02 is made for width 768; here it would mute the words
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertModel(config, add_pooling_layer=False)
