"""What a check finds in the files: facts, copies, stray and absent images, bad files, and whether it ever ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from nbcore.__main__ import cli
from nbcore.data import load
from nbcore.data.check import check
from nbcore.data.checking_files import scan

NAME = "nih-chestxray14"
Twin = Callable[[str], Path]


def _pictures(root: Path) -> list[Path]:
    return load(NAME, root).image_paths()


def test_pictures_are_described(damaged: Twin) -> None:
    root = damaged(NAME)
    first, second, third = _pictures(root)[:3]
    Image.new("L", (50, 20), 7).save(first)
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(second)
    Image.effect_noise((10, 90), 50).convert("RGB").save(third)
    pictures = check(NAME, root).pictures
    assert (pictures.decoded, pictures.blank) == (100, 1)
    assert (pictures.width, pictures.height) == ((10, 32, 50), (20, 32, 90))
    assert pictures.kinds == {"PNG grey 8-bit": 98, "PNG grey 16-bit": 1, "PNG colour 8-bit": 1}


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_any_number_of_processes_finds_the_same(jobs: int, damaged: Twin) -> None:
    samples = load(NAME, root := damaged(NAME))
    for row in (3, 64, 99):
        samples.image_paths()[row].write_bytes(b"no picture")
    found = scan(samples, jobs)
    assert sorted(found.problems) == [3, 64, 99] and found.unreadable == 3
    assert np.flatnonzero(~found.facts["read"]).tolist() == [3, 64, 99]
    alone = scan(load(NAME, root).subset([5]), 1).facts[0]
    assert found.facts[5] == alone and len(set(map(bytes, found.facts["content"]))) == 98  # 97 pictures and nothing


def test_copies_are_counted_by_what_they_spoil(damaged: Twin) -> None:
    root = damaged(NAME)
    table, paths = load(NAME, root).table, _pictures(root)
    labels = table.filter(like="label:").apply(tuple, axis=1)
    train = table.index[table["split"] == "train"]
    one = next(i for i in train if (labels[train] == labels[i]).sum() > 2)
    same = next(i for i in train if i != one and labels[i] == labels[one])
    other = next(i for i in table.index[table["split"] == "test"] if labels[i] != labels[one])
    shutil.copy(paths[one], paths[same])
    copies = check(NAME, root).copies
    assert (copies.extra, copies.across_splits, copies.different_labels) == (1, 0, 0)
    assert set(copies.examples[0]) == {table["image"][one], table["image"][same]}
    shutil.copy(paths[one], paths[other])
    copies = check(NAME, root).copies
    assert (copies.extra, copies.across_splits, copies.different_labels) == (2, 1, 1)
    assert table["image"][other] in copies.examples[0]
    assert check(NAME, root, quick=True).copies is None


def test_absent_and_stray_images_are_counted_and_named(damaged: Twin) -> None:
    root = damaged(NAME)
    gone, kept = _pictures(root)[:2]
    gone.unlink()
    shutil.copy(kept, kept.with_name("stray.png"))
    (kept.parent / "LICENSE.txt").touch()
    report = check(NAME, root)
    assert report.missing == 1 and Path(report.missing_examples[0]).name == gone.name
    assert (report.unnamed.extra, report.unnamed.left_out) == (1, 0)
    assert report.unnamed.examples == (kept.with_name("stray.png").relative_to(root).as_posix(),)


@pytest.mark.parametrize("name", ["chexpert", "busi", "dmid", "cc-ccii", "idrid"])
def test_masks_laterals_and_slices_are_no_strays(name: str, twin: Twin) -> None:
    unnamed = check(name, twin(name), quick=True).unnamed
    assert unnamed.extra == 0 and (unnamed.left_out > 0) == (name in {"chexpert", "cc-ccii"})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_a_bomb_and_a_pipe_are_a_problem_each(damaged: Twin) -> None:
    root = damaged(NAME)
    bomb, pipe = _pictures(root)[:2]
    Image.new("1", (30_000, 30_000)).save(bomb)
    pipe.unlink()
    os.mkfifo(pipe)
    report = check(NAME, root)
    assert report.verdict == "broken" and report.unreadable == 2
    assert str(bomb) in report.problems[0] and "900000000 pixels" in report.problems[0]
    assert str(pipe) in report.problems[1] and "no plain file" in report.problems[1]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a fork")
def test_a_picture_that_takes_too_long_is_a_problem(damaged: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = damaged(NAME)
    slow = _pictures(root)[40]

    def read(path: Path) -> np.ndarray:
        time.sleep(600 * (path == slow))
        return np.asarray(Image.open(path))

    monkeypatch.setattr("nbcore.data.checking_files.read_image", read)
    report = check(NAME, root, jobs=1, patience=1.5)
    assert report.problems == (f"cannot read the image {slow}: it takes longer than 1.5 seconds",)
    assert report.pictures.decoded == 99


@pytest.mark.skipif(sys.platform != "linux", reason="needs a fork")
def test_a_process_that_dies_costs_one_picture(damaged: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = damaged(NAME)
    deadly = _pictures(root)[40]

    def read(path: Path) -> np.ndarray:
        if path == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.asarray(Image.open(path))

    monkeypatch.setattr("nbcore.data.checking_files.read_image", read)
    report = check(NAME, root)
    assert report.unreadable == 1 and f"{deadly}: its decoder crashed" in report.problems[0]
    assert report.pictures.decoded == 99


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_an_interrupt_leaves_one_line(damaged: Twin) -> None:
    root = damaged(NAME)
    first, *others = _pictures(root)
    first.unlink()
    Image.linear_gradient("L").resize((9000, 9000)).save(first, compress_level=1)
    for path in others:
        path.unlink()
        path.hardlink_to(first)
    command = [sys.executable, "-m", "nbcore", "data", "check", NAME, "--root", str(root), "--json"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 30
    while not _children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err and f"the check of {NAME} was stopped" in err.splitlines()[-1]


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_json_is_json_with_the_same_keys_always(damaged: Twin, tmp_path: Path) -> None:
    root, empty = damaged(NAME), tmp_path / "empty"
    empty.mkdir()
    keys = []
    for place, status in ((root, 0), (empty, 1)):
        result = CliRunner().invoke(cli, ["data", "check", NAME, "--root", str(place), "--json", "--jobs", "1"])
        assert result.exit_code == status
        found = json.loads(result.stdout)
        assert found["exit_status"] == status
        keys.append(list(found))
    assert keys[0] == keys[1]
    assert CliRunner().invoke(cli, ["data", "check", NAME, "--root", str(root), "--jobs", "0"]).exit_code == 2
