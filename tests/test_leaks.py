"""What of private data is found among results, however it is dressed, and what raises no false alarm."""

import base64
import html
import io
import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from protection_data import SENTENCE, private_samples

from nbcore.analysis import figures
from nbcore.data import image_cache, load, load_manifest
from nbcore.data.images import read_image
from nbcore.data.phantom.twins import write_twin
from nbcore.data.samples import COLUMNS, Samples
from nbcore.leaks import Belongings, find_leak

TEXT, PATIENT, STUDY, NAME, IMAGE = (
    "a sentence of a report",
    "the id of a patient",
    "the id of a study",
    "the name of an image",
    "an image",
)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def samples(data_root):
    return private_samples(data_root)


@pytest.fixture(scope="module")
def belongings(samples, data_root):
    return Belongings([samples], data_root / "cache")


@pytest.fixture
def find(samples, data_root, tmp_path):
    """The leak among results that consist of one file."""

    def found(name: str, content: str | bytes):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return find_leak(tmp_path, {"mimic-cxr": samples.root}, data_root)

    return found


def notebook(*outputs, **heading) -> str:
    """A notebook of a heading and a cell with these outputs."""
    cells = [nbformat.v4.new_markdown_cell("# A", **heading), nbformat.v4.new_code_cell("s", outputs=list(outputs))]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells))


def png(figure, **options) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **{"format": "png", "bbox_inches": "tight", **options})
    plt.close(figure)
    return file.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "text",
    [
        SENTENCE,
        SENTENCE.upper().replace(" ", "\n  "),
        "<td>A swallowed brass button lies in the ...</td>",  # as pandas cuts it
        html.escape("<p>A <b>swallowed</b> brass &quot;button&quot; lies in it</p>"),
        json.dumps({"report": "swallowed\nbrass button\tlies in"}),
        repr("so:\nswallowed\nbrass button lies in"),
        "\x1b[0;31mKeyError\x1b[0m: 'a \x1b[32mswallowed\x1b[0m brass button lies'",
        "button lies in the o\\u0065sophagus",
    ],
)
def test_a_sentence_is_found_in_any_dress(belongings, text):
    assert belongings.in_text(f"The result. {text} The end.") == TEXT


def test_a_short_sentence_is_found_as_a_whole(tmp_path):
    one = Belongings([toy(report="tiny calcified left hilum\nnormal", patient="p", image="a.png")], tmp_path)
    assert one.in_text("there is a tiny, calcified left hilum.") == TEXT
    assert one.in_text("a tiny calcified left lung") is None


def toy(patients: int = 1, **values) -> Samples:
    row = dict.fromkeys(COLUMNS, "") | {"boxes": []} | values
    rows = [row | {"patient": f"{row['patient']}{i or ''}"} for i in range(patients)]
    return Samples("toy", None, (), "real", 0, pd.DataFrame(rows), private=True)


def test_what_many_patients_share_tells_of_none(tmp_path):
    common = "no focal consolidation is seen today"
    assert Belongings([toy(99, patient="p", report=common)], tmp_path).in_text(common) == TEXT
    assert Belongings([toy(100, patient="p", report=common)], tmp_path).in_text(common) is None


def test_ids_are_found_as_words(belongings, samples):
    row = samples.table.iloc[3]
    patient, stem = row["patient"], row["image"].rpartition("/")[2].removesuffix(".jpg")
    for text in (patient, f"p{patient}_x", f"files/p{patient[:2]}/p{patient}/a.jpg", f"{patient}.0", f"#{patient}: 3"):
        assert belongings.in_text(f"see {text}") == PATIENT, text
    assert belongings.in_text(f"s{row['study']}.txt") == STUDY
    assert belongings.in_text(f"<td>{stem.upper()}.JPG</td>") == NAME
    for text in (f"0.{patient}", f"1.{patient}e-05", f"{patient}7", f"7{patient}", f"ab{patient}", stem[:17]):
        assert belongings.in_text(f"see {text}") is None, text


def test_short_ids_need_the_word_before_them(tmp_path):
    short = Belongings([toy(patient="12", study="3", image="img_12.png")], tmp_path)
    assert short.in_text("12 epochs, 3 seeds, 123456 steps, Table 12, img 12") is None
    assert short.in_text("Subject: 12") == PATIENT


def test_a_name_that_two_patients_images_bear_is_none(tmp_path):
    rows = [toy(patient=f"patient{i:05d}", image=f"{i}/view1_frontal.jpg").table for i in range(2)]
    both = Samples("toy", None, (), "real", 0, pd.concat(rows, ignore_index=True), private=True)
    assert Belongings([both], tmp_path).in_text("view1_frontal.jpg") is None


# --- files


def test_the_cell_is_told(find):
    stream = nbformat.v4.new_output("stream", text=f"...\nreport: {SENTENCE}\n")
    leak = find("a.ipynb", notebook(stream))
    assert leak == (TEXT, "a.ipynb, cell 2")
    assert str(leak) == "a sentence of a report is in a.ipynb, cell 2"


