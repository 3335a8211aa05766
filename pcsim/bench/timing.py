"""Timing side by side: candidates in interleaved rounds, and what their ratio can be said to be."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom

if TYPE_CHECKING:
    from pcsim.bench.baselines import Candidate

CONFIDENCE = 0.95
LEAST_ROUNDS, MOST_ROUNDS = 6, 1000
"""Below six rounds no two of them enclose a median with 95 % confidence."""
SHORT = 0.02
"""Seconds that a sample lasts at least: shorter runs are timed several at once."""
LONG = 0.5
"""Seconds from which on a run needs no other before it, which is not counted, to wake threads and fill caches."""
PAUSE, LONGEST_PAUSE = 0.01, 0.5
"""Seconds for which this process has to be idle before a candidate begins, and after which it begins all the same.
What a thread uses is counted every few milliseconds only, so the first must not be shorter."""
IDLE = 0.2
"""Share of one core that an idle process uses at most."""

Samples = Mapping[str, list[float]]


@dataclass(frozen=True)
class Spread:
    """Seconds of one run: median, quartiles, extremes, rounds."""

    median: float
    low: float
    high: float
    least: float
    most: float
    rounds: int


@dataclass(frozen=True)
class Ratio:
    """The median over rounds of one candidate's time over another's of the same round.

    ``low`` and ``high`` enclose the median with 95 % confidence, whatever the distribution; they are None
    where there are too few rounds.
    """

    median: float
    low: float | None
    high: float | None
    rounds: int

    def decided(self, bound: float) -> bool:
        """Return whether the median is known to lie on one side of a bound."""
        return self.low is not None and self.high is not None and (self.high < bound or self.low > bound)


def spread(samples: Sequence[float]) -> Spread:
    """Return the spread of some seconds."""
    low, median, high = (float(value) for value in np.quantile(samples, (0.25, 0.5, 0.75)))
    return Spread(median, low, high, min(samples), max(samples), len(samples))


def ratio(mine: Sequence[float], other: Sequence[float]) -> Ratio:
    """Return the ratio of two candidates timed in the same rounds."""
    found = np.sort(np.array(mine) / np.array(other))
    count = len(found)
    first = int(binom.ppf((1 - CONFIDENCE) / 2, count, 0.5))  # the order statistic below which 2.5 % lie
    enclosed = count >= LEAST_ROUNDS and first >= 1
    low, high = (float(found[first - 1]), float(found[count - first])) if enclosed else (None, None)
    return Ratio(float(np.median(found)), low, high, count)


def fastest(samples: Samples, names: Sequence[str]) -> str:
    """Return the candidate with the least median."""
    return min(names, key=lambda name: float(np.median(samples[name])))


def race(
    candidates: Mapping[str, Candidate],
    *,
    seconds: float,
    least: int = LEAST_ROUNDS,
    decided: Callable[[Samples], bool] | None = None,
    end: Callable[[], bool] | None = None,
) -> dict[str, list[float]]:
    """Return {candidate: seconds of one run, by round}.

    Rounds go on until there are ``least`` of them and what is asked is ``decided``, or until the time is spent, or it
    is to ``end``; one round is always timed.
    """
    runs = {name: _runs(candidate) for name, candidate in candidates.items()}
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    late = time.perf_counter() + seconds
    for number in range(1, MOST_ROUNDS + 1):
        for name, candidate in candidates.items():
            samples[name].append(_sample(candidate, runs[name]))
        if time.perf_counter() >= late or (end is not None and end()):
            break
        if number >= least and (decided is None or decided(samples)):
            break
    return samples


def _runs(candidate: Candidate) -> int:
    """Return how many runs make a sample that is long enough; the first, untimed one warms up."""
    _once(candidate)
    least = _once(candidate)
    if least < SHORT:  # what happens once only, in a second run or a third, is not what a run takes
        least = min(least, _once(candidate), _once(candidate))
    return max(1, min(1000, round(SHORT / max(least, 1e-9))))


def _once(candidate: Candidate) -> float:
    candidate.reset()
    start = time.perf_counter()
    candidate.run()
    return time.perf_counter() - start


def wait_until_idle() -> None:
    """Wait until the threads of whoever ran before have stopped spinning: OpenBLAS's keep a core for 0.1 s."""
    end = time.perf_counter() + LONGEST_PAUSE
    used = IDLE * PAUSE + 1
    while used > IDLE * PAUSE and time.perf_counter() < end:
        before = time.process_time()
        time.sleep(PAUSE)
        used = time.process_time() - before


def _sample(candidate: Candidate, runs: int) -> float:
    """Return seconds of one run among others of the same candidate, as in a loop that trains."""
    wait_until_idle()
    first = _once(candidate)
    return first if first > LONG else sum(_once(candidate) for _ in range(runs)) / runs
