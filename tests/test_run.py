"""Headless runs: judged by exit and record, and earlier results survive a failure."""

import nbformat
import pytest
from click.testing import CliRunner

from nbcore import run as runner
from nbcore.__main__ import cli
from nbcore.errors import UsageError, UserError
from nbcore.results import load_record

PARAMETERS = "profile = 'smoke'\nseed = 0\ndata_root = None\noutput_root = None\noverrides = {}"
RECORD = """
from pathlib import Path
from nbcore.recorder import Recorder
recorder = Recorder("mflag", "M-FLAG", profile=profile, config=overrides, seeds=[seed], source="phantom",
                    output_root=Path(output_root), command="python -m nbcore run mflag")
recorder.row([61.0], table="Table 2", method="M-FLAG", dataset="NIH", setting="1%", metric="AUC (%)")
"""


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Run a notebook made of these cells in place of mflag's."""
    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)

    def run(*cells: str, **overrides):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (PARAMETERS, *cells)])
        notebook.cells[0].metadata["tags"] = ["parameters"]
        notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(notebook, tmp_path / "mflag.ipynb")
        return runner.run(
            "mflag", profile="smoke", seed=3, data_root=None, output_root=tmp_path / "out", overrides=overrides
        )

    return run


def test_a_run_leaves_notebook_page_tables_and_record(execute):
    folder = execute(RECORD, "recorder.finish()", epochs=2)
    written = {"mflag.ipynb", "mflag.html", "record.json", "tables", "inputs.txt"}
    assert {path.name for path in folder.iterdir()} == written
    record = load_record(folder / "record.json")
    assert (record.config, record.seeds) == ({"epochs": 2}, [3])
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] == ["mflag"]


@pytest.mark.parametrize(
    ("last_cell", "kind", "message"),
    [
        ("from nbcore.errors import UserError\nraise UserError('image.jpg is truncated.')", UserError, "^image.jpg is"),
        (
            "from nbcore.errors import UsageError\nraise UsageError('give --data-root.')",
            UsageError,
            "^give --data-root",
        ),
        ("1 / 0", UserError, "mflag.ipynb, cell 3: ZeroDivisionError"),
        ("import os; os._exit(1)", UserError, "kernel died"),
        ("'no record was finished'", UserError, "there is no record"),
    ],
)
def test_a_failed_run_is_one_sentence_and_keeps_earlier_results(execute, last_cell, kind, message):
    folder = execute(RECORD, "recorder.finish()")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(kind, match=message) as error:
        execute(RECORD, last_cell)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_wrong_parameters_stop_before_anything_is_run(execute, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        execute("1 / 0", epoch=3)
    assert not (tmp_path / "out").exists()


def test_what_has_not_changed_need_not_run_again(execute, tmp_path, monkeypatch):
    asked = {"profile": "smoke", "seed": 3, "output_root": tmp_path / "out", "overrides": {"epochs": 2}}
    assert not runner.is_current("mflag", **asked)
    folder = execute(RECORD, "recorder.finish()", epochs=2)
    assert runner.is_current("mflag", **asked)
    assert not runner.is_current("mflag", **{**asked, "seed": 4})
    assert not runner.is_current("mflag", **{**asked, "overrides": {"epochs": 3}})
    assert not runner.is_current("mflag", **{**asked, "overrides": {"epochs": 2, "source": "real"}})
    with monkeypatch.context() as patch:
        patch.setattr(runner, "distributions", list)  # other libraries
        assert not runner.is_current("mflag", **asked)
    page = (folder / "mflag.html").read_bytes()
    (folder / "mflag.html").unlink()
    assert not runner.is_current("mflag", **asked)
    (folder / "mflag.html").write_bytes(page)
    assert runner.is_current("mflag", **asked)
    notebook = tmp_path / "mflag.ipynb"
    notebook.write_text(notebook.read_text().replace("61.0", "62.0"))
    assert not runner.is_current("mflag", **asked)


def test_the_command_tells_what_is_unchanged(execute, tmp_path):
    execute(RECORD, "recorder.finish()", epochs=2)
    command = ["run", "mflag", "--seed", "3", "--output-root", str(tmp_path / "out"), "-p", "epochs=2"]
    told = CliRunner().invoke(cli, command).output
    assert "mflag: unchanged, results in" in told and "index.html" in told
    before = (tmp_path / "out" / "smoke" / "mflag" / "record.json").stat().st_mtime_ns
    assert "unchanged" not in CliRunner().invoke(cli, [*command, "--again"]).output
    assert (tmp_path / "out" / "smoke" / "mflag" / "record.json").stat().st_mtime_ns > before
