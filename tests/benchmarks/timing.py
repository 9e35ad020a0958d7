"""Timing that every benchmark shares."""

import time
from collections.abc import Callable
from statistics import median

THREADS = 2


def median_seconds(function: Callable[[], object], repeats: int = 15) -> float:
    """Median wall-clock time of a call, after one call to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)
