"""Committed notebooks carry no results, define nothing, and take the same parameters."""

import re

import nbformat
import pytest

from nbcore.methods.registry import METHODS
from nbcore.paths import NOTEBOOKS, PROFILES
from nbcore.profiles import PROFILE_NAMES, notebooks, read_profile
from nbcore.settings import load_settings

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
PARAMETERS = {"profile", "seed", "data_root", "output_root", "overrides"}


WITHOUT_A_PAPER = {"tour"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks():
    assert PATHS


def test_no_outputs_counts_attachments_or_run_metadata(notebook):
    assert not {"papermill", "widgets"} & notebook.metadata.keys()
    for cell in notebook.cells:
        assert not cell.get("attachments")
        assert not {"papermill", "execution", "ExecuteTime"} & cell.metadata.keys()
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_cells_define_nothing_and_are_short(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not re.search(r"^\s*(def|class|async def) |\blambda\b", cell.source, re.M)
            assert len(cell.source.splitlines()) <= 18


def test_one_parameters_cell_with_the_common_names(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert set(re.findall(r"^(\w+) =", tagged[0].source, re.M)) == PARAMETERS
    assert 'profile = "smoke"' in tagged[0].source


def test_anatomy(notebook, request):
    text = "\n".join(cell.source for cell in notebook.cells)
    for part in ("python -m nbcore run", "settings_table", "recorder.finish()"):
        assert part in text
    has_a_paper = request.node.callspec.id not in WITHOUT_A_PAPER
    assert all((part in text) == has_a_paper for part in ("arxiv.org", "## Claims"))


@pytest.mark.parametrize("name", notebooks())
@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_profiles_are_valid_settings(name, profile):
    settings = load_settings(name, profile, {})
    assert (settings.source == "twin") == (profile in ("smoke", "demo"))


def test_every_profile_file_has_a_notebook_or_is_a_baselines():
    assert {path.stem for path in PROFILES.glob("*.yaml")} <= {path.stem for path in PATHS} | METHODS.keys()


@pytest.mark.parametrize("name", sorted(METHODS.keys() - set(notebooks())))
@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_profiles_of_baselines_are_valid_configurations(name, profile):
    values = read_profile(name, profile)
    assert (values == {}) == (profile == "paper")
    METHODS[name].config(**values)
