import math

import numpy as np
import pytest
import tiny_training as tiny
import torch
from pydantic import ValidationError
from torch import nn

from nbcore import optim
from nbcore.config import TrainConfig
from nbcore.errors import UsageError, UserError
from nbcore.sampling import augmentation_generator, epoch_batches, stream_seed
from nbcore.selection import Monitor
from nbcore.train import History, fit


@pytest.fixture(autouse=True)
def threads():
    """`fit` sets the number of threads for the whole process; the tests after these keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def train(directory, method=None, dataset=None, transform=None, seed=3, on_epoch=None, **changes):
    """Fit the tiny method; the trained method and its history."""
    method = method or tiny.method()
    dataset = dataset or tiny.Images()
    history = fit(
        method, dataset, tiny.config(**changes), seed=seed, directory=directory, transform=transform, on_epoch=on_epoch
    )
    return method, history


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values())
    return all(torch.equal(a, b) for a, b in pairs)


class Rows:
    """Plain rows for a plain linear model."""

    def __init__(self, count: int) -> None:
        self.x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, indices):
        return {"x": self.x[indices]}


class Linear(nn.Linear):
    def losses(self, batch):
        return {"total": (self(batch["x"]) - batch["x"].sum(1, keepdim=True)).square().mean()}


def linear() -> Linear:
    torch.manual_seed(0)
    return Linear(3, 1)


def plan(**changes):
    """Keyword arguments of `epoch_batches`."""
    settings = {"batch_size": 4, "processes": 1, "rank": 0, "seed": 5, "epoch": 0, "batches": 6}
    return settings | changes


def test_processes_partition_the_global_batch_of_one():
    alone = epoch_batches(50, **plan(batch_size=8))
    ranks = [epoch_batches(50, **plan(processes=2, rank=rank)) for rank in range(2)]
    assert alone == [first + second for first, second in zip(*ranks)]
    assert len(set(np.ravel(alone))) == 48


def test_an_epoch_can_be_taken_up_anywhere_and_every_epoch_is_another_shuffle():
    assert epoch_batches(50, **plan(first=4)) == epoch_batches(50, **plan())[4:]
    assert epoch_batches(50, **plan(first=6)) == []
    orders = [epoch_batches(50, **plan(seed=seed, epoch=epoch)) for seed, epoch in [(5, 0), (5, 1), (6, 0)]]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_streams_differ_in_every_coordinate():
    seeds = {stream_seed(*position) for position in np.ndindex(3, 3, 3, 3)}
    assert len(seeds) == 81
    a, b = (torch.rand(3, generator=augmentation_generator(torch.device("cpu"), 1, 2, 3, 4)) for _ in range(2))
    assert torch.equal(a, b)


def test_every_row_is_seen_once_an_epoch(tmp_path):
    images = tiny.Images()
    train(tmp_path, dataset=images, epochs=2)
    assert [len(batch) for batch in images.fetched] == [4] * 20  # 44 rows: 5 steps of 2 batches of 4, 4 rows left out
    first, second = np.reshape(images.fetched, (2, 40))
    assert len(set(first)) == len(set(second)) == 40
    assert not np.array_equal(first, second)


def test_images_that_do_not_fill_a_step_sit_out_other_ones_in_each_epoch(tmp_path):
    """Montgomery's 83 training images in batches of 50: one step an epoch."""
    images = tiny.Images(83)
    _, history = train(tmp_path, dataset=images, epochs=5, batch_size=50, accumulate=1)
    assert (history.steps_per_epoch, len(history)) == (1, 5)
    absent = [set(range(83)) - set(batch) for batch in images.fetched]
    assert [len(rows) for rows in absent] == [33] * 5
    assert len(set(map(frozenset, absent))) == 5


def test_accumulation_gives_the_gradient_of_the_large_batch(tmp_path):
    rows = Rows(32)
    small, _ = train(tmp_path / "small", linear(), rows, batch_size=4, accumulate=4, optimizer="lars")
    large, _ = train(tmp_path / "large", linear(), rows, batch_size=16, accumulate=1, optimizer="lars")
    torch.testing.assert_close(small.weight, large.weight, rtol=1e-5, atol=1e-7)
    assert not torch.equal(small.weight, linear().weight)


