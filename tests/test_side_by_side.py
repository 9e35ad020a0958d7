"""Steps of a study in several processes."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from nbcore.errors import UserError
from nbcore.side_by_side import SideBySide, Step


class Counting:
    """Stands for a study."""

    def __init__(self, base: int):
        self.base = base

    def add(self, number: int, times: int = 1) -> tuple[int, int]:
        return self.base + times * number, os.getpid()

    def fail(self, sentence: str) -> None:
        raise UserError(sentence)

    def die(self) -> None:
        os._exit(9)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait_then_write(self, path: str) -> None:
        time.sleep(0.5)
        Path(path).write_text("done")


@pytest.fixture(scope="module")
def pool():
    return SideBySide(2, partial(Counting, 10))


def test_results_come_in_order_from_other_processes(pool):
    found = pool.run([Step("add", (number,), {"times": 2}) for number in range(6)], "adding")
    assert [value for value, _ in found] == [10, 12, 14, 16, 18, 20]
    assert os.getpid() not in {process for _, process in found}


def test_an_error_arrives_as_what_it_is(pool):
    with pytest.raises(UserError, match="no such file") as error:
        pool.run([Step("add", (1,)), Step("fail", ("no such file",))], "failing")
    assert type(error.value) is UserError
    assert pool.run([Step("add", (1,))], "adding")[0][0] == 11  # the pool goes on


def test_no_step_begins_after_an_error(pool, tmp_path):
    late = [Step("wait_then_write", (str(tmp_path / str(i)),)) for i in range(20)]
    with pytest.raises(UserError):
        pool.run([Step("fail", ("early",)), *late], "failing")
    assert len(list(tmp_path.iterdir())) < 20


def test_a_process_that_dies_is_told_and_replaced(pool):
    with pytest.raises(UserError, match=r"ended in the middle of 'dying'.*jobs=1"):
        pool.run([Step("die", ())], "dying")
    assert pool.run([Step("add", (1,))], "adding")[0][0] == 11


INTERRUPTED = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from functools import partial
from nbcore.side_by_side import SideBySide, Step
from test_side_by_side import Counting

if __name__ == "__main__":
    pool = SideBySide(2, partial(Counting, 10))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    for waiting in (False, True):
        before = {process for _, process in pool.run([Step("add", (i,)) for i in range(4)], "adding")}
        try:
            if waiting:
                signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGINT))
                signal.alarm(1)
                pool.run([Step("sleep", (60,))] * 2, "sleeping")
            os.killpg(0, signal.SIGINT)  # as a terminal and a notebook server do
            time.sleep(5)
        except KeyboardInterrupt:
            time.sleep(1)
        assert not any(os.path.exists(f"/proc/{process}/cmdline") and
                       open(f"/proc/{process}/cmdline").read() for process in before), "a process goes on"
    print(pool.run([Step("add", (1,))], "adding")[0][0])
    os.killpg(0, signal.SIGINT)
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at /proc")
def test_ctrl_c_ends_the_processes_without_a_word(tmp_path):
    """Idle or at work; the next steps find new ones."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "interrupted.py"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=120)
    assert done.stdout == "11\n"
    assert "SpawnProcess" not in done.stderr and done.stderr.count("Traceback") == 1, done.stderr  # its own, at the end
