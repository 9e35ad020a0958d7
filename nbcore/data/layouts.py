"""The layouts a reader can be told of: which folders, files and columns hold what. One model a reader.

Every name that an owner could change (a folder, a CSV, a column) is a field here and a value in the manifest. The
`marks` of a layout are paths of which a root with such data has at least one.

Those of the data sets whose images have one class each, of several modalities, are in `layouts_classes`.
"""

from typing import Annotated, Literal

from pydantic import Field

from nbcore.data.layouts_classes import (
    BusiLayout,
    CcCciiLayout,
    Derm7ptLayout,
    DmidLayout,
    IdridLayout,
    Isic2018Layout,
    MraMidasLayout,
    NlmTbLayout,
)
from nbcore.data.strict import Strict


class MimicCxrColumns(Strict):
    image: str
    patient: str
    study: str
    view: str
    split: str


class MimicCxrLayout(Strict):
    """MIMIC-CXR-JPG: `images`/pXX/pXXXXXXXX/sXXXXXXXX/<image>`suffix`, three tables, and the reports."""

    reader: Literal["mimic-cxr"]
    images: str
    suffix: str
    metadata: str
    split: str
    labels: str
    sectioned: str  # table of sectioned reports; used where it exists
    reports: tuple[str, ...]  # else: folders, in order, that may hold pXX/pXXXXXXXX/sXXXXXXXX.txt
    sections: tuple[str, ...]  # joined in this order to one text
    frontal_views: tuple[str, ...]
    columns: MimicCxrColumns

    @property
    def marks(self) -> list[str]:
        return [self.metadata, f"{self.metadata}.gz"]


class ChexpertColumns(Strict):
    path: str
    projection: str  # frontal or lateral
    view: str  # AP or PA


class ChexpertLayout(Strict):
    """CheXpert: `folder`/{train,valid}.csv whose paths begin with the folder's name, and the images beside them."""

    reader: Literal["chexpert"]
    folders: tuple[str, ...]  # the data set's own folder under the root, in order of preference; "." the root itself
    tables: dict[str, Literal["train", "valid", "test"]]  # file -> the part it plays in the papers
    frontal: str
    patient_pattern: str  # first group: the patient, read off the path
    study_pattern: str
    columns: ChexpertColumns

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{table}" for folder in self.folders for table in self.tables]


class NihColumns(Strict):
    image: str
    findings: str
    patient: str
    view: str


class NihLayout(Strict):
    """NIH ChestX-ray14: one table, boxes, lists of file names, images in `images` or in `image_folders`/images."""

    reader: Literal["nih"]
    tables: tuple[str, ...]  # alternative names of the table, in order
    boxes: str
    train_list: str
    test_list: str
    image_folders: tuple[str, ...]  # glob patterns of the folders that hold the images
    separator: str
    columns: NihColumns

    @property
    def marks(self) -> list[str]:
        return list(self.tables)


class ClassFoldersLayout(Strict):
    """Images sorted into <split>/<class>/ folders; the patient is read off the file name."""

    reader: Literal["class-folders"]
    folders: tuple[str, ...]
    splits: dict[str, Literal["train", "valid", "test"]]  # folder -> split
    class_folders: dict[str, str] = Field(default_factory=dict)  # class -> folder, where it is not named as the class
    suffixes: tuple[str, ...]
    patient_pattern: str  # first group: the patient, read off the file name; where it matches nothing, the name itself

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{split}" for folder in self.folders for split in self.splits]


class CovidColumns(Strict):
    image: str
    folder: str
    patient: str
    finding: str
    view: str
    modality: str
    report: str


class CovidLayout(Strict):
    """COVID-19 image data collection: one table of images of several modalities, with clinical notes."""

    reader: Literal["covid-chestxray"]
    table: str
    modality: str
    frontal_views: dict[str, Literal["PA", "AP", ""]]  # the table's word -> ours
    findings: dict[str, tuple[str, ...]]  # class -> the words of the `finding` column that mean it
    unlabelled: tuple[str, ...]  # findings that say nothing about any class
    columns: CovidColumns

    @property
    def marks(self) -> list[str]:
        return [self.table]


class RsnaColumns(Strict):
    image: str
    box: tuple[str, str, str, str]  # x, y, width, height; empty for an image without any
    target: str


class RsnaLayout(Strict):
    """RSNA Pneumonia Detection Challenge: `images`/<patient>.dcm and one table with a row a box."""

    reader: Literal["rsna"]
    images: str
    table: str
    columns: RsnaColumns

    @property
    def marks(self) -> list[str]:
        return [self.table]


class SiimColumns(Strict):
    image: str
    mask: str  # the owner's heading may have spaces around it


