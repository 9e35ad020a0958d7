"""Descriptions of classes: what is read, what is refused and how, and the sets that the project has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nbcore.data import descriptions
from nbcore.data.descriptions import TEMPLATES, list_description_sets, load_descriptions, template_texts, wrap
from nbcore.data.manifest import load_manifest
from nbcore.errors import UsageError, UserError

KERMANY = load_manifest("kermany")  # NORMAL, PNEUMONIA
GOOD = {"PNEUMONIA": ["A lobe is dense.", "Air bronchograms run through it."], "NORMAL": ["The lungs are clear."]}
SETS = ("generic", "noisy", "rich")
DATA_SETS = ("shenzhen-tb", "montgomery-tb", "kermany", "idrid", "isic2018")


@pytest.fixture
def own_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the sets "rich", which has kermany, and "plain", which is empty."""
    monkeypatch.setattr(descriptions, "DESCRIPTIONS", tmp_path)
    (tmp_path / "rich").mkdir()
    (tmp_path / "plain").mkdir()
    (tmp_path / "README.md").write_text("no set")
    (tmp_path / "rich" / "kermany.json").write_text(json.dumps(GOOD))
    return tmp_path


def test_a_set_a_folder_and_a_file_give_the_same(own_sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_description_sets() == ["plain", "rich"]
    folder = own_sets / "rich"
    for source in ("rich", str(folder), str(folder / "kermany.json")):
        found = load_descriptions(source, KERMANY)
        assert found == GOOD and list(found) == ["NORMAL", "PNEUMONIA"]  # the manifest's order
    monkeypatch.setenv("HOME", str(own_sets))
    assert load_descriptions("~/rich", KERMANY) == GOOD


def test_blanks_are_single_and_repeated_sentences_count_once(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    twice = ["Clear\n\n lungs.", "The heart is small.", " Clear lungs. ", "clear lungs."]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"NORMAL": twice, "PNEUMONIA": ["Clear lungs."]}).encode())
    assert load_descriptions(str(path), KERMANY) == {
        "NORMAL": ["Clear lungs.", "The heart is small.", "clear lungs."],
        "PNEUMONIA": ["Clear lungs."],  # of two classes: kept in both
    }


def _told(source: str, kind: type[UserError] = UserError) -> str:
    with pytest.raises(UserError) as caught:
        load_descriptions(source, KERMANY)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_source_that_is_not_there(own_sets: Path) -> None:
    own = "give a JSON file or folder of your own"
    assert _told("rihc", UsageError) == f"unknown description set 'rihc' (did you mean 'rich'?); name one, or {own}"
    assert "(there are: plain, rich)" in _told("gpt", UsageError)
    told = _told("plain", UsageError)
    assert told == f"the description set 'plain' has nothing on kermany: add {own_sets}/plain/kermany.json, or {own}"
    folder = own_sets / "plain"
    for source, path in {"x.json": Path("x.json").absolute(), folder: folder / "kermany.json"}.items():
        told = _told(str(source), UsageError)
        assert told == f"descriptions: there is no file {path}; write it, or mend the path"
    assert f"{own_sets}/absent" in _told(f"{own_sets}/absent", UsageError)


def _without(label: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != label}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{\n"NORMAL": ["Clear."],\n"PNEUMONIA": ["Dense."\n}', r" is not valid JSON: .* in line 4, column 1; mend it"),
        ("", " is not valid JSON: .* in line 1, column 1"),
        ('{"NORMAL": ["a"], "PNEUMONIA": ["b"], "NORMAL": ["c"]}', " has the class 'NORMAL' twice: join its two lists"),
        ([["NORMAL", "Clear."]], " holds a list: write an object {class:"),
        (_without("NORMAL"), " has no class 'NORMAL': add it"),
        (_without("NORMAL") | {"NORML": ["a"]}, r": kermany has no class 'NORML' \(did you mean 'NORMAL'\?\); rename"),
        (GOOD | {"TB": ["a"]}, r": kermany has no class 'TB' \(there are: NORMAL, PNEUMONIA\); rename or delete it"),
        (GOOD | {"NORMAL": []}, ": 'NORMAL' has no sentence: add some"),
        (GOOD | {"NORMAL": "Clear."}, ": 'NORMAL' holds a str: write a list of sentences"),
        (GOOD | {"NORMAL": ["Clear.", 3]}, ": entry 2 of 'NORMAL' is of type int: write a sentence in quotes"),
        (GOOD | {"NORMAL": [["Clear."]]}, ": entry 1 of 'NORMAL' is of type list"),
        (GOOD | {"NORMAL": ["Clear.", " \n"]}, ": entry 2 of 'NORMAL' is empty: write a sentence, or delete it"),
        (b'{"NORMAL": ["\xe9"]}', r" is not UTF-8 \(byte 13\): save it in that encoding"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_the_remedy(content: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert re.match(re.escape(str(path)) + reason, _told(str(path)))


def test_templates_are_seven_kinds_of_photographs() -> None:
    texts = template_texts("tuberculosis", "chest radiograph")
    assert len(set(texts)) == len(TEMPLATES) == 7
    for text in texts:
        assert text.endswith(" chest radiograph: tuberculosis.")
    for kind in ("poor", "blurred", "dark", "small", "vague", "large", "centred"):
        assert sum(f" {kind} " in text for text in texts) == 1


def test_the_official_wrapping_is_put_around_anything() -> None:
    assert wrap("a dark photo TB.", "chest x_ray") == "a photo of a a dark photo TB. chest x_ray"


# --- the sets that the project has


def test_the_sets_are_those_of_the_readme() -> None:
    assert tuple(list_description_sets()) == SETS
    readme = (descriptions.DESCRIPTIONS / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in readme for name in SETS)


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("source", SETS)
def test_the_sentences_of_a_set(source: str, name: str) -> None:
    manifest = load_manifest(name)
    found = load_descriptions(source, manifest)
    raw = json.loads((descriptions.DESCRIPTIONS / source / f"{name}.json").read_text(encoding="utf-8"))
    assert raw == found and list(raw) == list(manifest.classes)  # in order, nothing twice, no stray blanks
    fewest = {"rich": 50, "generic": 12, "noisy": 30}[source]
    everything = [sentence for sentences in found.values() for sentence in sentences]
    assert len({sentence.lower() for sentence in everything}) == len(everything)  # none of two classes
    assert min(map(len, found.values())) >= fewest
    for sentence in everything:
        assert (sentence.endswith(".") and sentence[0].isupper()) or sentence[0].isdigit(), sentence
        assert 5 <= len(sentence.split()) <= 45, sentence
