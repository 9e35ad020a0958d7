import json
import signal
import time

import pytest
import tiny_training as tiny

from nbcore import cache

KEY = {"config": {"width": 8}, "data": "a1b2", "seed": 0, "threads": 2}


def write(directory):
    (directory / "numbers.txt").write_text("42")


def never(directory):
    raise AssertionError("a finished stage was built again")


def test_a_stage_is_built_once(tmp_path):
    first = cache.stage("features", KEY, write, tmp_path)
    again = cache.stage("features", dict(reversed(KEY.items())), never, tmp_path)
    assert (first.hit, again.hit) == (False, True)
    assert first.path == again.path and first.path.parent == tmp_path / "cache" / "features"
    assert (first.path / "numbers.txt").read_text() == "42"
    assert json.loads((first.path / "stage.json").read_text())["key"] == KEY
    assert not first.path.with_suffix(".partial").exists()


@pytest.mark.parametrize("change", [{"config": {"width": 9}}, {"data": "a1b3"}, {"seed": 1}, {"threads": 1}])
def test_anything_in_the_key_makes_another_stage(tmp_path, change):
    first = cache.stage("features", KEY, write, tmp_path)
    other = cache.stage("features", KEY | change, write, tmp_path)
    assert not other.hit and other.path != first.path


def test_a_change_of_code_makes_another_stage(tmp_path, monkeypatch):
    first = cache.stage("features", KEY, write, tmp_path)
    monkeypatch.setattr(cache, "code_version", lambda: "new")
    assert not cache.stage("features", KEY, write, tmp_path).hit
    monkeypatch.undo()
    assert cache.stage("features", KEY, never, tmp_path) == cache.Stage(first.path, hit=True)


def test_code_version_covers_what_computes_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "losses").mkdir()
    for name in ["cache.py", "losses/mflag.py", "report.py", "losses/report.py"]:
        (tmp_path / name).write_text("1")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))

    def after(name, text):
        (tmp_path / name).write_text(text)
        cache.code_version.cache_clear()
        return cache.code_version()

    versions = [
        after("report.py", "1"),
        after("report.py", "2"),
        after("losses/mflag.py", "2"),
        after("losses/report.py", "2"),
    ]
    cache.code_version.cache_clear()
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3


def test_a_build_that_fails_is_continued(tmp_path):
    def fail(directory):
        (directory / "half.txt").write_text("so far")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.stage("features", KEY, fail, tmp_path)
    stage = cache.stage("features", KEY, write, tmp_path)
    assert not stage.hit
    assert (stage.path / "half.txt").read_text() == "so far"


def log(root, word):
    """Append a word to a journal that all processes share (one write, so atomic)."""
    with (root / "journal").open("a") as journal:
        journal.write(f"{word}\n")


def slow(directory, root):
    """A build that ends when it is told to."""
    log(root, "begun")
    (directory / f"{len(list(directory.iterdir()))}.txt").write_text("begun")
    wait_until((root / "release").exists)
    log(root, "done")


def call(root):
    """What the concurrent processes do."""
    log(root, "called")
    stage = cache.stage("weights", KEY, lambda directory: slow(directory, root), root)
    log(root, "hit" if stage.hit else "built")


def start(root):
    process = tiny.SERVER.Process(target=call, args=(root,), daemon=True)
    process.start()
    return process


def journal(root):
    path = root / "journal"
    return path.read_text().split() if path.exists() else []


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_processes_that_want_the_same_stage_build_it_once(tmp_path):
    processes = [start(tmp_path) for _ in range(3)]
    wait_until(lambda: sorted(journal(tmp_path)) == ["begun", "called", "called", "called"])
    time.sleep(0.3)  # time enough for the other two to reach the lock
    (tmp_path / "release").touch()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(journal(tmp_path)) == ["begun", "built", "called", "called", "called", "done", "hit", "hit"]


def test_who_waits_takes_over_from_a_killed_holder(tmp_path):
    holder = start(tmp_path)
    wait_until(lambda: "begun" in journal(tmp_path))
    waiting = start(tmp_path)
    wait_until(lambda: journal(tmp_path).count("called") == 2)
    waiting.join(0.3)
    assert waiting.is_alive() and journal(tmp_path).count("begun") == 1  # the lock keeps it out
    assert not list(tmp_path.glob("cache/weights/*/stage.json"))
    holder.kill()
    holder.join()
    (tmp_path / "release").touch()
    waiting.join(60)
    assert (holder.exitcode, waiting.exitcode) == (-signal.SIGKILL, 0)
    assert journal(tmp_path) == ["called", "begun", "called", "begun", "done", "built"]
    (stage,) = tmp_path.glob("cache/weights/*/stage.json")
    assert {path.name for path in stage.parent.iterdir()} == {"0.txt", "1.txt", "stage.json"}  # the partial was reused
