"""Nothing of a patient reaches results/: what is shown passes the guard, what is published has been searched."""

import inspect
import io
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from protection_data import SENTENCE, private_samples

from nbcore import run as runner
from nbcore.data import Samples, join, load
from nbcore.errors import UsageError, UserError
from nbcore.paths import RESULTS, ROOT
from nbcore.protection import NOT_SHOWN, Guard, Keeping, keeping
from nbcore.recorder import HEADLESS, Recorder
from nbcore.settings import load_settings
from nbcore.study import Study
from nbcore.study_alignment import WordMaps
from nbcore.study_kmat import KMatStudy
from nbcore.study_meduna import MedUnaStudy


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def samples(data_root):
    return private_samples(data_root)


# --- samples


def test_what_comes_of_private_samples_is_private(samples, data_root):
    assert samples.private
    for part in (samples.subset([0]), samples.split("train"), samples.of_view("PA"), samples.pairs()):
        assert part.private
    other = replace(samples, name="other", private=False)
    assert join([other, samples]).private
    assert not other.split("train").private
    assert load("mimic-cxr", data_root / "mimic-cxr").private


def test_samples_are_one_line_without_a_row(samples):
    assert repr(samples) == str(samples) == "Samples(mimic-cxr: 40 images, 14 classes, real, private)"
    assert repr(replace(samples, private=False)).endswith("real)")
    assert not hasattr(samples, "_repr_html_")


# --- the guard


def test_the_guard_hides_private_samples_only(samples):
    pictures, table = np.full((2, 3, 3), 7, np.uint8), samples.table[["patient", "boxes", "report"]]
    guard, texts = Guard(), ["a report", "another"]
    assert guard.pictures(samples, pictures).tolist() == np.zeros((2, 3, 3)).tolist()
    assert guard.sentences(samples, texts) == [NOT_SHOWN]
    assert guard.rows(samples, texts) == []
    shown = guard.table(samples, table)
    assert shown.to_numpy().tolist() == [[table["patient"].nunique(), 1, table["report"].nunique()]]
    for guard, own in ((Guard(allow=True), samples), (Guard(), replace(samples, private=False))):
        assert guard.pictures(own, pictures) is pictures
        assert guard.sentences(own, texts) == guard.rows(own, texts) == texts
        assert guard.table(own, table) is table


@pytest.mark.parametrize("study", [Study, MedUnaStudy, KMatStudy])
def test_whatever_a_study_draws_passes_the_guard(study):
    """Methods that give figures or maps over pictures, and the few that give texts of single images."""
    shows = {"readable_reports", "zero_shot_example", "tokenisation", "gallery", "word_maps", "term_maps"}
    for name, method in inspect.getmembers(study, inspect.isfunction):
        gives = method.__annotations__.get("return")
        if name in shows or (gives in (Figure, WordMaps) and not name.startswith("_")):
            source = inspect.getsource(method)
            assert "self.guard." in source or "self._shown(" in source, name


def test_a_study_shows_nothing_of_private_data(samples, data_root, tmp_path):
    study = open_study(data_root, tmp_path)
    figure = study.gallery("mimic-cxr", 3)
    assert not any(image.get_array().any() for axis in figure.axes for image in axis.images)
    assert {axis.get_title().replace("\n", " ") for axis in figure.axes} <= {"", NOT_SHOWN}
    plt.close(figure)
    assert study.readable_reports(2) == [NOT_SHOWN]
    assert study.cache_root == data_root
    assert study.recorder("t").directory.is_relative_to(data_root)
    assert list(tmp_path.iterdir()) == []


def test_patients_are_shown_in_a_private_folder_only(samples, data_root, tmp_path):
    told = r"allow_patient_data .* a folder of the project.* name a private folder elsewhere with --output-root DIR\.$"
    for place in (RESULTS / "mine", RESULTS, ROOT, ROOT / "docs", ROOT / "notebooks", ROOT / "docs" / ".." / "x"):
        with pytest.raises(UsageError, match=told):
            open_study(data_root, place, allow_patient_data=True)
    with pytest.raises(UsageError, match="allow_patient_data"):
        runner.run(
            "mflag",
            profile="smoke",
            seed=0,
            data_root=data_root,
            output_root=RESULTS,
            overrides={"source": "real", "allow_patient_data": True},
        )
    study = open_study(data_root, tmp_path, allow_patient_data=True)
    assert study.readable_reports(2) != [NOT_SHOWN]
    figure = study.gallery("mimic-cxr", 3)
    assert all(image.get_array().any() for axis in figure.axes for image in axis.images)
    plt.close(figure)
    assert study.keeping == Keeping(tmp_path, {})


