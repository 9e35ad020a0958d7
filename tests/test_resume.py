"""A run that is killed, at any moment and as often as you like, ends as if nothing had happened."""

import json
import random
import signal
import time

import pytest
import tiny_training as tiny
import torch
from safetensors import safe_open

KILLED = -signal.SIGKILL


def outcome(directory):
    """Everything a run leaves: the bytes of each tensor, and the history with full precision."""
    assert sorted(path.name for path in directory.iterdir()) == [".lock", "weights.safetensors"]
    with safe_open(directory / "weights.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["history"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The outcome of a run that nobody kills, by its settings."""
    known = {}

    def run(**changes):
        key = json.dumps(changes, sort_keys=True)
        if key not in known:
            directory = tmp_path_factory.mktemp("undisturbed")
            assert tiny.in_processes(tiny.run, directory, **changes) == [0]
            known[key] = outcome(directory)
        return known[key]

    return run


def test_two_runs_of_one_seed_are_identical(undisturbed, tmp_path):
    assert tiny.in_processes(tiny.run, tmp_path) == [0]
    tensors, history = outcome(tmp_path)
    assert (tensors, history) == undisturbed()
    assert len(history["values"]["total"]) == 15
    initial = tiny.method().state_dict()
    assert tensors["head.1.weight"] != initial["head.1.weight"].numpy().tobytes()


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_killed_at_random_moments(undisturbed, tmp_path, optimizer):
    changes = {"optimizer": optimizer, "epochs": 12}
    lives, rng = [], random.Random(optimizer)
    while KILLED in lives[-1:] or not lives:
        process = tiny.SERVER.Process(target=tiny.run, args=(tmp_path,), kwargs=changes)
        process.start()
        time.sleep(rng.uniform(0, 0.02 * len(lives)))  # the first lives are short, so at least ten end in a kill
        process.kill()
        process.join()
        lives.append(process.exitcode)
    assert lives.count(KILLED) >= 10 and lives[-1] == 0
    assert outcome(tmp_path) == undisturbed(**changes)


@pytest.mark.parametrize("patience", [3, 50])
def test_a_judged_run_killed_at_random_moments(tmp_path, patience):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert tiny.in_processes(tiny.run_judged, whole, patience) == [0]
    lives, rng = [], random.Random(patience)
    while KILLED in lives[-1:] or not lives:
        process = tiny.SERVER.Process(target=tiny.run_judged, args=(broken, patience))
        process.start()
        time.sleep(rng.uniform(0, 0.03 * len(lives)))
        process.kill()
        process.join()
        lives.append(process.exitcode)
    assert lives.count(KILLED) >= 5 and lives[-1] == 0
    assert outcome(broken) == outcome(whole)


def test_killed_inside_every_part_of_writing_a_checkpoint(undisturbed, tmp_path):
    """Life n ends at its n-th sync or rename: three to a checkpoint, so all of them and their successors are hit."""
    lives = []
    while not lives or lives[-1] == KILLED:
        lives += tiny.in_processes(tiny.run_until, tmp_path, len(lives) + 1)
    assert len(lives) > 6 and lives[-1] == 0
    assert outcome(tmp_path) == undisturbed()


@pytest.mark.parametrize("event", [1, 2, 3])
def test_killed_while_the_final_weights_are_written(undisturbed, tmp_path, event):
    checkpoints = 15
    assert tiny.in_processes(tiny.run_until, tmp_path, 3 * checkpoints + event) == [KILLED]
    assert tiny.in_processes(tiny.run, tmp_path) == [0]
    (tmp_path / "checkpoint.pt").unlink(missing_ok=True)  # stays when the kill came between weights and its removal
    assert outcome(tmp_path) == undisturbed()


def test_checkpoints_some_time_apart_replay_only_what_came_after(undisturbed, tmp_path):
    """With a checkpoint never due, a kill costs the whole run but not its exactness."""
    process = tiny.SERVER.Process(target=tiny.run, args=(tmp_path,), kwargs={"checkpoint_seconds": 1000})
    process.start()
    time.sleep(0.15)
    process.kill()
    process.join()
    assert tiny.in_processes(tiny.run, tmp_path, checkpoint_seconds=1000) == [0]
    assert outcome(tmp_path) == undisturbed()


def test_a_checkpoint_holds_the_whole_run_in_plain_values(tmp_path):
    assert tiny.in_processes(tiny.run_until, tmp_path, 3 * 7 + 1) == [KILLED]  # in the middle of the second epoch
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 2)
    assert {"identity", "model", "optimizer", "scheduler", "scaler", "random", "history"} < state.keys()
    assert state["random"][0].keys() == {"python", "numpy", "torch", "cuda"}
    assert [len(values) for values in state["history"]["values"].values()] == [7] * 4