def test_one_step_by_hand(tmp_path):
    """The loop takes the very step that AdamW takes on the clipped gradient of the mean loss."""
    rows, model = Rows(8), linear()
    trained, history = train(tmp_path, linear(), rows, epochs=1, batch_size=8, accumulate=1, schedule="constant")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.05)
    loss = model.losses({"x": rows.x[epoch_batches(8, **plan(seed=3, batch_size=8, batches=1))[0]]})["total"]
    loss.backward()
    assert nn.utils.clip_grad_norm_(model.parameters(), 1.0) > 1  # the clipping matters
    optimizer.step()
    assert history.values == {"total": [loss.item()], "lr": [1e-2]}
    assert same_weights(trained, model)


def test_sgd_with_momentum_decays_all_but_the_named_parameters(tmp_path):
    """Two steps by hand: torch's SGD on two groups of parameters."""
    changes = {"optimizer": "sgd", "momentum": 0.9, "no_decay": ["bias"], "clip_norm": None, "schedule": "constant"}
    rows, model = Rows(8), linear()
    trained, _ = train(tmp_path, linear(), rows, epochs=2, batch_size=8, accumulate=1, **changes)
    groups = [{"params": [model.weight], "weight_decay": 0.05}, {"params": [model.bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1e-2, momentum=0.9)
    for epoch in range(2):
        order = epoch_batches(8, **plan(seed=3, batch_size=8, batches=1, epoch=epoch))[0]
        optimizer.zero_grad()
        model.losses({"x": rows.x[order]})["total"].backward()
        optimizer.step()
    assert same_weights(trained, model)


def test_the_epoch_schedule_holds_for_whole_epochs(tmp_path):
    changes = {"schedule": "epoch_cosine", "warmup_epochs": 1, "warmup_lr": 1e-5, "learning_rate": 1e-2}
    _, history = train(tmp_path, linear(), Rows(8), epochs=3, batch_size=4, accumulate=1, **changes)
    rates = [optim.epoch_cosine(epoch, 3, 1, 1e-5, 1e-2) for epoch in (0, 0, 1, 1, 2, 2)]
    assert history.values["lr"] == pytest.approx(rates)


def test_only_what_requires_a_gradient_and_gets_one_moves(tmp_path):
    trained, _ = train(tmp_path)
    fresh = tiny.method()
    assert torch.equal(trained.frozen.weight, fresh.frozen.weight)
    assert torch.equal(trained.unused, fresh.unused)  # not even decayed
    assert not torch.equal(trained.head[1].weight, fresh.head[1].weight)


def test_a_gradient_left_by_the_caller_is_none_of_the_run(tmp_path):
    model = linear()
    model.losses({"x": torch.ones(1, 3)})["total"].backward()
    assert same_weights(train(tmp_path / "1", model, Rows(8))[0], train(tmp_path / "2", linear(), Rows(8))[0])


def test_the_method_decides_what_trains(tmp_path):
    class FrozenEncoder(tiny.TinyMethod):
        def train(self, mode: bool = True):
            super().train(mode)
            self.encoder.eval()
            return self

    trained, _ = train(tmp_path, FrozenEncoder())
    assert trained.encoder[1].num_batches_tracked == 0
    assert trained.head[2].num_batches_tracked == 30
    assert not trained.training


@pytest.mark.parametrize("schedule", ["constant", "warmup_cosine", "cosine_restarts"])
def test_history_tells_every_loss_and_the_learning_rate(tmp_path, schedule):
    _, history = train(tmp_path, schedule=schedule, warmup_fraction=0.4, restart_fraction=0.4)
    assert history.values.keys() == {"total", "error", "spread", "lr"}
    assert len(history) == 15 and history.steps_per_epoch == 5
    expected = {
        "constant": [1e-2] * 15,
        "warmup_cosine": [optim.warmup_cosine(step, 15, 6, 1e-2, 1e-5) for step in range(15)],
        "cosine_restarts": [optim.cosine_restarts(step, 6, 1e-2, 1e-5) for step in range(15)],
    }[schedule]
    np.testing.assert_allclose(history.values["lr"], expected, rtol=1e-12)
    totals = np.array(history.values["total"])
    np.testing.assert_allclose(
        totals, np.array(history.values["error"]) + 0.1 * np.array(history.values["spread"]), 1e-5
    )
    np.testing.assert_allclose(history.epochs()["total"], totals.reshape(3, 5).mean(1), rtol=1e-12)


def test_history_refuses_losses_that_change_their_names():
    history = History(2)
    history.append({"total": 1.0, "lr": 0.1})
    with pytest.raises(ValueError, match="changed their names"):
        history.append({"total": 1.0, "align": 2.0, "lr": 0.1})


@pytest.mark.parametrize("optimizer, rate, share", [("adamw", 0.1, 0.2), ("lars", 0.7, 0.8)])
def test_it_learns(tmp_path, optimizer, rate, share):
    settings = {"optimizer": optimizer, "learning_rate": rate, "clip_norm": None, "weight_decay": 0}
    _, history = train(tmp_path, linear(), Rows(64), epochs=20, **settings)
    totals = history.epochs()["total"]
    assert totals[-1] < share * totals[0]


def test_augmentation_repeats_by_seed_and_differs_by_step(tmp_path):
    def record(into):
        def transform(batch, generator):
            into.append(torch.rand((), generator=generator).item())
            return batch

        return transform

    first, again, other = [], [], []
    train(tmp_path / "1", transform=record(first))
    train(tmp_path / "2", transform=record(again))
    train(tmp_path / "3", transform=record(other), seed=4)
    assert first == again
    assert len(set(first + other)) == 60


def test_worker_processes_change_nothing(tmp_path):
    alone, history = train(tmp_path / "0", epochs=1)
    helped, helped_history = train(tmp_path / "2", epochs=1, workers=2)
    assert same_weights(alone, helped) and history == helped_history


def test_a_callback_sees_every_epoch_and_cannot_disturb_the_run(tmp_path):
    seen = []

    def draw(history):
        seen.append(len(history))
        np.random.rand(), torch.rand(5), np.random.default_rng()  # noqa: NPY002

    watched, history = train(tmp_path / "watched", on_epoch=draw)
    alone, lonely_history = train(tmp_path / "alone")
    assert seen == [5, 10, 15]
    assert same_weights(watched, alone) and history == lonely_history


def test_a_method_is_told_the_epoch(tmp_path):
    method, told = tiny.method(), []
    method.begin_epoch = told.append
    train(tmp_path, method)
    assert told == [0, 1, 2]


def test_a_finished_run_is_loaded_not_repeated(tmp_path):
    trained, history = train(tmp_path)
    torch.manual_seed(99)
    images = tiny.Images()
    loaded, loaded_history = train(tmp_path, tiny.sync_batchnorm(tiny.TinyMethod()), images, checkpoint_seconds=5)
    assert images.fetched == []
    assert same_weights(trained, loaded) and history == loaded_history
    assert not loaded.training


def test_tied_weights_survive(tmp_path):
    class Tied(Linear):
        def __init__(self):
            super().__init__(3, 1)
            self.alias = self.weight

    trained, _ = train(tmp_path, Tied(), Rows(8), batch_size=4)
    loaded, _ = train(tmp_path, Tied(), Rows(8), batch_size=4)
    assert torch.equal(trained.weight, loaded.weight) and loaded.alias is loaded.weight


@pytest.mark.parametrize("finished", [True, False])
def test_another_run_is_refused(tmp_path, finished):
    if finished:
        train(tmp_path)
    else:
        with pytest.raises(UserError, match="'total' = inf"):
            train(tmp_path, transform=poison_from(3))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"another learning_rate, seed: delete it or train in another folder"):
        train(tmp_path, learning_rate=0.5, seed=4)
    with pytest.raises(UserError, match="another dataset length"):
        train(tmp_path, dataset=tiny.Images(43))
    with pytest.raises(UserError, match="another method, shapes of the parameters"):
        train(tmp_path, linear())
    assert kept == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def poison_from(batch_number):
    """A transform that makes the loss infinite from one batch on."""
    seen = []

    def transform(batch, generator):
        seen.append(1)
        return {**batch, "target": batch["target"] * (math.inf if len(seen) > batch_number else 1)}

    return transform


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    with pytest.raises(UserError, match=r"'total' = inf, 'error' = inf at epoch 1, step 2 \(from 0\)"):
        train(tmp_path, transform=poison_from(2 * 7))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 2)
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    mended, history = train(tmp_path)
    untroubled, untroubled_history = train(tmp_path.with_name("untroubled"))
    assert same_weights(mended, untroubled) and history == untroubled_history


