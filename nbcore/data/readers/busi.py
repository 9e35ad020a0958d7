"""BUSI: breast ultrasound images sorted into a folder a class, with masks of the lesions beside them."""

import json
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from nbcore.data.images import image_size
from nbcore.data.manifest import Manifest
from nbcore.data.masks import NO_RUNS, read_mask, rle_encode
from nbcore.data.samples import RLE
from nbcore.data.tables import first_folder, is_file, list_files, readable, tidy
from nbcore.errors import UserError

_PARTS = {"train": "train", "val": "valid", "test": "test"}  # a list's name of a split -> ours


def read(manifest: Manifest, root: Path) -> pd.DataFrame:
    """A row an image; exactly one class is 1.

    The owner names no patients, so each image counts as its own. The mask of an image with several lesions is told in
    run lengths, a normal image has none. Where a published split lies in the root, the images it does not list are
    left out. A copy may lack a class, and masks.
    """
    layout = manifest.layout
    folders = [folder for names in layout.classes.values() for folder in names]
    home = first_folder(root, layout.folders, folders, manifest.name)
    table = pd.DataFrame(
        [row for name in manifest.classes for row in _of_class(manifest, root, home, name)],
        columns=["image", "class", "mask"],
    )
    if table.empty:
        places = " or ".join(dict.fromkeys(f"{home}{folder}" for folder in folders))
        raise UserError(f"{manifest.name}: no {layout.suffix} images under {root}: expected some in {places}")
    table["name"] = table["image"].map(lambda image: PurePosixPath(image).stem + layout.suffix)
    listed = next((root / file for file in layout.splits if is_file(root / file)), None)
    table = table.assign(split="train") if listed is None else _as_listed(table, listed, root, home)
    given = table["class"]
    return tidy(
        len(table),
        image=table["image"],
        patient=table["name"],
        study=table["name"],
        split=table["split"],
        mask=table["mask"],
        **{f"label:{name}": given.eq(name).astype(np.float32).where(given != "") for name in manifest.classes},
    )


def _of_class(manifest: Manifest, root: Path, home: str, name: str) -> list[tuple[str, str, str]]:
    """Image, class and mask of each image of a class."""
    layout = manifest.layout
    pattern = re.compile(layout.mask_pattern, re.IGNORECASE)
    images, masks = {}, {}
    for file in sorted(file for folder in layout.classes[name] for file in list_files(root, home + folder)):
        if file.lower().endswith(layout.suffix):
            if found := pattern.search(file):
                masks.setdefault(file[: found.start()], []).append(file)
            else:
                images[file] = file[: -len(layout.suffix)]
    outlined = name != layout.normal
    return [
        (image, name, _told(root, image, masks.get(images[image], [])) if outlined else "")
        for image in _named(manifest, root, name, list(images))
    ]


def _named(manifest: Manifest, root: Path, name: str, images: list[str]) -> list[str]:
    """Those called "<class> (N)", or all of a copy that calls none so; UserError for one called after another class."""
    called = [re.fullmatch(r"(.+) \(\d+\)", PurePosixPath(image).stem) for image in images]
    for image, found in zip(images, called):
        if found and found[1] != name and found[1] in manifest.classes:
            raise UserError(
                f"{manifest.name}: {root / image} is called {found[1]} and lies among the {name} ones: move it to its "
                f"own class, or fetch it again"
            )
    return [image for image, found in zip(images, called) if found and found[1] == name] or images


def _told(root: Path, image: str, masks: list[str]) -> str:
    """The mask column of an image with these files; one that cannot be united with the others is told alone."""
    if len(masks) < 2:
        return "".join(masks)
    codes = []
    for mask in masks:
        with suppress(UserError):  # whoever opens the two is told what is wrong
            if is_file(root / mask) and is_file(root / image):  # a pipe would be waited for
                region = read_mask(root / mask)
                if region.shape == image_size(root / image):
                    codes.append(rle_encode(region))
                    continue
        return mask
    codes = [code for code in codes if code != NO_RUNS]
    return RLE + ";".join(codes) if codes else masks[0]


def _as_listed(table: pd.DataFrame, path: Path, root: Path, home: str) -> pd.DataFrame:
    """The images that a published split lists, in its order; one that is not there keeps its place, without a class."""
    with readable(path):
        lists = json.loads(path.read_text("utf-8-sig"))
    try:
        rows = [(PurePosixPath(image).name, _PARTS[part]) for part, items in lists.items() for image, _, _ in items]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold lists of [path, label, class] named train, val and test: fetch it again"
        ) from error
    if not (known := set(table["name"])) & {name for name, _ in rows}:
        raise UserError(f"{path} lists none of the images under {root / home}: it is the list of another data set")
    table = pd.DataFrame(rows, columns=["name", "split"]).merge(table, on="name", how="left")
    absent = ~table["name"].isin(known)
    table.loc[absent, "image"] = home + table.loc[absent, "name"]
    return table.fillna({"class": "", "mask": ""})
