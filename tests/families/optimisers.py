"""Optimisers and learning-rate schedules."""

import re
from collections.abc import Iterator

import numpy as np
import torch
from families.common import DTYPES, RTOL, Case, family

from nbcore import optim, train
from nbcore.config import TrainConfig

_LARS_DEFAULTS = {"weight_decay_filter": False, "lars_adaptation_filter": False}  # of the official class


@family("lars_*.npz")
def lars(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """LARS: the trajectory of every parameter under fixed gradients, one that has none included."""
    names = [key.removeprefix("in__p0_") for key in golden if key.startswith("in__p0_")]
    settings = {key.removeprefix("hp__"): golden[key].item() for key in golden if key.startswith("hp__")}
    for dtype in DTYPES:
        if f"{dtype}__traj_{names[0]}" not in golden:
            continue
        parameters = {name: torch.from_numpy(golden[f"in__p0_{name}"]).to(DTYPES[dtype]) for name in names}
        parameters = {name: torch.nn.Parameter(value.clone()) for name, value in parameters.items()}
        optimizer = optim.LARS(list(parameters.values()), **{**_LARS_DEFAULTS, **settings})
        gradients = {n: torch.from_numpy(golden[f"in__grads_{n}"]).to(DTYPES[dtype]) for n in names}
        paths: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for step in range(len(next(iter(gradients.values())))):
            for name, parameter in parameters.items():
                parameter.grad = None if name == "nograd" else gradients[name][step].clone()
            optimizer.step()
            for name, parameter in parameters.items():
                paths[name].append(parameter.detach().numpy().copy())
        for name, path in paths.items():
            expected = golden[f"{dtype}__traj_{name}"]
            atol = (1e-12 if dtype == "f64" else 1e-6) * float(np.abs(expected).max(initial=0))
            yield Case(f"{stem} {dtype} {name}", np.stack(path), expected, RTOL[dtype], atol)


@family("lr_schedules.npz")
def schedules(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """Learning rates step by step; the file names the parameters of each schedule in its keys."""
    for key, expected in golden.items():
        steps = range(len(expected))
        if found := re.fullmatch(r"mgca_T(\d+)_W(\d+)", key):
            total, warmup = map(int, found.groups())
            ours = [optim.warmup_cosine(step, total, warmup, 2e-5, 1e-8) for step in steps]
        elif found := re.fullmatch(r"restarts_lr([\d.e+-]+)_T0_(\d+)", key):
            ours = [optim.cosine_restarts(step, int(found[2]), float(found[1]), 1e-8) for step in steps]
        elif found := re.fullmatch(r"barlow_epochs(\d+)_iters(\d+)_bs(\d+)__weights_biases", key):
            epochs, iterations, batch = map(int, found.groups())
            total, warmup = epochs * iterations, 10 * iterations
            peaks = [0.2 * batch / 256, 0.0048 * batch / 256]
            ours = [[optim.barlow_twins(step, total, warmup, peak) for peak in peaks] for step in steps]
        elif found := re.fullmatch(r"bertadam_warmup_linear_lr([\d.e+-]+)_T(\d+)_w([\d.]+)", key):
            peak, total, warmup = float(found[1]), int(found[2]), float(found[3])
            ours = [optim.bert_adam_triangle(step + 1, total, warmup, peak) for step in steps]
        else:
            continue
        yield Case(f"{stem} {key}", np.array(ours), expected, RTOL["f64"], 1e-15)


@family("lr_schedule_sgd*.npz")
def epoch_schedule_and_sgd(stem: str, golden: dict[str, np.ndarray]) -> Iterator[Case]:
    """The learning rate of each epoch of CoOp and its kin, one warm-up epoch at 1e-5; and steps of SGD as `fit` takes
    them."""
    for key, expected in golden.items():
        if found := re.fullmatch(r"(?:closed_)?lr([\d.e+-]+)_ep(\d+)", key):
            peak, epochs = float(found[1]), int(found[2])
            ours = [optim.epoch_cosine(epoch, epochs, 1, 1e-5, peak) for epoch in range(len(expected))]
            yield Case(f"{stem} {key}", np.array(ours), expected, RTOL["f64"], 1e-15)
    if "sgd_params" in golden:
        rate, momentum, decay = golden["sgd_lr_mom_wd"].tolist()
        start = golden["sgd_p0"]
        method = torch.nn.ParameterDict({"p": torch.nn.Parameter(torch.from_numpy(start.copy()))})
        config = TrainConfig(
            epochs=1, batch_size=1, optimizer="sgd", learning_rate=rate, momentum=momentum, weight_decay=decay
        )
        optimizer, path = train._optimizer(method, config), []
        for gradient in golden["sgd_grads"]:
            method["p"].grad = torch.from_numpy(gradient.copy()).to(method["p"].dtype)
            optimizer.step()
            path.append(method["p"].detach().numpy().copy())
        dtype = "f64" if start.dtype == np.float64 else "f32"
        yield Case(f"{stem} sgd", np.stack(path), golden["sgd_params"], RTOL[dtype], 1e-12)
