import math
from pathlib import Path

import numpy as np
import pytest
import torch

from nbcore import optim
from nbcore.paths import ROOT

GOLDENS = ROOT.parent / "shared" / "goldens"


def golden(name: str) -> dict[str, np.ndarray]:
    path: Path = GOLDENS / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return dict(np.load(path))


def slow_lars(p, gradients, lr, weight_decay, momentum, eta, filtered):
    """LARS on one NumPy tensor, written from the equations."""
    mu, trajectory = np.zeros_like(p), []
    for g in gradients:
        spared = filtered and p.ndim < 2
        d = g if spared else g + weight_decay * p
        p_norm, d_norm = math.sqrt((p**2).sum()), math.sqrt((d**2).sum())
        if not spared and p_norm > 0 and d_norm > 0:
            d = d * eta * p_norm / d_norm
        mu = momentum * mu + d
        p = p - lr * mu
        trajectory.append(p)
    return np.stack(trajectory)


def run_lars(p, gradients, **settings):
    parameter = torch.nn.Parameter(torch.tensor(p))
    optimizer, trajectory = optim.LARS([parameter], **settings), []
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        trajectory.append(parameter.detach().numpy().copy())
    return np.stack(trajectory)


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (5,), (), (2, 3, 2, 2)])
def test_lars_equals_the_slow_reference(shape, filtered):
    rng = np.random.default_rng(0)
    p, gradients = rng.normal(size=shape), rng.normal(size=(6, *shape))
    settings = {"lr": 0.3, "weight_decay": 0.02, "momentum": 0.8, "eta": 0.01}
    ours = run_lars(p, gradients, **settings, weight_decay_filter=filtered, lars_adaptation_filter=filtered)
    np.testing.assert_allclose(ours, slow_lars(p, gradients, filtered=filtered, **settings), rtol=1e-12)


def test_lars_starts_from_zero_and_ignores_missing_gradients():
    """A zero tensor has no norm to adapt to: it takes the plain step. Without a gradient nothing moves."""
    zero, idle = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    optimizer = optim.LARS([zero, idle], lr=0.5, weight_decay=0.1)
    zero.grad = torch.ones(2, 2)
    optimizer.step()
    assert zero.tolist() == [[-0.5, -0.5], [-0.5, -0.5]]
    assert idle.tolist() == [[1, 1], [1, 1]]
    assert idle not in optimizer.state


def test_lars_step_is_invariant_to_the_scale_of_the_gradient():
    rng = np.random.default_rng(1)
    p, gradients = rng.normal(size=(3, 3)), rng.normal(size=(4, 3, 3))
    np.testing.assert_allclose(run_lars(p, gradients, lr=0.1), run_lars(p, 1000 * gradients, lr=0.1), rtol=1e-12)


def test_lars_returns_the_loss_of_its_closure():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = optim.LARS([parameter], lr=1.0)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 4
    assert parameter.max() < 1


@pytest.mark.parametrize("name", ["lars_plain", "lars_filtered"])
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_lars_parity(name, precision):
    data = golden(name)
    hyper = {key.removeprefix("hp__"): value.item() for key, value in data.items() if key.startswith("hp__")}
    hyper = {"weight_decay_filter": False, "lars_adaptation_filter": False} | hyper
    names = [key.removeprefix("in__p0_") for key in data if key.startswith("in__p0_")]
    dtype = {"f32": torch.float32, "f64": torch.float64}[precision]
    parameters = {key: torch.nn.Parameter(torch.tensor(data[f"in__p0_{key}"], dtype=dtype)) for key in names}
    optimizer = optim.LARS(parameters.values(), **hyper)
    for step in range(8):
        for key, parameter in parameters.items():
            gradient = torch.tensor(data[f"in__grads_{key}"][step], dtype=dtype)
            parameter.grad = None if key == "nograd" else gradient
        optimizer.step()
        for key, parameter in parameters.items():
            expected = data[f"{precision}__traj_{key}"][step]
            tolerance = {"f32": 1e-5, "f64": 1e-12}[precision]
            np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("total, warmup", [(100, 40), (101, 40), (37, 14), (50, 5), (20, 0)])
def test_warmup_cosine_parity(total, warmup):
    expected = golden("lr_schedules")[f"mgca_T{total}_W{warmup}"]
    ours = [optim.warmup_cosine(step, total, warmup, 2e-5, 1e-8) for step in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("rate, period", [(2e-5, 40), (4e-5, 33)])
def test_cosine_restarts_parity(rate, period):
    expected = golden("lr_schedules")[f"restarts_lr{rate:.0e}_T0_{period}"]
    ours = [optim.cosine_restarts(step, period, rate, 1e-8) for step in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_barlow_twins_parity():
    expected = golden("lr_schedules")["barlow_epochs30_iters7_bs512__weights_biases"]
    peaks = [0.2 * 512 / 256, 0.0048 * 512 / 256]
    ours = [[optim.barlow_twins(step, 30 * 7, 10 * 7, peak) for peak in peaks] for step in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_bert_adam_parity():
    expected = golden("lr_schedules")["bertadam_warmup_linear_lr5e-4_T200_w0.1"]
    ours = [optim.bert_adam_triangle(step, 200, 0.1, 5e-4) for step in range(1, len(expected) + 1)]
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-18)


def test_cosine_restarts_equals_torch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=7, eta_min=0.01)
    for step in range(30):
        assert optim.cosine_restarts(step, 7, 0.3, 0.01) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_schedules_at_their_landmarks():
    assert optim.warmup_cosine(0, 10, 4, 1.0, 0.1) == 0.1
    assert optim.warmup_cosine(2, 10, 4, 1.0, 0.1) == pytest.approx(0.55)  # half-way up
    assert optim.warmup_cosine(4, 10, 4, 1.0, 0.1) == 1.0
    assert optim.warmup_cosine(7, 10, 4, 1.0, 0.1) == pytest.approx(0.55)  # half-way down
    assert optim.warmup_cosine(10, 10, 4, 1.0, 0.1) == 0.1  # a new cycle
    assert optim.warmup_cosine(0, 10, 0, 1.0, 0.1) == 0.1  # the first step, even without a warm-up
    assert optim.warmup_cosine(10, 10, 0, 1.0, 0.1) == 1.0
    assert optim.barlow_twins(0, 20, 10, 2.0) == 0
    assert optim.barlow_twins(10, 20, 10, 2.0) == 2
    assert optim.barlow_twins(20, 20, 10, 2.0) == pytest.approx(0.002)
    assert optim.bert_adam_triangle(1, 10, 0.2, 1.0) == 0.5
    assert optim.bert_adam_triangle(2, 10, 0.2, 1.0) == 1.0
    assert optim.bert_adam_triangle(6, 10, 0.2, 1.0) == pytest.approx(0.5)
    assert optim.bert_adam_triangle(12, 10, 0.2, 1.0) == 0


def test_epoch_cosine_holds_warms_up_and_falls():
    rates = [optim.epoch_cosine(epoch, 50, 1, 1e-5, 2.5e-3) for epoch in range(50)]
    assert rates[:2] == [1e-5, 2.5e-3]
    assert rates[1:] == sorted(rates[1:], reverse=True) and len(set(rates[1:])) == 49
    assert rates[-1] == pytest.approx(0.5 * 2.5e-3 * (1 + math.cos(math.pi * 48 / 50)))
    assert optim.epoch_cosine(0, 50, 0, 1e-5, 2.5e-3) == 2.5e-3
