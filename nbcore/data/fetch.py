"""Gets an openly licensed data set: downloads that go on where they stopped, verified, unpacked, moved in as a whole.

Everything happens in a work folder beside the root, ".ROOT.fetch", which a killed run leaves for the next one. The root
itself appears by one renaming. It holds the record of what was downloaded, `.nbcore/downloads.json`.
"""

import filecmp
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nbcore.data.check import check
from nbcore.data.download import download, file_hash, remote_size
from nbcore.data.manifest import Download, Manifest, load_manifest
from nbcore.data.unpack import Limits, is_archive, unpack
from nbcore.errors import UsageError, UserError
from nbcore.validation import nearest

_OURS = ".nbcore"
_RECORD = f"{_OURS}/downloads.json"
_ARCHIVES = f"{_OURS}/archives"

Record = dict[str, dict[str, Any]]  # file -> url, size, sha256, date, places


def fetch(
    name: str | Path | Manifest,
    root: str | Path,
    *,
    only: Collection[str] = (),
    keep_archives: bool = False,
    consent: Callable[[str], bool] = lambda question: True,
    say: Callable[[str], None] = print,
) -> None:
    """Download the data set into `root`, unpack it and check it; `only` these of the manifest's files, if given.

    `consent` is asked once, before anything is downloaded, and after `say` has told licence, citation and size. What is
    there already is not fetched again; a file that was fetched before must be the same as it was then.

    Raises UserError, after `say` has told how to get it by hand, for a data set that needs an account or an agreement
    or of which the owner gives no plain link; UserError also for a root that holds other things, for a server that
    does not answer or answers with something else, and for an archive that is damaged or not to be trusted; UsageError
    for an unknown data set or file.
    """
    manifest = name if isinstance(name, Manifest) else load_manifest(name)
    root = Path(root).absolute()
    wanted = _wanted(manifest, only)
    if not (root / _RECORD).is_file() and manifest.seems_present(root):
        see = f"see whether all of it with: python -m nbcore data check {manifest.name} --root {root}"
        return say(f"{manifest.name} is in {root} already, nothing was fetched; {see}")
    if not wanted:
        say(instructions(manifest, root))
        raise UserError(f"{manifest.name} cannot be fetched from here: get it as said above")
    _assert_ours(manifest, root)
    work = root.parent / f".{root.name}.fetch"
    if (work / "ready").is_dir():  # a run that was killed when it moved it in
        _finish(work, root)
    left = [item for item in wanted if not _is_here(item, root, _read_record(root))]
    if not left:
        say(f"{', '.join(item.file for item in wanted)} of {manifest.name} in {root} already: nothing was fetched")
    else:
        _get(manifest, root, work, left, keep_archives, consent, say)
    _conclude(manifest, root, bool(left), say)


def _conclude(manifest: Manifest, root: Path, is_new: bool, say: Callable[[str], None]) -> None:
    """Say what there is now; UserError where it is not a data set yet, or not a good one."""
    record = _read_record(root)
    missing = [item.file for item in manifest.downloads if not _is_here(item, root, record)]
    if missing:
        say(f"still to fetch: {', '.join(missing)}")
    if not manifest.seems_present(root):
        if missing:
            return
        say(instructions(manifest, root))
        raise UserError(f"all of {manifest.name} that has a plain link is in {root}: get the rest as said above")
    if is_new:
        outcome = check(manifest, root, quick=True)
        say(outcome.to_text())
        if outcome.exit_status:
            raise UserError(f"{manifest.name} was fetched into {root}, but the copy is broken: see the check above")


def instructions(manifest: Manifest, root: Path) -> str:
    """How to get a data set by hand: where, what, and what its folder must hold; all from the manifest."""
    needs = {
        "open": "It is open, but the owner's site gives no plain link for all of it.",
        "registration": "It needs a free account or an agreement with the owner.",
        "credentialed": "It needs a credentialed account and a signed agreement, and must not be passed on.",
    }[manifest.access]
    lines = [
        f"{manifest.title}, version {manifest.version}",
        f"licence: {manifest.licence}",
        f"access: {manifest.access}. {needs}",
        f"where: {manifest.homepage}",
        f"how: {manifest.how_to_get}",
        f"cite: {manifest.citation}",
        "",
        "Then there must be at least one of these:",
        *(f"  {root / mark}" for mark in manifest.layout.marks),
        "",
        f"See whether it is right with: python -m nbcore data check {manifest.name} --root {root}",
    ]
    return "\n".join(lines)