def open_study(data_root: Path, output_root: Path, **changes) -> Study:
    return Study.open(
        "mflag",
        profile="smoke",
        seed=0,
        data_root=str(data_root),
        output_root=str(output_root),
        overrides={"source": "real", "threads": 1, **changes},
    )


def test_runs_on_twins_are_kept_where_they_were(tmp_path):
    settings = load_settings("mflag", "smoke", {})
    assert keeping(settings, None, tmp_path) == Keeping(tmp_path, {})


# --- publication


@pytest.fixture
def record(samples, data_root, tmp_path, monkeypatch):
    """Finish an interactive run on the private data, after `fill` has added to it."""
    monkeypatch.delenv(HEADLESS, raising=False)

    def finished(fill=lambda recorder: None) -> Path:
        recorder = Recorder(
            "mflag",
            "M-FLAG",
            profile="smoke",
            config={},
            seeds=[0],
            source="real",
            output_root=tmp_path,
            command="c",
            keeping=Keeping(data_root / "results", {"mimic-cxr": samples.root}),
        )
        recorder.data(samples)
        recorder.row([61.25], table="Table 2", method="M-FLAG", dataset="NIH", setting="1%", metric="AUC (%)")
        fill(recorder)
        recorder.finish()
        return tmp_path / "smoke" / "mflag"

    return finished


def test_a_run_without_patients_is_published(record, data_root):
    folder = record()
    assert (folder / "tables" / "table_2.csv").is_file()
    assert not (data_root / "results" / "smoke" / ".mflag.partial").exists()
    assert record() == folder
    assert [path.name for path in folder.parent.iterdir()] == ["mflag"]


def drawn(samples: Samples, title: str = "") -> Figure:
    figure, axis = plt.subplots()
    axis.imshow(plt.imread(io.BytesIO(samples.image_paths()[2].read_bytes()), format="jpg"), cmap="gray")
    axis.set_title(title)
    return figure


KEYS = {"table": "Table 2", "dataset": "NIH", "setting": "1%", "metric": "AUC (%)"}
LEAKS = {
    "note": ("sentence", lambda recorder, samples: recorder.note(f"for example: {SENTENCE}")),
    "row": ("patient", lambda recorder, samples: recorder.row([1], method=samples.table["patient"].iloc[0], **KEYS)),
    "caption": ("study", lambda recorder, samples: recorder.figure(plt.figure(), "a", samples.table["study"].iloc[1])),
    "title": ("sentence", lambda recorder, samples: recorder.figure(plt.figure().suptitle(SENTENCE).figure, "a", "")),
    "file": ("patient", lambda recorder, samples: recorder.figure(plt.figure(), samples.table["patient"].iloc[3], "")),
    "image": ("image", lambda recorder, samples: recorder.figure(drawn(samples), "a", "")),
    "link": (
        "a link",
        lambda recorder, samples: (recorder.directory / "d").symlink_to(samples.root),
    ),
    "array": ("cannot be searched", lambda recorder, samples: np.save(recorder.directory / "a.npy", [1])),
    "index": (
        "patient",
        lambda recorder, samples: samples.table.groupby("patient").size().to_csv(recorder.directory / "counts.csv"),
    ),
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_run_with_something_of_a_patient_is_refused(record, samples, data_root, tmp_path, way):
    kind, leak = LEAKS[way]
    published = record()
    before = {path: path.read_bytes() for path in published.rglob("*") if path.is_file()}
    plt.rcParams["svg.fonttype"] = "none"
    with pytest.raises(UserError, match=kind) as error:
        record(lambda recorder: leak(recorder, samples))
    plt.close("all")
    said = str(error.value)
    assert "\n" not in said
    assert SENTENCE not in said
    assert not any(patient in said for patient in samples.table["patient"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert (data_root / "results" / "smoke" / "mflag.refused" / "record.json").is_file()


# --- whole runs

PARAMETERS = "profile = 'smoke'\nseed = 0\ndata_root = None\noutput_root = None\noverrides = {}"
STUDY = """
import matplotlib.pyplot as plt
from nbcore.study import Study
study = Study.open("mflag", profile=profile, seed=seed, data_root=data_root, output_root=output_root,
                   overrides=overrides)
recorder = study.recorder("M-FLAG")
samples = study.samples("mimic-cxr")
"""


@pytest.fixture
def execute(data_root, samples, tmp_path, monkeypatch):
    """Run a notebook of these cells on the private data in place of mflag's."""
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)

    def run(*cells: str) -> Path:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (PARAMETERS, *cells)])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(notebook, tmp_path / "mflag.ipynb")
        overrides = {"source": "real", "threads": 1}
        out = tmp_path / "out"
        return runner.run("mflag", profile="smoke", seed=0, data_root=data_root, output_root=out, overrides=overrides)

    return run


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_picture_drawn_in_a_cell_stops_the_run(execute, data_root, tmp_path):
    draw = "plt.imshow(study.images(samples)[0], cmap='gray');"
    with pytest.raises(UserError, match=r"an image is in mflag\.(html|ipynb)"):
        execute(STUDY, draw, "recorder.finish();")
    assert files(tmp_path / "out") == []
    assert "mflag.ipynb" in files(data_root / "results" / "smoke" / "mflag.refused")