class SiimLayout(Strict):
    """SIIM-ACR Pneumothorax: DICOM files somewhere below `images`, and one table with a run-length code a row."""

    reader: Literal["siim"]
    images: tuple[str, ...]  # folders, all of which are looked through
    tables: tuple[str, ...]  # alternative names of the table, in order
    none: str  # what stands for "no mask", without the spaces around it
    columns: SiimColumns

    @property
    def marks(self) -> list[str]:
        return list(self.tables)


class CovidxLayout(Strict):
    """COVIDx CXR: a folder and a list a split; a line is patient, file, class and source between blanks."""

    reader: Literal["covidx"]
    folders: dict[Literal["train", "valid", "test"], str]
    editions: tuple[dict[Literal["train", "valid", "test"], str], ...]  # lists that belong together, the best first
    others: dict[str, dict[Literal["train", "valid", "test"], str]] = Field(default_factory=dict)  # refused, by name
    classes: dict[str, dict[str, Literal[0, 1]]]  # a line's class -> what it says of each class of ours

    @property
    def marks(self) -> list[str]:
        return [edition["train"] for edition in self.editions]


class ObjectCxrColumns(Strict):
    image: str
    annotation: str


class ObjectCxrLayout(Strict):
    """Object-CXR: a folder and a table a split, with the outlines of the objects of an image in one text."""

    reader: Literal["object-cxr"]
    tables: dict[str, Literal["train", "valid", "test"]]  # file -> the part it plays in the papers
    folders: dict[str, str]  # the same file -> folder of its images
    columns: ObjectCxrColumns

    @property
    def marks(self) -> list[str]:
        return list(self.tables)


class PadchestColumns(Strict):
    image: str
    folder: str  # number of the archive the image is in
    patient: str
    study: str
    view: str
    report: str
    labels: str  # a list in Python's spelling: ['cardiomegaly', 'pleural effusion']


class PadchestLayout(Strict):
    """PadChest: one table with reports and lists of labels; images in folders named by number, or all in one."""

    reader: Literal["padchest"]
    tables: tuple[str, ...]  # alternative names of the table, in order
    frontal_views: dict[str, Literal["PA", "AP", ""]]  # the table's word -> ours
    findings: dict[str, tuple[str, ...]]  # class -> the labels that mean it; where absent, the class's own name
    excluded: tuple[str, ...]  # labels of images that are to be left out
    unlabelled: tuple[str, ...]  # labels beside which a class that is not named is not known to be absent
    columns: PadchestColumns

    @property
    def marks(self) -> list[str]:
        return [name for table in self.tables for name in (table, f"{table}.gz")]


class OpeniColumns(Strict):
    image: str
    projection: str


class OpeniLayout(Strict):
    """Open-i: XML reports, in their archive or unpacked anywhere, that name images, which may lie anywhere, too."""

    reader: Literal["openi"]
    archive: str  # of the reports; used where it exists
    reports: tuple[str, ...]  # folders that may hold them unpacked
    images: str  # folder an image would be in
    suffixes: tuple[str, ...]  # of the images' files; the first is the owner's
    projections: str  # table that tells frontal from lateral images; without it all are read
    frontal: str
    lateral: str
    sections: tuple[str, ...]  # joined in this order to one text
    findings: dict[str, tuple[str, ...]]  # class -> the MeSH headings that mean it; where absent, the class's own name
    unlabelled: tuple[str, ...]  # headings beside which a class that is not named is not known to be absent
    columns: OpeniColumns

    @property
    def marks(self) -> list[str]:
        return [self.archive, *self.reports]


class ChexlocalizeLayout(Strict):
    """CheXlocalize: `folder`/test_labels.csv, the images beside it, and the outlines of ten findings in one JSON."""

    reader: Literal["chexlocalize"]
    folders: tuple[str, ...]  # of the images and labels, under the root, in order of preference; "." the root itself
    table: str
    path: str  # its column with the image's path
    frontal: str  # pattern of the file names of frontal images; first group: the number of the view
    study_pattern: str  # groups: patient and study, read off the path
    outlines: tuple[str, ...]  # where the JSON may lie under the root, in order
    outlined: str  # the class whose outline becomes the mask

    @property
    def marks(self) -> list[str]:
        return [f"{folder}/{self.table}" for folder in self.folders]


Layout = Annotated[
    MimicCxrLayout
    | ChexpertLayout
    | NihLayout
    | ClassFoldersLayout
    | CovidLayout
    | RsnaLayout
    | SiimLayout
    | CovidxLayout
    | ObjectCxrLayout
    | PadchestLayout
    | OpeniLayout
    | ChexlocalizeLayout
    | NlmTbLayout
    | IdridLayout
    | Isic2018Layout
    | Derm7ptLayout
    | MraMidasLayout
    | DmidLayout
    | BusiLayout
    | CcCciiLayout,
    Field(discriminator="reader"),
]