def _wanted(manifest: Manifest, only: Collection[str]) -> list[Download]:
    files = [item.file for item in manifest.downloads]
    for name in only:
        if name not in files:
            known = nearest(name, files) if files else ": the owner gives no plain link to any file"
            raise UsageError(f"{manifest.name} has no download {name!r}{known}")
    return [item for item in manifest.downloads if not only or item.file in only]


def _read_record(folder: Path) -> Record:
    path = folder / _RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not all(isinstance(entry["sha256"] + "".join(entry["places"]), str) for entry in found.values()):
            raise TypeError
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no record of downloads: delete it, and what was fetched, to start anew") from error
    return found


def _is_here(item: Download, root: Path, record: Record) -> bool:
    """Whether what a download brought lies in the root (what it brought, by the names at its top)."""
    places = record.get(item.file, {}).get("places", [])
    return bool(places) and all((root / place).exists() for place in places)


def _assert_ours(manifest: Manifest, root: Path) -> None:
    if root.exists() and not (root.is_dir() and ((root / _RECORD).is_file() or not any(root.iterdir()))):
        raise UserError(f"{root} holds other things than {manifest.name}: give a new or an empty folder")


def _get(
    manifest: Manifest,
    root: Path,
    work: Path,
    items: Sequence[Download],
    keep_archives: bool,
    consent: Callable[[str], bool],
    say: Callable[[str], None],
) -> None:
    """Download and unpack `items` in the work folder, then move them in."""
    record = _read_record(root)
    sizes = [remote_size(item.url) or item.size for item in items]
    _ask(manifest, items, sizes, consent, say)
    begun = [item for item in manifest.downloads if item in items or _done(work, item).is_file()]
    try:
        (work / "files").mkdir(parents=True, exist_ok=True)
        _assert_space(work, items, sizes)
        new = {item.file: _stage(item, root, work, record.get(item.file), keep_archives) for item in begun}
        _write_record(work / "tree", new)
        (work / "tree").rename(work / "ready")
    except OSError as error:
        raise UserError(f"cannot write in {work}: {error}") from error
    _finish(work, root)


def _finish(work: Path, root: Path) -> None:
    try:
        _move_in(work / "ready", root)
    except OSError as error:
        raise UserError(f"cannot move {work / 'ready'} to {root} ({error}): mend that and run it again") from error
    shutil.rmtree(work, ignore_errors=True)


def _ask(
    manifest: Manifest,
    items: Sequence[Download],
    sizes: Sequence[int | None],
    consent: Callable[[str], bool],
    say: Callable[[str], None],
) -> None:
    say(f"{manifest.title}, version {manifest.version}\nlicence: {manifest.licence}\ncite: {manifest.citation}")
    for item, size in zip(items, sizes, strict=True):
        say(f"  {item.file}  {_megabytes(size)}  {item.url}")
    total = _megabytes(sum(size or 0 for size in sizes))
    unknown = f" and {sizes.count(None)} files of unknown size" if None in sizes else ""
    if not consent(f"Download {total}{unknown} under this licence?"):
        raise UserError(f"{manifest.name} was not fetched: the licence was not accepted")


def _megabytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size / 1e6:,.1f} MB"


def _assert_space(work: Path, items: Sequence[Download], sizes: Sequence[int | None]) -> None:
    """For what comes and what it unpacks to; images hardly shrink."""
    have = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    known = [(size or 0, item.unpacked or size or 0) for item, size in zip(items, sizes, strict=True)]
    need, free = sum(map(sum, known)) - have, shutil.disk_usage(work).free
    if need > free:
        raise UserError(f"{work.parent} has {_megabytes(free)} free, but {_megabytes(need)} are needed: make room")


def _done(work: Path, item: Download) -> Path:
    """The record of a download whose content is in the tree."""
    return work / "files" / f"{item.file}.json"


