"""One run of the tour: what each data set looks like, and what is known of it."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from nbcore.analysis import tour_figures
from nbcore.analysis.lettering import NO_CLASS
from nbcore.analysis.tour_figures import PIXELS, Picture
from nbcore.data import Samples, load, load_manifest
from nbcore.data.images import image_size, read_image
from nbcore.data.manifest import SplitRule
from nbcore.data.masks import has_outline, rle_decode
from nbcore.data.readers import Reading, read_present
from nbcore.data.samples import RLE, SPLITS
from nbcore.errors import UserError
from nbcore.notebook_settings import KMatSettings, TourSettings
from nbcore.protection import NOT_SHOWN
from nbcore.study_base import StudyBase

GROUPS = {
    "chest": "Chest radiographs",
    "ct": "Chest CT",
    "fundus": "Photographs of the fundus",
    "skin": "Skin: dermoscopy and clinical photographs",
    "breast": "Breast: mammography and ultrasound",
}
LANGUAGES = {"en": "English", "es": "Spanish"}
ANY = "any"  # class: whatever it is
_SEEN = 300  # images of a set whose headers are read for their size
_HASHED = 20_000  # images of a set of which duplicates are looked for; `data check` has no limit
_BESIDE, _LARGE = 2 * PIXELS, 640  # pixels of the longer side beside a report, and alone
_CLASSES = 8  # of an image, in its title


class TourStudy(StudyBase):
    """The data sets that are here, as tables and figures. Of credentialed ones only numbers are told."""

    settings: TourSettings

    @cached_property
    def absent(self) -> dict[str, str]:
        """Data set -> why it is not shown."""
        found = {}
        for name in self.settings.data_sets:
            if self.settings.source == "twin":
                continue
            if not self.root(name).is_dir():
                found[name] = "absent"
                continue
            try:
                self.samples(name)
            except UserError:  # its sentence may name a patient
                found[name] = "unreadable: see data check"
        return found

    @property
    def present(self) -> list[str]:
        return [name for name in self.settings.data_sets if name not in self.absent]

    def root(self, name: str) -> Path:
        """Where a data set lies: a part of another lies in that one's folder."""
        part = load_manifest(name).part_of
        whole = part.data_set if part else name
        return self._twin(whole) if self.settings.source == "twin" else self.data_root / whole

    def samples(self, name: str) -> Samples:
        if name not in self._samples:
            self._samples[name] = load(name, self.root(name))
        return self._samples[name]

    def notes(self) -> list[str]:
        """What the reader of this run must know."""
        if self.settings.source == "twin":
            return ["All pictures and reports are phantoms: they show how the data are organised, not what disease is."]
        notes = [f"Real data: {len(self.present)} of {len(self.settings.data_sets)} data sets are here."]
        hidden = [name for name in self.present if self.guard.hides(self.samples(name))]
        return notes + [f"{', '.join(hidden)}: {NOT_SHOWN}"] * bool(hidden)

    # --- tables

    def overview(self) -> pd.DataFrame:
        """All data sets: what they show, access, licence, and what is here of what a complete copy holds."""
        rows = []
        for name in self.settings.data_sets:
            manifest, here = load_manifest(name), None if name in self.absent else self.samples(name).table
            full = manifest.counts
            rows.append(
                {
                    "data set": name,
                    "shows": ", ".join(dict.fromkeys(manifest.views.values())) or manifest.modality,
                    "access": manifest.access,
                    "licence": re.split(r"[;(,]", manifest.licence)[0].strip(),
                    "here": self.absent.get(name, "twin" if self.settings.source == "twin" else "real"),
                    "images": "" if here is None else f"{len(here):,}",
                    "of": _count(full.images),
                    "patients": "" if here is None else f"{here['patient'].nunique():,}",
                    "of ": _count(full.patients),
                    "classes": len(manifest.classes),
                    "papers": ", ".join(dict.fromkeys(use.paper for use in manifest.used_by)),
                }
            )
        return pd.DataFrame(rows).set_index("data set")

    def split_table(self) -> pd.DataFrame:
        """Images of each split here and in a complete copy, where the split comes from, and whether images repeat."""
        rows = []
        for name in self.present:
            manifest, table, reading = load_manifest(name), self.samples(name).table, self._reading(name)
            full = manifest.counts.splits.get("default", {})
            row = {"data set": name}
            for split in SPLITS:
                here = int((table["split"] == split).sum())
                row[split] = f"{here:,} of {_count(full[split])}" if split in full else f"{here:,}"
            row |= {split + " is": _origin(reading, manifest.split, split, row) for split in ("valid", "test")}
            row["images a patient"] = round(len(table) / table["patient"].nunique(), 2)
            row["duplicates"] = self._duplicates(name)
            rows.append(row)
        return pd.DataFrame(rows).set_index("data set")

    def _reading(self, name: str) -> Reading:
        return read_present(load_manifest(name), self.root(name))

    def _duplicates(self, name: str) -> str:
        samples = self.samples(name)
        if len(samples) > _HASHED:
            return "see data check"
        return str(int(pd.Series(samples.contents)[~samples.table["image"].duplicated()].duplicated().sum()))

    def picture_table(self) -> pd.DataFrame:
        """Files and pixels of each data set here, by the headers of at most a few hundred images."""
        rows = []
        for name in self.present:
            samples = self.samples(name)
            paths = samples.subset(_evenly(len(samples), _SEEN)).image_paths()
            height, width = np.array([image_size(path) for path in paths]).T
            kinds = sorted({path.suffix.lower().removeprefix(".") for path in paths})
            views = samples.table["view"].value_counts()
            told = ", ".join(f"{view or 'not told'} {count:,}" for view, count in views.items())
            row = {"files": ", ".join(kinds), "width": _range(width), "height": _range(height), "views": told}
            rows.append({"data set": name, **row, "missing": samples.missing})
        return pd.DataFrame(rows).set_index("data set")

    def outline_table(self) -> pd.DataFrame:
        """How each data set with masks or boxes tells them, and of how many images."""
        rows = []
        for name in self.outlined:
            table = self.samples(name).table
            told = table.loc[table["mask"] != "", "mask"]
            boxes = table.loc[table["boxes"].map(len) > 0, "boxes"].map(len)
            in_runs = told.str.startswith(RLE).sum()
            row = {"masks as run lengths": in_runs, "masks as pictures": len(told) - in_runs}
            row |= {"images with boxes": len(boxes), "boxes": int(boxes.sum())}
            what = getattr(load_manifest(name).layout, "outlined", "")
            rows.append({"data set": name, "outlined": what or "whatever it is labelled with", **row, "of": len(table)})
        return pd.DataFrame(rows).set_index("data set")

    def balance(self) -> pd.DataFrame:
        """Share of the images of each split that are positive of each class: dataset, class, split, share (%)."""
        rows = []
        for name in self.present:
            samples = self.samples(name)
            for split in SPLITS:
                shares = samples.split(split).labels().mean(axis=0) if (samples.table["split"] == split).any() else ()
                rows += [(name, label, split, 100 * float(share)) for label, share in zip(samples.classes, shares)]
        return pd.DataFrame(rows, columns=["dataset", "class", "split", "share"])

    # --- pictures

    def groups(self) -> dict[str, list[str]]:
        """What a group of data sets shows -> those of them that are here."""
        found = {title: [n for n in self.present if load_manifest(n).twin.world == w] for w, title in GROUPS.items()}
        return {title: names for title, names in found.items() if names}

    def pictures(self, names: Sequence[str]) -> dict[str, list[Picture]]:
        """Some pictures of each of these data sets, and of each of its modalities, with as many classes as may be."""
        rows = {}
        for name in names:
            samples, views = self.samples(name), load_manifest(name).views
            for view in views or [""]:
                own = samples.subset(samples.table["view"] == view) if views else samples
                if len(own):
                    chosen = self._varied(own, self.settings.images_each)
                    rows[f"{name}/{view}" if views else name] = [self.picture(own, row) for row in chosen]
        return rows

    def shown(self, name: str) -> Samples:
        """The images of a data set that the pages of pictures show."""
        samples = self.samples(name)
        return samples.subset(self._varied(samples, self.settings.images_each))

    def _varied(self, samples: Samples, count: int) -> list[int]:
        """Rows that show one class after the other, chosen by the study's seed; labels in the order of the classes."""
        order = np.random.default_rng(self.seeds[0]).permutation(len(samples))
        positive = samples.labels()[order] == 1  # (n, C)
        queues = [order[column].tolist() for column in positive.T if column.any()]
        found: dict[int, None] = {}
        while len(found) < count and any(queues):
            for queue in queues:
                while queue and queue[0] in found:
                    queue.pop(0)
                if queue and len(found) < count:
                    found[queue.pop(0)] = None
        found |= dict.fromkeys(order.tolist()) if len(found) < count else {}
        return list(found)[:count]

    def picture(self, samples: Samples, row: int, side: int = PIXELS) -> Picture:
        """An image of so many pixels with its positive labels and outlines; a black one, no word, of private data."""
        path, told = samples.image_paths()[row], samples.table.iloc[row]
        one = samples.subset([row])
        if self.guard.hides(one):
            return Picture(np.zeros((8, 8, 3), np.uint8), (8, 8), NOT_SHOWN)
        size = image_size(path)
        pixels = Image.fromarray(read_image(path, side, colour=True))
        scale = side / max(pixels.size)
        pixels = pixels.resize([max(1, round(scale * each)) for each in pixels.size], Image.Resampling.LANCZOS)
        title = ", ".join(_positive(one)[:_CLASSES]) or NO_CLASS
        mask = _mask(samples.root, told["mask"], size) if told["mask"] else None
        return Picture(np.asarray(pixels), size, title, mask, tuple(map(tuple, told["boxes"])))

    @property
    def outlined(self) -> list[str]:
        """The data sets here with masks or boxes."""
        return [name for name in self.present if has_outline(self.samples(name)).any()]

    def outlined_pictures(self) -> dict[str, list[Picture]]:
        """Some outlined pictures of each data set that has them."""
        rows = {}
        for name in self.outlined:
            samples = self.samples(name)
            samples = samples.subset(has_outline(samples))
            rows[name] = [self.picture(samples, row) for row in self._varied(samples, self.settings.images_each)]
        return rows

    def pairs(self) -> dict[str, dict[str, dict[str, list[Picture]]]]:
        """K-MaT's pairs of modalities that are here: pair -> side -> class -> some pictures."""
        found = {}
        for title, sides in KMatSettings.model_fields["pairs"].default.items():
            if any(side.partition("/")[0] not in self.present for side in sides.sides):
                continue
            found[title] = {side: self._by_class(side) for side in sides.sides}
        return found

    def _by_class(self, side: str) -> dict[str, list[Picture]]:
        name, _, view = side.partition("/")
        samples = self.samples(name).of_view(view) if view else self.samples(name)
        each, labels = max(1, 6 // len(samples.classes)), samples.labels()
        rows = {label: np.flatnonzero(column == 1)[:each] for label, column in zip(samples.classes, labels.T)}
        return {
            label: [Picture(p.pixels, p.size) for p in (self.picture(samples, int(row)) for row in own)]
            for label, own in rows.items()
        }

    # --- reports

    def _with_reports(self) -> Iterator[tuple[str, Samples]]:
        """The data sets here whose reports may be shown, but for parts of another one."""
        for name in self.present:
            manifest, samples = load_manifest(name), self.samples(name)
            reports = samples.table["report"] != ""
            if manifest.language and not manifest.part_of and reports.any() and not self.guard.hides(samples):
                yield name, samples.subset(reports)

    def report_pages(self, each: int = 3) -> dict[str, list[tuple[Picture, str]]]:
        """Some images with their reports, a column a language; sets of one language take turns."""
        pages: dict[str, list[tuple[Picture, str]]] = {}
        found = list(self._with_reports())
        for code, language in LANGUAGES.items():
            own = [(name, samples) for name, samples in found if load_manifest(name).language == code]
            for turn in range(each if own else 0):
                name, samples = own[turn % len(own)]
                row = self._varied(samples, each)[turn // len(own)]
                picture = self.picture(samples, row, _BESIDE)
                told = Picture(picture.pixels, picture.size, f"{name}: {picture.title}")
                pages.setdefault(language, []).append((told, samples.table["report"].iloc[row]))
        return pages

    def report_lengths(self) -> dict[str, list[int]]:
        """Data set -> words of each report."""
        return {name: samples.table["report"].str.split().str.len().to_list() for name, samples in self._with_reports()}

    def report_texts(self) -> dict[str, list[str]]:
        """Language -> reports."""
        texts: dict[str, list[str]] = {}
        for name, samples in self._with_reports():
            texts.setdefault(LANGUAGES[load_manifest(name).language], []).extend(samples.table["report"])
        return texts

    # --- one image after the other

    def by_title(self) -> dict[str, str]:
        """The data sets here by what the papers' tables call them and their names."""
        return {f"{load_manifest(name).short_title} ({name})": name for name in self.present}

    def splits_of(self, data_set: str) -> list[str]:
        """The splits that a data set has images in."""
        found = set(self.samples(data_set).table["split"])
        return [split for split in SPLITS if split in found]

    def classes_of(self, data_set: str, split: str) -> list[str]:
        """ "any", and the classes that an image of the split is positive of."""
        samples = self.samples(data_set).split(split)
        return [ANY, *(name for name, column in zip(samples.classes, samples.labels().T) if (column == 1).any())]

    def numbers_of(self, data_set: str, split: str, finding: str) -> range:
        """Numbers of the images of a split that are positive of a class."""
        return range(len(self._found(data_set, split, finding)))

    def view(self, data_set: str, split: str, finding: str, number: int, outlines: bool) -> Figure:
        """One image with all that is known of it."""
        samples = self._found(data_set, split, finding).subset([number])
        told = samples.table.iloc[0]
        facts = {"data set": data_set, "split": split}
        if self.guard.hides(samples):
            return tour_figures.view(self.picture(samples, 0), facts, NOT_SHOWN, outlines)
        row = samples.table[[f"label:{name}" for name in samples.classes]].iloc[0].to_numpy(float)
        unsure = [name for name, value in zip(samples.classes, row) if value == -1]
        facts |= {"patient": told["patient"], "study": told["study"], "view": told["view"] or "not told"}
        facts |= {"positive": ", ".join(_positive(samples)) or "none", "uncertain": ", ".join(unsure) or "none"}
        return tour_figures.view(self.picture(samples, 0, _LARGE), facts, told["report"], outlines)

    def _found(self, data_set: str, split: str, finding: str) -> Samples:
        samples = self.samples(data_set).split(split)
        if finding == ANY:
            return samples
        return samples.subset(samples.labels()[:, samples.classes.index(finding)] == 1)


def _positive(one: Samples) -> list[str]:
    """The positive labels of a single image."""
    return [name for name, value in zip(one.classes, one.labels()[0]) if value == 1]


def _mask(root: Path, told: str, size: tuple[int, int]) -> np.ndarray:
    """A mask as the table tells it: bool (H, W), thinned out where it is large."""
    if told.startswith(RLE):
        whole = np.max([rle_decode(code, *size) for code in told.removeprefix(RLE).split(";")], axis=0)
    else:
        whole = read_image(root / told)
    step = max(1, max(size) // _LARGE)
    return whole[::step, ::step] > 0


def _origin(reading: Reading, rule: SplitRule, split: str, row: dict[str, str]) -> str:
    """Where the images of a split were taken from."""
    if row[split].startswith("0"):
        return ""
    if split == "test" and rule.test_list and (reading.samples.root / rule.test_list.file).is_file():
        return "a published list"
    if rule.official and split in reading.official:
        return "the owner's"
    return "drawn once, by patient" if reading.fixed else f"drawn by patient, seed {rule.seed}"


def _count(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _range(values: np.ndarray) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _evenly(total: int, count: int) -> np.ndarray:
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
