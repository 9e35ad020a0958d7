"""The one training loop.

`fit` trains any method on one or several processes. A run that is killed at any moment and started again ends with
the weights and the history, bit for bit on a CPU, of a run that was never killed.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object, set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from nbcore import checkpoint, optim
from nbcore.config import TrainConfig
from nbcore.errors import UsageError, UserError
from nbcore.live import loss_curve
from nbcore.locks import locked
from nbcore.sampling import augmentation_generator, epoch_batches
from nbcore.selection import Best, Monitor

Batch = dict[str, Tensor]
Transform = Callable[[Batch, torch.Generator], Batch]


class Dataset(Protocol):
    """Rows on the CPU, fetched a whole batch at a time; the same indices must always give the same tensors."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: list[int]) -> Batch: ...


@dataclass
class History:
    """One value per optimiser step for every loss of the method (the mean over its batches) and for `lr`; and, where
    the run has a monitor, its score of every epoch (NaN for those it left out)."""

    steps_per_epoch: int
    values: dict[str, list[float]] = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values.get("lr", []))

    def append(self, row: Mapping[str, float]) -> None:
        """Add the values of one step; every step must bring the same names."""
        if self.values and row.keys() != self.values.keys():
            raise ValueError(f"Losses changed their names from {list(self.values)} to {list(row)}.")
        for name, value in row.items():
            self.values.setdefault(name, []).append(value)

    def epochs(self) -> dict[str, list[float]]:
        """The mean of every value over each epoch begun so far."""
        size = self.steps_per_epoch
        chunks = {name: [v[i : i + size] for i in range(0, len(v), size)] for name, v in self.values.items()}
        return {name: [math.fsum(chunk) / len(chunk) for chunk in parts] for name, parts in chunks.items()}


def fit(
    method: nn.Module,
    dataset: Dataset,
    config: TrainConfig,
    *,
    seed: int,
    directory: Path,
    transform: Transform | None = None,
    on_epoch: Callable[[History], None] | None = None,
    monitor: Monitor | None = None,
) -> History:
    """Train `method` in place and leave its weights in `directory`; take up, or just load, what is already there.

    A step is one optimiser update over `processes * batch_size * accumulate` rows; rows that do not fill a step sit
    out the epoch. `method.losses(batch)` returns scalars of which "total" is minimised; `method.train()` decides
    what stays in evaluation mode; a method may have `begin_epoch(epoch)`, which is told the epoch (from 0) whenever
    one is begun or taken up. Only parameters that require a gradient when `fit` is called are optimised. The caller
    seeds the initial weights; every later random number follows from `seed`.
    `transform(batch, generator)` augments a batch on the device. `on_epoch(history)` is called after each epoch in
    the main process; random numbers it draws do not disturb the run. With a `monitor` the weights kept are those of
    the epoch it scores best, and training may stop early.
    Several nodes need `directory` on a file system they share.

    Errors: UsageError for a configuration that this machine or data set cannot serve; UserError when the folder
    holds another run, or when a loss stops being finite (the last checkpoint stays).
    """
    directory = Path(directory)
    torch.set_num_threads(config.threads)
    accelerator = _accelerator(config)
    method.to(accelerator.device)
    with _only_run_in(directory, accelerator):
        history = load_finished(method, config, seed=seed, rows=len(dataset), directory=directory)
        if history is None:
            run = _Run(accelerator, method, dataset, config, seed, directory, transform)
            history = run.train(on_epoch, monitor)
    method.eval()
    return history


def load_finished(method: nn.Module, config: TrainConfig, *, seed: int, rows: int, directory: Path) -> History | None:
    """Load the weights of a run that has ended into `method`; None if it has not. Errors: UserError for another run."""
    identity = checkpoint.identity(method, config, seed, rows)
    history = checkpoint.load_weights(Path(directory), identity, method)
    return None if history is None else History(**history)


