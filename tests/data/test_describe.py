"""What manifests say to people: as text, as a table, and in the form of questions and answers."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from nbcore.__main__ import cli
from nbcore.data.describe import describe, expected_tree, overview
from nbcore.data.manifest import Manifest, list_manifests, load_manifest
from nbcore.errors import UsageError
from nbcore.paths import MANIFESTS

# --- the text


@pytest.mark.parametrize("name", list_manifests())
def test_a_manifest_reads_well_and_in_full(name: str) -> None:
    manifest, text = load_manifest(name), describe(load_manifest(name))
    words = " ".join(text.split())
    said = [manifest.title, manifest.licence, manifest.citation, manifest.how_to_get, manifest.notes, *manifest.classes]
    for part in [*said, *manifest.questions, *manifest.questions.values()]:
        assert " ".join(part.split()) in words
    long = [line for line in text.splitlines()[1:] if len(line) > 100]
    assert not [line for line in long if len(line.split()) > 2 or "https://" not in line]


def test_numbers_policies_and_splits_are_told() -> None:
    text = describe(load_manifest("chexpert"))
    assert "train: 186,027, valid: 5,000, test: 202" in text
    assert "mgca          Atelectasis positive, Cardiomegaly negative" in text
    assert "Where testSet_SubjID.csv lies in the root" in text
    assert "      train.csv" in text
    assert "5,000 images are drawn, or 10 % of those to draw from" in " ".join(text.split())
    assert "MethodLabel = Physician" in describe(load_manifest("padchest"))
    assert "part of       padchest, its test split" in describe(load_manifest("pdc"))
    assert "DRAWN" not in describe(load_manifest("derm7pt")).upper()


def test_a_tree_shows_each_folder_once() -> None:
    assert expected_tree(["a/b", "a/c", "./d"]).splitlines() == ["  ROOT/", "    a/", "      b", "      c", "    d"]


def test_the_readme_has_the_table_of_today() -> None:
    readme = (MANIFESTS / "README.md").read_text("utf-8")
    assert overview() in readme, "put the output of `python -m nbcore data show all` into data_manifests/README.md"
    assert len(overview().splitlines()) == 2 + len(list_manifests())


def test_the_readme_names_every_key() -> None:
    readme = (MANIFESTS / "README.md").read_text("utf-8")
    assert not [key for key in Manifest.model_fields if f"`{key}`" not in readme]


def test_the_command_shows_text_json_and_a_sentence_for_an_unknown_name() -> None:
    run = CliRunner().invoke
    assert run(cli, ["data", "show", "siim-acr"]).output.strip() == describe(load_manifest("siim-acr"))
    told = json.loads(run(cli, ["data", "show", "siim-acr", "--json"]).output)
    assert told["counts"]["images"] == 12047 and told["questions"] == load_manifest("siim-acr").questions
    assert run(cli, ["data", "show", "all"]).output.strip() == overview()
    assert [each["name"] for each in json.loads(run(cli, ["data", "show", "all", "--json"]).output)] == list_manifests()
    error = run(cli, ["data", "show", "simm-acr"]).exception
    assert isinstance(error, UsageError) and "did you mean 'siim-acr'?" in str(error)


# --- questions: their form


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ({"Which views are kept": "All."}, "questions: 'Which views are kept' is no question"),
        ({"?": "All."}, "questions: '?' is no question"),
        ({"Which views are kept?": "  "}, "questions: 'Which views are kept?' has no answer"),
    ],
)
def test_an_empty_question_or_answer_is_refused(tmp_path: Path, questions: dict, message: str) -> None:
    raw = yaml.safe_load((MANIFESTS / "chexpert.yaml").read_text("utf-8")) | {"questions": questions}
    (tmp_path / "chexpert.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_manifest(tmp_path / "chexpert.yaml")
    assert message in str(caught.value)


def test_the_questions_are_many_and_everywhere() -> None:
    asked = [question for name in list_manifests() for question in load_manifest(name).questions]
    assert len(set(asked)) >= 14
    assert not [name for name in list_manifests() if not load_manifest(name).questions]


def _resolves(place: str, told: dict[str, Any]) -> bool:
    """Whether it is a key of the manifest, or a name in a module of ours."""
    if not place.startswith("nbcore."):
        for key in place.split("."):
            if not isinstance(told, dict) or key not in told:
                return False
            told = told[key]
        return True
    parts = place.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("name", list_manifests())
def test_each_answer_is_short_and_ends_with_where_it_is_decided(name: str) -> None:
    manifest = load_manifest(name)
    for question, answer in manifest.questions.items():
        found = re.fullmatch(r"(.+[.)]) \[([\w., -]+)\]", answer)
        assert found, f"{question} {answer}"
        assert len(re.findall(r"[.;?!](?= [A-Z])", found[1])) < 3, f"more than three sentences: {answer}"
        for place in found[2].split(", "):
            assert _resolves(place, manifest.model_dump()), f"{name}: {place} is no key and no code"
