"""The command line as a user meets it: exit statuses, and one clear sentence for every mistake."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbcore.paths import ROOT


def nbcore(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "nbcore", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def complaint(process: subprocess.CompletedProcess) -> str:
    """The last line of standard error, after checking that there is no traceback."""
    assert "Traceback" not in process.stderr
    return process.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def twin(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("twins") / "kermany"
    assert nbcore("data", "twin", "kermany", "--root", root, "--images", "60", "--size", "32").returncode == 0
    return root


def test_list_is_quick_and_names_everything():
    start = time.monotonic()
    process = nbcore("list", "--data-root", "nowhere")
    assert process.returncode == 0
    assert "mflag" in process.stdout
    for name in ("mimic-cxr", "chexpert", "nih-chestxray14", "kermany", "covid-chestxray"):
        assert name in process.stdout
    assert "absent" in process.stdout
    assert time.monotonic() - start < 30  # far above what it takes; importing torch on a busy machine is not


def test_listing_does_not_import_the_heavy_libraries():
    code = "import sys; from nbcore.__main__ import cli; cli(['list'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "pandas", "transformers", "sklearn"} & set(loaded.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mflag", "-p", "epoch=3"], "unknown parameter 'epoch' (did you mean 'epochs'?)"),
        (["run", "mflag", "-p", "epochs"], "write it as key=value"),
        (["run", "mflag", "-p", "epochs=-1"], "parameter epochs"),
        (["run", "mflag", "--profile", "dem"], "unknown profile 'dem' (did you mean 'demo'?)"),
        (["run", "mflg"], "no notebook 'mflg' (did you mean 'mflag'?)"),
        (["run", "mflag", "--profile", "open"], "--data-root"),
        (["run", "mflag", "--profile", "open", "--data-root", "README.md"], "README.md: there is no such folder"),
        (["run", "mflag", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "mflag", "-p", "twin_images={kermani: 9}"], "'kermani' (did you mean 'kermany'?)"),
        (["run", "mflag", "-p", "twin_images={kermany: 0}"], "at least one image"),
        (["data", "check", "kermani", "--root", "."], "unknown data set 'kermani'"),
        (["run", "mflag", "--colour"], "No such option"),
    ],
)
def test_wrong_use_is_exit_status_2_and_one_sentence(tmp_path, arguments, message):
    if arguments[0] == "run":
        arguments = [*arguments, "--output-root", str(tmp_path)]
    process = nbcore(*arguments)
    assert process.returncode == 2
    assert message in complaint(process)
    assert not (tmp_path / "smoke").exists()


def test_check_passes_a_twin_and_finds_a_truncated_image(twin):
    process = nbcore("data", "check", "kermany", "--root", twin)
    assert process.returncode == 0
    assert "subset" in process.stdout or "complete" in process.stdout
    image = next(twin.rglob("*.jpeg"))
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    process = nbcore("data", "check", "kermany", "--root", twin)
    image.write_bytes(whole)
    assert process.returncode == 1
    assert image.name in process.stdout
    assert "broken" in process.stdout


def test_absent_data_is_exit_status_1(tmp_path):
    process = nbcore("data", "check", "kermany", "--root", tmp_path / "nowhere")
    assert process.returncode == 1
    assert "nowhere" in process.stdout + process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_results_cannot_lie_below_a_file(tmp_path, place):
    (tmp_path / "file").touch()
    process = nbcore("run", "mflag", "--output-root", tmp_path / place)
    assert process.returncode == 1
    assert f"{tmp_path / place}/smoke: Not a directory" in complaint(process)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "nbcore", "data", "show", "all"]
        process = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (process.returncode, process.stderr) == (1, "error: No space left on device\n")


def test_report_without_records(tmp_path):
    process = nbcore("report", "--output-root", tmp_path)
    assert process.returncode == 1
    assert "no records" in complaint(process)