def _accelerator(config: TrainConfig) -> Accelerator:
    if config.precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("precision 'fp16' needs a GPU: use 'bf16' or 'no' on this machine.")
    AcceleratorState._reset_state()  # it is global, and one notebook trains under several precisions
    accelerator = Accelerator(
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
        # a method may leave parameters out of some steps (prototypes that are frozen at first)
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.num_processes != config.processes:
        raise UsageError(
            f"processes is {config.processes} but {accelerator.num_processes} were started: "
            "use nbcore.launch.train, or accelerate launch with the same number."
        )
    return accelerator


@contextmanager
def _only_run_in(directory: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keep every other run out of `directory`, and let no process of this run in before its main process is."""
    if not accelerator.is_main_process:
        accelerator.wait_for_everyone()
        yield
        return
    with locked(directory / ".lock"):
        checkpoint.remove_torn_files(directory)
        accelerator.wait_for_everyone()
        yield


def _steps_per_epoch(rows: int, config: TrainConfig) -> int:
    rows_per_step = config.processes * config.batch_size * config.accumulate
    if rows < rows_per_step:
        raise UsageError(
            f"The data set has {rows} rows but one step takes {rows_per_step} "
            "(processes x batch_size x accumulate): make batch_size smaller."
        )
    return rows // rows_per_step


def _optimizer(method: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    alike: dict[tuple[float, float], list[nn.Parameter]] = {}  # by learning rate and weight decay
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            rate = config.rate_factors.get(name.partition(".")[0], 1.0) * config.learning_rate
            decay = 0.0 if any(part in name for part in config.no_decay) else config.weight_decay
            alike.setdefault((rate, decay), []).append(parameter)
    groups = [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in alike.items()]
    kind = {
        "adamw": partial(torch.optim.AdamW, fused=True),
        "lars": optim.LARS,
        "sgd": partial(torch.optim.SGD, momentum=config.momentum),
    }[config.optimizer]
    return kind(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def _schedule(config: TrainConfig, total: int) -> Callable[[int], float]:
    """The learning rate after a number of steps, as a factor of `config.learning_rate`."""
    floor = config.min_lr / config.learning_rate
    if config.schedule == "warmup_linear":
        triangle = partial(optim.bert_adam_triangle, total=total, warmup=config.warmup_fraction, peak=1.0)
        return lambda step: max(floor, triangle(step + 1))
    if config.schedule == "warmup_cosine":
        warmup = int(config.warmup_fraction * total)
        return partial(optim.warmup_cosine, total=total, warmup=warmup, peak=1.0, floor=floor)
    if config.schedule == "cosine_restarts":
        period = max(1, int(config.restart_fraction * total))
        return partial(optim.cosine_restarts, period=period, peak=1.0, floor=floor)
    if config.schedule == "epoch_cosine":
        start = config.warmup_lr / config.learning_rate
        by_epoch = partial(optim.epoch_cosine, epochs=config.epochs, warmup=config.warmup_epochs, warmup_lr=start)
        return lambda step: by_epoch(step // (total // config.epochs), peak=1.0)
    return lambda step: 1.0


class _Losses(nn.Module):
    """A method as a module whose forward pass is its losses: what mixed precision and DDP hook into."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.losses(batch)


class _Run:
    """One run of `fit`: its parts, its position (`epoch`, `step` = the next step to take) and its history."""

    def __init__(
        self,
        accelerator: Accelerator,
        method: nn.Module,
        dataset: Dataset,
        config: TrainConfig,
        seed: int,
        directory: Path,
        transform: Transform | None,
    ) -> None:
        self.accelerator, self.method, self.dataset, self.config = accelerator, method, dataset, config
        self.seed, self.directory, self.transform = seed, directory, transform
        self.steps = _steps_per_epoch(len(dataset), config)
        self.identity = checkpoint.identity(method, config, seed, len(dataset))
        optimizer = _optimizer(method, config)
        method.zero_grad()  # a gradient left by the caller is none of this run
        # the scheduler is not prepared: Accelerate would step it once per process
        self.scheduler = LambdaLR(optimizer, _schedule(config, config.epochs * self.steps))
        self.module, self.optimizer = accelerator.prepare(_Losses(method), optimizer)
        self.epoch = self.step = 0
        self.history = History(self.steps)
        self.best = Best()
        self.saved_at = time.monotonic()

    def train(self, on_epoch: Callable[[History], None] | None, monitor: Monitor | None) -> History:
        set_seed(self.seed, device_specific=True)
        self._resume()
        main = self.accelerator.is_main_process
        total = self.config.epochs * self.steps
        with (
            tqdm(total=total, initial=len(self.history), desc="training", disable=not main) as bar,
            loss_curve(self.history.values, enabled=main) as draw,
        ):
            while self.epoch < self.config.epochs:
                self._train_epoch(bar, draw)
                if monitor:
                    self._judge(monitor)
                if on_epoch and main:
                    with self._undisturbed():
                        on_epoch(self.history)
                if monitor and self.epoch - self.best.epoch >= monitor.patience:
                    break
                self.epoch, self.step = self.epoch + 1, 0
        if monitor:
            self.method.load_state_dict(self.best.weights)
        if main:
            checkpoint.save_weights(self.directory, self.identity, self.method, vars(self.history))
        self.accelerator.wait_for_everyone()
        return self.history

    def _train_epoch(self, bar: tqdm, draw: Callable[[], None]) -> None:
        self.module.train()
        if hasattr(self.method, "begin_epoch"):
            self.method.begin_epoch(self.epoch)
        batches = self._batches()
        while self.step < self.steps:
            row, checkpoint_is_due = self._optimizer_step(batches)
            self.history.append(row)
            bar.set_postfix(loss=f"{row['total']:.4g}", lr=f"{row['lr']:.3g}", refresh=False)
            bar.update()
            draw()
            self.step += 1
            if checkpoint_is_due:
                self._save()

    def _judge(self, monitor: Monitor) -> None:
        """Score the epoch that has just ended, if it is due, and keep its weights if they are the best."""
        if not monitor.is_due(self.epoch, self.config.epochs):
            self.history.scores.append(math.nan)
            return
        score = [0.0]
        if self.accelerator.is_main_process:
            self.method.eval()
            with self._undisturbed(), torch.no_grad():
                score = [float(monitor.score(self.method))]
        broadcast_object_list(score)
        self.history.scores.append(score[0])
        self.best.offer(self.epoch, score[0], self.method)

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Undo whatever is drawn from the global generators inside."""
        state = checkpoint.random_state(self.accelerator.device)
        yield
        checkpoint.restore_random_state(state, self.accelerator.device)

    def _batches(self) -> Iterator[Batch]:
        """The batches of this process from the present step to the end of the epoch."""
        config, accelerator = self.config, self.accelerator
        indices = epoch_batches(
            len(self.dataset),
            batch_size=config.batch_size,
            processes=accelerator.num_processes,
            rank=accelerator.process_index,
            seed=self.seed,
            epoch=self.epoch,
            batches=self.steps * config.accumulate,
            first=self.step * config.accumulate,
        )
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=indices,
                collate_fn=_as_fetched,
                num_workers=config.workers,
                pin_memory=accelerator.device.type == "cuda",
                generator=torch.Generator(),  # its own, or starting an epoch would draw from the global one
            )
        )

    def _optimizer_step(self, batches: Iterator[Batch]) -> tuple[dict[str, float], bool]:
        """Take one step; its row of the history, and whether a checkpoint is due."""
        first = self.step * self.config.accumulate
        losses = [self._backward(next(batches), first + i) for i in range(self.config.accumulate)]
        row, checkpoint_is_due = self._over_all_processes(losses)
        self._refuse_non_finite(row)
        if self.config.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        row["lr"] = self.scheduler.get_last_lr()[0]
        if not self.accelerator.optimizer_step_was_skipped:  # fp16 skips a step whose gradient overflows
            self.scheduler.step()
        return row, checkpoint_is_due

    def _backward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """The losses of the epoch's batch `number`, whose gradients are added to those there are."""
        device = self.accelerator.device
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
        if self.transform:
            position = (self.seed, self.epoch, number, self.accelerator.process_index)
            batch = self.transform(batch, augmentation_generator(device, *position))
        with self.accelerator.accumulate(self.module):
            losses = self.module(batch)
            self.accelerator.backward(losses["total"])
        return {name: loss.detach() for name, loss in losses.items()}

    def _over_all_processes(self, losses: list[dict[str, Tensor]]) -> tuple[dict[str, float], bool]:
        """The mean of each loss over batches and processes, and whether the main process wants a checkpoint.

        The wish travels with the losses, so that all processes agree on it at the price of no further message.
        """
        due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        means = [torch.stack([each[name] for each in losses]).float().mean() for name in losses[0]]
        wish = means[0].new_tensor(float(due and self.accelerator.is_main_process))
        *values, wished = self.accelerator.reduce(torch.stack([*means, wish]), "mean").tolist()
        return dict(zip(losses[0], values)), wished > 0

    def _refuse_non_finite(self, row: dict[str, float]) -> None:
        bad = [f"'{name}' = {value}" for name, value in row.items() if not math.isfinite(value)]
        if bad:
            raise UserError(
                f"Loss {', '.join(bad)} at epoch {self.epoch}, step {self.step} (from 0): the step was not taken and "
                f"{self.directory} keeps its last checkpoint; lower learning_rate or set clip_norm."
            )

    def _save(self) -> None:
        random_states = gather_object([checkpoint.random_state(self.accelerator.device)])  # one per process
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "model": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": scaler.state_dict() if scaler else None,
                "random": random_states,
                "epoch": self.epoch,
                "step": self.step,
                "history": vars(self.history),
                "best": vars(self.best),
            }
            checkpoint.save_checkpoint(self.directory, self.identity, state)
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        state = checkpoint.load_checkpoint(self.directory, self.identity)
        if state is None:
            return
        self.method.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.history, self.best = History(**state["history"]), Best(**state["best"])
        own = state["random"][self.accelerator.process_index]
        checkpoint.restore_random_state(own, self.accelerator.device)


def _as_fetched(batch: Batch) -> Batch:
    """Collate nothing: `__getitems__` has made the batch (a named function, so that worker processes can load it)."""
    return batch
