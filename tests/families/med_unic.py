"""Med-UniC's losses."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from families.common import DTYPES, RTOL, Case, family, gradient_case
from torch import Tensor

from nbcore.losses.contrastive import info_nce
from nbcore.losses.med_unic import self_supervised_alignment, text_feature_alignment, text_text_alignment

INPUTS = ("img1", "img2", "txt", "z1_raw", "z2_raw")
TEMPERATURE = 0.07
PRINTED = {"eps": 1e-12}  # the paper's equations add nothing to the variances


def _official(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The losses of both builders of the official code, under its names."""
    z1, z2 = leaves["z1_raw"], leaves["z2_raw"]
    feature, text = text_feature_alignment(z1, z2), text_text_alignment(z1, z2, standardize="batch")
    losses = {
        "cvl": info_nce(leaves["img1"], leaves["txt"], TEMPERATURE),
        "ssv": self_supervised_alignment(leaves["img1"], leaves["img2"], TEMPERATURE),
        "tf": feature / 4,
        "tt": text / 200,
        "tf_zeroshot_builder": feature / 2,
        "tt_zeroshot_builder": text / 100,
    }
    losses["ctr"] = losses["tf"] + losses["tt"]
    losses["total"] = losses["cvl"] + losses["ssv"] + losses["ctr"]
    return losses


def _paper(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The paper's equations: with squares, and as printed without."""
    views = inputs["z1_raw"], inputs["z2_raw"]
    values = {
        "cvl": info_nce(inputs["img1"], inputs["txt"], TEMPERATURE),
        "ssv_one_directional": self_supervised_alignment(inputs["img1"], inputs["img2"], TEMPERATURE, symmetric=False),
        "tf_squared": text_feature_alignment(*views, **PRINTED),
        "tt_squared": text_text_alignment(*views, **PRINTED),
        "tf_as_printed": text_feature_alignment(*views, squared=False, **PRINTED),
        "tt_as_printed": text_text_alignment(*views, squared=False, **PRINTED),
    }
    values["ctr_squared"] = values["tf_squared"] + values["tt_squared"]
    values["total_squared"] = values["cvl"] + values["ssv_one_directional"] + values["ctr_squared"]
    return values


def _correlations(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the paper's Eq. 5 and 6 compare with the identity."""
    z1, z2 = inputs["z1_raw"], inputs["z2_raw"]
    batch, width = z1.shape
    over_batch = [F.batch_norm(z, None, None, training=True, **PRINTED) for z in (z1, z2)]
    over_features = [F.layer_norm(z, (width,), **PRINTED) for z in (z1, z2)]
    return {
        "corr_feature": over_batch[0].T @ over_batch[1] / batch,
        "corr_instance": over_features[0] @ over_features[1].T / width,
    }


@family("meduni_*.npz")
def med_unic(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Both builders of the official code in both precisions with gradients, and the paper's equations in double."""
    for dtype in DTYPES:
        leaves = {key: torch.from_numpy(golden[f"in__{key}"]).to(DTYPES[dtype]).requires_grad_() for key in INPUTS}
        yield from _official_cases(stem, golden, leaves, dtype)
    inputs = {key: torch.from_numpy(golden[f"in__{key}"]) for key in INPUTS}
    values = {f"paper__{key}": value for key, value in {**_paper(inputs), **_correlations(inputs)}.items()}
    values |= {f"naive_code__{key}": value for key, value in _official(inputs).items()}
    for key in (key for key in values if key in golden):
        yield Case(f"{stem} {key}", values[key].numpy(), golden[key], RTOL["f64"], 1e-12)


def _official_cases(stem: str, golden: dict[str, np.ndarray], leaves: dict[str, Tensor], dtype: str) -> Iterator[Case]:
    for name, loss in _official(leaves).items():
        if (key := f"{dtype}__loss_{name}") in golden:
            yield Case(f"{stem} {key}", loss.detach().numpy(), golden[key], RTOL[dtype])
        wanted = [leaf for leaf in leaves if f"{dtype}__grad_{name}__{leaf}" in golden]
        if wanted:
            gradients = torch.autograd.grad(loss, [leaves[leaf] for leaf in wanted], retain_graph=True)
            for leaf, gradient in zip(wanted, gradients):
                key = f"{dtype}__grad_{name}__{leaf}"
                yield gradient_case(f"{stem} {key}", gradient, golden[key], dtype)
    for view in ("z1", "z2"):
        if (key := f"{dtype}__bn_{view}") in golden:
            ours = F.batch_norm(leaves[f"{view}_raw"].detach(), None, None, training=True)
            yield Case(f"{stem} {key}", ours.numpy(), golden[key], RTOL[dtype], 1e-6 if dtype == "f32" else 1e-12)
