"""What the published accuracies of MedUnA can be: how many of how many images, and whether that is exactly one class.

An accuracy that equals the share of a class is what a model has that gives every image this one answer. It does not
prove such a collapse, but several of them in one table make it likely.
"""

from dataclasses import dataclass

import pandas as pd

_HALF_DIGIT = 0.005  # accuracies are printed in % with two decimals


@dataclass(frozen=True)
class _Part:
    """Images of each class in a part of a data set; the classes' names as in its manifest."""

    name: str
    classes: dict[str, int]

    @property
    def images(self) -> int:
        return sum(self.classes.values())

    def right(self, accuracy: float) -> int | None:
        """The number of images that is printed as `accuracy` (%), None if there is none."""
        right = round(accuracy * self.images / 100)
        return right if abs(100 * right / self.images - accuracy) <= _HALF_DIGIT + 1e-9 else None

    def only(self, right: int) -> str | None:
        """The class with exactly that many images."""
        return next((name for name, count in self.classes.items() if count == right), None)


def _grades(*counts: int) -> dict[str, int]:
    return dict(zip(["Normal", *(f"Stage_{grade}_Retinopathy" for grade in range(1, 5))], counts, strict=True))


# Sources: Kermany (Mendeley rscbjbr9sj, v2), IDRiD (B. Disease Grading), ISIC 2018 (task 3), the TB sets (NLM).
# Which TB images the authors tested on is not public. How many follows from Tables 1 and 3: 42.86 and 57.14, 48.28 and
# 51.72 recur and complement each other, as 57 + 76 of 133 and 14 + 15 of 29; which of the two classes is TB does not.
# ISIC as a whole is left out: of its 11,720 images some number gives every percentage of two decimals.
_PARTS = {
    "S-TB": [
        _Part("test", {"the smaller class": 57, "the larger class": 76}),
        _Part("all", {"NORMAL": 326, "TB": 336}),
    ],
    "M-TB": [
        _Part("test", {"the smaller class": 14, "the larger class": 15}),
        _Part("all", {"NORMAL": 80, "TB": 58}),
    ],
    "Kermany": [
        _Part("test", {"NORMAL": 234, "PNEUMONIA": 390}),
        _Part("all", {"NORMAL": 1583, "PNEUMONIA": 4273}),
    ],
    "IDRID": [_Part("test", _grades(34, 5, 32, 19, 13)), _Part("all", _grades(168, 25, 168, 93, 62))],
    "ISIC": [_Part("test", {"AKIEC": 43, "BCC": 93, "BKL": 217, "DF": 44, "MEL": 171, "NV": 909, "VASC": 35})],
}


def single_class_table(published: pd.DataFrame) -> pd.DataFrame:
    """Each published accuracy as k of n images: of the test set or, if that is impossible, of the whole data set.

    Args:
        published: `results.published("meduna")`.

    Returns:
        A row for each accuracy of a data set: table, dataset, method, setting (backbone or language model), accuracy
        (%), part ("test" or "all"), n and k, and verdict: "only CLASS" if k is the number of that class's images, else
        "k of n"; or "no k of n", with n that of the test set and k missing.
    """
    keys = ["table", "dataset", "method", "setting"]
    rows = published[(published["metric"] == "ACC (%)") & published["dataset"].isin(_PARTS)]
    table = rows[[*keys, "value"]].rename(columns={"value": "accuracy"}).reset_index(drop=True)
    readings = [_reading(dataset, accuracy) for dataset, accuracy in zip(table["dataset"], table["accuracy"])]
    return table.join(pd.DataFrame(readings, columns=["part", "n", "k", "verdict"])).astype({"k": "Int64"})


def _reading(dataset: str, accuracy: float) -> tuple[str, int, int | None, str]:
    """Part, n, k and verdict of one accuracy."""
    test = _PARTS[dataset][0]
    for part in _PARTS[dataset]:
        right = part.right(accuracy)
        if right is not None:
            only = part.only(right)
            return part.name, part.images, right, f"only {only}" if only else f"{right} of {part.images}"
    return test.name, test.images, None, f"no k of {test.images}"
