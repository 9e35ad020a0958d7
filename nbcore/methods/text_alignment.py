"""Med-UniC's regularisation of texts by itself: a language model made to forget the language, without any picture.

Ours: the paper's CTR (Sect. 3.4) always comes with pictures; this says what it does to reports alone.

Shapes: B batch, L word pieces.
"""

from torch import Tensor, nn

from nbcore.methods.med_unic import Config, ctr_losses
from nbcore.models.heads import mlp_projector
from nbcore.models.text import TextEncoder


class TextAlignment(nn.Module):
    """A language model and the projector P_d under TF and TT (Eq. 7)."""

    def __init__(self, config: Config, text: TextEncoder):
        super().__init__()
        self.config, self.text = config, text
        self.ctr_projector = mlp_projector(text.width, config.projector_hidden, config.ctr_width)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.losses(batch)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """ "tf", "tt", weighted, and their sum "total", of "ids", (B, L)."""
        ids = batch["ids"].long()
        views = self.text.two_views(
            ids, (ids != self.text.tokenizer.pad_token_id).long(), frozen_dropout=self.config.frozen_dropout
        )
        losses = ctr_losses(self.config, *(self.ctr_projector(view) for view in views))
        return {**losses, "total": sum(losses.values())}
