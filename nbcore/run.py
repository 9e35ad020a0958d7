"""Runs a notebook headlessly with papermill, and judges the run by its exit and by its record.

A run on twins follows from its settings, the notebook, the sources and the libraries alone; a hash of these lies with
its results, so that it need not be executed again while they are the same.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from nbcore.errors import UsageError, UserError
from nbcore.files import atomic_write
from nbcore.locks import locked
from nbcore.paths import MANIFESTS, NOTEBOOKS, PROFILES, PUBLISHED, ROOT
from nbcore.protection import Keeping, keeping
from nbcore.recorder import HEADLESS, partial_directory, publish, recover
from nbcore.results import load_record
from nbcore.settings import RunSettings, load_settings

_INPUTS = "inputs.txt"  # beside the record: the hash of all that a run on twins follows from


def is_current(notebook: str, *, profile: str, seed: int, output_root: Path, overrides: dict[str, Any]) -> bool:
    """Whether the results of a run on twins are there, whole, and nothing they follow from has changed since.

    Never so for a run on real data, which may have changed. Raises UsageError for an unknown notebook, profile or
    parameter.
    """
    settings = load_settings(notebook, profile, overrides)
    folder = output_root.resolve() / profile / notebook
    if settings.source != "twin" or not (folder / _INPUTS).is_file():
        return False
    try:
        record = load_record(folder / "record.json")
    except UserError:
        return False
    files = [f"{notebook}.ipynb", f"{notebook}.html", *(f"figures/{figure.name}.png" for figure in record.figures)]
    whole = record.complete and all((folder / file).is_file() for file in files)
    return whole and (folder / _INPUTS).read_text("utf-8").strip() == _inputs(notebook, settings, profile, seed)


def _inputs(notebook: str, settings: RunSettings, profile: str, seed: int) -> str:
    """A hash of all that a run on twins follows from."""
    told = hashlib.blake2b(f"{notebook} {profile} {seed} {sys.version} {settings.model_dump_json()}".encode())
    told.update(repr(sorted((own.name, own.version) for own in distributions())).encode())
    sources = [*(ROOT / "nbcore").rglob("*"), *MANIFESTS.rglob("*"), *PROFILES.glob("*.yaml")]
    for path in sorted([*sources, NOTEBOOKS / f"{notebook}.ipynb", PUBLISHED / f"{notebook}.csv"]):
        if path.is_file() and path.suffix != ".pyc":
            told.update(f"{os.path.relpath(path, ROOT)}\n".encode() + path.read_bytes())
    return told.hexdigest()[:32]


def run(
    notebook: str, *, profile: str, seed: int, data_root: Path | None, output_root: Path, overrides: dict[str, Any]
) -> Path:
    """Execute a notebook and return the folder of its results: executed notebook, HTML, tables, figures, record.

    Earlier results stay as they are until the run has ended well. A run on private data, and the notebook of one that
    fails, lie beside the data until nothing of a patient has been found in them.

    Raises:
        UsageError: unknown notebook, profile or parameter; real data needed and no `data_root`; patients to be shown in
            the project's results/.
        UserError: a cell failed, the kernel died, the run left no complete record, or it shows something of a patient.
    """
    settings = load_settings(notebook, profile, overrides)
    if settings.source == "real" and data_root is None:
        raise UsageError(f"profile {profile} of {notebook} needs real data: give its folder with --data-root DIR.")
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root}: there is no such folder.")
    parameters = {
        "profile": profile,
        "seed": seed,
        "data_root": None if data_root is None else str(data_root.resolve()),
        "output_root": str(output_root.resolve()),
        "overrides": overrides,
    }
    inputs = _inputs(notebook, settings, profile, seed)  # as they are now: an edit during the run is of the next one
    kept = keeping(settings, data_root and data_root.resolve(), output_root.resolve())
    output, own = output_root.resolve() / profile, kept.root / profile
    with ExitStack() as locks:
        for folder in dict.fromkeys([output, own]):
            locks.enter_context(locked(folder / f".{notebook}.lock"))
            for end in ("ipynb", "log"):
                (folder / f"{notebook}.failed.{end}").unlink(missing_ok=True)
        recover(output, notebook)
        partial = partial_directory(kept.root, profile, notebook)
        executed = own / f".{notebook}.executed.ipynb"
        try:
            _execute(NOTEBOOKS / f"{notebook}.ipynb", executed, parameters, kept, own / f"{notebook}.failed.ipynb")
            if not load_record(partial / "record.json").complete:
                raise UserError(f"{notebook}: the run ended without a complete record; run it again.")
            atomic_write(partial / f"{notebook}.html", _html(executed))
            if settings.source == "twin":
                atomic_write(partial / _INPUTS, inputs + "\n")
            executed.replace(partial / f"{notebook}.ipynb")
            return publish(output, notebook, kept)
        finally:
            executed.unlink(missing_ok=True)


def _execute(source: Path, executed: Path, parameters: dict[str, Any], kept: Keeping, failed: Path) -> None:
    """Run papermill in a kernel of this interpreter; on failure keep the notebook as `failed` and say what is wrong.

    With private data the kernel's own output, and that of its children, goes to a file beside `failed`, which stays
    only on failure.
    """
    import papermill
    import zmq
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    log = failed.with_suffix(".log") if kept.private else None
    try:
        with _environment({HEADLESS: "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}), _kernels_writing_to(log) as kernels:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters,
                kernel_name="python3",
                cwd=str(source.parent),
                progress_bar=True,
                config=Config({"KernelManager": {"transport_encryption": "auto" if zmq.has("curve") else "disabled"}}),
                **kernels,
            )
    except PapermillExecutionError as error:
        executed.replace(failed)
        kinds = {kind.__name__: kind for kind in (UserError, UsageError)}
        if error.ename in kinds and _may_be_told(error.evalue, kept):
            raise kinds[error.ename](error.evalue) from None
        where, place = f"{source.name}, cell {error.cell_index}", f"the notebook with its traceback is {failed}"
        if log:
            kind, name = kinds.get(error.ename, UserError), error.ename if error.ename.isidentifier() else "an error"
            raise kind(f"{where}: {name} ({place}, what its kernel wrote is {log}).") from None
        raise UserError(f"{where}: {error.ename}: {error.evalue} ({place}).") from None
    except DeadKernelError:
        told = f"{source.name}: its kernel died, perhaps for want of memory; start it again to continue"
        raise UserError(f"{told} (what it wrote is {log})." if log else f"{told}.") from None
    except NoSuchKernel:
        raise UserError("no Jupyter kernel 'python3' in this environment: run `make setup`.") from None
    if log:
        log.unlink()


@contextmanager
def _kernels_writing_to(log: Path | None) -> Iterator[dict[str, Any]]:
    """Options of papermill for kernels whose file descriptors 1 and 2 are this new file, for its owner alone to read.

    Without one there are no options, and the kernel writes where this process does.
    """
    if log is None:
        yield {}
        return
    from jupyter_client.manager import AsyncKernelManager

    log.unlink(missing_ok=True)
    with open(log, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:

        class QuietKernelManager(AsyncKernelManager):
            async def start_kernel(self, **options: Any) -> None:
                await super().start_kernel(**options, stdout=file, stderr=file)

        yield {"kernel_manager_class": QuietKernelManager}


def _may_be_told(sentence: str, kept: Keeping) -> bool:
    """Whether a sentence has nothing of a patient, as far as can be found."""
    if not kept.private:
        return True
    from nbcore.leaks import Belongings

    try:
        belongings = Belongings.of(kept.private, kept.data_root)
        return belongings is None or belongings.in_text(sentence) is None
    except UserError:  # the data cannot be read; the sentence may quote them
        return False


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the kernel, which inherits them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _html(executed: Path) -> str:
    """The executed notebook as one page, its figures inside."""
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(embed_images=True).from_filename(str(executed))
    return body
