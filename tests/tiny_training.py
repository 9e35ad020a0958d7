"""A tiny method, data set and augmentation with everything that could spoil an exact resume, for the training tests.

The functions here run in other processes too (forked from a server that has torch loaded), so they live in a module.
"""

import multiprocessing
import os
import signal
import socket
from pathlib import Path

import torch
import torch._dynamo  # any optimizer imports it on first use: once in the server, not in every process
from torch import nn
from torch.nn import functional as F

from nbcore.config import TrainConfig
from nbcore.distributed import gather, sync_batchnorm
from nbcore.errors import UserError
from nbcore.launch import Job
from nbcore.selection import Monitor
from nbcore.train import fit

ROWS = 44
# for the server and for launched processes, which do not inherit the path of imports
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
SERVER = multiprocessing.get_context("forkserver")  # torch is imported once, then a process starts in milliseconds
SERVER.set_forkserver_preload(["tiny_training"])


class Images:
    """Random grey images (B, 1, 8, 8), each with a target: its brightness."""

    def __init__(self, rows: int = ROWS) -> None:
        self.image = torch.randn(rows, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        self.target = self.image.mean((1, 2, 3))
        self.fetched: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.image)

    def __getitems__(self, indices: list[int]) -> dict[str, torch.Tensor]:
        self.fetched.append(indices)
        return {"image": self.image[indices], "target": self.target[indices]}


class TinyMethod(nn.Module):
    """Convolution, BatchNorm, dropout and a linear layer; regression plus a loss over all pairs of the global batch."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        # no bias ahead of a BatchNorm: its gradient is rounding noise, which AdamW would blow up to whole steps
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(16, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3))
        self.unused = nn.Parameter(torch.ones(2))  # as MGCA's prototypes are in the first epoch
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def losses(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        z = gather(self.head(self.encoder(batch["image"])))  # (B, 3)
        error = F.mse_loss(z[:, 0], gather(batch["target"]))
        spread = (F.normalize(z, dim=1) @ F.normalize(z, dim=1).T).square().mean()
        return {"total": error + 0.1 * spread, "error": error, "spread": spread}


def method(dropout: float = 0.2) -> TinyMethod:
    """The method with its seeded initial weights."""
    torch.manual_seed(7)
    return sync_batchnorm(TinyMethod(dropout))


def jitter(batch: dict[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
    """A random augmentation."""
    noise = torch.randn(batch["image"].shape, generator=generator)
    return {**batch, "image": batch["image"] + 0.1 * noise}


def config(**changes) -> TrainConfig:
    """Two batches of 4 a step, a checkpoint after every step, one thread."""
    settings = {
        "epochs": 3, "batch_size": 4, "accumulate": 2, "learning_rate": 1e-2, "weight_decay": 0.05, "threads": 1,
        "schedule": "warmup_cosine", "warmup_fraction": 0.3, "min_lr": 1e-5, "clip_norm": 1.0, "checkpoint_seconds": 0,
    }  # fmt: skip
    return TrainConfig(**(settings | changes))


def run(directory: Path, **changes) -> None:
    """One run of `fit`, started or taken up."""
    Job(method(), Images(), config(**changes), 3, directory, jitter).fit()


def score(method: nn.Module) -> float:
    """A validation score that goes up and down over the epochs, and draws random numbers as a careless one might."""
    assert not method.training
    torch.rand(3)
    return float(torch.sin(1e3 * method.head[1].weight.sum()))


def run_judged(directory: Path, patience: int) -> None:
    """As `run`, keeping the epoch that `score` finds best."""
    fit(
        method(), Images(), config(epochs=12), seed=3, directory=directory, transform=jitter,
        monitor=Monitor(score, patience),
    )  # fmt: skip


def run_until(directory: Path, event: int, **changes) -> None:
    """A run that is killed as it is about to sync or to rename a file for the `event`-th time."""
    fsync, replace, seen = os.fsync, Path.replace, [0]

    def die_when_due() -> None:
        seen[0] += 1
        if seen[0] == event:
            os.kill(os.getpid(), signal.SIGKILL)

    def cut_short(descriptor: int) -> None:
        die_when_due()
        fsync(descriptor)

    def torn_before_rename(path: Path, target: Path) -> Path:
        die_when_due()
        return replace(path, target)

    os.fsync, Path.replace = cut_short, torn_before_rename
    run(directory, **changes)


def job(directory: str, processes: int, batch_size: int, stop_after: int = 0, **changes) -> Job:
    """A builder for `nbcore.launch`: no dropout, no augmentation; it can stop with a user's mistake on the way."""
    images = Images()

    def stop(batch: dict[str, torch.Tensor], generator: torch.Generator) -> dict[str, torch.Tensor]:
        if len(images.fetched) > stop_after:
            raise UserError("The disk is full: free some space.")
        return batch

    settings = config(processes=processes, batch_size=batch_size, **changes)
    return Job(method(dropout=0.0), images, settings, 3, Path(directory), stop if stop_after else None)


def in_processes(target, *arguments, ranks: int = 1, **keywords) -> list[int]:
    """Run `target` in a fresh process, or in several that form one group; their exit codes."""
    port = str(_free_port())
    processes = [
        SERVER.Process(target=_as_rank, args=(i, ranks, port, target, arguments, keywords)) for i in range(ranks)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    return [process.exitcode for process in processes]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _as_rank(rank: int, ranks: int, port: str, target, arguments: tuple, keywords: dict) -> None:
    torch.set_num_threads(1)
    if ranks > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1"}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    target(*arguments, **keywords)
