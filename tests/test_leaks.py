"""What of private data is found among results, however it is dressed, and what raises no false alarm."""

import base64
import gzip
import html
import io
import json
import os

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from protection_data import SENTENCE, private_samples

from nbcore import leaks, leaks_words
from nbcore.analysis import figures
from nbcore.data import image_cache, load, load_manifest
from nbcore.data.images import read_image
from nbcore.data.phantom.twins import write_twin
from nbcore.data.samples import COLUMNS, Samples
from nbcore.leaks import Belongings, find_leak

TEXT, PATIENT, STUDY, NAME, IMAGE, LINK, UNREADABLE = (
    "a sentence of a report",
    "the id of a patient",
    "the id of a study",
    "the name of an image",
    "an image",
    "a link",
    "what cannot be searched",
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
    for text in (f"0.{patient}", f"1.{patient}e-05", f"x0.{patient}", f"{patient}7", f"7{patient}", stem[:17]):
        assert belongings.in_text(f"see {text}") is None, text


@pytest.mark.parametrize(
    "way",
    [
        "patient{}",
        "pid{}",
        "subject_{}",
        "id{}x",
        "{}px",
        "{}L",
        "{:,}",
        "{:_}",
        "0{}",
        "{}e0",
        "{:.7e}",
        "{}.00",
        "'{}'",
    ],
)
def test_ids_are_found_however_they_are_written(belongings, samples, way):
    row = samples.table.iloc[3]
    assert belongings.in_text(f"see {way.format(int(row['patient']))} there") == PATIENT
    assert belongings.in_text(f"see {way.format(int(row['study']))} there") == STUDY


def test_what_only_looks_like_an_id_is_none(belongings, samples):
    patient = samples.table["patient"].iloc[3]
    drawn = f'<path id="m{patient}ab" d="M0.{patient} 1"/>'  # as Matplotlib names a marker
    for text in (drawn, f"{patient[:2]},{patient[2:]}", f"1.{patient[1:]}", f"{patient[:3]}e4"):
        assert belongings.in_text(text) is None, text


@pytest.mark.parametrize(
    "text",
    [
        "0 a\n1 swallowed\n2 brass\n3 button\n4 lies\n",
        "swallowed (0.9) brass (0.8) button (1e-05) lies (0.2) in",
        "a swal\u00adlowed brass&shy; button lies",
        "a swal-\nlowed brass button lies",
        repr("a swal-\n  lowed brass button lies"),
        "<p>a swal<wbr>lowed brass but-\r\nton lies</p>",
        "in the oesophagus, 99 cm above",  # another number
    ],
)
def test_words_are_found_between_numbers_and_across_lines(belongings, text):
    assert belongings.in_text(f"so: {text} :end") == TEXT


def test_short_ids_need_the_word_before_them(tmp_path):
    short = Belongings([toy(patient="12", study="3", image="img_12.png")], tmp_path)
    assert short.in_text("12 epochs, 3 seeds, 123456 steps, Table 12, img 12") is None
    assert short.in_text("Subject: 12") == PATIENT


def test_a_name_that_two_patients_images_bear_is_none(tmp_path):
    rows = [toy(patient=f"patient{i:05d}", image=f"{i}/view1_frontal.jpg").table for i in range(2)]
    both = Samples("toy", None, (), "real", 0, pd.concat(rows, ignore_index=True), private=True)
    assert Belongings([both], tmp_path).in_text("view1_frontal.jpg") is None


# --- all that lies in the root


@pytest.fixture
def own(tmp_path):
    """A private data set of its own, and what is found in a text."""
    samples = private_samples(tmp_path)
    return samples, lambda text: Belongings([load("mimic-cxr", samples.root)], tmp_path / "cache").in_text(text)


def test_every_section_of_every_report_is_known(own):
    samples, found = own
    told = "Retired lighthouse keeper from Nantucket with a denture"
    assert found(told) is None
    report = (samples.root / samples.table["image"].iloc[5]).parent.with_suffix(".txt")
    report.write_text(f"{' ' * 33}FINAL REPORT\n INDICATION:  {told}.\n \n HISTORY: Fell off ladders.\n", "utf-8")
    assert found(told) == TEXT
    assert found("lighthouse keeper\nfrom Nantucket with a cough") == TEXT
    assert found("(he never fell off ladders again)") is None
    stray = samples.root / "files" / "p10" / "p10999999"  # no row of any table
    stray.mkdir(parents=True)
    (stray / "s59999999.txt").write_text("FINDINGS: Acupuncture needle beneath the clavicle.\n", "utf-8")
    assert found("an acupuncture needle beneath the clavicle") == TEXT
    assert found("patient 10999999") == PATIENT
    assert found("s59999999") == STUDY


def test_the_sectioned_table_is_known(own):
    samples, found = own
    rows = pd.DataFrame({"study": "s" + samples.table["study"], "impression": "x", "findings": ""})
    rows["last_paragraph"] = "Nine silver coins lie there"
    rows.to_csv(samples.root / "mimic_cxr_sectioned.csv", index=False)
    assert found("nine silver coins lie there") == TEXT


def test_rows_that_are_not_loaded_are_known(own):
    samples, found = own
    path = samples.root / "mimic-cxr-2.0.0-metadata.csv.gz"
    table = pd.read_csv(path, dtype=str)
    added = table.iloc[[0]].assign(subject_id="19876543", study_id="s58765432", dicom_id="00ab-12", ViewPosition="LL")
    pd.concat([table, added]).to_csv(path, index=False)
    assert [found(text) for text in ("19876543", "58765432", "00ab-12.jpg")] == [PATIENT, STUDY, NAME]
    name = samples.root / "files" / "p19" / "p19876543" / "s58765432" / "1234-abcd.jpg"
    name.parent.mkdir(parents=True)
    name.write_bytes(b"")
    assert found("1234_abcd.png") == NAME


def test_what_is_known_is_kept_until_a_file_changes(own, tmp_path, monkeypatch):
    _, found = own
    assert found(SENTENCE) == TEXT
    with monkeypatch.context() as patch:
        patch.setattr(leaks_words, "_collected", None)
        assert found(SENTENCE) == TEXT
    assert "button" not in str([path.read_bytes() for path in (tmp_path / "words").iterdir()])


def test_common_words_are_counted_by_patients(monkeypatch):
    monkeypatch.setattr(leaks_words, "_BUFFER", 8)
    counts = leaks_words._Counts()
    for patient in range(120):
        counts.add(np.array([1, 1, 2 + patient % 2, 100 + patient], np.uint64))
    assert leaks_words._of_few([counts]).tolist() == [2, 3, *range(100, 220)]


# --- files


def test_links_are_no_results(find, samples, tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "d").symlink_to(samples.root)
    assert find("a.md", "a") == (LINK, "the place of figures/d")
    (tmp_path / "figures" / "d").unlink()
    (tmp_path / "figures" / "d.csv").symlink_to(tmp_path / "a.md")
    assert find("a.md", "a") == (LINK, "the place of figures/d.csv")
    (tmp_path / "figures" / "d.csv").unlink()
    os.mkfifo(tmp_path / "pipe.log")
    assert find("a.md", "a") == (UNREADABLE, "pipe.log")


def test_the_names_of_folders_are_read(find, samples, tmp_path):
    (tmp_path / f"p{samples.table['patient'].iloc[0]}").mkdir()
    assert find("a.md", "a") == (PATIENT, "the name of a folder")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.bmp", b"BM"),
        ("a.npy", b""),
        ("a.csv.gz", gzip.compress(SENTENCE.encode())),
        ("a.csv", SENTENCE.encode("utf-16")),
        ("a.md", b"\xff\xfe"),
        ("a.log", b"a\0b"),
        ("a.png", b"no picture"),
        ("a.html", f'<img src="data:image/png;base64,{base64.b64encode(b"P" * 60).decode()}">'),
    ],
)
def test_what_cannot_be_searched_is_told(find, name, content):
    assert find(name, content) == (UNREADABLE, name)