@pytest.mark.parametrize("name", ["record.json", "tables/table_2.csv", "tables/table_2.md", "page.html", "notes.log"])
def test_a_sentence_in_a_file(find, name):
    content = json.dumps({"notes": [f"for example {SENTENCE}"]}) if name.endswith("json") else f"a,{SENTENCE}\n"
    assert find(name, content) == (TEXT, name)


def test_log_lines_errors_and_displays_are_found(find, samples):
    table = samples.table
    log = nbformat.v4.new_output("stream", name="stderr", text=f"WARNING {table['study'].iloc[5]} has no report\n")
    assert find("a.ipynb", notebook(log)).kind == STUDY
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="", traceback=["cell\n", f"KeyError: {SENTENCE}"])
    assert find("a.ipynb", notebook(error)).kind == TEXT
    data = {"text/html": table[["report"]].head()._repr_html_(), "text/plain": "..."}
    assert find("a.ipynb", notebook(nbformat.v4.new_output("display_data", data=data))).kind == TEXT
    data = {"text/plain": repr(table.set_index("patient")[["view"]].head())}
    assert find("a.ipynb", notebook(nbformat.v4.new_output("execute_result", data=data))).kind == PATIENT
    data = {"text/plain": repr(samples)}
    assert find("a.ipynb", notebook(nbformat.v4.new_output("execute_result", data=data))) is None


def test_attachments_and_widgets_are_found(find, samples):
    content = samples.image_paths()[4].read_bytes()
    found = find("a.ipynb", notebook(attachments={"x.png": {"image/jpeg": encoded(content)}}))
    assert found == (IMAGE, "a.ipynb, cell 1")
    widgets = {"state": {"1": {"state": {"buffers": [{"data": encoded(content), "encoding": "base64"}]}}}}
    assert find("a.ipynb", notebook_with(widgets)) == (IMAGE, "a.ipynb, its metadata")
    widgets = {"state": {"1": {"state": {"value": SENTENCE, "_options_labels": ["a", "b"]}}}}
    assert find("a.ipynb", notebook_with(widgets)) == (TEXT, "a.ipynb, its metadata")


def notebook_with(widgets) -> str:
    book = nbformat.v4.new_notebook(cells=[])
    book.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": widgets}
    return nbformat.writes(book)


def test_file_names_are_read_but_not_told(find, samples):
    patient = samples.table["patient"].iloc[0]
    assert find(f"figures/p{patient}.svg", "<svg/>") == (PATIENT, "the name of a file")


def test_the_titles_of_figures_are_found(find):
    figures.set_style()
    figure, axis = plt.subplots()
    axis.set_title(SENTENCE)
    assert find("figures/a.svg", png(figure, format="svg")) == (TEXT, "figures/a.svg")


# --- pictures


@pytest.mark.parametrize("style", ["default", "ours"])
@pytest.mark.parametrize("colours", [None, "gray", "gray_r"])
def test_an_image_is_found_in_a_figure(belongings, samples, style, colours):
    with plt.rc_context():
        if style == "ours":
            figures.set_style()
        figure, axis = plt.subplots()
        axis.imshow(read_image(samples.image_paths()[6]), cmap=colours)
        assert belongings.in_picture(png(figure)) == IMAGE


def test_images_are_found_as_the_studies_draw_them(belongings, samples, tmp_path):
    pictures = image_cache(samples.subset([8, 9]), 48, tmp_path)
    titles = ["", ""]
    assert belongings.in_picture(png(figures.image_grid(list(pictures), titles))) == IMAGE
    cropped = pictures[:, 3:45, 3:45]
    assert belongings.in_picture(png(figures.image_grid(list(cropped), titles))) == IMAGE
    svg = png(figures.image_grid(list(pictures), titles), format="svg").decode()
    assert belongings.in_text(svg) == IMAGE


def test_other_peoples_pictures_and_plots_raise_no_alarm(belongings, tmp_path):
    write_twin(load_manifest("chexpert"), tmp_path / "twin", images=40, size=64, seed=8)
    others = image_cache(load("chexpert", tmp_path / "twin"), 64, tmp_path / "cache")
    assert belongings.in_picture(png(figures.image_grid(list(others[:12]), [""] * 12))) is None
    figure, axes = plt.subplots(1, 2)
    axes[0].plot(np.random.default_rng(0).normal(size=50))
    axes[1].imshow(np.random.default_rng(0).random((30, 30)))
    assert belongings.in_picture(png(figure)) is None
    assert belongings.in_picture(b"\x89PNG no picture") is None


def test_phantoms_are_not_searched_for(tmp_path):
    write_twin(load_manifest("mimic-cxr"), tmp_path / "twin", images=40, size=32, seed=7)
    image = load("mimic-cxr", tmp_path / "twin").image_paths()[0]
    (tmp_path / "results").mkdir()
    Image.open(image).save(tmp_path / "results" / "a.png")
    assert find_leak(tmp_path / "results", {"mimic-cxr": tmp_path / "twin"}, tmp_path) is None
