"""M-FLAG: pre-training of an image encoder against a frozen language model (Liu et al., MICCAI 2023).

Shapes: B batch, N width of the image feature z_v, P width of the aligned space, D width of the language model, L words.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from nbcore.config import Variant
from nbcore.data.batches import Augmentation
from nbcore.distributed import gather, sync_batchnorm
from nbcore.errors import UsageError
from nbcore.losses.mflag import Normalization, alignment_loss, orthogonality_loss
from nbcore.methods.pairs import PairConfig, PairMethod, trimmed
from nbcore.models.heads import Projector, projector
from nbcore.models.text import TextEncoder
from nbcore.models.vision import VisionEncoder, count_parameters, vision_encoder

TextHead = Literal["none", "norm", "mlp"]

# What each variant sets where the user does not; the fields' own defaults are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "projector": "linear",  # Sect. 2.2: "a linear projector"
        "text_head": "none",  # Sect. 2.2: z_a has the dimension of z_t
        "orth_normalize": "column",  # Eq. 3, the reading in which C_ii can be 1
        "off_diagonal": 1.0,  # Eq. 3
        "half": False,  # Eq. 3
        "optimizer": "lars",  # Sect. 3.1
        "learning_rate": 1e-3,  # Sect. 3.1
        "weight_decay": 1e-6,  # not stated; that of the LARS file in the official repository
        "schedule": "constant",  # not stated
    },
    "official": {
        "text_head": "mlp",
        "align_weight": 2.0,  # utils_trainer.align_loss adds 2 - 2 cos twice
        "text_dropout": True,  # the frozen model is left in train mode
        "augmentation": "official",
        "epochs": 51,  # range(start, max_epochs + 1) with max_epochs 50
        "batch_size": 512,
        "processes": 2,
    },
}


class Config(PairConfig):
    """What M-FLAG is trained with. Defaults are the paper's values; where it is silent, or its values are not known to
    train, the official code's (each field says which). `variant` sets the switches of `VARIANTS` that are not given.
    """

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    variant: Variant = Field("recommended", description="ours: which reading of paper and code; see VARIANTS")

    vision: str = Field("resnet50", description="Sect. 3.1")
    vision_weights: str | None = Field(
        "timm/resnet50.tv_in1k", description="code: torchvision's ImageNet weights V1; the paper does not say"
    )
    text_model: str = Field("microsoft/BiomedVLP-CXR-BERT-general", description="Sect. 3.1")
    unfreeze_layers: int = Field(0, ge=0, description="Sect. 2.1; the n of Table 5's Unfreeze_n")
    text_dropout: bool = Field(False, description="ours: a frozen model embeds a report in one way; the code drops out")
    projector: Projector = Field("mlp", description="code; the paper has a linear one")
    text_head: TextHead = Field(
        "norm", description="ours: the paper's fixed target, standardised; paper: none; code: a trained mlp"
    )
    projector_hidden: int = Field(2048, gt=0, description="code")
    projector_width: int = Field(1024, gt=0, description="code; unless text_head is mlp, the language model's width")

    align_weight: float = Field(1.0, ge=0, description="Eq. 1 and 2; 0 gives Table 4's 'only L_orth'; code: 2")
    orth_weight: float = Field(1.0, ge=0, description="Eq. 1; 0 gives Table 4's 'only L_align'")
    orth_normalize: Normalization = Field("none", description="code, the only reading with known results")
    off_diagonal: float = Field(0.0051, ge=0, description="code; the paper's 1 drowns the alignment (Welch bound)")
    half: bool = Field(True, description="code; not in Eq. 3")
    gather: bool = Field(False, description="paper and code: losses over the batch of each process")

    image_size: int = Field(224, gt=0, description="code: side of the crop, pixels")
    resize: int = Field(256, gt=0, description="code: side of the stored image, pixels")
    max_length: int = Field(512, gt=0, description="code: word pieces of a report")
    augmentation: Augmentation = Field("crop", description="ours: the paper names none; the code's list is 'official'")

    epochs: int = Field(100, gt=0, description="Sect. 3.1")
    batch_size: int = Field(128, gt=1, description="Sect. 3.1: per process")
    processes: int = Field(8, gt=0, description="Sect. 3.1: 8 A100")
    optimizer: Literal["adamw", "lars"] = Field("adamw", description="code; the paper has LARS")
    learning_rate: float = Field(2e-5, gt=0, description="code; the paper has 1e-3 with LARS")
    weight_decay: float = Field(0.05, ge=0, description="code")
    schedule: Literal["constant", "warmup_cosine", "cosine_restarts"] = Field("cosine_restarts", description="code")
    restart_fraction: float = Field(0.4, gt=0, le=1, description="code: T_0 is 0.4 of the steps")
    min_lr: float = Field(1e-8, ge=0, description="code: eta_min")
    precision: Literal["no", "bf16", "fp16"] = Field("fp16", description="code")

    @property
    def text_options(self) -> dict[str, Any]:
        return {"trainable_layers": self.unfreeze_layers}

    @property
    def caches_text(self) -> bool:
        return self.unfreeze_layers == 0 and not self.text_dropout


class MFlag(PairMethod):
    """Image encoder, projectors and (unless its embeddings are given) the language model.

    Args:
        config: see `Config`.
        vision: the image encoder E_V.
        text_width: D of the language model.
        text: the language model E_T, where `config.caches_text` is false.
    """

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder | None = None):
        super().__init__(config, vision, text_width, text)
        out = config.projector_width if config.text_head == "mlp" else text_width
        self.image_projector = projector(config.projector, vision.width, config.projector_hidden, out)
        self.text_head = {
            "none": nn.Identity,
            "norm": lambda: nn.BatchNorm1d(text_width, affine=False),
            "mlp": lambda: projector("mlp", text_width, config.projector_hidden, out),
        }[config.text_head]()
        if config.gather:  # one batch for the losses is one batch for the statistics, too
            sync_batchnorm(self)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 1 on one batch.

        Args:
            batch: "image" (B, 1, H, W) in [-1, 1]; and "text" (B, D), report embeddings, or "ids" and "mask" (B, L).

        Returns:
            "align" (Eq. 2), "orth" (Eq. 3) and their sum "total"; a loss of weight 0 is left out.
        """
        config = self.config
        z_v = self.vision.global_features(batch["image"])  # (B, N)
        z_a = self.image_projector(z_v)  # (B, P)
        z_t = self.text_head(self._report_embeddings(batch))  # (B, P)
        if config.gather:
            z_v, z_a, z_t = gather(z_v), gather(z_a), gather(z_t)
        losses = {}
        with torch.autocast(z_v.device.type, enabled=False):  # sums over N^2 products overflow in half precision
            if config.align_weight:
                losses["align"] = alignment_loss(z_a.float(), z_t.float(), config.align_weight)
            if config.orth_weight:
                losses["orth"] = config.orth_weight * orthogonality_loss(
                    z_v.float(), config.orth_normalize, config.off_diagonal, config.half
                )
        losses["total"] = sum(losses.values())
        return losses

    def embed_images(self, images: Tensor) -> Tensor:
        return F.normalize(self.image_projector(self.vision.global_features(images)), dim=1)

    def embed_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """As in `PairMethod`. UsageError where the method was built without its language model."""
        if self.text is None:
            raise UsageError("this M-FLAG holds no language model, as its reports were embedded beforehand.")
        return F.normalize(self.text_head(self.text(*trimmed(ids, mask))), dim=1)

    def _report_embeddings(self, batch: dict[str, Tensor]) -> Tensor:
        """z_t before its projector, (B, D)."""
        if self.text is None:
            return batch["text"]
        ids, mask = trimmed(batch["ids"], batch["mask"])
        if self.config.unfreeze_layers:
            return self.text(ids, mask)
        if self.training:
            self.text.bert.train()  # config.text_dropout: the official code's frozen model, dropout and all
        with torch.no_grad():
            return self.text(ids, mask)


def paper_size_parameters(variant: Variant = "recommended", unfrozen: int | None = 0) -> int:
    """Trainable parameters at the paper's size, computed from the layers (Tables 2 and 5 quote other numbers).

    Args:
        variant: decides the projectors.
        unfrozen: how many of the last layers of the language model are trained; None for the whole of it.
    """
    config = Config(variant=variant)
    with torch.device("meta"):
        language_model = BertModel(BertConfig(), add_pooling_layer=False)
        method = MFlag(config, vision_encoder(config.vision), language_model.config.hidden_size)
    layers = language_model.encoder.layer
    trained = [language_model] if unfrozen is None else layers[len(layers) - unfrozen :]
    return count_parameters(method, *trained)