def test_damaged_files_are_read_as_text(find):
    assert find("a.json", "{") is None
    assert find("a.ipynb", "{}") is None
    assert find("a.ipynb", '{"cells": [], "a": 1') is None
    assert find("a.ipynb", '{"cells": 3, "a": "' + SENTENCE) == (TEXT, "a.ipynb")


def test_a_svg_in_base_64_is_read(find):
    svg = f'<svg width="14" height="14"><text>{SENTENCE}</text></svg>'
    page = "<style>a {{ background: url(data:image/svg+xml;base64,{}) }}</style>"
    assert find("a.html", page.format(encoded(svg.replace(SENTENCE, "a plot of nothing").encode()))) is None
    assert find("a.html", page.format(encoded(svg.encode()))) == (TEXT, "a.html")


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


def file(picture, kind: str = "PNG", **options) -> bytes:
    """A picture file of an array."""
    stream = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(stream, kind, **options)
    return stream.getvalue()


def hidden(grey: np.ndarray, in_alpha: bool) -> np.ndarray:
    """A picture of nothing, with an image in its colours or in its transparency."""
    rgba = np.full((*grey.shape, 4), 255, np.uint8)
    if in_alpha:
        rgba[..., 3] = grey
    else:
        rgba[..., :3], rgba[..., 3] = grey[..., None], 0
    return rgba