def test_precisions_and_accumulation_can_follow_each_other_in_one_process(tmp_path):
    """Accelerate keeps both in global state."""
    kinds = []

    class Spy(Linear):
        def losses(self, batch):
            kinds.append(self(batch["x"]).dtype)
            return super().losses(batch)

    for number, (precision, accumulate) in enumerate([("bf16", 4), ("no", 1), ("no", 2)]):
        method = Spy(3, 1)
        fresh = method.weight.detach().clone()
        _, history = train(tmp_path / str(number), method, Rows(8), epochs=1, batch_size=2, accumulate=accumulate,
                           precision=precision, schedule="constant")  # fmt: skip
        assert len(history) == 4 // accumulate
        assert method.weight.dtype == torch.float32 and not torch.equal(method.weight, fresh)
    assert kinds == [torch.bfloat16] * 4 + [torch.float32] * 8


def test_configurations_that_cannot_be_served(tmp_path):
    with pytest.raises(ValidationError, match="epoch"):
        TrainConfig(epoch=3, epochs=3, batch_size=2, learning_rate=0.1)
    with pytest.raises(ValidationError, match="frozen"):
        tiny.config().epochs = 4
    with pytest.raises(UsageError, match="44 rows but one step takes 90"):
        train(tmp_path, batch_size=45)
    with pytest.raises(UsageError, match="processes is 2 but 1 were started"):
        train(tmp_path, processes=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has fp16")
def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(UsageError, match="needs a GPU"):
        train(tmp_path, precision="fp16")


def test_torn_files_are_swept_away(tmp_path):
    (tmp_path / ".checkpoint.pt.x1.tmp").write_bytes(b"half")
    train(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "weights.safetensors"]


def test_threads_are_set(tmp_path):
    train(tmp_path, threads=2, epochs=1)
    assert torch.get_num_threads() == 2


class Scripted:
    """A monitor's score that follows a script and remembers the weights it was shown."""

    def __init__(self, scores):
        self.scores, self.seen = iter(scores), []

    def __call__(self, method):
        self.seen.append({name: value.clone() for name, value in method.state_dict().items()})
        return next(self.scores)


def judged(directory, scores, patience, epochs):
    method, script = tiny.method(), Scripted(scores)
    history = fit(
        method, tiny.Images(), tiny.config(epochs=epochs), seed=3, directory=directory, transform=tiny.jitter,
        monitor=Monitor(script, patience),
    )  # fmt: skip
    return method, history, script.seen


def test_a_monitor_keeps_the_best_epoch_and_stops_after_its_patience(tmp_path):
    method, history, seen = judged(tmp_path, [0.1, 0.5, 0.5, 0.2, 0.9], patience=2, epochs=9)
    assert history.scores == [0.1, 0.5, 0.5, 0.2]  # a tie is no improvement
    assert len(history) == 4 * history.steps_per_epoch
    assert all(torch.equal(method.state_dict()[name], value) for name, value in seen[1].items())
    again, finished, unseen = judged(tmp_path, [], patience=2, epochs=9)
    assert finished == history and unseen == [] and same_weights(again, method)


def test_a_monitor_changes_nothing_but_the_choice(tmp_path):
    plain, _ = train(tmp_path / "plain", transform=tiny.jitter, epochs=3)
    method, _, _ = judged(tmp_path / "judged", [0.1, 0.2, 0.3], patience=9, epochs=3)
    assert same_weights(method, plain)


def test_the_first_epoch_is_kept_where_no_score_is_a_number(tmp_path):
    method, _, seen = judged(tmp_path, [float("nan")] * 3, patience=5, epochs=3)
    assert all(torch.equal(method.state_dict()[name], value) for name, value in seen[0].items())
