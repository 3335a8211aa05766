"""How far what a rule learns of a batch is from backprop, parameter by parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pcsim.analysis.backprop import backprop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pcsim.engines.base import Task

Array = np.ndarray

MEASURES = {
    "divergence": "relative L2 distance of the update from backprop's",
    "cosine": "cosine of the angle between them",
    "share": "projection of the update on backprop's, as a share of that one's length",
}


ROUNDINGS = 1024
"""Roundings of the largest gradient below which another one is taken for zero that is left of rounding.

So it is with the bias of keys in attention: whatever it is, the softmax behind it is the same.
"""


def compared(task: Task, updates: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Return {measure: (parameters,)}; NaN where backprop's update is zero but for rounding."""
    reference = backprop(task).gradients
    sizes = {name: float(np.sqrt(np.mean(np.square(reference[name], dtype=np.float64)))) for name in names}
    least = ROUNDINGS * float(np.finfo(task.dtype).eps) * max(sizes.values(), default=0.0)
    rows = [
        _compared(updates[name].ravel(), reference[name].ravel()) if sizes[name] > least else (np.nan,) * len(MEASURES)
        for name in names
    ]
    return {measure: np.array([row[place] for row in rows]) for place, measure in enumerate(MEASURES)}


def _compared(update: Array, gradient: Array) -> tuple[float, float, float]:
    u, g = update.astype(np.float64), gradient.astype(np.float64)
    with np.errstate(all="ignore"):
        length, other, product = np.linalg.norm(g), np.linalg.norm(u), float(u @ g)
        return tuple(
            float(value) for value in (np.linalg.norm(u - g) / length, product / (length * other), product / length**2)
        )  # type: ignore[return-value]
