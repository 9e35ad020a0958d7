"""The twin of Derm7pt: two JPEGs a case, a table of the cases, and a list of each set's positions in it."""

from pathlib import Path

import pandas as pd

from nbcore.data.manifest import Manifest
from nbcore.data.phantom.skin import SkinStudy
from nbcore.data.phantom.twins.cast import Cast, numbers
from nbcore.data.phantom.twins.skin_views import save_views, told

_DIAGNOSES = {  # class of the world -> what the owner may call it
    "AKIEC": ("miscellaneous",),
    "BCC": ("basal cell carcinoma",),
    "BKL": ("seborrheic keratosis",),
    "DF": ("dermatofibroma",),
    "MEL": ("melanoma (in situ)", "melanoma (less than 0.76 mm)", "melanoma (0.76 to 1.5 mm)", "melanoma metastasis"),
    "NV": ("clark nevus", "reed or spitz nevus", "dermal nevus", "blue nevus", "congenital nevus", "combined nevus"),
    "SCC": ("miscellaneous",),
    "VASC": ("vascular lesion",),
}
_SERIES = ("Fal", "Nal", "Nel", "Gbl")  # folders of the images
_PLACES = ("abdomen", "back", "head neck", "lower limbs", "upper limbs", "buttocks")
_UNTOLD = ("pigmentation", "dots_and_globules", "vascular_structures", "level_of_diagnostic_difficulty", "management",
           "notes")  # fmt: skip


def write(manifest: Manifest, folder: Path, cast: Cast) -> None:
    """Files, cases and their order tell nothing; a tenth of the photographs have their suffix in capitals."""
    layout, names, random = manifest.layout, manifest.layout.columns, cast.random
    home = folder / layout.folders[0]
    classes = told(cast, manifest.twin.label_noise)
    order = random.permutation(len(cast.studies)).tolist()
    film = numbers(random, len(order), 100, 100 + 10 * len(order))
    places, rows = {view: [] for view in layout.views.values()}, []
    for case, i in enumerate(order):
        study, series = cast.studies[i], random.choice(_SERIES)
        row = {
            names.case: case + 1,
            names.diagnosis: random.choice(_DIAGNOSES[classes[i]]),
            **_criteria(study),
            "location": random.choice(_PLACES),
            "sex": random.choice(("female", "male")),
            **dict.fromkeys(_UNTOLD, ""),
            "case_id": f"{series}{film[case]}",
        }
        for number, (column, view) in enumerate(layout.views.items()):
            suffix = ".JPG" if random.random() < 0.1 else ".jpg"
            row[column] = f"{series.upper()}/{series}{2 * film[case] + number:04d}{suffix}"
            places[view].append((home / layout.images / row[column], study))
        rows.append(row)
    (home / layout.table).parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(home / layout.table, index=False)
    for split, file in layout.splits.items():
        positions = [case for case, i in enumerate(order) if cast.split[i] == split]
        pd.DataFrame({layout.index: positions}).to_csv(home / file, index=False)
    save_views(places, cast.size)


def _criteria(study: SkinStudy) -> dict[str, str | int]:
    """Some of the seven points of the checklist, and what the finger feels."""
    structures, height = study.structures, study.relief.height
    veil, streaks, regression = structures.blue_white_veil > 0, structures.streaks > 0, structures.regression > 0
    network = "atypical" if structures.atypical_network else "typical" if structures.network else "absent"
    return {
        "seven_point_score": 2 * (network == "atypical") + 2 * veil + streaks + regression,
        "pigment_network": network,
        "streaks": "irregular" if streaks else "absent",
        "regression_structures": "white areas" if regression else "absent",
        "blue_whitish_veil": "present" if veil else "absent",
        "elevation": "flat" if height < 0.3 else "palpable" if height < 1 else "nodular",
    }
