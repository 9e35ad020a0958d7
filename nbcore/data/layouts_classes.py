"""The layouts of the data sets whose images have one class each; see `nbcore.data.layouts`."""

from typing import Annotated, Literal

from pydantic import Field

from nbcore.data.strict import Strict


class NlmTbLayout(Strict):
    """The tuberculosis sets of the NLM: `images`/<prefix>_<number>_<digit>.png, and a clinical reading of each."""

    reader: Literal["nlm-tb"]
    folders: tuple[str, ...]  # the data set's own folder under the root, in order of preference; "." the root itself
    images: str
    readings: str  # <the image's name>.txt; it may say that the patient is another image's
    prefix: str  # of the file names; their digit is the class's position in `classes`

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{self.images}" for folder in self.folders]


class IdridColumns(Strict):
    image: str
    grade: str  # the class's position in `classes`


class IdridLayout(Strict):
    """IDRiD, Disease Grading: a folder and a table a split, whose image names count from 1 in each split."""

    reader: Literal["idrid"]
    folders: tuple[str, ...]  # the data set's own folder under the root, in order of preference; "." the root itself
    images: dict[Literal["train", "test"], str]
    tables: dict[Literal["train", "test"], str]
    suffix: str
    columns: IdridColumns

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{table}" for folder in self.folders for table in self.tables.values()]


class Isic2018Columns(Strict):
    image: str
    lesion: str  # of the lesion groupings


class Isic2018Layout(Strict):
    """ISIC 2018 Task 3: a folder and a table a split, with a column a class, and the lesions of the training images."""

    reader: Literal["isic2018"]
    images: dict[Literal["train", "valid", "test"], str]
    tables: dict[Literal["train", "valid", "test"], tuple[str, ...]]  # alternative names of each table, in order
    groupings: tuple[str, ...]  # where the lesion groupings may lie, in order; without them an image is a lesion
    suffix: str
    columns: Isic2018Columns

    @property
    def marks(self) -> list[str]:
        return list(self.tables["train"])


class Derm7ptColumns(Strict):
    case: str
    diagnosis: str


class Derm7ptLayout(Strict):
    """Derm7pt: a table of the cases, a column of file names a view, and a list of positions in the table a split."""

    reader: Literal["derm7pt"]
    folders: tuple[str, ...]  # the data set's own folder under the root, in order of preference; "." the root itself
    images: str
    table: str
    splits: dict[Literal["train", "valid", "test"], str]
    index: str  # the column of a split's list, counted from 0
    columns: Derm7ptColumns
    views: dict[str, str]  # column of the file names -> view
    diagnoses: dict[str, tuple[str, ...]]  # class -> the diagnoses, in small letters, that belong to it

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{self.table}" for folder in self.folders]


class MraMidasColumns(Strict):
    patient: str
    image: str
    control: str
    distance: str
    location: str
    pathology: str


class MraMidasLayout(Strict):
    """MRA-MIDAS: one table with a row a photograph, and the files, whose suffixes may differ from the table's."""

    reader: Literal["mra-midas"]
    table: str
    workbook: str  # the same as a workbook, which is not read
    folders: tuple[str, ...]  # where the files may lie, in order of preference; "." the root itself
    columns: MraMidasColumns
    control: str  # in that column: skin without a lesion
    views: dict[str, str]  # distance -> view
    other_distances: tuple[str, ...]  # left out
    pathologies: dict[str, tuple[str, ...]]  # class -> the entries that mean it; the others are left out

    @property
    def marks(self) -> list[str]:
        return [self.table, f"{self.table}.gz", self.workbook]


class DmidLayout(Strict):
    """DMID: `images`/**/IMGNNN`suffix`, a list of words a line in the style of MIAS, and masks of the same names."""

    reader: Literal["dmid"]
    tables: tuple[str, ...]  # where the list may lie, in order
    columns: tuple[Literal["image", "view", "tissue", "abnormality", "class"], ...]  # of the list, as far as they go
    name_pattern: str  # of an image; lines that begin otherwise are remarks
    normal: str  # the abnormality of a line that may be without a class
    normal_class: str  # the class's letter of such a line
    classes: dict[str, str]  # the list's letter -> class, the worst first
    images: str
    masks: str
    suffix: str

    @property
    def marks(self) -> list[str]:
        return list(self.tables)


class BusiLayout(Strict):
    """BUSI: a folder a class with "<class> (N)`suffix`" and its masks, and maybe a published split."""

    reader: Literal["busi"]
    folders: tuple[str, ...]  # the data set's own folder under the root, in order of preference; "." the root itself
    classes: dict[str, tuple[str, ...]]  # class -> alternative names of its folder
    normal: str  # the class without lesions
    suffix: str
    mask_pattern: str  # the end of a mask's name; what is before it is the image's
    splits: tuple[str, ...]  # where the published split may lie, in order

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{name}" for folder in self.folders for names in self.classes.values() for name in names]


class CcCciiLayout(Strict):
    """CC-CCII: <class folder>/<patient>/<scan>/<slice>, of which a few slices of each scan are taken."""

    reader: Literal["cc-ccii"]
    # class -> glob patterns of its folders; the first is the folder's own name
    class_folders: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]]
    suffixes: tuple[str, ...]
    slices_per_scan: int = Field(gt=0)  # evenly spaced in the middle half of a scan, or its middle so many

    @property
    def marks(self) -> list[str]:
        return [patterns[0] for patterns in self.class_folders.values()]
