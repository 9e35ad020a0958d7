"""Steps of a study in several processes."""

import os
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
