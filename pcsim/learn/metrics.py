"""What tells how good predictions are: a table of metrics, each a number for each sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.ops import LOSSES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Array = np.ndarray


@dataclass(frozen=True)
class Metric:
    """One metric, as a row of facts.

    Attributes
    ----------
    of : (predictions, targets (batch, *shape), loss of the output) -> (batch,), one number for each sample
    suits : (targets) -> whether an output with such targets has it
    rises : whether more is better
    adds_up : whether outputs add up; else their mean is taken
    """

    name: str
    summary: str
    of: Callable[[Array, Array, str], Array]
    suits: Callable[[Array], bool] = lambda _targets: True
    rises: bool = False
    adds_up: bool = False


def loss_of(predictions: Array, targets: Array, loss: str) -> Array:
    """Return the loss of each sample, (batch,), in float64."""
    return np.asarray(LOSSES[loss].value(np, predictions[None], targets[None])[0], np.float64)


def correct(predictions: Array, targets: Array, _loss: str) -> Array:
    """Return the share of places of a sample, (batch,), at which the largest number is the target's largest."""
    same = predictions.argmax(-1) == targets.argmax(-1)
    return np.asarray(same.reshape(len(same), -1).mean(1))


def of_classes(targets: Array) -> bool:
    """Return whether targets have a 1 at the place of a class, along the last axis, and 0 elsewhere."""
    if targets.ndim < 2 or targets.shape[-1] < 2:
        return False
    some = targets[: 2**12]
    return bool(((some == 0) | (some == 1)).all() and (some.sum(-1) == 1).all())


def error(predictions: Array, targets: Array, _loss: str) -> Array:
    """Return the mean absolute difference of each sample, (batch,)."""
    return np.asarray(np.abs(predictions - targets).reshape(len(targets), -1).mean(1, dtype=np.float64))


_ROWS = (
    Metric("loss", "the loss of a sample, summed over outputs", loss_of, adds_up=True),
    Metric("accuracy", "share of samples whose largest number is that of the target", correct, of_classes, rises=True),
    Metric(
        "absolute_error", "mean absolute difference from the target", error, lambda targets: not of_classes(targets)
    ),
)

METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}


WAITING = 2**18
"""Numbers of predictions that wait to be judged together."""


class Judge:
    """Metrics of predictions: which outputs have which, as the first targets say."""

    def __init__(self, losses: Mapping[str, str]) -> None:
        self.losses = losses
        self.outputs: dict[str, list[str]] = {}

    def __call__(self, predictions: Mapping[str, Array], targets: Mapping[str, Array]) -> dict[str, Array]:
        """Return {metric: (samples,)} of the metrics that any output has."""
        if not self.outputs:
            suited = {row.name: [name for name in targets if row.suits(targets[name])] for row in METRICS.values()}
            self.outputs = {name: outputs for name, outputs in suited.items() if outputs}
        found: dict[str, Array] = {}
        for name, outputs in self.outputs.items():
            rows = [METRICS[name].of(predictions[each], targets[each], self.losses[each]) for each in outputs]
            found[name] = sum(rows[1:], rows[0]) / (1 if METRICS[name].adds_up else len(rows))
        return found


class StepNotes:
    """Batches whose metrics are still to be noted: to judge many together takes little longer than to judge one."""

    def __init__(self, judge: Judge, note: Callable[[dict[str, float]], None]) -> None:
        self.judge, self.note = judge, note
        self.waiting: list[tuple[dict[str, Array], dict[str, Array], dict[str, float]]] = []
        self.numbers = 0

    def add(self, predictions: dict[str, Array], targets: dict[str, Array], row: dict[str, float]) -> None:
        """Keep a batch, and what else is noted of it; its arrays must stay as they are."""
        self.waiting.append((predictions, targets, row))
        self.numbers += sum(array.size for array in predictions.values())
        if self.numbers > WAITING:
            self.settle()

    def settle(self) -> None:
        """Note all batches, in their order."""
        if not self.waiting:
            return
        names = list(self.waiting[0][0])
        predictions, targets = (
            {name: np.concatenate([kept[part][name] for kept in self.waiting]) for name in names} for part in (0, 1)
        )
        counts = [len(kept[0][names[0]]) for kept in self.waiting]
        starts = np.cumsum([0, *counts[:-1]])
        means = {
            name: np.add.reduceat(values, starts) / counts for name, values in self.judge(predictions, targets).items()
        }
        for number, (_, _, row) in enumerate(self.waiting):
            self.note({**{name: float(values[number]) for name, values in means.items()}, **row})
        self.waiting.clear()
        self.numbers = 0
