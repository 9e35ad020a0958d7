"""Train a job in this process or, through `accelerate launch`, in several.

A job is named so that every process can build it for itself: a builder `"package.module:function"` and the JSON
arguments it is called with. On several nodes, write {"builder": ..., "arguments": ...} to a file they share and run
`accelerate launch ... -m nbcore.launch FILE` on each.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from nbcore.config import TrainConfig
from nbcore.errors import UserError
from nbcore.train import Dataset, History, Transform, fit, load_finished

_FAILED = "error: "  # opens the line by which a launched process says what went wrong


class Job(NamedTuple):
    """The arguments of `train.fit`, as a builder returns them; `method` has its seeded initial weights."""

    method: nn.Module
    dataset: Dataset
    config: TrainConfig
    seed: int
    directory: Path
    transform: Transform | None = None

    def fit(self) -> History:
        """Train in the processes that are running."""
        method, dataset, config, seed, directory, transform = self
        return fit(method, dataset, config, seed=seed, directory=directory, transform=transform)


def build(builder: str, arguments: dict[str, Any]) -> Job:
    """Call the function that "package.module:function" names."""
    module, _, function = builder.partition(":")
    return getattr(import_module(module), function)(**arguments)


def train(builder: str, arguments: dict[str, Any]) -> tuple[nn.Module, History]:
    """Build a job and train it in as many processes as its configuration asks for; the trained method, its history.

    Errors: those of `train.fit`, and UserError when a launched process fails.
    """
    job = build(builder, arguments)
    if job.config.processes == 1:
        return job.method, job.fit()
    launch(builder, arguments, job.config.processes)
    length = len(job.dataset)
    history = load_finished(job.method, job.config, seed=job.seed, rows=length, directory=job.directory)
    job.method.eval()
    return job.method, history


def launch(builder: str, arguments: dict[str, Any], processes: int) -> None:
    """Train a job in `processes` new processes of this machine (one GPU each, or the CPU) and print what they print.

    Errors: UserError with the sentence by which the first failing process explained itself.
    """
    if torch.cuda.is_available() and torch.cuda.device_count() < processes:
        raise UserError(f"processes is {processes} but this machine has {torch.cuda.device_count()} GPUs: lower it.")
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"builder": builder, "arguments": arguments}))
        options = f"--multi_gpu --num_machines 1 --num_processes {processes} --main_process_port 0"
        options += " --mixed_precision no --dynamo_backend no"  # `fit` sets the precision; no prompt, no user's default
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            *options.split(),
            "-m",
            "nbcore.launch",
            str(job),
        ]
        _run(command, environment={**os.environ, **_surroundings()})


def _surroundings() -> dict[str, str]:
    """Environment variables for launched processes."""
    # `--cpu` of accelerate starts several processes under MPI only; this variable makes its GPU launcher use gloo
    cpu = {} if torch.cuda.is_available() else {"ACCELERATE_USE_CPU": "true"}
    return {"PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "5", **cpu}


def _run(command: list[str], environment: dict[str, str]) -> None:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        complaint = _relay(process.stdout)
        status = process.wait()
    finally:
        if process.poll() is None:  # interrupted: leave no orphans
            process.terminate()
            process.wait()
    if status:
        raise UserError(f"Training in several processes failed: {complaint}")


def _relay(lines: Iterator[str]) -> str:
    """Print lines until a process complains (the rest is the launcher's own traceback); the complaint or last line."""
    complaint = last = ""
    for line in lines:
        last = line.strip() or last
        if line.startswith(_FAILED) and not complaint:
            complaint = line.removeprefix(_FAILED).strip()
        if not complaint:
            print(line, end="", flush=True)
    return complaint or last


def main(path: str) -> int:
    """What every launched process runs: build the job described in the file and fit it; the exit status."""
    try:
        build(**json.loads(Path(path).read_text())).fit()
    except UserError as error:
        print(f"{_FAILED}{error}", flush=True)
        return error.exit_status
    except Exception as error:
        traceback.print_exc()
        print(f"{_FAILED}{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
