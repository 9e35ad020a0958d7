"""What a run leaves on disk: one rolling checkpoint while it trains, and its final weights with their history.

Both are written atomically and both carry the run's identity, so a folder is never continued by another run.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from nbcore.errors import UserError
from nbcore.files import atomic_path, digest

CHECKPOINT = "checkpoint.pt"
WEIGHTS = "weights.safetensors"
NO_INFLUENCE = {"checkpoint_seconds", "workers"}  # settings that cannot change a number


def identity(method: nn.Module, config: BaseModel, seed: int, rows: int) -> dict[str, Any]:
    """Everything that must agree for a run to be continued: JSON values by name."""
    layout = {name: list(tensor.shape) for name, tensor in method.state_dict().items()}
    return {
        **config.model_dump(mode="json", exclude=NO_INFLUENCE),
        "seed": seed,
        "dataset length": rows,
        "method": type(method).__qualname__,
        "shapes of the parameters": digest(layout),
    }


def _refuse_another_run(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    differing = sorted(key for key in found | expected if found.get(key) != expected.get(key))
    if differing:
        raise UserError(
            f"{path} was written by a run with another {', '.join(differing)}: delete it or train in another folder."
        )


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of this process's global generators as plain values and tensors (what `weights_only` admits)."""
    algorithm, words, *rest = np.random.get_state()  # noqa: NPY002  libraries draw from the global generator
    return {
        "python": random.getstate(),
        "numpy": [algorithm, torch.from_numpy(words.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo everything drawn since `random_state`."""
    random.setstate(state["python"])
    algorithm, words, *rest = state["numpy"]
    np.random.set_state((algorithm, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def save_checkpoint(directory: Path, identity: dict[str, Any], state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint by `state`: tensors and plain values, nested at will."""
    with atomic_path(directory / CHECKPOINT) as temporary:
        torch.save({"identity": identity, **state}, temporary)


def load_checkpoint(directory: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The state last saved, its tensors on the CPU, or None. Errors: UserError where another run saved it."""
    path = directory / CHECKPOINT
    if not path.is_file():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    _refuse_another_run(path, state["identity"], identity)
    return state


def save_weights(directory: Path, identity: dict[str, Any], method: nn.Module, history: dict[str, Any]) -> None:
    """Write the whole state of `method` (parameters and buffers), then drop the checkpoint it makes superfluous."""
    with atomic_path(directory / WEIGHTS) as temporary:
        save_model(method, str(temporary), {"identity": json.dumps(identity), "history": json.dumps(history)})
    (directory / CHECKPOINT).unlink(missing_ok=True)


def load_weights(directory: Path, identity: dict[str, Any], method: nn.Module) -> dict[str, Any] | None:
    """Load the final weights into `method` and return their history, or None where the run has not ended."""
    path = directory / WEIGHTS
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    _refuse_another_run(path, json.loads(metadata["identity"]), identity)
    load_model(method, path)
    return json.loads(metadata["history"])


def remove_torn_files(directory: Path) -> None:
    """Delete what writes that were killed half-way left behind; only for the one process that may write here."""
    for torn in directory.glob(".*.tmp"):
        torn.unlink()