def _stage(item: Download, root: Path, work: Path, before: dict[str, Any] | None, keep: bool) -> dict[str, Any]:
    """Bring one download into `work`/tree; returns its entry in the record. What an earlier run did is taken over."""
    archive, tree = work / "files" / item.file, work / "tree"
    if not (done := _done(work, item)).is_file():
        kept = root / _ARCHIVES / item.file
        if before and kept.is_file() and file_hash(kept, "sha256") == before["sha256"]:
            shutil.copyfile(kept, archive)
        else:
            download(item.url, archive)
        entry = {"url": item.url, "size": archive.stat().st_size, "sha256": file_hash(archive, "sha256")}
        _verify(item, archive, entry, before)
        unpacked = archive.with_name(f"{item.file}.unpacked")
        try:
            places = _unpack(item, archive, unpacked)
        except UserError:
            archive.unlink()  # the next run downloads it anew
            shutil.rmtree(unpacked, ignore_errors=True)
            raise
        _merge(unpacked, tree / item.into, item)
        entry |= {"date": datetime.now(UTC).date().isoformat(), "places": places}
        _write_json(done, entry)
    if keep and archive.exists():
        (tree / _ARCHIVES).mkdir(parents=True, exist_ok=True)
        archive.replace(tree / _ARCHIVES / item.file)
    archive.unlink(missing_ok=True)
    return json.loads(done.read_text(encoding="utf-8"))


def _unpack(item: Download, archive: Path, unpacked: Path) -> list[str]:
    """Fill the new folder `unpacked`; returns where the root will have it, by the names at its top."""
    shutil.rmtree(unpacked, ignore_errors=True)  # of a killed run
    if is_archive(item.file):
        unpack(archive, unpacked, Limits(size=item.unpacked), item.prefix)
    else:
        unpacked.mkdir()
        shutil.copyfile(archive, unpacked / item.file)
    names = sorted(path.name for path in unpacked.iterdir())
    if any(name.casefold() == _OURS for name in names):
        raise UserError(f"{item.file} is not to be trusted: it holds {_OURS}, which is the record's own place")
    return [(Path(item.into) / name).as_posix() for name in names]


def _verify(item: Download, archive: Path, entry: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Against the owner's checksum, else against what the first download was."""
    if item.checksum:
        kind, wanted = item.checksum.split(":")
        if (found := file_hash(archive, kind)) != wanted:
            archive.unlink()
            raise UserError(f"{item.url} does not have the owner's checksum ({kind} {found}, not {wanted}): try again")
    elif before and before["sha256"] != entry["sha256"]:
        archive.unlink()
        raise UserError(
            f"{item.url} is not what it was when first fetched (sha256 {entry['sha256']}, not {before['sha256']}): "
            f"the owner has changed it; fetch it into a new folder"
        )


def _merge(source: Path, target: Path, item: Download) -> None:
    """Move what one archive held into the tree of all, where a killed run may have moved some of it before."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and not place.is_file():
            _merge(path, place, item)
        elif place.exists() and not _same(path, place):
            raise UserError(f"{item.file} and another download both hold {path.name}, and not the same")
        else:
            path.replace(place)
    source.rmdir()


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _move_in(ready: Path, root: Path) -> None:
    """By one renaming where the root is new; file by file into an earlier fetch, with the record last."""
    root.parent.mkdir(parents=True, exist_ok=True)
    if not (root / _RECORD).is_file():
        if root.is_dir():
            root.rmdir()  # it is empty, or this fails
        ready.rename(root)
        return
    record = _read_record(root) | _read_record(ready)
    files = [path for path in sorted(ready.rglob("*")) if path.is_file() and path != ready / _RECORD]
    places = [root / path.relative_to(ready) for path in files]
    for path, place in zip(files, places, strict=True):
        if place.exists() and not _same(path, place):
            raise UserError(f"{place} is in the way of the file of that name that was fetched: move it away")
    for path, place in zip(files, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    _write_record(root, record)


def _write_record(folder: Path, record: Record) -> None:
    (folder / _OURS).mkdir(parents=True, exist_ok=True)
    _write_json(folder / _RECORD, record)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    new.replace(path)
