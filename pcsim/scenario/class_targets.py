"""Targets that are probabilities of classes: what cannot be one is refused, what need not be one is told."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from pcsim.scenario.datasets import DATASETS

if TYPE_CHECKING:
    from pcsim.scenario.scenario_document import DataEntry

Array = np.ndarray

ROUNDING = 1e-5
"""How far from 1 probabilities may sum: those of a file are often rounded to float32."""


def class_problem(entry: DataEntry, targets: Array) -> str:
    """Return why targets, (batch, *shape), are no weights of classes; empty where they may be.

    What is drawn is judged by its distribution, so that it can be judged before it is drawn.
    """
    least = _least(entry, targets)
    if least >= 0:
        return ""
    what = "these may be negative" if least == -inf else f"there is {least:g} among these"
    return f"targets are probabilities of classes, 0 or more, and {what}"


def _least(entry: DataEntry, targets: Array) -> float:
    if entry.normal is not None:
        mean, deviation = entry.normal
        return -inf if deviation * entry.scale else mean * entry.scale
    if entry.uniform is not None:
        return min(end * entry.scale for end in entry.uniform)
    return float(targets.min(initial=0.0))


def class_remark(entry: DataEntry, targets: Array) -> str:
    """Return in what targets, (batch, *shape), are no probabilities of classes; empty where they are."""
    row = DATASETS.get(entry.dataset or "")
    if entry.normal is not None or entry.uniform is not None:
        what = "do not sum to 1"
    elif row is not None:
        sums_to_one = (entry.field or next(iter(row.fields))) in row.rows or entry.one_hot is not None
        what = "" if sums_to_one and entry.scale == 1 else "do not sum to 1"
    else:
        sums = targets.sum(axis=-1)
        off = float(sums.flat[np.abs(sums - 1).argmax()])
        what = "" if abs(off - 1) <= ROUNDING else f"sum to {off:g} in one sample, not to 1"
    return what and f"a sample counts as often as its probabilities sum to, and these {what}"