QUOTE = "samples.table['report'].iloc[0]"


@pytest.mark.parametrize(
    ("error", "kind"), [("KeyError", UserError), ("UserError", UserError), ("UsageError", UsageError)]
)
def test_an_error_that_quotes_a_report_stays_beside_the_data(execute, data_root, tmp_path, error, kind):
    with pytest.raises(kind) as told:
        execute(STUDY, "samples", f"from nbcore.errors import UsageError, UserError\nraise {error}({QUOTE})")
    said = str(told.value)
    assert said.startswith(f"mflag.ipynb, cell 4: {error} (the notebook")
    assert str(data_root / "results" / "smoke" / "mflag.failed.ipynb") in said
    assert not any(word in said for word in ("swallowed", "button", "carina"))
    assert files(tmp_path / "out") == []
    kept = (data_root / "results" / "smoke" / "mflag.failed.ipynb").read_text()
    assert error in kept and "swallowed" in kept


def test_a_sentence_for_the_user_is_told(execute):
    with pytest.raises(UserError, match=r"^give more images\.$"):
        execute(STUDY, "from nbcore.errors import UserError\nraise UserError('give more images.')")


def test_what_a_kernel_writes_past_its_notebook_stays_beside_the_data(execute, data_root, tmp_path, capfd):
    write = (
        f"import os, sys; told = {QUOTE}\n"
        "os.write(1, told.encode()); os.write(2, told.encode()); print(told, file=sys.__stderr__, flush=True)\n"
        'os.system(f\'echo "{told}"; echo "{told}" >&2\')'
    )
    kept = data_root / "results" / "smoke" / "mflag.failed.log"
    with pytest.raises(UserError, match=r"mflag\.failed\.log") as error:
        execute(STUDY, write, "1 / 0")
    seen = capfd.readouterr()
    assert "swallowed" not in seen.out + seen.err + str(error.value)
    assert kept.read_text().count("swallowed") >= 3
    assert kept.stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match=r"kernel died.*mflag\.failed\.log"):
        execute("import os; os.write(2, b'gone'); os._exit(1)")
    assert "gone" in kept.read_text()
    execute(STUDY, "import os; os.write(2, b'a word')", "recorder.finish();")
    assert not kept.exists()
    assert "a word" not in "".join(capfd.readouterr())


def test_a_run_that_shows_guarded_data_is_published(execute):
    shown = (
        "recorder.figure(study.gallery('mimic-cxr', 4), 'data', 'guarded'); print(study.readable_reports(1), samples)"
    )
    folder = execute(STUDY, shown, "recorder.data(samples); recorder.finish();")
    assert {"mflag.ipynb", "mflag.html", "record.json", "data.png", "data.svg"} <= set(files(folder))
    assert NOT_SHOWN in (folder / "mflag.ipynb").read_text()
