"""M-FLAG: pre-training of an image encoder against a frozen language model (Liu et al., MICCAI 2023).

Shapes: B batch, N width of the image feature z_v, P width of the aligned space, D width of the language model, L words.
"""

from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from nbcore.config import TrainConfig
from nbcore.data.batches import Augmentation
from nbcore.distributed import gather
from nbcore.losses.mflag import Normalization, alignment_loss, orthogonality_loss
from nbcore.models.heads import Projector, projector
from nbcore.models.text import TextEncoder
from nbcore.models.vision import VisionEncoder, count_parameters

Variant = Literal["recommended", "paper", "official"]

# What each variant sets where the user does not; the fields' own defaults are `recommended`.
VARIANTS: dict[str, dict[str, Any]] = {
    "recommended": {},
    "paper": {
        "projector": "linear",  # Sect. 2.2: "a linear projector"
        "text_projector": False,  # Sect. 2.2: z_a has the dimension of z_t
        "orth_normalize": "column",  # Eq. 3, the reading in which C_ii can be 1
        "off_diagonal": 1.0,  # Eq. 3
        "half": False,  # Eq. 3
        "optimizer": "lars",  # Sect. 3.1
        "learning_rate": 1e-3,  # Sect. 3.1
        "weight_decay": 1e-6,  # not stated; that of the LARS file in the official repository
        "schedule": "constant",  # not stated
    },
    "official": {
        "align_weight": 2.0,  # utils_trainer.align_loss adds 2 - 2 cos twice
        "text_dropout": True,  # the frozen model is left in train mode
        "augmentation": "official",
        "epochs": 51,  # range(start, max_epochs + 1) with max_epochs 50
        "batch_size": 512,
        "processes": 2,
    },
}


class Config(TrainConfig):
    """What M-FLAG is trained with. Defaults are the paper's values; where it is silent, or its values are not known to
    train, the official code's (said in the comment). `variant` sets the switches of `VARIANTS` that are not given.
    """

    variant: Variant = "recommended"

    # model
    vision: str = "resnet50"  # Sect. 3.1
    vision_weights: str | None = "timm/resnet50.tv_in1k"  # code: torchvision's ImageNet V1; the paper does not say
    text_model: str = "microsoft/BiomedVLP-CXR-BERT-general"  # Sect. 3.1
    unfreeze_layers: int = Field(0, ge=0)  # Sect. 2.1; n of Table 5's Unfreeze_n
    text_dropout: bool = False  # a frozen model embeds a report in one way; the code leaves dropout on
    projector: Projector = "mlp"  # code; the paper has "linear"
    text_projector: bool = True  # code; the paper has none
    projector_hidden: int = Field(2048, gt=0)  # code
    projector_width: int = Field(1024, gt=0)  # code; without a text projector, the width of the language model

    # losses, Eq. 1 to 3
    align_weight: float = Field(1.0, ge=0)  # Eq. 1 and 2; 0 gives Table 4's "only L_orth"
    orth_weight: float = Field(1.0, ge=0)  # Eq. 1; 0 gives Table 4's "only L_align"
    orth_normalize: Normalization = "none"  # code, the only variant with known results
    off_diagonal: float = Field(0.0051, ge=0)  # code; the literal 1 swamps the alignment (Welch bound)
    half: bool = True  # code
    gather: bool = False  # losses over the batches of all processes; nobody does, per-rank is the papers' way

    # data
    image_size: int = Field(224, gt=0)  # code
    resize: int = Field(256, gt=0)  # code; the crop takes image_size of it
    max_length: int = Field(512, gt=0)  # code
    augmentation: Augmentation = "crop"  # the paper names none; the code's list is "official"

    # optimisation; other fields in TrainConfig
    epochs: int = Field(100, gt=0)  # Sect. 3.1
    batch_size: int = Field(128, gt=1)  # Sect. 3.1, per process
    processes: int = Field(8, gt=0)  # Sect. 3.1: 8 A100
    optimizer: Literal["adamw", "lars"] = "adamw"  # code; the paper has LARS 1e-3
    learning_rate: float = Field(2e-5, gt=0)  # code
    weight_decay: float = Field(0.05, ge=0)  # code
    schedule: Literal["constant", "warmup_cosine", "cosine_restarts"] = "cosine_restarts"  # code
    precision: Literal["no", "bf16", "fp16"] = "fp16"  # code

    @model_validator(mode="before")
    @classmethod
    def _fill_from_variant(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**VARIANTS.get(values.get("variant", "recommended"), {}), **values}

    @property
    def caches_text(self) -> bool:
        """Whether every report has one embedding for the whole of training, computed once."""
        return self.unfreeze_layers == 0 and not self.text_dropout


class MFlag(nn.Module):
    """Image encoder, projectors and (unless its embeddings are given) the language model.

    Args:
        config: see `Config`.
        vision: the image encoder E_V.
        text_width: D of the language model.
        text: the language model E_T, where `config.caches_text` is false.
    """

    def __init__(self, config: Config, vision: VisionEncoder, text_width: int, text: TextEncoder | None = None):
        super().__init__()
        self.config = config
        self.vision = vision
        self.text = text
        out = config.projector_width if config.text_projector else text_width
        self.image_projector = projector(config.projector, vision.width, config.projector_hidden, out)
        self.text_projector = (
            projector(config.projector, text_width, config.projector_hidden, out)
            if config.text_projector
            else nn.Identity()
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Eq. 1 on one batch.

        Args:
            batch: "image" (B, 1, H, W) in [-1, 1]; and "text" (B, D), the reports' embeddings, or "ids" and "mask" (B, L).

        Returns:
            "align" (Eq. 2), "orth" (Eq. 3) and their sum "total"; a loss of weight 0 is left out.
        """
        config = self.config
        z_v = self.vision.global_features(batch["image"])  # (B, N)
        z_a = self.image_projector(z_v)  # (B, P)
        z_t = self.text_projector(self._report_embeddings(batch))  # (B, P)
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

    def _report_embeddings(self, batch: dict[str, Tensor]) -> Tensor:
        """z_t before its projector, (B, D)."""
        if self.text is None:
            return batch["text"]
        longest = int(batch["mask"].sum(dim=1).max())
        ids, mask = batch["ids"][:, :longest].long(), batch["mask"][:, :longest].long()
        if self.config.unfreeze_layers:
            return self.text(ids, mask)
        if self.training:
            self.text.bert.train()  # config.text_dropout: the official code's frozen model, dropout and all
        with torch.no_grad():
            return self.text(ids, mask)

    def trainable_parameters(self) -> int:
        """Parameters that receive a gradient, computed (Tables 2 and 5 quote them)."""
        return count_parameters(self)
