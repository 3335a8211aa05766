"""Runs that differ in their seed alone, as one row: how many, their mean and their spread."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]

SEED = "seed"
"""The swept key whose values are replicates."""

NUMBERS = ("measured", "predicted", "updates_relative", "updates_euclidean", "credit_cosine", "credit_least")
"""What is averaged."""

SHARED = ("rule", "step_size", "levels", "criterion", "horizon", "blame", "no_prediction")
"""What replicates have in common; as the first run that did not fail has it."""


def grouped(rows: Sequence[Row], places: Sequence[Mapping[str, Any]], asked: int) -> list[Row]:
    """Return a row for each set of runs that differ in their seed alone.

    Parameters
    ----------
    rows : a row for each run, as ``pcsim.sweep.table`` makes them
    places : the coordinates of each run, ``seed`` among them
    asked : seeds that were asked for, at each place

    Returns
    -------
    list
        The coordinates but for the seed, and ``runs``, ``asked``, ``failed``, and ``converged`` (None where no ticks to
        convergence were measured). What was measured is a mapping, as ``spread`` makes it, over the runs that have it:
        for ticks those that converged; None where none has it.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[Any, int]] = {}
    for number, place in enumerate(places):
        key = tuple((name, repr(value)) for name, value in place.items() if name != SEED)
        groups.setdefault(key, {})[place[SEED]] = number
    sets = [list(numbers.values()) for numbers in groups.values()]
    return [_together([rows[k] for k in numbers], places[numbers[0]], asked) for numbers in sets]


def _together(rows: Sequence[Row], place: Mapping[str, Any], asked: int) -> Row:
    whole = [row for row in rows if not row["error"]]
    first = (whole or list(rows))[0]
    return {
        **{name: value for name, value in place.items() if name != SEED},
        **{name: first[name] for name in SHARED},
        "asked": asked,
        "runs": len(rows),
        "failed": len(rows) - len(whole),
        "converged": None if first["criterion"] is None else sum(row["measured"] is not None for row in whole),
        **{name: spread([row[name] for row in whole if row[name] is not None]) for name in NUMBERS},
    }


def spread(values: Sequence[float]) -> dict[str, float | None] | None:
    """Return ``n``, ``mean``, sample standard deviation ``std`` (None of one value), ``min`` and ``max``; None of none.

    >>> spread([1.0, 3.0])
    {'n': 2, 'mean': 2.0, 'std': 1.4142135623730951, 'min': 1.0, 'max': 3.0}
    """
    if not values:
        return None
    deviation = stdev(map(float, values)) if len(values) > 1 else None
    return {"n": len(values), "mean": fmean(values), "std": deviation, "min": min(values), "max": max(values)}