BLANK = Image.new("L", (64, 64), 3)
DRESSES = {
    "mirrored": lambda one: file(one[:, ::-1].copy()),
    "turned": lambda one: file(np.rot90(one).copy()),
    "of 16 bits": lambda one: file(one.astype(np.uint16) * 16),
    "of reals": lambda one: file(one.astype(np.float32) / 255 - 3, "TIFF"),
    "transparent": lambda one: file(hidden(one, in_alpha=False)),
    "transparency": lambda one: file(hidden(one, in_alpha=True)),
    "GIF": lambda one: file(BLANK, "GIF", save_all=True, append_images=[Image.fromarray(one)]),
    "PNG": lambda one: file(BLANK, save_all=True, append_images=[Image.fromarray(one)]),
    "small figure": lambda one: figure_of(one, "gray", figsize=(1, 1)),
}


def figure_of(picture: np.ndarray, colours: str, **options) -> bytes:
    figure, axis = plt.subplots(**options)
    axis.imshow(picture, cmap=colours)
    return png(figure)


@pytest.mark.parametrize("dress", DRESSES)
def test_an_image_is_found_in_any_dress(belongings, samples, dress):
    assert belongings.in_picture(DRESSES[dress](read_image(samples.image_paths()[6]))) == IMAGE


@pytest.mark.parametrize("colours", ["jet", "hsv", "turbo", "coolwarm", "RdBu", "twilight"])
def test_an_image_is_found_in_any_colours(belongings, samples, colours):
    assert belongings.in_picture(figure_of(read_image(samples.image_paths()[3]), colours)) == IMAGE


@pytest.mark.parametrize("gap", [None, 0, 255])
@pytest.mark.parametrize("drawn", [False, True])
def test_images_are_found_in_a_montage(belongings, samples, gap, drawn):
    images = [read_image(path) for path in samples.image_paths()[:8]]
    if gap is not None:
        images = [np.pad(image, 1, constant_values=gap) for image in images]
    grid = np.vstack([np.hstack(images[:4]), np.hstack(images[4:])])
    if gap is not None:
        grid = np.pad(grid, 1, constant_values=gap)
    assert belongings.in_picture(figure_of(grid, "gray") if drawn else file(grid)) == IMAGE
    assert belongings.in_picture(file(np.hstack(images[1:3]))) == IMAGE


def test_other_peoples_images_raise_no_alarm_in_any_dress(belongings, tmp_path):
    write_twin(load_manifest("chexpert"), tmp_path / "twin", images=40, size=64, seed=9)
    others = list(image_cache(load("chexpert", tmp_path / "twin"), 64, tmp_path / "cache"))
    for content in (
        *(dress(others[3]) for dress in DRESSES.values()),
        *(figure_of(others[i], colours) for i, colours in enumerate(["jet", "hsv", "coolwarm", "twilight"])),
        figure_of(np.vstack([np.hstack(others[:4]), np.hstack(others[4:8])]), "gray"),
    ):
        assert belongings.in_picture(content) is None


def test_a_picture_that_cannot_be_decoded_is_told(belongings, samples):
    whole = samples.image_paths()[6].read_bytes()
    for content in (whole[:-20], file(read_image(samples.image_paths()[6]))[:-200], b"\x89PNG no picture"):
        assert belongings.in_picture(content) == UNREADABLE


def test_pictures_of_other_kinds_and_lines_are_found_in_a_page(belongings, samples):
    image = read_image(samples.image_paths()[6])
    for kind, lines in (("bmp", ""), ("tiff", ""), ("png", "\r\n"), ("jpeg", "\\n")):
        told = encoded(file(image, kind))
        told = lines.join(told[i : i + 76] for i in range(0, len(told), 76))
        assert belongings.in_text(f'<img src="data:image/{kind};base64,{told}"> and words') == IMAGE, kind
    data = {"image/bmp": encoded(file(image, "BMP"))}
    cell = nbformat.v4.new_output("display_data", data=data)
    assert belongings.in_text("\n".join(leaks._strings(cell))) == IMAGE


def test_what_a_picture_says_is_read(belongings):
    blank = np.zeros((9, 9), np.uint8)
    said, packed, exif = PngInfo(), PngInfo(), Image.Exif()
    said.add_text("Comment", SENTENCE)
    packed.add_text("Comment", SENTENCE, zip=True)
    exif[0x010E] = SENTENCE
    for content in (
        file(blank, pnginfo=said),
        file(blank, pnginfo=packed),
        file(blank, "JPEG", comment=SENTENCE.encode()),
        file(blank, "JPEG", exif=exif),
        file(blank) + SENTENCE.encode("utf-16"),
    ):
        assert belongings.in_picture(content) == TEXT
    assert belongings.in_picture(file(blank)) is None


def test_phantoms_are_not_searched_for(tmp_path):
    write_twin(load_manifest("mimic-cxr"), tmp_path / "twin", images=40, size=32, seed=7)
    image = load("mimic-cxr", tmp_path / "twin").image_paths()[0]
    (tmp_path / "results").mkdir()
    Image.open(image).save(tmp_path / "results" / "a.png")
    assert find_leak(tmp_path / "results", {"mimic-cxr": tmp_path / "twin"}, tmp_path) is None
