"""The twin of COVIDx: images of several collections in train/ and test/, and a list of each."""

from pathlib import Path

import numpy as np

from nbcore.data.manifest import Manifest
from nbcore.data.phantom import world
from nbcore.data.phantom.twins.cast import Cast, recorded, save_pictures
from nbcore.errors import UsageError

_SOURCES = ("cohen", "rsna", "bimcv")


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """A line an image: patient, file, class, source; COVID-19 before other pneumonia. Sources count from 1 each."""
    layout = manifest.layout
    if manifest.classes != ("normal", "pneumonia", "COVID-19"):
        raise UsageError(f"{manifest.name}: the phantom writes the classes normal, pneumonia and COVID-19 only")
    present, noise = world.labels(cast.studies), manifest.twin.label_noise
    covid, pneumonia = (recorded(present[name], noise, cast.random) == 1 for name in ("covid", "pneumonia"))
    classes = np.where(covid, "COVID-19", np.where(pneumonia, "pneumonia", "normal"))
    lists: dict[str, list[str]] = {"train": [], "test": []}
    places = []
    for number, members in enumerate(cast.patients().values()):
        split = "test" if cast.split[members[0]] == "test" else "train"
        patient, source = number // len(_SOURCES) + 1, _SOURCES[number % len(_SOURCES)]
        for i in members:
            name = f"{cast.random.integers(2**60):015x}" + cast.random.choice([".png", ".jpg", ".jpeg"])
            lists[split].append(f"{patient} {name} {classes[i]} {source}")
            places.append((folder / layout.folders[split] / name, cast.studies[i]))
    save_pictures(places, cast.size)
    for split, file in layout.editions[0].items():
        (folder / file).write_text("\n".join(lists[split]) + "\n", encoding="utf-8")
