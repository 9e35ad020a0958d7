"""The command line: `python -m nbcore`. Exit status 0 = done, 1 = failed, 2 = wrong use."""

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from nbcore import __version__
from nbcore.errors import UserError
from nbcore.paths import RESULTS


class _Folder(click.Path):
    """A path in which ~ is the home folder, also in quotes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(os.path.expanduser(value), param, ctx)  # noqa: PTH111 - unlike Path, leaves ~nobody


_FOLDER = _Folder(path_type=Path)
_SEED = click.IntRange(0, 2**31)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Five medical vision-language papers as notebooks: run them, look after their data, report their results."""


@cli.command("list")
@click.option("--data-root", type=_FOLDER, help="Folder whose sub-folders are data sets, to see which are present.")
def list_everything(data_root: Path | None) -> None:
    """Show notebooks, profiles and data sets."""
    from nbcore.profiles import PROFILE_NAMES, notebooks

    click.echo(f"notebooks  {', '.join(notebooks())}\nprofiles   {', '.join(PROFILE_NAMES)}\n")
    _echo_data_sets(data_root)


@cli.command()
@click.argument("notebook")
@click.option("--profile", default="smoke", show_default=True, help="smoke, demo, open or paper.")
@click.option("--seed", type=_SEED, default=0, show_default=True, help="First of the study's seeds.")
@click.option("--data-root", type=_FOLDER, help="Folder with the real data sets, each under its name.")
@click.option("--output-root", type=_FOLDER, default=RESULTS, help="Where results and cache go (default: results/).")
@click.option("-p", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated.")
@click.option("--again", is_flag=True, help="Execute also what has not changed since its results.")
def run(
    notebook: str,
    profile: str,
    seed: int,
    data_root: Path | None,
    output_root: Path,
    assignments: tuple[str, ...],
    again: bool,
) -> None:
    """Run NOTEBOOK (or `all`) and write its results to results/PROFILE/NOTEBOOK.

    A run on phantom data is not executed again while its settings, sources and libraries are the same.
    """
    from nbcore import report
    from nbcore import run as runner
    from nbcore.profiles import notebooks
    from nbcore.settings import parse_assignments

    overrides = parse_assignments(list(assignments))
    for name in notebooks() if notebook == "all" else [notebook]:
        asked = {"profile": profile, "seed": seed, "output_root": output_root, "overrides": overrides}
        if not again and runner.is_current(name, **asked):
            click.echo(
                f"{name}: unchanged, results in {output_root / profile / name} (--again executes it all the same)"
            )
            continue
        folder = runner.run(name, data_root=data_root, **asked)
        click.echo(f"{name}: results in {folder}")
    click.echo(f"report: {report.write(output_root / profile)}")


@cli.command()
@click.option("--output-root", type=_FOLDER, default=RESULTS, help="Folder of results (default: results/).")
def report(output_root: Path) -> None:
    """Write index.html of every profile that has records."""
    from nbcore import report as reporter

    for page in reporter.write_all(output_root):
        click.echo(page)


@cli.command()
@click.argument("old", type=_FOLDER)
@click.argument("new", type=_FOLDER)
@click.option("--all", "everything", is_flag=True, help="List every number, also those that stayed.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(old: Path, new: Path, everything: bool, as_json: bool) -> None:
    """Show what changed from run OLD to run NEW: settings, code, data, numbers beyond noise, verdicts.

    OLD and NEW are each a record.json, a notebook's folder of results, or a profile's.
    """
    from nbcore.compare import compare as compare_runs

    outcome = compare_runs(old, new)
    click.echo(outcome.to_json() if as_json else outcome.to_text(everything))


@cli.group()
def data() -> None:
    """Data sets: list them, check a local copy, write a phantom twin."""


@data.command("list")
@click.option("--root", "data_root", type=_FOLDER, help="Folder whose sub-folders are data sets.")
def list_data(data_root: Path | None) -> None:
    """Show the data sets, their access, and which are present below --root."""
    _echo_data_sets(data_root)


@data.command()
@click.argument("name")
@click.option("--root", type=_FOLDER, required=True, help="Folder of this data set.")
@click.option("--quick", is_flag=True, help="Decode a sample of the images instead of all.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes that decode images (default: one a core).")
def check(name: str, root: Path, quick: bool, as_json: bool, jobs: int | None) -> None:
    """Verify a local copy: layout, files, counts, duplicates, labels, patients across splits.

    The verdict is complete, subset: n of m, or broken (exit status 1).
    """
    from nbcore.data.check import check as check_data

    try:
        outcome = check_data(name, root, quick=quick, jobs=jobs)
    except KeyboardInterrupt as error:
        raise UserError(f"the check of {name} was stopped before its end: nothing is known of {root}") from error
    click.echo(json.dumps(outcome.to_dict(), indent=1, allow_nan=False) if as_json else outcome.to_text())
    sys.exit(outcome.exit_status)


@data.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what the manifest of NAME says, with the questions users ask; `all`: a table of all data sets."""
    from nbcore.data.describe import describe, overview
    from nbcore.data.manifest import list_manifests, load_manifest

    names = list_manifests() if name == "all" else [name]
    if as_json:
        told = [load_manifest(each).model_dump(mode="json") for each in names]
        click.echo(json.dumps(told if name == "all" else told[0], indent=1, ensure_ascii=False))
    else:
        click.echo(overview() if name == "all" else describe(load_manifest(name)))


@data.command()
@click.argument("name")
@click.option("--root", type=_FOLDER, required=True, help="Folder of this data set.")
@click.option("--to", type=_FOLDER, help="Folder to write (default: ROOT/prepared).")
def prepare(name: str, root: Path, to: Path | None) -> None:
    """Write the intermediate files of a local copy: master table, list of splits, reports by section."""
    from nbcore.data.prepare import prepare as prepare_data

    click.echo(prepare_data(name, root, to).to_text())


@data.command()
@click.argument("name")
@click.option("--root", type=_FOLDER, required=True, help="Folder to write; it must be new, empty or an earlier fetch.")
@click.option("--yes", is_flag=True, help="Accept licence and size without being asked.")
@click.option("--keep-archives", is_flag=True, help="Keep what was downloaded, in ROOT/.nbcore/archives.")
@click.option("--only", multiple=True, metavar="FILE", help="Fetch only this file; may be repeated.")
def fetch(name: str, root: Path, yes: bool, keep_archives: bool, only: tuple[str, ...]) -> None:
    """Download, verify, unpack and check an open data set; for others, say how to get them (exit status 1)."""
    from nbcore.data.fetch import fetch as fetch_data

    consent = (lambda question: True) if yes else click.confirm
    fetch_data(name, root, only=only, keep_archives=keep_archives, consent=consent, say=click.echo)


@data.command()
@click.argument("name")
@click.option("--root", type=_FOLDER, required=True, help="Folder to write; it must be new, empty or an earlier twin.")
@click.option("--images", type=click.IntRange(min=30), help="How many (default: as its manifest says).")
@click.option("--size", type=click.IntRange(min=32), help="Side in pixels (default: as its manifest says).")
@click.option("--seed", type=_SEED, default=0, show_default=True)
def twin(name: str, root: Path, images: int | None, size: int | None, seed: int) -> None:
    """Write a phantom twin of a data set, in its own layout."""
    from nbcore.data.manifest import load_manifest
    from nbcore.data.phantom.twins import write_twin

    manifest = load_manifest(name)
    images, size = images or manifest.twin.images, size or manifest.twin.size
    write_twin(manifest, root, images=images, size=size, seed=seed)
    click.echo(f"{name}: a twin of {images} images at {size} px in {root}")


def _echo_data_sets(data_root: Path | None) -> None:
    from nbcore.data.manifest import list_manifests, load_manifest

    click.echo(f"{'data set':<20} {'access':<14} {'local':<10} title")
    for name in list_manifests():
        manifest = load_manifest(name)
        local = "" if data_root is None else "present" if manifest.seems_present(data_root / name) else "absent"
        click.echo(f"{name:<20} {manifest.access:<14} {local:<10} {manifest.title}")


def main() -> None:
    """Run the command line; a user's mistake is one sentence on standard error."""
    try:
        cli(prog_name="python -m nbcore")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
    except OSError as error:  # a full disk, a file in the place of a folder, no permission
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        with suppress(OSError):
            click.echo(f"error: {where}{os.strerror(error.errno)}", err=True)
        os._exit(1)  # what standard output could not take is not tried again


if __name__ == "__main__":
    main()
