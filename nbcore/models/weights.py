"""Weight files: where they come from, and loading that never ignores a key silently.

A source is a local folder or file, or a hub repository `owner/name` or `owner/name@revision`. The hub is asked only
when `download` is true; otherwise its local cache alone is searched.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nbcore.errors import UserError

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def find_folder(source: str, *, files: Iterable[str], download: bool) -> Path:
    """Return the folder that holds a model: `source` itself if it is one, else a snapshot of the hub repository.

    Raises:
        UserError: the source is neither a local folder nor available from the hub or its cache.
    """
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    from huggingface_hub import snapshot_download  # slow to import

    repository, _, revision = source.partition("@")
    try:
        return Path(
            snapshot_download(
                repository, revision=revision or None, allow_patterns=list(files), local_files_only=not download
            )
        )
    except Exception as error:  # the hub client raises a dozen unrelated types for "not there"
        absent = "are not in the local hub cache (add -p download=true to fetch them)"
        told = "could not be downloaded" if download else absent
        raise UserError(f"{source}: the weights {told}; a local folder can be given in their place.") from error


def find_weights(source: str, *, files: Iterable[str], download: bool) -> Path:
    """Return a local file or folder of weights as it is, or the folder of a hub repository (see `find_folder`)."""
    path = Path(source).expanduser()
    return path if path.exists() else find_folder(source, files=files, download=download)


def read_state(path: Path, names: Sequence[str] = WEIGHT_FILES) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file, a torch file (weights only), or a folder that holds one of these.

    Args:
        path: the file or folder.
        names: of weight files in a folder; the first that is there is read.

    Raises:
        UserError: no weight file in the folder, or the file cannot be read.
    """
    if path.is_dir():
        found = [path / name for name in names if (path / name).is_file()]
        if not found:
            raise UserError(f"{path}: no {' or '.join(names)} in this folder.")
        path = found[0]
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # each format has its own errors for a damaged file
        raise UserError(f"{path}: not a readable weight file ({type(error).__name__}); fetch it again.") from error
    return state.get("state_dict", state.get("model", state))


def load_exactly(module: nn.Module, state: dict[str, Tensor], *, source: str, ignore: Iterable[str] = ()) -> None:
    """Load `state` into `module`; every key must match, in name and shape.

    Args:
        module: receives the weights.
        state: key -> tensor.
        source: named in the error.
        ignore: prefixes of keys that the source may hold in addition (heads that are not used here).

    Raises:
        UserError: a key is missing, unexpected, or of another shape.
    """
    ignore = tuple(ignore)
    own = module.state_dict()
    state = {key: value for key, value in state.items() if key in own or not key.startswith(ignore)}
    missing = sorted(own.keys() - state.keys())
    unexpected = sorted(state.keys() - own.keys())
    reshaped = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if missing or unexpected or reshaped:
        parts = {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
        told = "; ".join(f"{len(keys)} {what} (first: {keys[0]})" for what, keys in parts.items() if keys)
        raise UserError(f"{source}: these weights do not fit {type(module).__name__}: {told}.")
    module.load_state_dict(state)
