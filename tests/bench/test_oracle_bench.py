"""Two hundred random graphs: verdict, ticks, stable limit and cost of the oracle, beside simulation.

Run from the root, about a quarter of an hour::

    python -m pytest -m bench -s tests/bench/test_oracle_bench.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pcsim.analysis.oracle import Oracle, oracle

sys.path.insert(0, str(Path(__file__).parents[1]))
from oracle_cases import converges, random_document, simulated, task_of

pytestmark = pytest.mark.bench
GRAPHS, TOLERANCE, LONGEST = 200, 1e-3, 6000


def told(seed, rng):
    """Return whether the verdict is that of simulation, the error of the ticks, and the cost beside the run."""
    document = random_document(seed)
    at = oracle(task_of(document, 0.1, 100))
    if not isinstance(at, Oracle):
        errors = simulated(task_of(document, 0.1, 4000)).errors
        swings = not max(np.ptp(each[-300:], axis=0).max() for each in errors.values()) < TOLERANCE
        return at.kink is not None and swings, None, None
    step_size = at.stable_below * (rng.uniform(0.4, 0.95) if seed % 4 < 2 else rng.uniform(1.05, 1.6))
    began = time.perf_counter()
    found = oracle(task_of(document, step_size, LONGEST))
    ticks, seconds = found.ticks(TOLERANCE), time.perf_counter() - began
    length = 3000 if ticks is None else min(max(3 * ticks, 400), LONGEST)
    limit = {name: found.limit.error_of(name) for name in found.limit.dynamics.shown}
    began = time.perf_counter()
    run = simulated(task_of(document, step_size, length))
    per_tick = (time.perf_counter() - began) / length
    right = converges(run, limit, length) is found.stable
    outside = np.flatnonzero(~(run.distances(limit) <= TOLERANCE))
    if ticks is None or not len(outside) or outside[-1] == length - 1:
        return right, None, None
    measured = int(outside[-1]) + 1
    return right, abs(ticks - measured) / measured, seconds / (per_tick * measured)


def test_two_hundred_random_graphs():
    rng = np.random.default_rng(5)
    with np.errstate(all="ignore"):
        rows = [told(seed, rng) for seed in range(GRAPHS)]
    right = np.mean([row[0] for row in rows])
    off = np.array([row[1] for row in rows if row[1] is not None])
    cost = np.array([row[2] for row in rows if row[2] is not None])
    sys.stdout.write(f"verdict right in {right:.1%}; ticks off by {np.median(off):.2%} (median of {len(off)}); "
          f"cost {np.median(cost):.0%} of the run on numpy (median)\n")  # fmt: skip
    assert right >= 0.99
    assert np.median(off) <= 0.05
